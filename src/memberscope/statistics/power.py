"""What an audit could have seen: the smallest TPR, and the smallest AUC, that it would have detected."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import betainc, ndtr, ndtri

from memberscope.statistics.multiplicity import simultaneous_confidence
from memberscope.statistics.tpr import nodes
from memberscope.types import Floats, Ints

STEPS = 16
RUNS = 400  # simulated audits; the power is known to two points in a hundred


@lru_cache(maxsize=64)
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
    shared among `n_candidates`. The power is that of `RUNS` simulated audits, the same ones at each call.

    Raises:
        InputError: The non-members do not resolve `fpr`.

    >>> 0.05 < minimum_detectable_tpr(500, 500, 0.05, 0.1) < 0.3
    True
    """
    tail = (1 - simultaneous_confidence(confidence, n_candidates)) / 2
    kept, weights = nodes(n_non_members, fpr, lower=True)
    reached = rates_at(kept, n_non_members)

    def detected(tpr: float) -> bool:
        counts = member_counts(gaussian_curve(tpr, fpr, reached), n_members)
        below = np.where(counts > 0, betainc(np.maximum(counts, 1), n_members - counts + 1, limit), 1.0)
        return bool(np.mean(below @ weights < tail) >= power)

    low, high = max(limit, fpr), 1 - 1e-9
    if not detected(high):
        return None
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if detected(middle) else (middle, high)
    return float(high)


def gaussian_curve(tpr: float, fpr: float, rates: Floats) -> Floats:
    """TPR at `rates` (...) on the Gaussian-shift ROC curve through (`fpr`, `tpr`)."""
    return np.asarray(ndtr(ndtri(rates) + ndtri(tpr) - ndtri(fpr)), dtype=np.float64)


def rates_at(kept: Ints, n: int) -> Floats:
    """True rates (runs, j) of the most lenient thresholds that accuse `kept` (j,) of `n` non-members: those of the next one."""
    rng = np.random.default_rng(0)
    ranks = np.append(kept + 1, n + 1)
    gaps = rng.standard_gamma(np.diff(ranks, prepend=0), (RUNS, len(ranks)))
    places = np.cumsum(gaps, axis=1)
    return np.asarray(places[:, :-1] / places[:, -1:], dtype=np.float64)


def member_counts(heights: Floats, n: int) -> Ints:
    """Members (runs, j) of `n` above thresholds that a share `heights` (runs, j), rising, of all members exceed."""
    rng = np.random.default_rng(1)
    counts = np.zeros(heights.shape, dtype=np.int64)
    so_far, height = np.zeros(len(heights), dtype=np.int64), np.zeros(len(heights))
    for j in range(heights.shape[1]):
        share = (heights[:, j] - height) / np.maximum(1 - height, 1e-300)
        so_far = so_far + rng.binomial(n - so_far, np.clip(share, 0.0, 1.0))
        counts[:, j], height = so_far, heights[:, j]
    return counts


def minimum_detectable_auc(n_members: int, n_non_members: int, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """Smallest AUC whose lower limit at `confidence` exceeds one half with `power`, by the null variance of the AUC.

    >>> round(minimum_detectable_auc(1000, 1000), 3)
    0.536
    """
    spread = ((n_members + n_non_members + 1) / (12 * n_members * n_non_members)) ** 0.5
    return float(min(1.0, 0.5 + (ndtri((1 + confidence) / 2) + ndtri(power)) * spread))
