"""Give accuracy, precision, recall and related rates at a decision threshold.

The threshold is fixed beforehand, or the best one on the same data (optimistic).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from memberscope import _check
from memberscope.statistics.curves.roc import Roc
from memberscope.statistics.intervals import (
    Interval,
    clopper_pearson,
    compute_lower_share,
    compute_upper_share,
    kolmogorov_band,
    weighted_sum_of_shares,
)
from memberscope.statistics.units import Sides, cluster_sides, design_effect
from memberscope.types import Bools, Ints

RUN = 32  # neighbouring thresholds that are bounded together
ROUNDING = 1e-9  # slack where a bound and an exact limit are compared
# Words for the two methods whose limits allow for the choice of threshold
BEST = "band below, largest MOVER limit over thresholds above; for the best threshold, chosen on these data (optimistic)"
BAND = "Kolmogorov band over all thresholds; for the value at the threshold chosen on these data (optimistic)"


@dataclass(frozen=True)
class ConfusionCounts:
    """True positives among members and false positives among non-members at one threshold.

    Effective counts of records in units need not be whole; `mix` then keeps the share of members
    among the records.
    """

    tp: float
    n_members: float
    fp: float
    n_non_members: float
    mix: float | None = None

    @property
    def share(self) -> float:
        """Members as a share of all records."""
        return (
            self.n_members / (self.n_members + self.n_non_members) if self.mix is None else self.mix
        )

    def shrunk(self, members: float, non_members: float) -> ConfusionCounts:
        """Give the same rates from so many times fewer members and non-members."""
        return ConfusionCounts(
            self.tp / members,
            self.n_members / members,
            self.fp / non_members,
            self.n_non_members / non_members,
            self.share,
        )


def find_best_balanced_threshold(curve: Roc) -> float:
    """Find the threshold with the best balanced accuracy for "member iff score >= threshold".

    Of equals it is the strictest.

    >>> from memberscope.statistics.curves.roc import roc
    >>> find_best_balanced_threshold(roc(np.array([0.9, 0.8, 0.3, 0.1]), np.arange(4) < 2))
    0.8
    """
    return float(curve.thresholds[_find_best_vertex(curve)])


def _find_best_vertex(curve: Roc) -> int:
    """Find the first vertex with the largest TPR - FPR, among thresholds at observed scores."""
    advantage = (
        curve.tp[1:] * curve.n_non_members - curve.fp[1:] * curve.n_members
    )  # whole numbers, so that equals are equal
    return 1 + int(np.argmax(advantage))


def effective_counts(
    called: Bools, member: Bools, unit: Ints | Sides | None = None
) -> ConfusionCounts:
    """Count `called` (n,) among members and non-members.

    With `unit` (n,), or the sides of `cluster_sides`, the counts are shrunk to as many records as
    are independent. Exact limits for shares of them then hold by unit, and are never narrower than
    those of independent records.

    Raises:
        InputError: The lengths differ.

    >>> member, unit = np.arange(400) < 200, np.arange(400) // 10
    >>> effective_counts(unit % 2 == 0, member, unit).n_members < 25
    True
    >>> effective_counts(np.arange(400) % 2 == 0, member) == ConfusionCounts(100, 200, 100, 200)
    True
    """
    _check.check_same_length(called=called, member=member)
    called, member = np.asarray(called, dtype=bool), np.asarray(member, dtype=bool)
    n1 = int(member.sum())
    counts = ConfusionCounts(
        int((called & member).sum()), n1, int((called & ~member).sum()), len(member) - n1
    )
    if unit is None:
        return counts
    # A design effect for each side, since their units differ
    sides = unit if isinstance(unit, Sides) else cluster_sides(member, unit)
    effects = [
        design_effect(called[side], codes, rows)
        for side, codes, rows in zip((member, ~member), sides.codes, sides.records, strict=True)
    ]
    return counts.shrunk(effects[0], effects[1])


def threshold_rates(counts: ConfusionCounts, confidence: float = 0.95) -> dict[str, Interval]:
    """Give accuracy, precision, recall, FPR, FNR and advantage at a fixed threshold.

    Precision is on the audit's own mix of members and non-members; balanced accuracy is included.

    >>> found = threshold_rates(ConfusionCounts(80, 100, 30, 100))
    >>> found["accuracy"].value, round(found["advantage"].value, 3)
    (0.75, 0.5)
    """
    hits = (counts.tp, counts.n_members)
    kept = (counts.n_non_members - counts.fp, counts.n_non_members)
    alarms = (counts.fp, counts.n_non_members)
    share = counts.share
    recall, fpr = _estimate_share(hits, confidence), _estimate_share(alarms, confidence)
    advantage = weighted_sum_of_shares(hits, alarms, (1.0, -1.0), confidence)
    return {
        "accuracy": weighted_sum_of_shares(hits, kept, (share, 1 - share), confidence),
        "balanced_accuracy": weighted_sum_of_shares(hits, kept, (0.5, 0.5), confidence),
        "precision": _estimate_mix_precision(counts, confidence),
        "recall": recall,
        "fpr": fpr,
        "fnr": Interval(1 - recall.value, 1 - recall.high, 1 - recall.low, recall.method),
        "advantage": advantage,
    }


def _estimate_share(share: tuple[float, float], confidence: float) -> Interval:
    """Estimate a share (k, n) with its exact limits."""
    low, high = clopper_pearson(*share, confidence)
    return Interval(share[0] / share[1], float(low), float(high), "Clopper-Pearson")


def _estimate_mix_precision(counts: ConfusionCounts, confidence: float) -> Interval:
    """Estimate the precision at the audit's own share of members."""
    from memberscope.statistics.ppv import ppv_from_counts

    return ppv_from_counts(
        counts.tp,
        counts.n_members,
        counts.fp,
        counts.n_non_members,
        prior=counts.share,
        confidence=confidence,
    )


