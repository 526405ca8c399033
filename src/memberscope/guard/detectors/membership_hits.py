"""Detect membership campaigns: clients that hit the training set's fingerprints more often.

What it finds is for operators alone, and late: an answer that depended on a hit would tell who is a
member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from memberscope.guard.detectors.client_history import ClientRow, ObservedQuery
from memberscope.guard.detectors.cusum import estimate_usual_rate, update_cusum

STRENGTH = 50.0  # queries that the population's rate counts for
LONG = 5000.0  # queries after which half of a client's history is forgotten
# Share of members among a weak campaign's foreign records, and among a strong one's
SOME, MANY = 0.1, 0.5
HONEY = 4.0  # what a honey record adds


@dataclass(frozen=True)
class Membership:
    """Detect membership campaigns; `usual` is the population's rate of hits.

    Two cumulative sums of log likelihood ratios, against rates a little and much higher.

    A client's expected rate moves from the population's to its own. The statistic is 0 until
    `least` hits lie behind it.
    """

    usual: float = 0.01
    least: int = 3
    name: ClassVar[str] = "membership"
    width: ClassVar[int] = 5

    def step(self, row: ClientRow, at: int, query: ObservedQuery) -> float:
        """Take note of a query, and say the statistic; only a client's fresh records count."""
        numbers = row.numbers
        if query.hit >= 0 and query.fresh:
            asked, hits = numbers[at], numbers[at + 1]
            base = (
                estimate_usual_rate(self.usual, hits, asked, STRENGTH)
                if query.base < 0
                else query.base
            )
            # The pool expects of this client what was expected of it before this query
            query.base = base
            hit = query.hit > 0
            for k, share in enumerate((SOME, MANY)):
                # A sum of 0 stays 0 where nothing happened
                if hit or numbers[at + 2 + k]:
                    numbers[at + 2 + k] = update_cusum(
                        numbers[at + 2 + k], hit, base, base + share * (1 - base)
                    ) + HONEY * (query.hit == 2)
            # Hits are counted since the sums were last at 0
            if numbers[at + 2] == 0.0 and numbers[at + 3] == 0.0:
                numbers[at + 4] = 0.0
            numbers[at + 4] += hit
            numbers[at], numbers[at + 1] = asked + 1, hits + hit
            if asked >= LONG:
                numbers[at], numbers[at + 1] = asked / 2, hits / 2
        return max(numbers[at + 2], numbers[at + 3]) if numbers[at + 4] >= self.least else 0.0

    def reset(self, row: ClientRow, at: int) -> None:
        """Forget the sums, after an alarm."""
        row.numbers[at + 2] = row.numbers[at + 3] = row.numbers[at + 4] = 0.0

    def suspicion(self, row: ClientRow, at: int) -> float:
        """Give the larger sum, however few hits are behind it."""
        return max(row.numbers[at + 2], row.numbers[at + 3])

    def hits(self, row: ClientRow, at: int) -> int:
        """Count the hits since the sums were last at 0."""
        return int(row.numbers[at + 4])
