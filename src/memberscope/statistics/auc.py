"""Area under the ROC curve with its interval: logit-DeLong, and Newcombe's where DeLong's variance degenerates.

References:
    [1] E. DeLong, D. DeLong, D. Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
        characteristic curves", Biometrics 44, 1988.
    [2] R. Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2",
        Statistics in Medicine 25, 2006 (method 5).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri, stdtrit

from memberscope import _check
from memberscope.statistics.intervals import Interval
from memberscope.types import Bools, Floats


def placements(scores: Floats, member: Bools) -> tuple[Floats, Floats]:
    """For each member the share of non-members below it, and for each non-member of members above it; ties one half."""
    inside, outside = np.sort(scores[member]), np.sort(scores[~member])

    def share_below(values: Floats, reference: Floats) -> Floats:
        below = np.searchsorted(reference, values, "left") + np.searchsorted(reference, values, "right")
        return np.asarray(below / (2.0 * len(reference)), dtype=np.float64)

    return share_below(scores[member], outside), 1.0 - share_below(scores[~member], inside)


def auc_interval(scores: Floats, member: Bools, confidence: float = 0.95) -> Interval:
    """AUC of `scores` (n,) against `member` (n,), with a t-based logit-DeLong interval widened to Newcombe's near 0 and 1.

    Raises:
        InputError: A score is not finite, the lengths differ, or one kind is missing.

    >>> interval = auc_interval(np.array([0.0, 4, 6, 7, 1, 2, 3, 5]), np.arange(8) < 4)
    >>> interval.value
    0.6875
    """
    scores, member = np.asarray(scores, dtype=np.float64), np.asarray(member, dtype=bool)
    _check.binary_scores(scores, member)
    inside, outside = (np.sort(side) for side in placements(scores, member))  # sums must not depend on the records' order
    value = float(inside.mean())
    n, m = len(inside), len(outside)
    newcombe = newcombe_limits(value, n, m, confidence)
    if min(n, m) < 2:
        return Interval(value, *newcombe, "Newcombe")
    parts = np.array([inside.var(ddof=1) / n, outside.var(ddof=1) / m])
    variance = float(parts.sum())
    if not degenerate(value, variance, inside, outside):
        freedom = variance**2 / float(np.sum(parts**2 / np.array([n - 1, m - 1])))
        half = float(stdtrit(freedom, (1 + confidence) / 2)) * variance**0.5 / (value * (1 - value))
        centre = float(logit(value))
        return Interval(value, float(expit(centre - half)), float(expit(centre + half)), "logit-DeLong")
    return Interval(value, *newcombe, "Newcombe")


def degenerate(value: float, variance: float, inside: Floats, outside: Floats) -> bool:
    """Whether DeLong's variance rests on too few discordant records to be trusted."""
    if variance <= 0 or not 0 < value < 1:
        return True
    discordant = min(
        max((inside < 1).sum(), (outside < 1).sum()),
        max((inside > 0).sum(), (outside > 0).sum()),
    )
    return bool(discordant < 15)


def newcombe_limits(value: float, n: int, m: int, confidence: float) -> tuple[float, float]:
    """Limits for an AUC of `value` from `n` members and `m` non-members, which exist at 0 and 1 too.

    >>> low, high = newcombe_limits(1.0, 50, 50, 0.95)
    >>> 0.9 < low < 1.0 and high == 1.0
    True
    """
    z = float(ndtri((1 + confidence) / 2))
    star = (n + m) / 2 - 1

    def variance(theta: float) -> float:
        return theta * (1 - theta) * (1 + star * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / (n * m)

    def excess(theta: float) -> float:
        return float((value - theta) ** 2 - z**2 * variance(theta))

    low = 0.0 if value <= 0 else float(brentq(excess, 1e-15, min(value, 1 - 1e-12))) if excess(1e-15) > 0 else 0.0
    high = 1.0 if value >= 1 else float(brentq(excess, max(value, 1e-12), 1 - 1e-15)) if excess(1 - 1e-15) > 0 else 1.0
    return low, high


def auc_difference(first: Floats, second: Floats, member: Bools, confidence: float = 0.95) -> Interval:
    """AUC of `first` (n,) minus AUC of `second` (n,) on the same records, by paired DeLong.

    >>> scores = np.array([0.0, 4, 6, 7, 1, 2, 3, 5])
    >>> auc_difference(scores, scores, np.arange(8) < 4)[:3]
    (0.0, 0.0, 0.0)
    """
    member = np.asarray(member, dtype=bool)
    _check.binary_scores(np.asarray(first, dtype=np.float64), member)
    _check.binary_scores(np.asarray(second, dtype=np.float64), member)
    inside1, outside1 = placements(np.asarray(first, dtype=np.float64), member)
    inside2, outside2 = placements(np.asarray(second, dtype=np.float64), member)
    gain, loss = inside1 - inside2, outside1 - outside2
    value = float(gain.mean())
    variance = float(gain.var(ddof=1) / len(gain) + loss.var(ddof=1) / len(loss))
    half = float(ndtri((1 + confidence) / 2)) * variance**0.5
    return Interval(value, max(-1.0, value - half), min(1.0, value + half), "paired DeLong")
