"""Render the page over past audits.

It is one file that works offline, under a content policy that lets nothing else in. Ten thousand
audits are a page of less than two megabytes: names are written once, and numbers as whole numbers.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from memberscope._html import build_content_policy, read_template
from memberscope._text import format_percentage
from memberscope.reports.history.listing import choose_main_number, format_past_number
from memberscope.reports.history.past_audit import PastNumber
from memberscope.reports.history.series import PlacedAudit, describe_shared_names

SCALE = 100_000  # a share of one is written as so many, without a decimal point
MOST_BYTES = 1_750_000  # of data in a page; styles, scripts and text take 150,000 at most
STATIC_ROWS = 50  # rows that are shown where scripts cannot run
TONES = {
    "PASS": "pass",
    "FAIL": "fail",
    "INCONCLUSIVE": "inconclusive",
    "LEAKS_MORE": "fail",
    "NOT_MORE": "pass",
}
LINKED, LIMITED, OTHER_MODEL, OTHER_RECORDS = 1, 2, 4, 8


class _Words:
    """Words that are written once and referred to by number, and how long they are in JSON."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.length = 0

    def number(self, word: str) -> int:
        """Give the number of a word."""
        if word not in self.numbers:
            self.numbers[word] = len(self.numbers)
            self.length += len(_dump_compact(word)) + 1
        return self.numbers[word]


def render_history(placed: Sequence[PlacedAudit], linked: Collection[int]) -> str:
    """Render past audits as one HTML text, which links the reports of the ids `linked` beside it."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    blocks = {
        "style": read_template("report.css"),
        "chart_style": read_template("vendor/uPlot.min.css"),
        "own_style": read_template("history.css"),
        "chart_script": read_template("vendor/uPlot.iife.min.js"),
        "script": read_template("history.js"),
    }
    # Escaping is on: titles and names of groups come from users
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    newest = list(reversed(placed))
    data, shown = _embed_audits(newest, linked)
    scripts = [blocks["chart_script"], blocks["script"]]
    styles = [blocks["style"], blocks["chart_style"], blocks["own_style"]]
    text = environment.from_string(read_template("history.html.j2")).render(
        total=len(placed),
        shown=shown,
        models=len({audit.entry.model for audit in placed}),
        last=newest[0].entry.time if newest else None,
        sentences=describe_shared_names(placed),
        rows=[_list_cells(audit, linked) for audit in newest[:STATIC_ROWS]],
        tones=TONES,
        # Scripts and styles are allowed by their hashes, so nothing else can run
        policy=Markup(build_content_policy(scripts, styles)),
        data=Markup(data),
        **{name: Markup(block) for name, block in blocks.items()},
    )
    return str(text)


def describe_controls(controls: dict[str, bool | None]) -> str:
    """Say how the controls ended.

    >>> describe_controls({"null": True, "blind": None, "direction": False})
    '1 passed; failed: direction; not run: blind'
    """
    passed = sum(outcome is True for outcome in controls.values())
    parts = [f"{passed} passed"] if passed else []
    for outcome, word in ((False, "failed"), (None, "not run")):
        names = [name for name, found in controls.items() if found is outcome]
        parts += [f"{word}: {', '.join(names)}"] if names else []
    return "; ".join(parts)


def _list_cells(audit: PlacedAudit, linked: Collection[int]) -> dict[str, object]:
    """List what the row of an audit shows where scripts cannot run."""
    entry, is_change = audit.entry, audit.entry.kind == "comparison"
    main, auc = choose_main_number(entry), entry.find_last("auc")
    rate = "" if main is None or main.fpr is None else f" at {format_percentage(main.fpr)}"
    found = "" if main is None else format_past_number(main, is_change=is_change) + rate
    worst = entry.worst
    return {
        "entry": entry,
        "series": audit.series,
        "found": f"AUC {found}" if main is not None and main.metric == "auc" else found,
        "auc": "" if auc is None else format_past_number(auc, is_change=is_change),
        "worst": "" if worst is None else f"{worst.group}: {format_past_number(worst)}",
        "controls": describe_controls(entry.controls),
        "linked": entry.id in linked,
    }


def _embed_audits(newest: Sequence[PlacedAudit], linked: Collection[int]) -> tuple[str, int]:
    """Embed audits as JSON that cannot end the script element it stands in.

    Gives it with the number of audits that are in it: the newest, as many as the page has room for.
    """
    words, keys = _Words(), dict[tuple[str, str, float | None], int]()
    rows: list[str] = []
    size = 0
    for audit in newest:
        row = _dump_compact(_pack_audit(audit, linked, words, keys))
        size += len(row) + 1
        if size + words.length > MOST_BYTES:
            break
        rows.append(row)
    names = _dump_compact({"words": list(words.numbers), "keys": list(keys)})
    return f'{{"names":{names},"audits":[{",".join(rows)}]}}', len(rows)


def _dump_compact(data: object) -> str:
    """Write JSON without blanks, with what could end a script element as escapes."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _pack_audit(
    audit: PlacedAudit,
    linked: Collection[int],
    words: _Words,
    keys: dict[tuple[str, str, float | None], int],
) -> list[object]:
    """Pack an audit as the script of the page reads it."""
    entry = audit.entry
    flags = (
        LINKED * (entry.id in linked)
        + LIMITED * entry.limited
        + OTHER_MODEL * ("model" in audit.changed)
        + OTHER_RECORDS * ("records" in audit.changed)
    )
    numbers: list[int] = []
    for number in entry.numbers:
        key = (number.level, number.metric, number.fpr)
        numbers += [keys.setdefault(key, len(keys)), *_pack_limits(number)]
    worst = entry.worst
    return [
        entry.id,
        int(entry.time.timestamp()),
        words.number(entry.kind),
        words.number(entry.model),
        words.number(entry.title),
        words.number(entry.verdict or ""),
        audit.series,
        flags,
        words.number(describe_controls(entry.controls)),
        [] if worst is None else [words.number(str(worst.group)), *_pack_limits(worst)],
        numbers,
    ]


def _pack_limits(number: PastNumber) -> list[int]:
    """Pack a value with its limits as whole numbers."""
    return [round(SCALE * value) for value in (number.value, number.low, number.high)]
