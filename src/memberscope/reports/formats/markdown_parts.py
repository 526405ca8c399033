"""Write the parts of an account in Markdown: verdict, headline, access, groups and controls.

Every text that comes from a user or a file is escaped here.
"""

from __future__ import annotations

from collections.abc import Sequence

from memberscope._text import format_percentage
from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.documents import format_level
from memberscope.reports.formats.key_numbers import describe_number
from memberscope.reports.formats.plain_text import escape_markdown
from memberscope.reports.level_rows import merge_levels, name_levels
from memberscope.reports.select import (
    Place,
    find_estimate,
    find_headline,
    find_worst_group,
    format_interval,
    list_levels,
    list_skipped_attacks,
    list_unmeasured_levels,
    select_task_words,
)
from memberscope.reports.waived_findings import advise_on_finding, name_outcome
from memberscope.types import Finding

CELL = 120  # characters of a name or a text in a table
MOST_NAMES = 30  # of attacks in a sentence
MOST_ROWS = 20  # of a table; a comment on a pull request has at most 65,536 characters


def name_verdict(result: Result) -> str:
    """Name the verdict; one that was not reached is no pass."""
    limited = " (limited)" if result.limited else ""
    return f"{result.verdict or 'not judged, as no policy was given'}{limited}"


def write_headline(result: Result) -> str:
    """Write what the strongest attack finds, and how often it is right; empty without a number."""
    best, prior = find_headline(result), result.plan.threat.prior
    if best is None:
        return ""
    level = (best.access, best.restriction)
    ppv = find_estimate(
        result, attack=STRONGEST, level=level, metric="ppv", fpr=best.fpr, prior=prior
    )
    sure = (
        ""
        if ppv is None
        else f" Where {format_percentage(prior)} of the records tried are members, "
        f"{format_interval(ppv)} of those it names are."
    )
    return (
        f"The strongest attack ({escape_markdown(best.reaching_attack, CELL)}) finds "
        f"**{format_percentage(best.value)}** of the members ({format_percentage(best.low)} to "
        f"{format_percentage(best.high)}, {format_percentage(best.confidence)} interval) while "
        f"{format_percentage(best.fpr)} of the non-members are called members.{sure}"
    )


def build_access_table(result: Result) -> list[str]:
    """Build the table of what the strongest attack reaches by what one query returns."""
    best, prior = find_headline(result), result.plan.threat.prior
    if best is None:
        return []
    rows: dict[Place, list[tuple[str, ...]]] = {}
    for level in list_levels(result):
        found = [
            find_estimate(result, attack=STRONGEST, level=level, metric="tpr", fpr=best.fpr),
            find_estimate(
                result, attack=STRONGEST, level=level, metric="ppv", fpr=best.fpr, prior=prior
            ),
            find_estimate(result, attack=STRONGEST, level=level, metric="auc"),
        ]
        attack = next((entry.reaching_attack for entry in found if entry is not None), "")
        cells = ("" if entry is None else describe_number(entry) for entry in found)
        rows[level] = [(*cells, attack)]
    merged = merge_levels(rows)
    heads = (
        "what one query returns",
        f"members found at {format_percentage(best.fpr)} false positives",
        f"precision at a prior of {format_percentage(prior)}",
        "AUC",
        "by the attack",
    )
    # The strongest access comes last, and is the one that must not be cut
    lines = build_table(heads, [(name_levels(at), *shown[0]) for at, shown in merged[-MOST_ROWS:]])
    if len(merged) > MOST_ROWS:
        lines += ["", f"{len(merged) - MOST_ROWS} weaker levels of access are not shown."]
    unmeasured = ", ".join(format_level(*place) for place in list_unmeasured_levels(result))
    if unmeasured:
        lines += ["", f"Not measured: {escape_markdown(unmeasured)}."]
    return lines


def build_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    r"""Build the lines of a table, with the cells escaped.

    >>> build_table(("a", "b"), [("1", "x|y")])
    ['| a | b |', '| --- | --- |', '| 1 | x\\|y |']
    """
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for row in rows:
        lines.append(f"| {' | '.join(escape_markdown(cell, CELL) for cell in row)} |")
    return lines


def build_findings_table(result: Result) -> list[str]:
    """Build the table of what was judged, with what did not pass first."""
    if not result.findings:
        return []
    order = sorted(result.findings, key=lambda entry: (entry.verdict == "PASS", entry.limited))
    rows = [
        (
            name_outcome(entry),
            entry.claim,
            "" if entry.estimate is None else describe_number(entry.estimate),
            _describe_action(entry, result),
        )
        for entry in order[:MOST_ROWS]
    ]
    lines = build_table(("verdict", "claim", "measured", "what to do"), rows)
    if len(order) > MOST_ROWS:
        lines += ["", f"{len(order) - MOST_ROWS} more are in result.json."]
    return lines


def _describe_action(finding: Finding, result: Result) -> str:
    """Write what to do about a finding, or who accepts it; empty for one that passed."""
    passed = finding.verdict == "PASS" and not finding.limited
    return "" if passed else advise_on_finding(finding, result)


def write_worst_group(result: Result) -> str:
    """Write in which class or group most members are found; empty without groups."""
    found = find_worst_group(result)
    if found is None:
        return ""
    worst, n_groups = found
    return (
        f"{escape_markdown(str(worst.group), CELL)}, where "
        f"{escape_markdown(worst.reaching_attack, CELL)} finds {format_interval(worst)} of the members "
        f"(the largest of {n_groups} {select_task_words(result.plan.task).groups}, each by the attack that finds most there)"
    )


def write_controls(result: Result) -> str:
    """Write which of the audit's own checks passed, failed and did not run; empty without any."""
    if not result.controls:
        return ""
    by_outcome: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for name, control in result.controls.items():
        by_outcome[control.passed].append(escape_markdown(name, CELL))
    words = [f"{len(by_outcome[True])} of {len(result.controls)} passed"]
    words += [f"failed: {', '.join(by_outcome[False])}"] if by_outcome[False] else []
    words += [f"not run: {', '.join(by_outcome[None])}"] if by_outcome[None] else []
    return "; ".join(words)


def write_missing(result: Result) -> str:
    """Write how many attacks did not run, and which; empty where all did."""
    names = list_skipped_attacks(result)
    if not names:
        return ""
    shown = ", ".join(escape_markdown(name, CELL) for name in names[:MOST_NAMES])
    more = len(names) - MOST_NAMES
    return f"{len(names)}: {shown}" + (f", and {more} more" if more > 0 else "")
