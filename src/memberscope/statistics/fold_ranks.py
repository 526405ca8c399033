"""Make scores of different fits comparable by their ranks.

Each score becomes its position among the non-members of its own fold.
"""

from __future__ import annotations

import numpy as np

from memberscope.types import Bools, Floats, Ints


def ranks_within_fold(scores: Floats, member: Bools, fold: Ints) -> Floats:
    """Give the position (n,) in (0, 1) of each of `scores` (n,) among the non-members of its fold.

    Higher positions mean likelier members.

    >>> scores = np.array([3.0, 1.0, 2.0, 30.0, 10.0, 20.0])
    >>> member = np.array([True, False, False, True, False, False])
    >>> ranks_within_fold(scores, member, np.array([0, 0, 0, 1, 1, 1])).round(3).tolist()
    [0.833, 0.333, 0.667, 0.833, 0.333, 0.667]
    """
    found = np.empty(len(scores))
    # Scores of different fits do not compare, so each fold is ranked by itself
    for f in np.unique(fold):
        own, ranked, others = _sort_fold(scores, member, fold == f)
        n = len(others)
        not_below = n - np.searchsorted(others, ranked, side="left")
        above = n - np.searchsorted(others, ranked, side="right")
        # Ties share the middle of their places
        found[own] = 1 - (not_below + above + 1) / (2 * (n + 1))
    return found


def _sort_fold(scores: Floats, member: Bools, mask: Bools) -> tuple[Ints, Floats, Floats]:
    """Sort the records under `mask` (n,): their places (k,), scores (k,) and non-members' (m,).

    Sorted scores are looked up many times faster among sorted scores than scattered ones.
    """
    own = np.flatnonzero(mask)
    own = own[np.argsort(scores[own])]
    ranked = scores[own]
    return own, ranked, ranked[~member[own]]


def ranks_for_lower_limit(scores: Floats, member: Bools, fold: Ints) -> Floats:
    """Rank records for the lower limit of a TPR: minus the share (n,) of non-members accused.

    The share counts the non-members of the record's fold that any threshold accuses which accuses
    this record and one more. A record between two non-members shares the place of the lower one.
    Thresholds at k false positives then stand at the k-th non-member, whose expected rate is k / (n
    + 1); at the place below it, it would be (k + 1) / (n + 1), twice the rate asked for where a
    fold allows a single false positive.

    >>> scores = np.array([3.0, 1.0, 2.0, 1.5])
    >>> ranks_for_lower_limit(scores, np.array([True, False, False, True]), np.zeros(4, dtype=int)).tolist()
    [-0.5, -1.0, -0.5, -1.0]
    """
    found = np.empty(len(scores))
    for f in np.unique(fold):
        own, ranked, others = _sort_fold(scores, member, fold == f)
        n = len(others)
        # The non-member whose place the record shares: itself, or the next lower one
        at_or_below = np.searchsorted(others, ranked, side="right") - 1
        level = others[np.maximum(at_or_below, 0)]
        accused = n - np.searchsorted(others, level, side="left")
        # A record below all non-members stands beyond the last of them
        found[own] = -np.where(at_or_below >= 0, accused, n + 1) / n
    return found
