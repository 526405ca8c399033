"""TPR at a false-positive rate, with an interval that accounts for the threshold being estimated too.

The estimand is R(a) = P(member score >= t), t the most lenient threshold with P(non-member score >= t) <= a. How many of
the n non-members lie above t is binomial(n, a) whatever the scores' distribution, and given that number the members above t
are counted. A limit of the interval is therefore a quantile of a mixture of the exact (Clopper-Pearson) binomial limits,
with binomial weights over the rank of the threshold: no shape of the ROC curve is assumed and ties move as one block.

Where non-member scores tie near the threshold, the curve jumps there and both errors, of the rank and of the count, may be
spent in full on one side; each tail is then halved, which keeps the guarantee (simulated in the tests).
"""

from __future__ import annotations

import numpy as np
from scipy.special import betainc, gammaln

from memberscope._check import rate
from memberscope.statistics.intervals import Interval
from memberscope.statistics.roc import Roc, allowed_false_positives, operating_point
from memberscope.types import Floats, Ints

N_NODES = 200  # ranks kept in a mixture; the rest are merged towards the conservative side
METHOD = "binomial mixture over the threshold's rank"


def tpr_at_fpr(curve: Roc, fpr: float, confidence: float = 0.95, *, strict: Roc | None = None) -> Interval:
    """TPR on the staircase at `fpr`, with limits that hold for the population's threshold.

    `strict`, for scores of several folds, is the curve whose thresholds stand at each fold's k-th non-member instead of below
    it; the lower limit is taken on it, since k false positives in each of several folds are otherwise k + 1 in expectation.

    Raises:
        InputError: The non-members do not resolve `fpr`.

    >>> from memberscope.statistics.roc import roc
    >>> curve = roc(np.arange(200.0), np.arange(200) >= 100)
    >>> tpr_at_fpr(curve, 0.05).value
    1.0
    """
    tail = (1 - rate("confidence", confidence)) / (4 if tied_near(curve, fpr) else 2)
    value = operating_point(curve, fpr).tp / curve.n_members
    low = solve(*mixture(strict or curve, fpr, lower=True), tail, curve.n_members, lower=True)
    high = solve(*mixture(curve, fpr, lower=False), 1 - tail, curve.n_members, lower=False)
    return Interval(value, min(low, value), max(high, value), METHOD)


def tpr_p_value(curve: Roc, fpr: float, limit: float) -> float:
    """One-sided p-value of "TPR at `fpr` is at most `limit`", below a exactly when the lower limit at tail a exceeds `limit`.

    >>> from memberscope.statistics.roc import roc
    >>> curve = roc(np.arange(200.0), np.arange(200) >= 100)
    >>> tpr_p_value(curve, 0.05, 0.5) < 0.01 < tpr_p_value(curve, 0.05, 0.9999)
    True
    """
    counts, weights = mixture(curve, fpr, lower=True)
    p_value = mixed(limit, counts, weights, curve.n_members, lower=True)
    return min(1.0, 2 * p_value) if tied_near(curve, fpr) else p_value


def resolution_warning(fpr: float, n_non_members: int) -> str | None:
    """A caution where fewer than ten false positives are expected.

    >>> resolution_warning(0.001, 5000)
    'only 5 false positives allowed at this rate; the interval is wide'
    """
    allowed = allowed_false_positives(fpr, n_non_members)
    if fpr * n_non_members >= 10 - 1e-9:
        return None
    return f"only {allowed} false positives allowed at this rate; the interval is wide"


def tied_near(curve: Roc, fpr: float) -> bool:
    """Whether non-member scores tie within four standard deviations of the threshold's rank."""
    n = curve.n_non_members
    reach = 4 * (n * fpr * (1 - fpr)) ** 0.5 + 1
    steps, ends = np.diff(curve.fp), curve.fp[1:]
    near = (ends >= n * fpr - reach) & (curve.fp[:-1] <= n * fpr + reach)
    return bool((steps[near] > 1).any())


def mixture(curve: Roc, fpr: float, *, lower: bool) -> tuple[Ints, Floats]:
    """Member counts (j,) at the possible ranks of the threshold, and their binomial weights (j,).

    At rank j (non-members above the true threshold) the count is that of the last vertex with at most j false positives for
    the upper limit, and at most j - 1 for the lower one, since the member scores between two ranks may lie on either side.
    """
    kept, weights = nodes(curve.n_non_members, fpr, lower=lower)
    at = np.searchsorted(curve.fp, kept, side="right") - 1
    return np.where(at >= 0, curve.tp[np.maximum(at, 0)], 0), weights


def nodes(n: int, fpr: float, *, lower: bool) -> tuple[Ints, Floats]:
    """False positives (j,) allowed at the possible ranks of the threshold among `n` non-members, and their weights (j,)."""
    allowed_false_positives(fpr, n)
    spread = 8 * (n * fpr * (1 - fpr)) ** 0.5 + 8
    first, last = max(0, int(n * fpr - spread)), min(n, int(n * fpr + spread) + 1)
    ranks = np.arange(first, last + 1)
    weights = binomial_weights(ranks, n, fpr)
    step = -(-len(ranks) // N_NODES)
    starts = np.arange(0, len(ranks), step)
    weights = np.add.reduceat(weights, starts)
    ends = np.append(starts[1:], len(ranks)) - 1
    return ranks[starts] - 1 if lower else ranks[ends], weights


def binomial_weights(ranks: Ints, n: int, p: float) -> Floats:
    """Binomial probabilities (j,) of `ranks`, normalised over those kept."""
    log_weights = gammaln(n + 1) - gammaln(ranks + 1) - gammaln(n - ranks + 1) + ranks * np.log(p) + (n - ranks) * np.log1p(-p)
    weights = np.exp(log_weights)
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def mixed(theta: float, counts: Ints, weights: Floats, n: int, *, lower: bool) -> float:
    """Probability that the mixture of beta limits is at most `theta`; zero or full counts are point masses."""
    if lower:
        below = np.where(counts > 0, betainc(np.maximum(counts, 1), n - counts + 1, theta), 1.0)
    else:
        below = np.where(counts < n, betainc(counts + 1, np.maximum(n - counts, 1), theta), float(theta >= 1.0))
    return float(weights @ below)


def solve(counts: Ints, weights: Floats, level: float, n: int, *, lower: bool) -> float:
    """The mixture's quantile at `level`, by bisection from the normal guess's bracket down to 1e-9."""
    values, inverse = np.unique(counts, return_inverse=True)
    values = values.astype(np.int64)
    merged: Floats = np.bincount(inverse, weights=weights).astype(np.float64)
    if mixed(0.0, values, merged, n, lower=lower) >= level:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if mixed(middle, values, merged, n, lower=lower) >= level:
            high = middle
        else:
            low = middle
        if high - low < 1e-7 * max(high, 1e-4):
            break
    return low if lower else high


def roc_band(curve: Roc, fprs: Floats, confidence: float = 0.95, *, strict: Roc | None = None) -> tuple[Floats, Floats, Floats]:
    """Value, lower and upper limit (f,) of the TPR at each of `fprs` (f,), pointwise; for charts."""
    intervals = [tpr_at_fpr(curve, float(fpr), confidence, strict=strict) for fpr in fprs]
    value, low, high = (np.array([entry[i] for entry in intervals], dtype=np.float64) for i in range(3))
    return value, low, high
