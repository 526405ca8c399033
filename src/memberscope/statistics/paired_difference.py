"""Estimate what changed between two audits.

Intervals for the difference of two rates or areas, and their one-sided p-value.

Independent audits: MOVER, from each estimate's own limits. The same records in both: paired DeLong
for the AUC. For TPR at a rate a bootstrap's own lower limit is too high too often where few false
positives are allowed and the rates differ. So each audit keeps its own limits, which count the
threshold's error, and the bootstrap only estimates how far the two estimates move together when
records are drawn again.

References:
    [1] G. Zou, "Toward using confidence intervals to compare correlations", Psychological Methods
        12, 2007 (MOVER with a correlation).
    [2] R. Newcombe, "Interval estimation for the difference between independent proportions",
        Statistics in Medicine 17, 1998.
    [3] E. DeLong, D. DeLong, D. Clarke-Pearson, Biometrics 44, 1988.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from memberscope.statistics.curves.auc import auc_difference, estimate_auc
from memberscope.statistics.curves.bootstrap import ROWS, Curve, Places
from memberscope.statistics.curves.resampling import Resampler, spawn_fast_rng
from memberscope.statistics.curves.roc import allowed_false_positives
from memberscope.statistics.intervals import Interval
from memberscope.types import Bools, Floats, Ints

INDEPENDENT = "MOVER of each audit's own limits, the two taken as independent"
TOGETHER = "MOVER of each audit's own limits, with the correlation of a bootstrap that resamples records in both at once"
CLOSEST = 0.95  # the most that a correlation may narrow an interval, so that one is never empty
SURE = 1e-9  # the smallest p-value reported


def difference_by_mover(before: Interval, after: Interval, correlation: float = 0.0) -> Interval:
    """Give `after` minus `before`, with limits from the limits of both (MOVER).

    A positive `correlation`, as `correlate_estimates` gives it, narrows them.

    >>> found = difference_by_mover(Interval(0.2, 0.1, 0.35, ""), Interval(0.5, 0.4, 0.6, ""))
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.3, 0.12, 0.441)
    """
    # A correlation of one would make the interval empty
    r = min(max(correlation, -1.0), CLOSEST)
    value = after.value - before.value
    limits = []
    # Each limit of the difference joins the ends of both that lie in its direction
    for mine, its in (
        (after.value - after.low, before.high - before.value),
        (after.high - after.value, before.value - before.low),
    ):
        # Rounding may take the square just below zero
        limits.append(max(0.0, mine**2 + its**2 - 2 * r * mine * its) ** 0.5)
    return Interval(
        value,
        max(-1.0, value - limits[0]),
        min(1.0, value + limits[1]),
        TOGETHER if correlation else INDEPENDENT,
    )


def auc_change(
    before: Floats, after: Floats, member: Bools, confidence: float = 0.95, unit: Ints | None = None
) -> Interval:
    """Give the AUC of `after` (n,) minus that of `before` (n,) on the same records: paired DeLong.

    Where either AUC rests on too few misplaced records for DeLong's variance, MOVER of the limits
    of both is used instead, which takes the two as independent. Equal scores differ by nothing.
    Records of one `unit` (n,) may depend on one another.

    >>> scores = np.array([0.0, 4, 6, 7, 1, 2, 3, 5])
    >>> auc_change(scores, scores, np.arange(8) < 4)[:3]
    (0.0, 0.0, 0.0)
    """
    alone = [estimate_auc(scores, member, unit) for scores in (before, after)]
    # Equal scores differ by nothing, and need no variance
    if np.array_equal(before, after) or not any(entry.is_uncertain for entry in alone):
        return auc_difference(after, before, member, confidence, unit)
    return difference_by_mover(alone[0].limits(confidence), alone[1].limits(confidence))


def add_variance(
    change: Interval, variance: float, freedom: float, confidence: float = 0.95
) -> Interval:
    """Widen the limits of a change for a further, independent `variance`.

    The variance was estimated with `freedom` degrees of freedom.

    >>> wider = add_variance(Interval(0.1, 0.06, 0.14, ""), 0.0009, 1e9)
    >>> round(wider.low, 3), round(wider.high, 3)
    (0.029, 0.171)
    """
    # The two sources are independent, so their half widths add as squares
    reach = float(stdtrit(freedom, (1 + confidence) / 2)) * variance**0.5
    low = change.value - float(np.hypot(change.value - change.low, reach))
    high = change.value + float(np.hypot(change.high - change.value, reach))
    return change._replace(low=max(-1.0, low), high=min(1.0, high))


def shared_resamples(
    scores: Sequence[Floats],
    member: Bools,
    fprs: tuple[float, ...],
    n_replicates: int,
    rng: np.random.Generator,
    *,
    unit: Ints | None = None,
) -> tuple[Floats, Floats]:
    """Give the AUC (b, k) and TPR at `fprs` (b, k, f) of k `scores` (n,) over shared resamples.

    All k scores are about the same records, and each resample is the same for all of them.

    Members and non-members are drawn apart; with `unit` (n,) all records of a unit on one side are
    drawn at once.

    >>> line = np.arange(40.0)
    >>> auc, tpr = shared_resamples([line, -line], line >= 20, (0.1,), 3, np.random.default_rng(0))
    >>> auc.tolist(), tpr.shape
    ([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], (3, 2, 1))
    """
    curves = [Curve(Places.of(entry, member)) for entry in scores]
    orders = [
        tuple(_argsort_descending(entry[side]) for side in (member, ~member)) for entry in scores
    ]
    places = curves[0].places
    # Refused before any work is done
    for fpr in fprs:
        allowed_false_positives(fpr, places.n_others)
    auc, tpr = (
        np.empty((n_replicates, len(scores))),
        np.empty((n_replicates, len(scores), len(fprs))),
    )
    # One stream for both sides, so that each resample is the same for all scores
    stream = spawn_fast_rng(rng)
    codes = (
        [None, None]
        if unit is None
        # Units are drawn as a whole, so counts are of units and spread to their records
        else [np.unique(unit[side], return_inverse=True)[1] for side in (member, ~member)]
    )
    n_drawn = [
        n if own is None else int(own.max()) + 1
        for n, own in zip((places.n_members, places.n_others), codes, strict=True)
    ]
    members, others = Resampler(n_drawn[0], ROWS), Resampler(n_drawn[1], ROWS)
    for begun in range(0, n_replicates, ROWS):
        drawn = zip(members.draw(stream), others.draw(stream), strict=True)
        for b, (first_side, second_side) in zip(range(begun, n_replicates), drawn, strict=False):
            inside, outside = (
                side if own is None else side[own]
                for side, own in zip((first_side, second_side), codes, strict=True)
            )
            for k, (curve, (first, second)) in enumerate(zip(curves, orders, strict=True)):
                auc[b, k], tpr[b, k] = curve.rates(inside[first], outside[second], fprs)
    return auc, tpr


def _argsort_descending(scores: Floats) -> Ints:
    """Give the positions (n,) of `scores` (n,) from the highest to the lowest."""
    return np.argsort(-scores, kind="stable")


def correlate_estimates(before: Floats, after: Floats) -> float:
    """Correlate two estimates over the same resamples (b,); 0 where one of them never moves.

    >>> correlate_estimates(np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.4, 0.6])), correlate_estimates(np.ones(3), np.arange(3.0))
    (1.0, 0.0)
    """
    if np.ptp(before) == 0 or np.ptp(after) == 0:
        return 0.0
    # Rounded, so that the last bits of a sum do not change a reported limit
    return round(float(np.corrcoef(before, after)[0, 1]), 12)


def difference_p_value(limits: Callable[[float], Interval], margin: float = 0.0) -> float:
    """Give the one-sided p-value of "the difference is at most `margin`".

    It is below a exactly when the lower limit at tail a exceeds the margin. `limits` gives the
    difference's interval at a confidence, of which each tail has half the rest. A p-value above one
    half is reported as 1, and none below 1e-9 is reported.

    >>> before, after = np.arange(400.0) % 7, np.arange(400.0)
    >>> difference_p_value(lambda confidence: auc_change(before, after, after >= 200, confidence)) < 0.001
    True
    """

    def excess(log_tail: float) -> float:
        return limits(1 - 2 * float(np.exp(log_tail))).low - margin

    # A p-value above one half is not wanted, so the search ends just below it
    first, last = float(np.log(SURE)), float(np.log(0.4999))
    if excess(last) <= 0:
        return 1.0
    return SURE if excess(first) > 0 else float(np.exp(brentq(excess, first, last, xtol=1e-4)))