def best_rates(curve: Roc, confidence: float = 0.95) -> dict[str, Interval]:
    """Give the rates at the best threshold on these data.

    The values stay optimistic; the limits allow for the choice.

    Limits of the advantage and of both accuracies hold for the best threshold there is and for the
    one chosen; the others for the value at the threshold chosen. Where the curve was built with
    units, units are taken as independent, not records.

    >>> from memberscope.statistics.curves.roc import roc
    >>> best_rates(roc(np.arange(200.0), np.arange(200) >= 100))["balanced_accuracy"].value
    1.0
    """
    # The threshold is chosen by balanced accuracy, whichever rate is told
    at = _find_best_vertex(curve)
    tpr, fpr = curve.tp[at] / curve.n_members, curve.fp[at] / curve.n_non_members
    share = curve.n_members / (curve.n_members + curve.n_non_members)
    sizes = _independent_sizes(curve, at)
    advantage = _estimate_best_sum(curve, at, (1.0, 1.0), sizes, confidence)
    accuracy = _estimate_best_sum(curve, at, (share, 1 - share), sizes, confidence)
    recall, alarms = (
        _build_band_interval(float(tpr), sizes[0], confidence),
        _build_band_interval(float(fpr), sizes[1], confidence),
    )
    return {
        "accuracy": _rescale_interval(accuracy, 1.0, 1 - share),
        # Balanced accuracy is a linear function of the advantage, so it shares its limits
        "balanced_accuracy": _rescale_interval(advantage, 0.5, 0.5),
        "precision": _estimate_banded_precision((float(tpr), float(fpr)), sizes, share, confidence),
        "recall": recall,
        "fpr": alarms,
        "fnr": Interval(1 - recall.value, 1 - recall.high, 1 - recall.low, recall.method),
        "advantage": advantage,
    }


def _independent_sizes(curve: Roc, at: int) -> tuple[float, float]:
    """Give the independent members and non-members behind the rates at the vertex `at`.

    As many independent records would say as much as those of `curve` do.

    >>> from memberscope.statistics.curves.roc import roc
    >>> scores, member = np.repeat(np.arange(40.0), 10), np.arange(400) >= 200
    >>> curve = roc(scores, member, np.arange(400) // 10)
    >>> [round(size, 6) for size in _independent_sizes(curve, _find_best_vertex(curve))]
    [20.0, 20.0]
    """
    # Without units each record is independent
    if curve.rows is None:
        return float(curve.n_members), float(curve.n_non_members)
    # Records stand with the highest scores first, so that the first ones are called
    effects = [
        design_effect(np.arange(len(codes)) < count, codes)
        for codes, count in zip(curve.rows.codes, (curve.tp[at], curve.fp[at]), strict=True)
    ]
    return curve.n_members / effects[0], curve.n_non_members / effects[1]


