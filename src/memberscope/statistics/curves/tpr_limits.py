"""Bound the TPR at a rate.

The lower limit is a mixture over the threshold's rank; the upper limit shares the error among
ranks.

R(u) is the TPR of the score at rate u, straight lines across ties, H the least concave curve above
it: the best rule that may also toss a coin between two thresholds. How many of the n non-members
lie above the true threshold is K ~ binomial(n, u) whatever the scores' distribution, and given K
the members above it are at most those above the (K+1)-th highest non-member.

*Lower limit.* The theta at which the mixture over K of P(binomial(n1, theta) >= members above the
K-th non-member) is alpha. H(f) <= theta puts R below a line through (f, theta), against which the
test was screened by simulation.

*Upper limit of R(u).* Given K = k the Clopper-Pearson limit of the count above the next non-member
misses with at most the tail of k, and the tails' mean over K is alpha: valid for any curve. *Of
H(f)*: the least concave curve above those limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc, betaincc, betainccinv, betaincinv

from memberscope.statistics.curves.effective_sizes import EffectiveSizes, effective_sizes
from memberscope.statistics.curves.rank_tails import mixture_weights, rank_tails
from memberscope.statistics.curves.roc import Roc, count_members_above
from memberscope.types import Floats

LEAST_QUANTILE = -1.2815515655446004  # of a tail of 0.9


@dataclass(frozen=True, eq=False)
class RankCounts:
    """Counts of members above the k-th highest non-member.

    Both are in effective numbers of independent records.
    """

    curve: Roc
    n_members: float
    n_non_members: int

    def at(self, ranks: Floats) -> Floats:
        """Give mean counts (k,) at whole `ranks` (k,) of the effective non-members.

        Where these fall between real ranks, the counts are interpolated.
        """
        # Without units ranks are those of the records, and nothing is interpolated
        if self.curve.rows is None and self.n_non_members == self.curve.n_non_members:
            return count_members_above(self.curve, ranks)
        # One beyond the last stands for everybody being accused
        real = np.minimum(
            ranks * self.curve.n_non_members / self.n_non_members, self.curve.n_non_members + 1
        )
        below = np.floor(real + 1e-9)
        low = count_members_above(self.curve, below)
        high = count_members_above(self.curve, np.minimum(below + 1, self.curve.n_non_members + 1))
        share = np.maximum(real - below, 0.0)
        return np.asarray(
            (low + share * (high - low)) * self.n_members / self.curve.n_members, dtype=np.float64
        )


def build_rank_counts(curve: Roc, fpr: float, sizes: EffectiveSizes | None = None) -> RankCounts:
    """Build the counts of `curve` in effective numbers for `fpr`.

    `sizes` are those of another curve of the same records, if given.
    """
    return RankCounts(curve, *(sizes or effective_sizes(curve, fpr)))


def mixture_p_value(counts: Floats, weights: Floats, n: float, limit: float) -> float:
    """Give P(binomial(n, limit) >= count) over `counts` (k,) weighted by `weights` (k,)."""
    # A count of zero is reached for sure, where the beta function is not defined
    reached = betainc(np.maximum(counts, 1e-300), n - counts + 1, limit)
    return float(weights @ np.where(counts > 0, reached, 1.0))


def lower_p_value(counts: RankCounts, fpr: float, limit: float) -> float:
    """Give the one-sided p-value of "H at `fpr` is at most `limit`"."""
    ranks, weights = mixture_weights(counts.n_non_members, fpr)
    return mixture_p_value(counts.at(ranks), weights, counts.n_members, limit)


def lower_limit(counts: RankCounts, fpr: float, alpha: float) -> float:
    """Find the largest limit whose p-value does not exceed `alpha`."""
    ranks, weights = mixture_weights(counts.n_non_members, fpr)
    n, found = counts.n_members, counts.at(ranks)
    # Ranks with the same count are one term of the mixture: far fewer beta functions to evaluate
    starts = np.flatnonzero(np.append(True, found[1:] > found[:-1]))
    found, weights = found[starts], np.add.reduceat(weights, starts)
    # Ranks without a member above them weigh more than the error, so nothing is shown
    if float(weights[found <= 0].sum()) >= alpha:
        return 0.0
    least, middle = found[0], found[np.searchsorted(np.cumsum(weights), 0.5)]
    # The limit lies between that of the least count alone and that of the middle one
    low = float(betaincinv(least, n - least + 1, alpha)) if least > 0 else 0.0
    high = float(betaincinv(middle, n - middle + 1, 0.5)) if alpha < 0.25 and middle > 0 else 1.0

    def excess(theta: float) -> float:
        return float(np.log(max(mixture_p_value(found, weights, n, theta), 1e-300) / alpha))

    # The search is on the logarithm, since p-values span hundreds of orders of magnitude
    if excess(low) >= 0 or low >= high:
        return low
    return float(brentq(excess, low, high, xtol=1e-14, rtol=1e-12))


def upper_limit(counts: RankCounts, rate: float, alpha: float) -> float:
    """Give the upper limit at level `alpha` of R at `rate`, for any curve."""
    # At rate one everybody is accused
    if rate >= 1:
        return 1.0
    ranks, tails, quantiles = rank_tails(counts.n_non_members, rate, alpha)
    return largest_limit(counts.at(ranks + 1), tails, quantiles, counts.n_members)


def largest_limit(found: Floats, tails: Floats, quantiles: Floats, n: float) -> float:
    """Give the largest Clopper-Pearson upper limit of the rising counts `found` (k,) out of `n`.

    Each count has its own tail (k,).
    """
    # All members stand above some rank, so nothing below one is sure
    if found[-1] >= n:
        return 1.0
    # Only counts whose approximate limit could exceed the best exact one need an inverse beta
    # function, which is slow
    guess = paulson_limits(found, quantiles, n)
    best = int(np.argmax(guess))
    limit = float(betainccinv(found[best] + 1, n - found[best], tails[best]))
    # The approximation may fall short by its margin, so that much is allowed for
    possible = guess * paulson_margin(tails) > limit
    found, tails = found[possible], tails[possible]
    above = betaincc(found + 1, n - found, limit) > tails * (1 + 1e-12)
    if not above.any():
        return limit
    return float(
        np.max(betainccinv(found[above] + 1, n - found[above], tails[above]), initial=limit)
    )


def paulson_limits(found: Floats, quantiles: Floats, n: float) -> Floats:
    """Approximate the Clopper-Pearson upper limits (k,) for `found` (k,) of `n` (Paulson).

    The approximation is 1 where it breaks down.

    The limit is a quantile of a beta, so of an F distribution, whose cube root is nearly normal
    (Paulson, 1942). Tails above 0.9 are taken as 0.9, so that the guess stays within
    `paulson_margin` of a bound.
    """
    left, quantiles = np.maximum(n - found, 1e-9), np.maximum(quantiles, LEAST_QUANTILE)
    a, b = 1 / (9 * (found + 1)), 1 / (9 * left)
    square, top = quantiles**2, (1 - a) * (1 - b)
    scale = (1 - b) ** 2 - b * square
    # Where the scale vanishes the formula breaks down, and one is the safe answer
    usable = (scale > 0) & (left >= 1)
    root = np.sqrt(np.maximum((1 - a) ** 2 * b + (1 - b) ** 2 * a - a * b * square, 0.0))
    odds = (found + 1) / left * ((top + quantiles * root) / np.where(usable, scale, 1.0)) ** 3
    return np.asarray(np.where(usable, odds / (1 + odds), 1.0), dtype=np.float64)


def paulson_margin(tails: Floats) -> Floats:
    """Give the factor (k,) by which an approximate limit may fall short of the exact one."""
    return np.where(tails <= 0.1, 1.015, 1.1)
