"""Build the answers that the first screen gives.

For whom it is worst, what was not tried, what a longer audit would add, and what to do next.
"""

from __future__ import annotations

from dataclasses import dataclass

from memberscope._text import format_percentage
from memberscope.auditing import Result
from memberscope.auditing.forecast import LONGER, NO_QUERIES, ONLY_STORED
from memberscope.reports.next_step import Arguments, suggest_next_step
from memberscope.reports.page.access_matrix import name_omitted_attacks
from memberscope.reports.page.table import Cell, Table
from memberscope.reports.select import (
    count_references,
    find_worst_group,
    list_skipped_attacks,
)
from memberscope.types import Estimate

WITHOUT_POLICY = "To get a verdict, judge it by limits"
EXPOSED = 3  # records that the summary names


@dataclass(frozen=True)
class NextStep:
    """What to do next: a sentence, and the command that does it if there is one."""

    sentence: str
    command: str = ""


@dataclass(frozen=True)
class Summary:
    """What the cards of the first screen say besides the headline.

    `worst` is the group in which most is found, among `n_groups`; `exposed` are the records with
    the highest probability of membership, by hash. `n_missing` counts attacks that ran nowhere.
    """

    worst: Estimate | None
    n_groups: int
    exposed: list[tuple[str, str]]
    untried: str
    n_missing: int
    step: NextStep


def build_summary(result: Result, arguments: Arguments | None, out: str) -> Summary:
    """Build the summary; `arguments` and `out` complete the command of the next step."""
    found = find_worst_group(result)
    worst, n_groups = (None, 0) if found is None else found
    return Summary(
        worst,
        n_groups,
        [(row.record, format_percentage(row.posterior)) for row in result.exposed[:EXPOSED]],
        name_omitted_attacks(result),
        len(list_skipped_attacks(result)),
        split_next_step(suggest_next_step(result, arguments, out)),
    )


def split_next_step(step: str | None) -> NextStep:
    """Split a suggestion into its sentence and its command.

    >>> split_next_step("To read it: memberscope explain pass")
    NextStep(sentence='To read it:', command='memberscope explain pass')
    """
    if step is None:
        return NextStep(f"{WITHOUT_POLICY}:", "memberscope audit … --policy standard")
    sentence, mark, command = step.partition(": memberscope ")
    return NextStep(f"{sentence}:", f"memberscope {command}") if mark else NextStep(sentence)


def build_longer_table(result: Result) -> Table | None:
    """Build the table of longer audits of the same inputs; None where none would add anything.

    An audit records what they would spend and take, as it is measured on the way.
    """
    rows = [
        (Cell(f"--effort {name}", code=True), result.environment[f"{LONGER}{name}"])
        for name in ("normal", "thorough")
        if f"{LONGER}{name}" in result.environment
    ]
    if not rows:
        return None
    return Table(
        "What a longer audit of the same inputs would do, and how long on this machine",
        ("audit again with", "it would run"),
        rows,
    )


def explain_no_longer_audit(result: Result) -> str:
    """Say why the report names no longer audit."""
    why = result.environment.get(LONGER.rstrip("_"), "")
    if why.startswith("none"):
        return f"No other --effort would run more with these inputs. {_list_more(result, why)}"
    if result.plan.effort == "thorough":
        return "This was the longest audit (effort thorough)."
    return (
        "What a longer audit would add was not recorded. The command memberscope plan with "
        "--effort normal or --effort thorough says what it would run and how long it would take."
    )


def _list_more(result: Result, why: str) -> str:
    """Say what would show more where no longer audit does, by the reason that the audit gave."""
    more = ["More records"]
    if why == ONLY_STORED:
        more.append("the model itself instead of stored answers")
    if not count_references(result):
        more.append("a recipe that trains models like it")
    words = f"{' or '.join(more)} would show more."
    if why == NO_QUERIES:
        words += (
            " Label-only searches were switched off (search_queries is 0); leave that setting out, "
            "and --effort normal makes them."
        )
    return words
