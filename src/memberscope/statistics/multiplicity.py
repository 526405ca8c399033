"""Correct for many claims and attacks, so that the chance of any false alarm is as stated.

References:
    [1] S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
Statistics 6, 1979.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from memberscope._check import check_rate
from memberscope.types import Floats


def holm(p_values: Sequence[float]) -> Floats:
    """Adjust p-values (m,) by Holm's method; the order is kept.

    Rejecting those below a keeps the family's error at a.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    # The smallest p-value is multiplied by the number of tests, the next by one less, and so on
    scaled = p[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty(len(p))
    # A larger p-value never gets a smaller adjusted one
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return adjusted


def simultaneous_confidence(confidence: float, n: int) -> float:
    """Give the confidence at which `n` intervals hold together at `confidence` (Bonferroni).

    >>> round(simultaneous_confidence(0.95, 5), 4)
    0.99
    """
    return 1 - (1 - check_rate("confidence", confidence)) / max(n, 1)


def digest_ranking(scores: Floats) -> bytes:
    """Digest how `scores` (n,) rank the records, ties included.

    >>> digest_ranking(np.array([1.0, 2, 3])) == digest_ranking(np.array([10.0, 20, 30]))
    True
    """
    order = np.argsort(scores)
    ranked = scores[order]
    ranks = np.empty(len(scores), dtype=np.int32)
    ranks[order] = np.cumsum(np.append(False, ranked[1:] > ranked[:-1]))
    return hashlib.blake2b(ranks.tobytes(), digest_size=16).digest()


def find_distinct_rankings(scores: Sequence[Floats]) -> list[int]:
    """Find the candidates (n,) whose ranking, ties included, no earlier candidate has.

    >>> find_distinct_rankings([np.array([1.0, 2, 3]), np.array([10.0, 20, 30]), np.array([3.0, 2, 1])])
    [0, 2]
    """
    seen: set[bytes] = set()
    kept = []
    for index, values in enumerate(scores):
        # A digest of each ranking spares keeping all of them
        digest = digest_ranking(values)
        if digest not in seen:
            seen.add(digest)
            kept.append(index)
    return kept
