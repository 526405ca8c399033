"""Share an error among the ranks at which the true threshold may stand.

The rank is the number of non-members above the true threshold of a rate.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import bdtrik, ndtri

from memberscope.types import Floats

N_NODES = 200  # ranks kept in a mixture; the rest are merged towards the conservative side
N_LEVELS = 4  # steps of the bounds that spare exact limits


class RankTails(NamedTuple):
    """Ranks (k,) that matter, the tail error (k,) each may spend, and its normal quantile (k,)."""

    ranks: Floats
    tails: Floats
    quantiles: Floats


def _binomial_weights(n: int, rate: float, smallest: float) -> tuple[Floats, Floats]:
    """Give the binomial(n, rate) counts (k,) that are not negligible, and their probabilities (k,).

    Counts so large that they are exceeded with less than `smallest` are cut, and those below which
    less than 1e-14 is left out.
    """
    # Bernstein's bound says where counts are negligible, before any is computed
    mean, variance = n * rate, n * rate * (1 - rate)
    first = max(0, int(mean - _bernstein_deviation(variance, 1e-14)) - 1)
    last = min(n, int(mean + _bernstein_deviation(variance, smallest)) + 2)
    ranks = np.arange(first, last + 1, dtype=np.float64)
    # Ratios of neighbouring probabilities: exact where factorials would overflow
    steps = np.log(n - ranks[:-1]) - np.log(ranks[1:]) + np.log(rate) - np.log1p(-rate)
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    # The largest weight is set to one first, so that none overflows
    weights = np.exp(logs - logs.max())
    return ranks, weights / weights.sum()


def _bernstein_deviation(variance: float, probability: float) -> float:
    """Give Bernstein's deviation of a binomial count, exceeded with at most `probability`."""
    log = -float(np.log(probability))
    return float(log / 3 + np.sqrt(log**2 / 9 + 2 * log * variance))


@lru_cache(maxsize=4096)
def mixture_weights(n: int, rate: float) -> tuple[Floats, Floats]:
    """Give ranks (j,) of the threshold and their weights (j,) for a mixture over ranks.

    Neighbouring ranks are merged into the smallest of them, which is conservative.
    """
    ranks, weights = _binomial_weights(n, rate, 1e-14)
    # At most `N_NODES` ranks are left, each for as many neighbours
    step = -(-len(ranks) // N_NODES)
    starts = np.arange(0, len(ranks), step)
    return ranks[starts], np.add.reduceat(weights, starts)


@lru_cache(maxsize=2048)
def rank_tails(n: int, rate: float, alpha: float) -> RankTails:
    """Share an error of `alpha` among the ranks K of the true threshold, K ~ binomial(n, rate).

    Rank k may spend min(1, c / P(K >= k)), c such that the mean over K is `alpha`; ranks that may
    spend everything, and those below which the tail no longer changes, are left out.

    >>> found = rank_tails(100, 0.05, 0.025)
    >>> found.tails[found.ranks.tolist().index(5)].round(8)
    np.float64(0.00927134)
    """
    # At rate zero no non-member lies above the threshold
    if rate == 0:
        return RankTails(np.zeros(1), np.array([alpha]), ndtri(1 - np.array([alpha])))
    ranks, weights = _binomial_weights(n, rate, alpha * 1e-10)
    # P(K >= k), summed from the small end so that tiny tails keep their digits
    reached = np.minimum(np.cumsum(weights[::-1])[::-1], 1.0)
    spent = np.cumsum(weights / reached)
    beyond = np.append(reached[1:], 0.0)
    scale = (alpha - beyond) / spent  # c if exactly the ranks up to this one spend c / P(K >= k)
    # The first scale at which all later ranks may spend everything
    last = int(np.flatnonzero((scale > beyond) & (scale > 0))[0])
    c = float(scale[last])
    # Below the first rank kept the tail no longer changes
    first = max(0, int(np.searchsorted(-reached, -(1 - 1e-13), side="right")) - 1)
    kept = slice(first, last + 1)
    tails = c / reached[kept]
    # Ranks that may spend everything rule nothing out
    inside = tails < 1
    tails = tails[inside]
    return RankTails(ranks[kept][inside], tails, -ndtri(tails))


@lru_cache(maxsize=512)
def rank_bounds(n: int, rates: tuple[float, ...], alpha: float) -> tuple[Floats, Floats]:
    """Bound `rank_tails` at each of `rates` (u,) by ranks (u, l) and tails (l,).

    No tail up to that rank is smaller.

    P(K >= K's rank) is stochastically at least uniform, so that c is at least the solution of c (1
    + log(1 / c)) = alpha.
    """
    c = alpha
    # A fixed point that converges linearly; sixty steps reach the last bit
    for _ in range(60):
        c = alpha / (1 - np.log(c))
    # Levels and tails on a geometric scale, so that few of them bound all ranks
    levels = c ** (np.arange(1, N_LEVELS + 1) / N_LEVELS)
    tails = c ** (1 - np.arange(N_LEVELS) / N_LEVELS)
    inside = np.asarray(rates)[:, None]
    # Rates of 0 and 1 are no arguments of the inverse, so they are moved inside
    ranks = np.ceil(bdtrik(1 - levels[None, :], n, np.clip(inside, 1e-300, 1 - 1e-16)))
    return np.where(inside > 0, np.clip(ranks, 0, n), 0.0), tails
