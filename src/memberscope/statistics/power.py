"""What an audit could have seen: the smallest TPR, and the smallest AUC, that it would have detected."""

from __future__ import annotations

import numpy as np
from scipy.special import betainc, ndtr, ndtri

from memberscope.statistics.multiplicity import simultaneous_confidence
from memberscope.statistics.roc import Roc, allowed_false_positives
from memberscope.statistics.tpr import mixed, mixture
from memberscope.types import Floats

STEPS = 24


def minimum_detectable_tpr(
    n_members: int,
    n_non_members: int,
    fpr: float,
    limit: float,
    *,
    confidence: float = 0.95,
    n_candidates: int = 1,
    power: float = 0.8,
) -> float | None:
    """Smallest true TPR at `fpr` that the rule "lower limit above `limit`" detects with `power`; None if even 1 is missed.

    The ROC curve near `fpr` is taken to have the Gaussian shape; the lower limit is that of `tpr_at_fpr` at the confidence
    shared among `n_candidates`.

    Raises:
        InputError: The non-members do not resolve `fpr`.

    >>> 0.05 < minimum_detectable_tpr(500, 500, 0.05, 0.1) < 0.3
    True
    """
    allowed_false_positives(fpr, n_non_members)
    tail = (1 - simultaneous_confidence(confidence, n_candidates)) / 2
    needed = smallest_significant(n_members, n_non_members, fpr, limit, tail)
    if needed is None:
        return None
    low, high = max(limit, fpr), 1 - 1e-9
    if chance(high, needed, n_members, n_non_members, fpr) < power:
        return None
    for _ in range(STEPS):
        middle = (low + high) / 2
        if chance(middle, needed, n_members, n_non_members, fpr) >= power:
            high = middle
        else:
            low = middle
    return float(high)


def gaussian_curve(tpr: float, fpr: float, rates: Floats) -> Floats:
    """TPR at `rates` (r,) on the Gaussian-shift ROC curve through (`fpr`, `tpr`)."""
    return np.asarray(ndtr(ndtri(rates) + ndtri(tpr) - ndtri(fpr)), dtype=np.float64)


def smallest_significant(n_members: int, n_non_members: int, fpr: float, limit: float, tail: float) -> int | None:
    """Fewest true positives at `fpr` whose lower limit exceeds `limit`, on a curve of Gaussian shape; None if none do."""

    def significant(count: int) -> bool:
        ranks = np.arange(n_non_members + 1)
        share = min(max(count / n_members, 1e-12), 1 - 1e-12)
        heights = gaussian_curve(share, fpr, np.clip(ranks / n_non_members, 1e-12, 1 - 1e-12))
        tp = np.minimum(np.floor(heights * n_members + 1e-6), n_members).astype(np.int64)
        curve = Roc(np.zeros(len(ranks)), tp, ranks.astype(np.int64), n_members, n_non_members)
        return mixed(limit, *mixture(curve, fpr, lower=True), n_members, lower=True) < tail

    low, high = 0, n_members
    if not significant(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if significant(middle) else (middle, high)
    return high


def chance(tpr: float, needed: int, n_members: int, n_non_members: int, fpr: float) -> float:
    """Probability of at least `needed` true positives when the threshold is the one estimated from the non-members."""
    allowed = allowed_false_positives(fpr, n_non_members)
    levels = (np.arange(100) + 0.5) / 100
    from scipy.special import betaincinv

    reached = betaincinv(allowed + 1, max(n_non_members - allowed, 1), levels)
    heights = np.clip(gaussian_curve(tpr, fpr, np.clip(reached, 1e-15, 1 - 1e-15)), 0.0, 1.0)
    return float(np.mean(betainc(needed, n_members - needed + 1, heights)))


def minimum_detectable_auc(n_members: int, n_non_members: int, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """Smallest AUC whose lower limit at `confidence` exceeds one half with `power`, by the null variance of the AUC.

    >>> round(minimum_detectable_auc(1000, 1000), 3)
    0.536
    """
    spread = ((n_members + n_non_members + 1) / (12 * n_members * n_non_members)) ** 0.5
    return float(min(1.0, 0.5 + (ndtri((1 + confidence) / 2) + ndtri(power)) * spread))
