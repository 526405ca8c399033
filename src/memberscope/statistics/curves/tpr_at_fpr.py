"""Estimate the TPR at a false-positive rate, with an interval.

The interval accounts for the threshold being estimated too.

The value is that of the rule that accuses at exactly this rate, a coin deciding among records that
tie. The limits are for H, the best rule that may also toss a coin between two thresholds, the least
concave curve above the ROC [1]: "no attack finds more than tau at f" is a claim about it. Where the
ROC is concave, both are the same number. The constructions are in `tpr_limits`; where records
belong to units, they count units.

References:
    [1] J. Dong, A. Roth, W. Su, "Gaussian differential privacy", Journal of the Royal Statistical
        Society B 84, 2022, arXiv:1905.02383.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import betaincinv

from memberscope._check import check_rate
from memberscope.statistics.curves.effective_sizes import effective_sizes
from memberscope.statistics.curves.rank_tails import rank_tails
from memberscope.statistics.curves.roc import (
    Roc,
    allowed_false_positives,
    operating_point,
    randomised_tpr,
)
from memberscope.statistics.curves.tpr_hull import (
    UpperHull,
    exceeds_hull,
    find_upper_hull,
    hull_grid,
    hull_upper_limit,
)
from memberscope.statistics.curves.tpr_limits import (
    RankCounts,
    build_rank_counts,
    largest_limit,
    lower_limit,
    lower_p_value,
    upper_limit,
)
from memberscope.statistics.intervals import Interval
from memberscope.types import Floats

METHOD = "binomial mixture over the threshold's rank, concave hull of rank-wise exact limits"
STAIRCASE = "exact binomial limits over the threshold's rank, ties as one block"


def tpr_at_fpr(
    curve: Roc,
    fpr: float,
    confidence: float = 0.95,
    *,
    strict: Roc | None = None,
    low_confidence: float | None = None,
) -> Interval:
    """Estimate the TPR at exactly the rate `fpr`.

    The limits are for the best randomised rule at that rate.

    Args:
        curve: The ROC curve; records of one unit count as dependent where it was built with units.
        fpr: The false-positive rate.
        confidence: Of the two-sided interval: each limit errs with half of the rest.
        strict: For scores of several folds, the curve whose thresholds stand at each fold's k-th
            non-member instead of below it. The lower limit is taken on it, since k false positives
            in each of several folds are otherwise k + 1 in expectation.
        low_confidence: The confidence of the lower limit where it differs.

    Raises:
        InputError: The non-members do not resolve `fpr`.

    >>> from memberscope.statistics.curves.roc import roc
    >>> curve = roc(np.arange(200.0), np.arange(200) >= 100)
    >>> found = tpr_at_fpr(curve, 0.05)
    >>> found.value, round(found.low, 3), found.high
    (1.0, 0.961, 1.0)
    """
    value = _resolved_value(curve, fpr)
    low = tpr_lower(
        curve, fpr, confidence if low_confidence is None else low_confidence, strict=strict
    )
    return Interval(value, low, tpr_upper(curve, fpr, confidence), METHOD)


def tpr_lower(
    curve: Roc, fpr: float, confidence: float = 0.95, *, strict: Roc | None = None
) -> float:
    """Give the lower limit of `tpr_at_fpr` alone.

    >>> from memberscope.statistics.curves.roc import roc
    >>> curve = roc(np.arange(200.0), np.arange(200) >= 100)
    >>> tpr_lower(curve, 0.05) == tpr_at_fpr(curve, 0.05).low
    True
    """
    value = _resolved_value(curve, fpr)
    # The limits are for H, so for a ROC that is not concave the value may lie outside them
    return min(value, lower_limit(_lower_counts(curve, fpr, strict), fpr, _tail_error(confidence)))


def tpr_upper(curve: Roc, fpr: float, confidence: float = 0.95) -> float:
    """Give the upper limit of `tpr_at_fpr` alone.

    >>> from memberscope.statistics.curves.roc import roc
    >>> curve = roc(np.arange(200.0), np.arange(200) < 100)
    >>> tpr_upper(curve, 0.05) == tpr_at_fpr(curve, 0.05).high
    True
    """
    value = _resolved_value(curve, fpr)
    return max(value, hull_upper_limit(build_rank_counts(curve, fpr), fpr, _tail_error(confidence)))


def largest_tpr(
    curves: Sequence[tuple[Roc, Roc | None]],
    fpr: float,
    confidence: float = 0.95,
    *,
    low_confidence: float | None = None,
) -> list[Interval]:
    """Estimate the TPR at `fpr` of each curve, all with the largest lower and upper limit of any.

    The limits are those of `tpr_at_fpr`, of which those that cannot be the largest are not
    computed. With each curve goes its strict one, or None.

    Raises:
        InputError: The non-members do not resolve `fpr`.

    >>> from memberscope.statistics.curves.roc import roc
    >>> curves = [(roc(np.arange(200.0), np.arange(200) >= n), None) for n in (50, 100)]
    >>> found = largest_tpr(curves, 0.05)
    >>> [round(one.value, 3) for one in found], found[0].high == tpr_at_fpr(curves[0][0], 0.05).high
    ([1.0, 1.0], True)
    """
    alpha, low, high = _tail_error(confidence), -1.0, -1.0
    low_alpha = _tail_error(confidence if low_confidence is None else low_confidence)
    hull: UpperHull | None = None
    values = [_resolved_value(curve, fpr) for curve, _ in curves]
    # From the largest value down, as its limits rule out most of the others
    for k in np.argsort(-np.asarray(values), kind="stable"):
        (curve, strict), value = curves[k], values[k]
        counts = build_rank_counts(curve, fpr)
        if hull is None or exceeds_hull(counts, fpr, alpha, hull):
            found = find_upper_hull(counts, fpr, alpha)
            hull = found if hull is None or found.height > hull.height else hull
        high = max(high, value, hull.height)
        # No lower limit exceeds its value; the slack is for rounding
        below = _lower_counts(curve, fpr, strict)
        if value > low and (low < 0 or lower_p_value(below, fpr, low) < low_alpha * (1 + 1e-6)):
            low = max(low, min(value, lower_limit(below, fpr, low_alpha)))
    return [Interval(value, low, high, METHOD) for value in values]


def tpr_p_value(curve: Roc, fpr: float, limit: float, *, strict: Roc | None = None) -> float:
    """Give the one-sided p-value of "no rule finds more than `limit` at `fpr`".

    It is below a exactly where the lower limit at tail a exceeds `limit`.

    >>> from memberscope.statistics.curves.roc import roc
    >>> curve = roc(np.arange(200.0), np.arange(200) >= 100)
    >>> tpr_p_value(curve, 0.05, 0.5) < 0.01 < tpr_p_value(curve, 0.05, 0.9999)
    True
    """
    allowed_false_positives(fpr, curve.n_non_members)
    return min(1.0, lower_p_value(_lower_counts(curve, fpr, strict), fpr, limit))


def tpr_staircase_at_fpr(
    curve: Roc, fpr: float, confidence: float = 0.95, *, strict: Roc | None = None
) -> Interval:
    """Estimate the TPR of the most lenient threshold whose rate does not exceed `fpr`.

    Ties move as one block; no coin decides among them.

    Both limits hold for every curve: the error is shared among the ranks of that threshold and of
    the next one.

    Raises:
        InputError: The non-members do not resolve `fpr`.

    >>> from memberscope.statistics.curves.roc import roc
    >>> curve = roc(np.array([9.0] * 80 + [1.0] * 120), np.arange(200) % 2 == 0)
    >>> tpr_staircase_at_fpr(curve, 0.05).value, tpr_at_fpr(curve, 0.05).value
    (0.0, 0.05)
    """
    value = operating_point(curve, fpr).tp / curve.n_members
    alpha, counts, low_counts = (
        _tail_error(confidence),
        build_rank_counts(curve, fpr),
        _lower_counts(curve, fpr, strict),
    )
    # From above: the ranks of the non-members over the threshold
    ranks, tails, quantiles = rank_tails(counts.n_non_members, fpr, alpha)
    high = largest_limit(_block_counts(counts, ranks), tails, quantiles, counts.n_members)
    # From below: the ranks of the non-members under the threshold
    ranks, tails, _ = rank_tails(low_counts.n_non_members, 1 - fpr, alpha)
    found, n = _block_counts(low_counts, low_counts.n_non_members - ranks - 1), low_counts.n_members
    limits = np.where(found > 0, betaincinv(np.maximum(found, 1e-9), n - found + 1, tails), 0.0)
    return Interval(value, min(value, float(limits.min())), max(value, high), STAIRCASE)


def build_resolution_warning(fpr: float, n_non_members: int) -> str | None:
    """Give a warning where fewer than ten false positives are expected, else None.

    >>> build_resolution_warning(0.001, 5000)
    'only 5 false positives allowed at this rate; the interval is wide'
    """
    allowed = allowed_false_positives(fpr, n_non_members)
    # The slack keeps 0.001 of 10000 from missing ten by rounding
    if fpr * n_non_members >= 10 - 1e-9:
        return None
    return f"only {allowed} false positives allowed at this rate; the interval is wide"


def roc_band(
    curve: Roc, fprs: Floats, confidence: float = 0.95, *, strict: Roc | None = None
) -> tuple[Floats, Floats, Floats]:
    """Give the TPR (f,) at each of `fprs` (f,) with pointwise limits (f,), for charts.

    The answer is value, lower and upper limit. The upper limits share one grid of rates, which differs from that of `tpr_at_fpr` by a few per
    cent of a rate.
    """
    alpha = _tail_error(confidence)
    fprs = np.asarray(fprs, dtype=np.float64)
    value = np.array([_resolved_value(curve, float(fpr)) for fpr in fprs])
    low = np.array(
        [lower_limit(_lower_counts(curve, float(fpr), strict), float(fpr), alpha) for fpr in fprs]
    )
    return value, np.minimum(low, value), np.maximum(_upper_band(curve, fprs, alpha), value)


def _upper_band(curve: Roc, fprs: Floats, alpha: float) -> Floats:
    """Give upper limits (f,) of H at `fprs` (f,), from one least concave curve.

    With units, the effective sizes depend on the rate, and each limit is computed by itself.
    """
    if curve.rows is not None:
        return np.array(
            [
                hull_upper_limit(build_rank_counts(curve, float(fpr)), float(fpr), alpha)
                for fpr in fprs
            ]
        )
    grid = np.unique(np.concatenate([hull_grid(float(fprs.min()))[0], fprs]))
    counts = build_rank_counts(curve, float(fprs.min()))
    limits = np.array([upper_limit(counts, float(rate), alpha) for rate in grid])
    # The upper hull of the points by a monotone chain: drop a point that lies below its neighbours'
    # line
    kept: list[int] = []
    for i in range(len(grid)):
        while len(kept) > 1 and _lies_below(grid, limits, kept[-2], kept[-1], i):
            kept.pop()
        kept.append(i)
    return np.asarray(np.interp(fprs, grid[kept], limits[kept]), dtype=np.float64)


def _lies_below(x: Floats, y: Floats, first: int, middle: int, last: int) -> bool:
    """Check whether the middle point lies on or below the line through the other two."""
    return bool(
        (y[middle] - y[first]) * (x[last] - x[first])
        <= (y[last] - y[first]) * (x[middle] - x[first])
    )


def _block_counts(counts: RankCounts, ranks: Floats) -> Floats:
    """Count the members (k,) that the most lenient admissible threshold accuses.

    Admissible is one that accuses at most `ranks` (k,) non-members; all in effective numbers.
    """
    curve = counts.curve
    # Effective ranks are put back on the scale of the records
    real = ranks * curve.n_non_members / counts.n_non_members
    at = np.searchsorted(curve.fp, real + 1e-9, side="right") - 1
    # No rank is left below the first non-member
    found = np.where(at >= 0, curve.tp[np.maximum(at, 0)], 0)
    return np.asarray(found * counts.n_members / curve.n_members, dtype=np.float64)


def _lower_counts(curve: Roc, fpr: float, strict: Roc | None) -> RankCounts:
    """Build the counts for the lower limit, with the effective sizes of the records."""
    # Sizes are those of the records' own curve, whichever curve is counted on
    return build_rank_counts(strict or curve, fpr, effective_sizes(curve, fpr))


def _resolved_value(curve: Roc, fpr: float) -> float:
    """Give the TPR at `fpr`; refuse a rate that the non-members do not resolve."""
    allowed_false_positives(fpr, curve.n_non_members)
    return randomised_tpr(curve, fpr)


def _tail_error(confidence: float) -> float:
    """Give the error of each side of a two-sided interval."""
    return (1 - check_rate("confidence", confidence)) / 2