def _estimate_best_sum(
    curve: Roc, at: int, weights: tuple[float, float], sizes: tuple[float, float], confidence: float
) -> Interval:
    """Estimate w1 TPR - w0 FPR at the vertex `at`, the best threshold on these data.

    The limits hold for the best threshold there is and for the one chosen.

    `sizes` are the numbers of members and non-members, or as many as are independent.

    Below: the least that the sum at every threshold differs from its estimate (a band). Above: the
    largest limit (MOVER of two one-sided exact ones) over the thresholds; the best of them is fixed
    in the population, so that none pays for the others.
    """
    tail, (w1, w0) = (1 - confidence) / 2, weights
    tpr, fpr = curve.tp / curve.n_members, curve.fp / curve.n_non_members
    sums = w1 * tpr - w0 * fpr
    value = float(sums[at])
    # The half width of a band that holds for the weighted sum at every threshold
    reach = float(np.sqrt(0.5 * np.log(1 / tail) * (w1**2 / sizes[0] + w0**2 / sizes[1])))

    def bound(largest: Any, first: Any, last: Any) -> Any:
        """Bound the limits of thresholds `first` to `last`, whose sums are at most `largest`.

        Where both are the same threshold it is that one's limit.
        """
        above = compute_upper_share(tpr[last] * sizes[0], sizes[0], tail) - tpr[first]
        below = fpr[last] - compute_lower_share(fpr[first] * sizes[1], sizes[1], tail)
        return largest + np.hypot(w1 * above, w0 * below)

    high = float(bound(sums[at], at, at))
    # By Hoeffding no exact limit is farther from its share than the band, so that thresholds that
    # cannot reach the chosen one's limit need none
    near = np.flatnonzero(sums + reach >= high)
    # Nor do runs of thresholds whose rates together cannot
    starts = np.arange(0, len(near), RUN)
    ends = np.minimum(starts + RUN, len(near)) - 1
    highest = bound(np.maximum.reduceat(sums[near], starts), near[starts], near[ends])
    kept = near[np.repeat(highest >= high - ROUNDING, ends - starts + 1)]
    high = float(np.max(bound(sums[kept], kept, kept), initial=high))
    return Interval(value, max(value - reach, -w0), min(high, w1), BEST)


def _rescale_interval(interval: Interval, scale: float, offset: float) -> Interval:
    """Multiply an interval by `scale` and add `offset`."""
    value, low, high = (scale * end + offset for end in interval[:3])
    return Interval(value, low, high, interval.method)


def _build_band_interval(share: float, n: float, confidence: float) -> Interval:
    """Give a share of `n` records with limits that hold at every threshold at once."""
    reach = kolmogorov_band(int(n), confidence)
    return Interval(share, max(0.0, share - reach), min(1.0, share + reach), BAND)


def _estimate_banded_precision(
    rates_at: tuple[float, float], sizes: tuple[float, float], share: float, confidence: float
) -> Interval:
    """Estimate the precision of a test with these rates (TPR, FPR).

    A `share` of records are members. The limits come from bands of both rates.
    """
    # Each band at half the error, so that both hold together
    recall, alarms = (
        _build_band_interval(value, n, (1 + confidence) / 2)
        for value, n in zip(rates_at, sizes, strict=True)
    )

    def precise(t: float, f: float) -> float:
        return float(share * t / (share * t + (1 - share) * f)) if t + f > 0 else share

    # Precision rises with the TPR and falls with the FPR, so opposite ends go together
    ends = ((recall.value, alarms.value), (recall.low, alarms.high), (recall.high, alarms.low))
    value, low, high = (precise(t, f) for t, f in ends)
    return Interval(value, low, high, BAND)
