"""Print the summary of an audit in at most 24 lines of 80 columns.

It has the verdict, the headline, three levels of access, the worst group, the controls, the next
step, and where the rest is. Two lines are left to whoever prints before it.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from memberscope._text import escape_controls, format_percentage
from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.documents import format_level
from memberscope.auditing.verdict import describe_repeats, drop_verdict_word
from memberscope.reports.level_rows import merge_levels, name_levels
from memberscope.reports.next_step import Arguments, suggest_next_step
from memberscope.reports.select import (
    Place,
    describe_units,
    find_estimate,
    find_headline,
    find_worst_group,
    format_interval,
    list_levels,
    list_skipped_attacks,
    list_unmeasured_levels,
)
from memberscope.types import Estimate

COLOURS = {"PASS": "bold green", "FAIL": "bold red", "INCONCLUSIVE": "bold yellow", None: "bold"}
LINES = 22  # of 24, for the two that an audit prints first
REASON = 3  # lines that a reason has at least
TITLE = 40  # characters of a title
LEVELS = 3
WIDE = 110  # columns of a terminal from which precision and AUC stand in the table as well


def print_short_summary(
    result: Result, console: Console, out: Path | None, arguments: Arguments | None
) -> None:
    """Print the short summary; `arguments` gives what named the model on the command line."""
    parts: list[RenderableType] = [
        *_list_repeats(result),
        *_list_headline(result),
        *_build_levels(result, wide=console.width >= WIDE),
        *(Text(escape_controls(line)) for line in describe_units(result)),
        *_list_worst_group(result),
        *_list_controls(result),
    ]
    step = suggest_next_step(result, arguments, str(out or "DIR"))
    command = None
    if step is not None:
        # The command stands in a line of its own that nothing breaks, to be copied
        sentence, _, command = step.partition(": memberscope ")
        parts.append(Text(f"Next: {escape_controls(sentence)}:"))
        command = f"  memberscope {escape_controls(command)}"
    rest = _list_rest(result, out)
    taken = sum(len(console.render_lines(part, pad=False)) for part in (*parts, *rest))
    taken += 0 if command is None else -(-len(command) // console.width)
    console.print(_cut_lines(_write_verdict(result), console, max(REASON, LINES - taken)))
    for part in parts:
        console.print(part)
    if command is not None:
        console.print(Text(command, "bold"), soft_wrap=True)
    for part in rest:
        console.print(part)


def _write_verdict(result: Result) -> Text:
    """Write verdict, title and reason."""
    title = " ".join(escape_controls(result.title).split())
    shown = title if len(title) <= TITLE else f"{title[: TITLE - 1]}…"
    return Text.assemble(
        (result.verdict or "NO POLICY", COLOURS[result.verdict]),
        " (limited) " if result.limited else " ",
        f"{shown}: {escape_controls(drop_verdict_word(result.reason))}",
    )


def _cut_lines(text: Text, console: Console, most: int) -> Text:
    """Cut a text to `most` lines of the console; three dots say that it goes on."""
    lines = text.wrap(console, console.width)
    if len(lines) <= most:
        return text
    last = lines[most - 1]
    last.rstrip()
    last.truncate(console.width - 2)
    last.append(" …")
    return Text("\n").join(lines[:most])


def _list_repeats(result: Result) -> list[Text]:
    """Say that a plan was audited before: many audits until one passes are not one that passed."""
    repeats = describe_repeats(result.environment)
    return [] if repeats is None else [Text(escape_controls(repeats), "yellow")]


def _list_headline(result: Result) -> list[Text]:
    """Say what the strongest attack finds, and how sure it is at the prior."""
    best, prior = find_headline(result), result.plan.threat.prior
    if best is None:
        return []
    ppv = _find_strongest(result, (best.access, best.restriction), "ppv", best.fpr, prior)
    sure = (
        ""
        if ppv is None
        else f"; where {format_percentage(prior)} of those tried are members, "
        f"{format_interval(ppv)} of those it names are members"
    )
    return [
        Text(
            f"Headline: {format_interval(best)} of members found at "
            f"{format_percentage(best.fpr)} false positives{sure}."
        )
    ]


def _find_strongest(
    result: Result, level: Place, metric: str, fpr: float | None, prior: float | None = None
) -> Estimate | None:
    """Find a number of the strongest attack at a level."""
    return find_estimate(result, attack=STRONGEST, level=level, metric=metric, fpr=fpr, prior=prior)


def _build_levels(result: Result, *, wide: bool) -> list[RenderableType]:
    """Build the table of the strongest attack at three levels of access, and a line on the others.

    Levels whose numbers are the same share a row. The weakest and the declared one are always
    there, and between them the one that gives most away.
    """
    best, prior = find_headline(result), result.plan.threat.prior
    if best is None:
        return []
    shares: dict[Place, float] = {}
    rows: dict[Place, list[tuple[str, ...]]] = {}
    for level in list_levels(result):
        tpr = _find_strongest(result, level, "tpr", best.fpr)
        if tpr is None:
            continue
        shares[level] = tpr.value
        found = [format_interval(tpr) + (" *" if tpr.warning else "")]
        if wide:
            ppv = _find_strongest(result, level, "ppv", best.fpr, prior)
            auc = _find_strongest(result, level, "auc", None)
            found.append("" if ppv is None else format_interval(ppv))
            found.append("" if auc is None else f"{auc.value:.3f}")
        rows[level] = [(*found, tpr.reaching_attack)]
    merged = merge_levels(rows)
    shown = _choose_entries([shares[places[0]] for places, _ in merged])
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("what one query returns")
    table.add_column("members found", no_wrap=True)
    if wide:
        table.add_column(f"precision at prior {format_percentage(prior)}", no_wrap=True)
        table.add_column("AUC")
    table.add_column("by the attack")
    for at in shown:
        places, ((*numbers, attack),) = merged[at]
        cells = (name_levels(places), *numbers, attack)
        table.add_row(*(Text(escape_controls(cell)) for cell in cells))
    confidence = format_percentage(result.plan.confidence)
    remark = f"At {format_percentage(best.fpr)} false positives, with {confidence} intervals."
    if any("*" in rows[merged[at][0][0]][0][0] for at in shown):
        remark += " * wide, as few false positives are allowed."
    if len(merged) > len(shown):
        more = len(merged) - len(shown)
        remark += f" {more} level{'s' if more > 1 else ''} of access between these not shown."
    unmeasured = ", ".join(format_level(*place) for place in list_unmeasured_levels(result))
    if unmeasured:
        remark += f" Not measured: {escape_controls(unmeasured)}."
    return [table, Text(remark, "dim")]


def _choose_entries(shares: list[float]) -> list[int]:
    """Choose which of the entries to show by what each gives away, in their order.

    >>> _choose_entries([0.1, 0.3, 0.5, 0.2, 0.4])
    [0, 2, 4]
    """
    between = sorted(range(1, len(shares) - 1), key=lambda at: -shares[at])[: LEVELS - 2]
    return sorted({0, *between, len(shares) - 1} & set(range(len(shares))))


def _list_worst_group(result: Result) -> list[Text]:
    """Say in which class or group most is found, each by the attack that finds most there."""
    found = find_worst_group(result)
    if found is None:
        return []
    worst, n_groups = found
    name = " ".join(escape_controls(str(worst.group)).split())[:TITLE]
    return [
        Text(
            f"Worst group: {name}, {format_interval(worst)} found by {worst.reaching_attack}, the "
            f"strongest attack there (largest of {n_groups})."
        )
    ]


def _list_controls(result: Result) -> list[Text]:
    """Say in one line whether the audit's own checks passed."""
    passed = [name for name, control in result.controls.items() if control.passed]
    failed = [name for name, control in result.controls.items() if control.passed is False]
    missing = [name for name, control in result.controls.items() if control.passed is None]
    if not result.controls:
        return []
    words = [f"{len(passed)} of {len(result.controls)} passed"]
    if not failed and not missing:
        words[0] += f" ({', '.join(passed)})"
    text = Text(f"Controls: {words[0]}")
    for kind, names, colour in (("failed", failed, "red"), ("not run", missing, "yellow")):
        if names:
            text.append(f"; {kind}: ").append(", ".join(names), colour)
    if failed or missing:
        text.append(f" (memberscope explain {[*failed, *missing][0]})")
    return [text]


def _list_rest(result: Result, out: Path | None) -> list[Text]:
    """Say where the report is, and how to see what the summary leaves out."""
    lines = []
    if out is not None and (out / "report.html").exists():
        lines.append(Text(f"Report: {escape_controls(str(out / 'report.html'))}"))
    skipped = len(list_skipped_attacks(result))
    notes = len(result.diagnostics.notes)
    counts = [f"{notes} note{'s' if notes > 1 else ''}"] if notes else []
    counts += [f"{skipped} attack{'s' if skipped > 1 else ''} not run"] if skipped else []
    where = f"memberscope report {out or 'DIR'} --verbose"
    lines.append(Text(f"All tables{''.join(f', {count}' for count in counts)}: ", "dim"))
    lines[-1].append(escape_controls(where))
    return lines
