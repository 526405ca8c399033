"""Near-duplicate probing: how many variants of one record have been asked about, by one client or by all together."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar

from memberscope.guard.rows import Query, Row

BUCKETS = 8  # variants that a family had before: none, 1, 2, 3 to 4, 5 to 8, 9 to 16, 17 to 32, more
FEW = (0.5, 0.38, 0.05, 0.03, 0.02, 0.01, 0.005, 0.005)  # a campaign of one copy of each record
MANY = (0.1, 0.1, 0.1, 0.15, 0.15, 0.15, 0.15, 0.1)  # a campaign of many copies
USUAL = (0.97, 0.02, 0.005, 0.002, 0.001, 0.0008, 0.0006, 0.0006)


def bucket_of(before: int) -> int:
    """The bucket of a number of earlier variants.

    >>> [bucket_of(n) for n in (0, 1, 2, 3, 4, 5, 8, 9, 33, 1000)]
    [0, 1, 2, 3, 3, 4, 4, 5, 7, 7]
    """
    return before if before < 2 else min((before - 1).bit_length() + 1, BUCKETS - 1)


@dataclass(frozen=True)
class Probing:
    """`usual` (8,) is how often benign queries fall into families of so many variants.

    The statistic is the larger of two cumulative sums of log likelihood ratios, against campaigns of few and of many copies.
    """

    usual: tuple[float, ...] = USUAL
    name: ClassVar[str] = "probing"
    width: ClassVar[int] = 2

    def gains(self) -> list[tuple[float, float]]:
        """What each bucket adds to the two sums."""
        return [(log(few / usual), log(many / usual)) for few, many, usual in zip(FEW, MANY, self.usual, strict=True)]

    def step(self, row: Row, at: int, query: Query) -> float:
        """Take note of a query, and say the statistic; records asked about before change nothing."""
        numbers = row.numbers
        if query.before >= 0:
            bucket = bucket_of(query.before)
            usual = self.usual[bucket]
            numbers[at] = max(0.0, numbers[at] + log(FEW[bucket] / usual))
            numbers[at + 1] = max(0.0, numbers[at + 1] + log(MANY[bucket] / usual))
        return max(numbers[at], numbers[at + 1])

    def reset(self, row: Row, at: int) -> None:
        """Forget the sums, after an alarm."""
        row.numbers[at] = row.numbers[at + 1] = 0.0
