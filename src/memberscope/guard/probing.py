"""Near-duplicate probing: variants of records that were asked about before, by this client or by any other, and walks between records."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from memberscope.guard.cusum import expected, risen
from memberscope.guard.rows import Query, Row
from memberscope.guard.walks import CLIENT, NEVER, POOL, Span, agrees, followed, mark_of, span

SIZES = (1, 8)  # variants from which a family counts as small, and as large
SIGNS = len(SIZES) + 1
STRENGTH, LONG = 50.0, 2000.0  # queries that the population counts for; after which half of a client's history is forgotten
CAMPAIGN = 0.5  # share of the way from the usual rate to 1


@dataclass(frozen=True)
class Probing:
    """`usual` (3,) is how often benign fresh queries are a new variant of a record with one earlier variant, with eight, and walk on.

    A query walks on if it agrees with one of the last of its client, or pool, in `level` of eight coarse positions. The statistic is the
    largest of three cumulative sums of log likelihood ratios. A client's expected rates move to its own, so that who always tries
    variants is no news.
    """

    usual: tuple[float, float, float] = (0.03, 0.001, 0.1)
    level: int = NEVER
    name: ClassVar[str] = "probing"
    width: ClassVar[int] = 1 + 2 * SIGNS

    @cached_property
    def spans(self) -> dict[int, Span]:
        """What finds walks among so many queries."""
        return {n: span(n, self.level) for n in (CLIENT, POOL)} if self.level < NEVER else {}

    def step(self, row: Row, at: int, query: Query) -> float:
        """Take note of a query, and say the statistic; what a client asked about lately changes nothing."""
        numbers = row.numbers
        if query.fresh:
            asked, sums = numbers[at], at + 1 + SIGNS
            for k, near in enumerate((query.before >= SIZES[0], query.before >= SIZES[1], self.walks(row, query))):
                if near or numbers[sums + k]:  # a sum of 0 stays 0 where nothing happened
                    usual = expected(self.usual[k], numbers[at + 1 + k], asked, STRENGTH)
                    numbers[sums + k] = risen(numbers[sums + k], near, usual, usual + CAMPAIGN * (1 - usual))
                numbers[at + 1 + k] += near
            numbers[at] = asked + 1
            if asked >= LONG:
                for k in range(1 + SIGNS):
                    numbers[at + k] /= 2
        return self.suspicion(row, at)

    def walks(self, row: Row, query: Query) -> bool:
        """Whether a query about a new record walks on from the row's last ones; it is one of them from now on."""
        by = self.spans.get(row.held)
        if by is None or query.before < 0:
            return False
        mark = mark_of(query.bins)
        found = agrees(row.lately, mark, by)
        row.lately = followed(row.lately, mark, row.held)
        return found

    def reset(self, row: Row, at: int) -> None:
        """Forget the sums, after an alarm."""
        for k in range(SIGNS):
            row.numbers[at + 1 + SIGNS + k] = 0.0

    def suspicion(self, row: Row, at: int) -> float:
        """The statistic as it is."""
        return max(row.numbers[at + 1 + SIGNS : at + 1 + 2 * SIGNS])
