"""List the answers that a forest can give: shares of its trees' votes."""

from __future__ import annotations

import itertools
from functools import lru_cache
from math import comb

import numpy as np

from memberscope.types import Floats

# Usual numbers of trees; what divides one of them is tried with it
VOTES = (20, 50, 64, 100, 200, 500)
MOST_POINTS = 5000  # grid points that are weighed for one answer at most


@lru_cache(maxsize=64)
def list_vote_shares(votes: int, m: int) -> Floats | None:
    """List the shares of `votes` among m classes that all get some (g, m).

    None where there are too many, or too few votes.

    >>> list_vote_shares(4, 2).tolist()
    [[0.25, 0.75], [0.5, 0.5], [0.75, 0.25]]
    """
    # A certain answer has no noise; with few votes not every class could be the top one
    if m < 2 or 2 * m > votes or comb(votes - 1, m - 1) > MOST_POINTS:
        return None
    return _place_bars(votes, m) / votes


@lru_cache(maxsize=32)
def list_loose_shares(votes: int, k: int) -> Floats | None:
    """List the shares of `votes` among k classes of which some may get none (g, k).

    None where there are too many.

    >>> list_loose_shares(2, 2).tolist()
    [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    if k < 2 or comb(votes + k - 1, k - 1) > MOST_POINTS:
        return None
    # One vote more for each class, taken away again, so that each gets some
    return (_place_bars(votes + k, k) - 1.0) / votes


def _place_bars(votes: int, m: int) -> Floats:
    """Count the votes (g, m) between m - 1 bars, at all places that leave some everywhere."""
    bars = np.array(list(itertools.combinations(range(1, votes), m - 1)), dtype=np.int64)
    bars = bars.reshape(-1, m - 1)
    edges = np.column_stack([np.zeros(len(bars)), bars, np.full(len(bars), votes)])
    return np.asarray(np.diff(edges, axis=1), dtype=np.float64)
