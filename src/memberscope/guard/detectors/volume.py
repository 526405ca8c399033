"""Detect volume, breadth and bursts against a client's own days and its peers'."""

from __future__ import annotations

from dataclasses import dataclass
from math import log1p, sqrt
from typing import ClassVar

from memberscope.guard.detectors.client_history import ClientRow, ObservedQuery

DAY, MINUTE = 86400.0, 60.0
PEERS = 2.0  # days that the peers count for
LONG = 20.0  # days over which an own mean is taken
LEAST = 0.3  # smallest spread of the logarithm of a day's count
KEPT = 0.5  # share of a sum that is left on the next day
# Standard deviations by which a day may exceed the usual one, and that count at most
SLACK, MOST = 1.0, 8.0


@dataclass(frozen=True)
class Volume:
    """Detect volume, by the peers' `mean` and `spread` of log(1 + count) a day.

    Counts are of queries, of distinct records, and of the queries in the busiest minute.

    The statistic is a cumulative sum over days of how many standard deviations, less one, the day
    exceeds the usual one; the largest of the three.
    """

    mean: tuple[float, float, float] = (3.0, 2.7, 1.5)
    spread: tuple[float, float, float] = (1.5, 1.5, 1.0)
    name: ClassVar[str] = "volume"
    # The day; its queries, distinct ones and busiest minute; the minute that runs and its queries;
    # three each of means, variances and sums; days; three each of today's usual and its scale
    width: ClassVar[int] = 22

    def step(self, row: ClientRow, at: int, query: ObservedQuery) -> float:
        """Take note of a query, and say the statistic."""
        numbers = row.numbers
        day = query.time // DAY
        if numbers[at] != day:
            # A client's first day has none before it
            if numbers[at]:
                self._close(row, at)
            self._open(row, at, day)
        minute = query.time // MINUTE
        if numbers[at + 4] != minute:
            numbers[at + 4], numbers[at + 5] = minute, 0.0
        numbers[at + 5] += 1
        numbers[at + 1] += 1
        numbers[at + 2] += query.fresh
        if numbers[at + 5] > numbers[at + 3]:
            numbers[at + 3] = numbers[at + 5]
        return max(self._sum(row, at, 0), self._sum(row, at, 1), self._sum(row, at, 2))

    def _sum(self, row: ClientRow, at: int, k: int) -> float:
        """Give one of the three sums, with today so far."""
        numbers = row.numbers
        beyond = log1p(numbers[at + 1 + k]) * numbers[at + 19 + k] - numbers[at + 16 + k]
        return KEPT * numbers[at + 12 + k] + (beyond if beyond < MOST else MOST) - SLACK

    def _open(self, row: ClientRow, at: int, day: float) -> None:
        """Begin a day with what is usual of the client.

        It is counted in standard deviations of its own and its peers' days.
        """
        numbers = row.numbers
        numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3] = day, 0.0, 0.0, 0.0
        days = numbers[at + 15]
        for k in range(3):
            mean = (days * numbers[at + 6 + k] + PEERS * self.mean[k]) / (days + PEERS)
            variance = (days * numbers[at + 9 + k] + PEERS * self.spread[k] ** 2) / (days + PEERS)
            # Divided once a day, as the sums are taken at every query
            numbers[at + 19 + k] = 1.0 / max(sqrt(variance), LEAST)
            numbers[at + 16 + k] = mean * numbers[at + 19 + k]

    def _close(self, row: ClientRow, at: int) -> None:
        """Add the day that is over to the sums and to the client's history."""
        numbers = row.numbers
        share = 1.0 / (numbers[at + 15] + 1)
        for k in range(3):
            numbers[at + 12 + k] = max(0.0, self._sum(row, at, k))
            # Welford's update of mean and variance, with a share that stops falling after LONG days
            moved = log1p(numbers[at + 1 + k]) - numbers[at + 6 + k]
            numbers[at + 6 + k] += moved * share
            numbers[at + 9 + k] += (moved * moved * (1 - share) - numbers[at + 9 + k]) * share
        numbers[at + 15] = min(numbers[at + 15] + 1, LONG)

    def reset(self, row: ClientRow, at: int) -> None:
        """Forget the sums, after an alarm."""
        row.numbers[at + 12] = row.numbers[at + 13] = row.numbers[at + 14] = 0.0

    def suspicion(self, row: ClientRow, at: int) -> float:
        """Give the statistic."""
        return max(0.0, *(self._sum(row, at, k) for k in range(3)))
