"""Score ranges of records by the best of their variants.

A range is what is known of a record that may have been used in another form: variants with other
words, other values of what is not known, other crops. A training point in the range raises the
scores of the variants near it only, so the lowest are dropped before the mean is taken [1].

References:
    [1] J. Tao, R. Shokri, "Range Membership Inference Attacks", 2024, arXiv:2408.05131.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy.special import gammaln

from memberscope import _check
from memberscope.errors import InputError
from memberscope.types import Bools, Floats, Ints

DROP = 0.75  # share of a range's variants, the lowest ones, that do not count


@dataclass(frozen=True, eq=False)
class RangeScores:
    """Scores (g, f) of ranges, of which `member` (g,) belong to the suspect collection.

    `names` (g,) number the ranges, `sizes` (g,) count their variants, and of so many as the
    smallest has, `kept` count.
    """

    values: Floats
    member: Bools
    names: Ints
    sizes: Ints
    kept: int


def score_ranges(scores: Floats, member: Bools, ranges: Ints, *, drop: float = DROP) -> RangeScores:
    """Average the highest scores (n, f) of the variants of each range, column by column.

    `ranges` (n,) names the range of each variant. A share `drop` of the variants of each range, the
    lowest, is left out, and at least one stays. Where ranges have unequal numbers of variants, each
    is given its mean over all choices of as many as the smallest has: the best of many are higher
    than the best of few, used or not.

    Raises:
        InputError: The lengths differ, a score is not finite, a range has variants on both sides,
            or `drop` is not below 1.

    >>> scores = np.array([[0.0], [4.0], [1.0], [1.0], [5.0]])
    >>> member = np.array([True, True, False, False, False])
    >>> score_ranges(scores, member, np.array([0, 0, 1, 1, 1]), drop=0.5).values.ravel().round(2).tolist()
    [4.0, 3.67]
    """
    values, member = np.asarray(scores, dtype=np.float64), np.asarray(member, dtype=bool)
    _check.check_same_length(scores=values, member=member, ranges=ranges)
    _check.check_finite("scores", values)
    if not 0 <= drop < 1:
        raise InputError(
            f"Expected a share to drop of at least 0 and below 1, got {drop}. Give 0 for the mean "
            f"of all variants, or {DROP}."
        )
    names, first, codes = np.unique(ranges, return_index=True, return_inverse=True)
    split = names[np.bincount(codes, member != member[first][codes], len(names)) > 0]
    if len(split):
        raise InputError(
            f"Expected each range on one side, got {len(split)} ranges with variants on both, the "
            f"first is {split[0]}. Leave them out."
        )
    sizes = np.bincount(codes)
    smallest = int(sizes.min())
    kept = count_kept_variants(smallest, drop)
    found = np.empty((len(names), values.shape[1]))
    starts = np.cumsum(sizes) - sizes
    for column in range(values.shape[1]):
        ordered = values[np.lexsort((values[:, column], codes)), column]
        # Ranges of one size are a table, whose rows are sorted
        for size in np.unique(sizes):
            rows = np.flatnonzero(sizes == size)
            table = ordered[starts[rows][:, None] + np.arange(size)]
            found[rows, column] = table @ weight_ranks(int(size), smallest, kept)
    return RangeScores(found, member[first], names, sizes, kept)


def count_kept_variants(n: int, drop: float) -> int:
    """Count the variants of `n` that count when a share `drop` is left out: at least one.

    >>> count_kept_variants(10, 0.9), count_kept_variants(3, 0.5), count_kept_variants(1, 0.5)
    (1, 2, 1)
    """
    # Rounded first, since 10 * (1 - 0.9) is a little less than 1 and 10 * (1 - 0.7) more than 3
    return max(1, ceil(round(n * (1 - drop), 9)))


def weight_ranks(n: int, drawn: int, kept: int) -> Floats:
    """Weight the ranks (n,), lowest first, such that the sum is the mean of the best of a draw.

    Of the `kept` highest of `drawn` chosen at random from `n`, in expectation over the choice.

    >>> weight_ranks(4, 4, 2).tolist(), weight_ranks(3, 2, 1).round(3).tolist()
    ([0.0, 0.0, 0.5, 0.5], [0.0, 0.333, 0.667])
    """
    above = n - 1 - np.arange(n)  # higher ranks than each
    total = _log_choose(n, drawn)
    # A rank counts if it is drawn together with fewer than `kept` of those above it
    weights = np.zeros(n)
    for better in range(kept):
        worse = drawn - 1 - better
        possible = (above >= better) & (n - 1 - above >= worse)
        weights[possible] += np.exp(
            _log_choose(above[possible], better)
            + _log_choose(n - 1 - above[possible], worse)
            - total
        )
    return weights / kept


def _log_choose(n: Ints | int, k: int) -> Floats:
    """Compute the logarithm of the number of ways to choose `k` of `n`."""
    found: Floats = gammaln(np.asarray(n) + 1) - gammaln(k + 1) - gammaln(np.asarray(n) - k + 1)
    return found
