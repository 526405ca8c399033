"""Show a result in a few lines of text, or as a card of HTML in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import shorten, wrap

from memberscope._html import read_template
from memberscope._text import escape_controls, format_percentage
from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.documents import format_level
from memberscope.auditing.verdict import describe_repeats, drop_verdict_word
from memberscope.reports import select as lookup
from memberscope.reports.page import build_environment
from memberscope.types import Estimate

WIDTH = 100  # characters of a line of text


@dataclass(frozen=True)
class CardRow:
    """What the strongest attack at one level reaches."""

    level: str
    tpr: Estimate | None
    auc: Estimate | None

    @property
    def attack(self) -> str:
        """The attack that reached it."""
        found = self.tpr or self.auc
        return "" if found is None else found.reaching_attack


def describe_result(result: Result) -> str:
    """Describe a result in at most five lines: verdict with its reason, headline, what it cost."""
    limited = " (limited)" if result.limited else ""
    said = f"{result.verdict or 'NO POLICY'}{limited}, {result.title}: "
    said += drop_verdict_word(result.reason)
    lines = wrap(escape_controls(said), WIDTH, max_lines=2, placeholder=" …")
    best = lookup.find_headline(result)
    if best is not None:
        lines.append(
            f"{best.reaching_attack} finds {lookup.format_interval(best)} of members at "
            f"{format_percentage(best.fpr)} false positives"
        )
    found, missing = len(result.estimates), len(lookup.list_skipped_attacks(result))
    trained = lookup.count_references(result)
    models = f", {trained} reference models" if trained else ""
    lines.append(
        f"{result.diagnostics.n_members} members, {result.diagnostics.n_non_members} non-members"
        f"{models}; {found} estimates, {missing} attacks not run; {result.cost.seconds:.1f} s"
    )
    # Titles and reasons hold names of the user's, which must not move a cursor
    shown = [shorten(escape_controls(line), WIDTH, placeholder=" …") for line in lines]
    return "<memberscope.Result\n  " + "\n  ".join(shown) + ">"


def render_card(result: Result) -> str:
    """Render the summary of a report as one piece of HTML, without scripts and without links."""
    from markupsafe import Markup

    best = lookup.find_headline(result)
    template = build_environment().get_template("card.html.j2")
    return str(
        template.render(
            result=result,
            diagnostics=result.diagnostics,
            headline=best,
            heading="h3",
            strongest=STRONGEST,
            prior=result.plan.threat.prior,
            repeats=describe_repeats(result.environment),
            threat=lookup.describe_threat(result),
            n_missing=len(lookup.list_skipped_attacks(result)),
            rows=_build_rows(result, None if best is None else best.fpr),
            style=Markup(read_template("card.css")),
        )
    )


def _build_rows(result: Result, fpr: float | None) -> list[CardRow]:
    """Build a row a level in force, at the headline's rate; levels only tried are left out."""
    levels = lookup.list_levels(result)
    in_force = [level for level in levels if level[1] in (None, levels[-1][1])]
    return [
        CardRow(
            format_level(*level),
            lookup.find_estimate(result, attack=STRONGEST, level=level, metric="tpr", fpr=fpr),
            lookup.find_estimate(result, attack=STRONGEST, level=level, metric="auc"),
        )
        for level in in_force
    ]
