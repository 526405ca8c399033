"""Near-duplicate probing: variants of records that were asked about before, by this client or by any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from memberscope.guard.cusum import expected, risen
from memberscope.guard.rows import Query, Row

SIZES = (1, 8)  # variants from which a family counts as small, and as large
STRENGTH, LONG = 50.0, 2000.0  # queries that the population counts for; after which half of a client's history is forgotten
CAMPAIGN = 0.5  # share of the way from the usual rate to 1


@dataclass(frozen=True)
class Probing:
    """`usual` (2,) is how often benign fresh queries are a new variant of a record with one earlier variant, and with eight.

    The statistic is the larger of two cumulative sums of log likelihood ratios. A client's expected rates move to its own, so that
    who always tries variants is no news.
    """

    usual: tuple[float, float] = (0.03, 0.001)
    name: ClassVar[str] = "probing"
    width: ClassVar[int] = 5

    def step(self, row: Row, at: int, query: Query) -> float:
        """Take note of a query, and say the statistic; what a client asked about lately changes nothing."""
        numbers = row.numbers
        if query.fresh:
            asked = numbers[at]
            for k, size in enumerate(SIZES):
                usual = expected(self.usual[k], numbers[at + 1 + k], asked, STRENGTH)
                near = query.before >= size
                numbers[at + 3 + k] = risen(numbers[at + 3 + k], near, usual, usual + CAMPAIGN * (1 - usual))
                numbers[at + 1 + k] += near
            numbers[at] = asked + 1
            if asked >= LONG:
                for k in range(3):
                    numbers[at + k] /= 2
        return max(numbers[at + 3], numbers[at + 4])

    def reset(self, row: Row, at: int) -> None:
        """Forget the sums, after an alarm."""
        row.numbers[at + 3] = row.numbers[at + 4] = 0.0

    def suspicion(self, row: Row, at: int) -> float:
        """The statistic as it is."""
        return max(row.numbers[at + 3], row.numbers[at + 4])
