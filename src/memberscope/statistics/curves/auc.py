"""Estimate the area under the ROC curve with its interval.

Records stand by themselves or belong to units such as people or documents.

The interval is logit-DeLong with Welch-Satterthwaite degrees of freedom. Where few records are
misplaced DeLong's variance is too small too often, so the limit nearer one half becomes the wider
of that one and Newcombe's.

References:
    [1] E. DeLong, D. DeLong, D. Clarke-Pearson, "Comparing the areas under two or more correlated
        receiver operating characteristic curves", Biometrics 44, 1988, doi:10.2307/2531595.
    [2] R. Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney
        statistic. Part 2", Statistics in Medicine 25, 2006 (method 5).
    [3] N. Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53, 1997.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri, stdtrit

from memberscope import _check
from memberscope.statistics.curves.roc import Roc, roc
from memberscope.statistics.intervals import Interval
from memberscope.statistics.units import Sides, cluster_sides
from memberscope.types import Bools, Floats, Ints

FEW = 0.2  # standard error beyond this share of the nearer end, 0 or 1: the interval is widened


def compute_placements(scores: Floats, member: Bools) -> tuple[Floats, Floats]:
    """Give the share of non-members below each member, and of members above each non-member.

    Ties count one half.
    """
    inside, outside = np.sort(scores[member]), np.sort(scores[~member])

    def share_below(values: Floats, reference: Floats) -> Floats:
        # Counted from both ends, so that ties count one half after the division by two
        below = np.searchsorted(reference, values, "left") + np.searchsorted(
            reference, values, "right"
        )
        return np.asarray(below / (2.0 * len(reference)), dtype=np.float64)

    return share_below(scores[member], outside), 1.0 - share_below(scores[~member], inside)


@dataclass(frozen=True)
class AucEstimate:
    """An AUC with what its interval needs.

    DeLong's `variance`, its degrees of `freedom`, and the effective numbers of members and
    non-members (`sizes`).

    `words` are added to the method's name.

    >>> estimate = estimate_auc(np.array([0.0, 4, 6, 7, 1, 2, 3, 5]), np.arange(8) < 4)
    >>> estimate.value, estimate.is_uncertain
    (0.6875, True)
    """

    value: float
    variance: float
    freedom: float
    sizes: tuple[float, float]
    words: str = ""

    @property
    def is_degenerate(self) -> bool:
        """True if the variance says nothing, as at an AUC of 0 or 1."""
        return not 0 < self.value < 1 or self.variance <= 0 or not self.freedom > 0

    @property
    def is_uncertain(self) -> bool:
        """True if the standard error is a large share of the distance to the nearer end, 0 or 1."""
        return self.is_degenerate or self.variance**0.5 > FEW * min(self.value, 1 - self.value)

    def limits(self, confidence: float = 0.95) -> Interval:
        """Give the AUC with its limits at `confidence`."""
        if not self.is_uncertain:
            return Interval(
                self.value, *self._logit_limits(confidence), f"logit-DeLong{self.words}"
            )
        # Only the limit nearer one half is widened: there DeLong's variance is too small where few
        # records are misplaced
        # Newcombe's limits exist even where DeLong's variance says nothing
        low, high = newcombe_limits(self.value, *self.sizes, confidence)
        if self.is_degenerate:
            return Interval(self.value, low, high, f"Newcombe{self.words}")
        own_low, own_high = self._logit_limits(confidence)
        low = min(low, own_low) if self.value >= 0.5 else own_low
        high = max(high, own_high) if self.value <= 0.5 else own_high
        return Interval(self.value, low, high, f"logit-DeLong widened to Newcombe{self.words}")

    def _logit_limits(self, confidence: float) -> tuple[float, float]:
        # The delta method: the standard error on the scale of the logit
        spread = self.variance**0.5 / (self.value * (1 - self.value))
        half = float(stdtrit(self.freedom, (1 + confidence) / 2)) * spread
        centre = float(logit(self.value))
        return float(expit(centre - half)), float(expit(centre + half))


def estimate_auc(scores: Floats, member: Bools, unit: Ints | None = None) -> AucEstimate:
    """Estimate the AUC of `scores` (n,) against `member` (n,).

    Records of one `unit` (n,) may depend on one another.

    Raises:
        InputError: A score is not finite, the lengths differ, or one kind is missing.

    >>> estimate_auc(np.arange(8.0), np.arange(8) >= 4).limits().value
    1.0
    """
    return estimate_curve_auc(roc(scores, member, unit))


def estimate_curve_auc(curve: Roc) -> AucEstimate:
    """Estimate the AUC from a staircase, whose records are sorted already.

    >>> curve = roc(np.array([0.0, 4, 6, 7, 1, 2, 3, 5]), np.arange(8) < 4)
    >>> estimate_curve_auc(curve).value
    0.6875
    """
    inside, outside, sides = _place_curve_records(curve)
    value = float(np.sort(inside).mean())  # sums must not depend on the records' order
    # DeLong's variance: the spread of the placements on either side
    variance, freedom = sides.variance_of_mean(inside - value, outside - value)
    words = "" if curve.rows is None else ", by unit"
    return AucEstimate(value, variance, freedom, sides.sizes, words)


def _place_curve_records(curve: Roc) -> tuple[Floats, Floats, Sides]:
    """Give the placements of `compute_placements`, and the units, in the order of the curve."""
    n1, n0 = curve.n_members, curve.n_non_members
    # The records of one block tie, so that they share their placement
    inside = (2 * n0 - curve.fp[1:] - curve.fp[:-1]) / (2.0 * n0)
    outside = 1.0 - (2 * n1 - curve.tp[1:] - curve.tp[:-1]) / (2.0 * n1)
    inside = np.repeat(inside, np.diff(curve.tp))
    outside = np.repeat(outside, np.diff(curve.fp))
    return inside, outside, curve.rows or cluster_sides(np.arange(n1 + n0) < n1)


def auc_interval(
    scores: Floats, member: Bools, confidence: float = 0.95, unit: Ints | None = None
) -> Interval:
    """Give the AUC of `scores` (n,) against `member` (n,) with its limits.

    The limits hold for sides of very different sizes and near 0 and 1.

    `unit` (n,) numbers the person or document of each record; units are then taken as independent,
    not records.

    Raises:
        InputError: A score is not finite, the lengths differ, or one kind is missing.

    >>> interval = auc_interval(np.array([0.0, 4, 6, 7, 1, 2, 3, 5]), np.arange(8) < 4)
    >>> interval.value, round(interval.low, 4), round(interval.high, 4)
    (0.6875, 0.0692, 0.9849)
    """
    return estimate_auc(scores, member, unit).limits(confidence)


def newcombe_limits(value: float, n: float, m: float, confidence: float) -> tuple[float, float]:
    """Give Newcombe's limits for an AUC of `value` from `n` members and `m` non-members.

    They exist at 0 and 1 too.

    >>> low, high = newcombe_limits(1.0, 50, 50, 0.95)
    >>> round(low, 6), high
    (0.960344, 1.0)
    """
    # The star of method 5: both sides get the mean of their sizes
    z = float(ndtri((1 + confidence) / 2))
    star = (n + m) / 2 - 1

    def variance(theta: float) -> float:
        return (
            theta
            * (1 - theta)
            * (1 + star * ((1 - theta) / (2 - theta) + theta / (1 + theta)))
            / (n * m)
        )

    # The limits are where the distance is z standard errors, taken at the limit itself
    def excess(theta: float) -> float:
        return float((value - theta) ** 2 - z**2 * variance(theta))

    # At 0 and 1 the limit is the end itself; elsewhere the root lies strictly inside, and the small
    # margins keep the variance positive where the search starts
    low = (
        0.0
        if value <= 0
        else float(brentq(excess, 1e-15, min(value, 1 - 1e-12)))
        if excess(1e-15) > 0
        else 0.0
    )
    high = (
        1.0
        if value >= 1
        else float(brentq(excess, max(value, 1e-12), 1 - 1e-15))
        if excess(1 - 1e-15) > 0
        else 1.0
    )
    return low, high


def auc_difference(
    first: Floats, second: Floats, member: Bools, confidence: float = 0.95, unit: Ints | None = None
) -> Interval:
    """Give the AUC of `first` (n,) minus that of `second` (n,) on the same records.

    The method is paired DeLong; records of one `unit` may depend on one another.

    >>> scores = np.array([0.0, 4, 6, 7, 1, 2, 3, 5])
    >>> auc_difference(scores, scores, np.arange(8) < 4)[:3]
    (0.0, 0.0, 0.0)
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    member = np.asarray(member, dtype=bool)
    _check.check_binary_scores(first, member)
    _check.check_binary_scores(second, member)
    pairs = zip(compute_placements(first, member), compute_placements(second, member), strict=True)
    # Placements of one record under both scores are subtracted, so that what they share cancels
    gain, loss = (one - other for one, other in pairs)
    value = float(gain.mean())
    sides: Sides = cluster_sides(member, unit)
    variance, freedom = sides.variance_of_mean(gain - value, loss - value)
    method = "paired DeLong" if unit is None else "paired DeLong, by unit"
    # Equal rankings: the difference is exactly zero and has no spread
    if variance <= 0:
        return Interval(value, value, value, method)
    # Without degrees of freedom nothing is known, so that the interval covers all of [-1, 1]
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * variance**0.5 if freedom > 0 else 2.0
    return Interval(value, max(-1.0, value - half), min(1.0, value + half), method)
