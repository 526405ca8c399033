"""List past audits in a terminal of any width, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from memberscope._text import escape_controls, format_percentage
from memberscope.reports.history.past_audit import PastAudit, PastNumber
from memberscope.reports.history.series import PlacedAudit, describe_shared_names

FORMAT = "memberscope-history/1"
STYLES = {
    "PASS": "green",
    "FAIL": "bold red",
    "INCONCLUSIVE": "yellow",
    "LEAKS_MORE": "bold red",
    "NOT_MORE": "green",
}
WIDE = 110  # columns of a terminal from which AUC and level stand in the table as well
GAP, LEAST = 2, 8  # columns between two columns of the table, and of a title
REMARK = (
    "Members found by the strongest attack at the highest level of access, at the given rate of "
    "false positives (FPR), with intervals. Of a comparison: the change."
)


def format_history_json(placed: Sequence[PlacedAudit]) -> str:
    """Format past audits as a JSON document, the newest first."""
    audits = [
        asdict(audit.entry)
        | {
            "time": audit.entry.time.isoformat(timespec="seconds"),
            "series": audit.series,
            "changed": list(audit.changed),
        }
        for audit in reversed(placed)
    ]
    document = {"format": FORMAT, "audits": audits}
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def format_past_number(entry: PastNumber, *, is_change: bool = False) -> str:
    """Format a number of a past audit with its limits; a change has a sign.

    >>> auc = PastNumber("label", None, "auc", None, 0.61, 0.58, 0.64, "gap")
    >>> format_past_number(auc), format_past_number(auc, is_change=True)
    ('0.610 (0.580 to 0.640)', '+0.610 (+0.580 to +0.640)')
    """
    sign = "+" if is_change else ""

    def write(value: float) -> str:
        if entry.metric == "auc":
            return f"{value:{sign}.3f}"
        return f"{100 * value:{sign}.3g}{'' if is_change else '%'}"

    # A change of a rate is in percentage points, not in percent of the rate
    unit = " points" if is_change and entry.metric != "auc" else ""
    return f"{write(entry.value)} ({write(entry.low)} to {write(entry.high)}){unit}"


def choose_main_number(entry: PastAudit) -> PastNumber | None:
    """Choose the number that stands for an audit: its TPR, or else its AUC."""
    return entry.find_last("tpr") or entry.find_last("auc")


def print_history(placed: Sequence[PlacedAudit], console: Console, limit: int) -> None:
    """Print the newest `limit` audits as a table, and a sentence on what needs one."""
    names = ["date", "audit", "verdict", "FPR", "members found", "AUC", "level"]
    names = names if console.width >= WIDE else names[:5]
    rows = [_list_row_cells(audit)[: len(names)] for audit in reversed(placed[-limit:])]
    widths = [max(map(cell_len, column)) for column in zip(names, *rows, strict=True)]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=True)
    # The title alone is cut, so that every number is whole
    room = max(LEAST, console.width - sum(widths) + widths[1] - GAP * (len(names) - 1))
    for audit, (day, title, *cells) in zip(reversed(placed[-limit:]), rows, strict=True):
        verdict = Text(cells[0], STYLES.get(audit.entry.verdict or "", ""))
        cut = Text(title)
        cut.truncate(room, overflow="ellipsis")
        table.add_row(day, cut, verdict, *map(Text, cells[1:]))
    console.print(table)
    console.print(Text(REMARK, "dim"))
    if len(placed) > limit:
        console.print(f"{limit} of {len(placed)} audits; --limit {len(placed)} lists all.")
    for sentence in describe_shared_names(placed):
        console.print(Text(escape_controls(sentence), "yellow"))


def _list_row_cells(audit: PlacedAudit) -> list[str]:
    """List the cells of a row."""
    entry, is_change = audit.entry, audit.entry.kind == "comparison"
    main, auc = choose_main_number(entry), entry.find_last("auc")
    title = " ".join(escape_controls(entry.title).split())
    number = "" if main is None else format_past_number(main, is_change=is_change)
    # The table is of rates, so an area among them is named
    if main is not None and main.metric == "auc":
        number = f"AUC {number}"
    return [
        f"{entry.time:%Y-%m-%d}",
        title if audit.series < 2 else f"{title} [{audit.series}]",
        escape_controls(entry.verdict_words),
        "" if main is None or main.fpr is None else format_percentage(main.fpr),
        number,
        "" if auc is None else format_past_number(auc, is_change=is_change),
        "" if main is None else escape_controls(main.level),
    ]
