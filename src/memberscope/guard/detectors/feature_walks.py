"""Detect walks: queries that keep most of eight coarse positions of a recent query.

A search along the path between two records replaces features one by one, or moves all a little: its
queries may lie as far apart as ordinary records do, but most positions stay. All positions
remembered of a client are one long integer, eight bytes a query, so that a query is set against all
of them with a few operations.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from memberscope.guard.sketching.observations import BINS

CLIENT, POOL = 16, 64  # queries of a client, and of a pool, that are remembered
TAKEN = 0x20  # set in every byte that is in use: positions are less
OFTEN = 1 / 8  # how often a benign query may agree with an earlier one
NEVER = BINS + 1  # the level where agreement tells nothing
LANE = int.from_bytes(bytes([1] * BINS), "little")


class LaneConstants(NamedTuple):
    """Constants for `n` remembered queries and a level: one pattern for each query."""

    copies: int
    full: int
    high: int
    limit: int
    top: int


@lru_cache(maxsize=64)
def build_lane_constants(n: int, level: int) -> LaneConstants:
    """Build the constants that `has_agreement` needs for at least `level` equal positions."""

    def repeated(*pattern: int) -> int:
        return int.from_bytes(bytes(pattern) * n, "little")

    last = [0] * (BINS - 1)
    # At most BINS - level positions may differ
    limit = 0x7F - (BINS - level)
    return LaneConstants(
        repeated(1, *last),
        repeated(*[0x7F] * BINS),
        repeated(*[0x80] * BINS),
        repeated(*last, limit),
        repeated(*last, 0x80),
    )


def encode_mark(bins: bytes) -> int:
    """Encode a query's eight positions as a number."""
    return int.from_bytes(bins, "little") | TAKEN * LANE


def has_agreement(lately: int, mark: int, by: LaneConstants) -> bool:
    """Tell whether a query in `lately` agrees with `mark` in as many positions as `by` says.

    >>> before = append_mark(append_mark(0, encode_mark(bytes(range(8))), 16), encode_mark(bytes(8)), 16)
    >>> query = encode_mark(bytes([0, 1, 2, 3, 4, 5, 30, 30]))
    >>> [has_agreement(before, query, build_lane_constants(16, level)) for level in (5, 6, 7, 8)]
    [True, True, False, False]
    """
    # 1 in each byte that differs: adding 0x7F carries into the highest bit unless a byte is 0
    differ = (((lately ^ mark * by.copies) + by.full) & by.high) >> 7
    # The highest byte of each eight has their sum; with the limit it stays below 0x80 where
    # few enough differ
    return (differ * LANE + by.limit) & by.top != by.top


def append_mark(lately: int, mark: int, n: int) -> int:
    """Append a query to the last `n`."""
    # The oldest query is shifted out at the top
    return (lately << 8 * BINS | mark) & (1 << 8 * BINS * n) - 1


def choose_agreement_level(agreed: list[float]) -> tuple[int, float]:
    """Choose the fewest positions in which few benign queries agree, with their share.

    `agreed` (9,) counts queries by the most positions in which they agree with one before.

    >>> choose_agreement_level([0, 10, 20, 30, 30, 5, 3, 1, 1])
    (5, 0.1)
    """
    for level in range(1, NEVER):
        rate = sum(agreed[level:]) / sum(agreed)
        if rate <= OFTEN:
            return level, rate
    # Benign queries often agree in all positions, so that agreement tells nothing
    return NEVER, 1.0


def find_best_agreement(lately: int, mark: int, n: int) -> int:
    """Find the most positions in which a remembered query agrees with `mark`.

    >>> find_best_agreement(append_mark(0, encode_mark(bytes(8)), 16), encode_mark(bytes([0, 0, 0, 9, 9, 9, 9, 9])), 16)
    3
    """
    return next(
        (
            level
            for level in range(BINS, 0, -1)
            if has_agreement(lately, mark, build_lane_constants(n, level))
        ),
        0,
    )
