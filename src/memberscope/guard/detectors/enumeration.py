"""Detect enumeration: one class at a time, or features in small steps, as grids do."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from memberscope.guard.detectors.client_history import ClientRow, ObservedQuery
from memberscope.guard.detectors.cusum import EDGE, update_cusum
from memberscope.guard.sketching.observations import BINS

# Queries that the population counts for; after which half of a client's history is forgotten
STRENGTH, LONG = 100.0, 2000.0
SORTED = 0.9  # how often an enumeration keeps the class, or moves a feature by at most one bin
HIGH = 0.6  # expected rate from which order tells nothing
SIGNS = 1 + BINS


@dataclass(frozen=True)
class CoverageDetector:
    """Detect enumeration, in the order of classes and of eight features.

    `usual` (9,) is how often benign queries repeat a class, or move each feature by at most a bin.

    The statistic is the largest of nine cumulative sums of log likelihood ratios. A client's
    expected rates move to its own.
    """

    usual: tuple[float, ...] = (0.3,) * SIGNS
    name: ClassVar[str] = "coverage"
    width: ClassVar[int] = 2 + 2 * SIGNS + BINS

    @cached_property
    def telling(self) -> tuple[int, ...]:
        """Signs that are not usual anyway."""
        return tuple(k for k in range(SIGNS) if self.usual[k] < HIGH)

    def step(self, row: ClientRow, at: int, query: ObservedQuery) -> float:
        """Take note of a query, and say the statistic; only a client's fresh records count."""
        numbers, counts, sums, last = row.numbers, at + 2, at + 2 + SIGNS, at + 2 + 2 * SIGNS
        if query.fresh:
            asked = numbers[at]
            # The first query follows on none
            if asked > 0:
                weight, bins = 1.0 / (STRENGTH + asked), query.bins
                for k in self.telling:
                    kept = (
                        -1.5 < bins[k - 1] - numbers[last + k - 1] < 1.5
                        if k
                        else 0 <= query.label == numbers[at + 1]
                    )
                    rate = (STRENGTH * self.usual[k] + numbers[counts + k]) * weight
                    # A sum of 0 stays 0 where nothing happened
                    if rate < HIGH and (kept or numbers[sums + k]):
                        numbers[sums + k] = update_cusum(
                            numbers[sums + k], kept, max(rate, EDGE), SORTED
                        )
                    numbers[counts + k] += kept
            numbers[at], numbers[at + 1] = asked + 1, query.label
            numbers[last : last + BINS] = array("d", list(query.bins))
            if asked >= LONG:
                numbers[at] = asked / 2
                for k in range(SIGNS):
                    numbers[counts + k] /= 2
        return max(numbers[sums : sums + SIGNS])

    def reset(self, row: ClientRow, at: int) -> None:
        """Forget the sums, after an alarm."""
        sums = at + 2 + SIGNS
        for k in range(SIGNS):
            row.numbers[sums + k] = 0.0

    def suspicion(self, row: ClientRow, at: int) -> float:
        """Give the statistic."""
        return max(row.numbers[at + 2 + SIGNS : at + 2 + 2 * SIGNS])
