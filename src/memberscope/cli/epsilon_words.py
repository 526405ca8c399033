"""Write bounds on epsilon in words, and tell whether they refute a claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memberscope.cli.output import print_line

if TYPE_CHECKING:
    from memberscope.auditing import EpsilonBound


def refutes_claim(bounds: list[EpsilonBound], claimed: float) -> bool:
    """Tell whether bounds about single records refute the claimed epsilon, and print it."""
    if bounds:
        return report_refutation(bounds, claimed)
    print_line(
        "Not tested: no bound is about single records. Plant canaries once: --repetitions 1,4,16."
    )
    return False


def format_bound(bound: EpsilonBound) -> str:
    """Write a bound in a sentence or two."""
    return (
        f"epsilon >= {bound.epsilon:.3f} at delta {bound.delta:g}, {bound.confidence:.0%} "
        f"confidence ({bound.form}: {bound.right} of "
        f"{bound.guesses} guesses about {bound.m} canaries right; at most {bound.most:.2f} could "
        f"be shown). Assumes {bound.assumes}."
    )


def report_refutation(bounds: list[EpsilonBound], claimed: float) -> bool:
    """Tell whether the bounds refute the claimed epsilon, and print it.

    The f-DP form holds for mechanisms like the Gaussian one alone, so it may only cast doubt.
    """
    from memberscope.auditing import is_refuted

    found = is_refuted(bounds, claimed)
    print_line(
        f"REFUTED: epsilon {claimed:g} is claimed."
        if found
        else f"Not refuted: epsilon {claimed:g} is claimed."
    )
    if not found and any(bound.epsilon > claimed for bound in bounds):
        print_line(
            "In doubt: no mechanism whose trade-off curve is a Gaussian one's has that epsilon."
        )
    return found
