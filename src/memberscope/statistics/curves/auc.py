"""Area under the ROC curve with its interval, for records by themselves or in units (people.

Documents).

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
from memberscope.statistics.intervals import Interval
from memberscope.statistics.units import Sides, cluster_sides
from memberscope.types import Bools, Floats, Ints

FEW = 0.2  # standard error beyond this share of the nearer end, 0 or 1: the interval is widened


def compute_placements(scores: Floats, member: Bools) -> tuple[Floats, Floats]:
    """For each member the share of non-members below it.

    And for each non-member of members above it; ties one half.
    """
    inside, outside = np.sort(scores[member]), np.sort(scores[~member])

    def share_below(values: Floats, reference: Floats) -> Floats:
        below = np.searchsorted(reference, values, "left") + np.searchsorted(
            reference, values, "right"
        )
        return np.asarray(below / (2.0 * len(reference)), dtype=np.float64)

    return share_below(scores[member], outside), 1.0 - share_below(scores[~member], inside)


@dataclass(frozen=True)
class AucEstimate:
    """An AUC with DeLong's `variance`, its degrees of `freedom`.

    And the effective numbers of members and non-members.

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
        """Whether the variance says nothing."""
        return not 0 < self.value < 1 or self.variance <= 0 or not self.freedom > 0

    @property
    def is_uncertain(self) -> bool:
        """Whether the standard error is a large share of the distance to the nearer end, 0 or 1."""
        return self.is_degenerate or self.variance**0.5 > FEW * min(self.value, 1 - self.value)

    def limits(self, confidence: float = 0.95) -> Interval:
        """The AUC with its limits at `confidence`."""
        if not self.is_uncertain:
            return Interval(
                self.value, *self._logit_limits(confidence), f"logit-DeLong{self.words}"
            )
        low, high = newcombe_limits(self.value, *self.sizes, confidence)
        if self.is_degenerate:
            return Interval(self.value, low, high, f"Newcombe{self.words}")
        own_low, own_high = self._logit_limits(confidence)
        low = min(low, own_low) if self.value >= 0.5 else own_low
        high = max(high, own_high) if self.value <= 0.5 else own_high
        return Interval(self.value, low, high, f"logit-DeLong widened to Newcombe{self.words}")

    def _logit_limits(self, confidence: float) -> tuple[float, float]:
        spread = self.variance**0.5 / (self.value * (1 - self.value))
        half = float(stdtrit(self.freedom, (1 + confidence) / 2)) * spread
        centre = float(logit(self.value))
        return float(expit(centre - half)), float(expit(centre + half))


def estimate_auc(scores: Floats, member: Bools, unit: Ints | None = None) -> AucEstimate:
    """AUC of `scores` (n,) against `member` (n,) with what its interval needs.

    Records of one `unit` (n,) may depend.

    Raises:
        InputError: A score is not finite, the lengths differ, or one kind is missing.

    >>> estimate_auc(np.arange(8.0), np.arange(8) >= 4).limits().value
    1.0
    """
    scores, member = np.asarray(scores, dtype=np.float64), np.asarray(member, dtype=bool)
    _check.check_binary_scores(scores, member)
    inside, outside = compute_placements(scores, member)
    value = float(np.sort(inside).mean())  # sums must not depend on the records' order
    sides = cluster_sides(member, unit)
    variance, freedom = sides.variance_of_mean(inside - value, outside - value)
    return AucEstimate(value, variance, freedom, sides.sizes, "" if unit is None else ", by unit")


def auc_interval(
    scores: Floats, member: Bools, confidence: float = 0.95, unit: Ints | None = None
) -> Interval:
    """AUC of `scores` (n,) against `member` (n,).

    With limits that hold for lopsided sides and near 0 and 1.

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
    """Limits for an AUC of `value` from `n` members and `m` non-members.

    Which exist at 0 and 1 too.

    >>> low, high = newcombe_limits(1.0, 50, 50, 0.95)
    >>> round(low, 6), high
    (0.960344, 1.0)
    """
    z = float(ndtri((1 + confidence) / 2))
    star = (n + m) / 2 - 1

    def variance(theta: float) -> float:
        return (
            theta
            * (1 - theta)
            * (1 + star * ((1 - theta) / (2 - theta) + theta / (1 + theta)))
            / (n * m)
        )

    def excess(theta: float) -> float:
        return float((value - theta) ** 2 - z**2 * variance(theta))

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
    """AUC of `first` (n,) minus AUC of `second` (n,) on the same records, by paired DeLong.

    Records of one `unit` may depend.

    >>> scores = np.array([0.0, 4, 6, 7, 1, 2, 3, 5])
    >>> auc_difference(scores, scores, np.arange(8) < 4)[:3]
    (0.0, 0.0, 0.0)
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    member = np.asarray(member, dtype=bool)
    _check.check_binary_scores(first, member)
    _check.check_binary_scores(second, member)
    pairs = zip(compute_placements(first, member), compute_placements(second, member), strict=True)
    gain, loss = (one - other for one, other in pairs)
    value = float(gain.mean())
    sides: Sides = cluster_sides(member, unit)
    variance, freedom = sides.variance_of_mean(gain - value, loss - value)
    method = "paired DeLong" if unit is None else "paired DeLong, by unit"
    if variance <= 0:
        return Interval(value, value, value, method)
    half = float(stdtrit(freedom, (1 + confidence) / 2)) * variance**0.5 if freedom > 0 else 2.0
    return Interval(value, max(-1.0, value - half), min(1.0, value + half), method)
