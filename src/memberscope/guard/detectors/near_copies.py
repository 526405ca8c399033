"""Detect near-duplicate probing of records that anybody asked about, and walks between records."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from memberscope.guard.detectors.client_history import ClientRow, ObservedQuery
from memberscope.guard.detectors.cusum import estimate_usual_rate, update_cusum
from memberscope.guard.detectors.feature_walks import (
    CLIENT,
    NEVER,
    POOL,
    LaneConstants,
    append_mark,
    build_lane_constants,
    encode_mark,
    has_agreement,
)

SIZES = (1, 8)  # variants from which a family counts as small, and as large
SIGNS = len(SIZES) + 1
# Queries that the population counts for; after which half of a client's history is forgotten
STRENGTH, LONG = 50.0, 2000.0
CAMPAIGN = 0.5  # share of the way from the usual rate to 1
SUMS = 1 + len(SIZES)  # where the sums begin, after counts of fresh queries and of variants
WALKS = SUMS + len(SIZES)  # where the last of them is, before counts of new records and of walks


@dataclass(frozen=True)
class Probing:
    """Detect probing; `usual` (3,) is how often benign fresh queries are new variants.

    The third is how often those about new records walk on: agree in `level` of eight coarse
    positions with one of the last such of their client, or pool. The statistic is the largest of
    three cumulative sums of log likelihood ratios. A client's expected rates move to its own, so
    that who always tries variants is no news.
    """

    usual: tuple[float, float, float] = (0.03, 0.001, 0.1)
    level: int = NEVER
    name: ClassVar[str] = "probing"
    width: ClassVar[int] = WALKS + 4

    @cached_property
    def spans(self) -> dict[int, LaneConstants]:
        """Constants that find walks among so many queries."""
        return (
            {n: build_lane_constants(n, self.level) for n in (CLIENT, POOL)}
            if self.level < NEVER
            else {}
        )

    def step(self, row: ClientRow, at: int, query: ObservedQuery) -> float:
        """Take note of a query, and say the statistic.

        What a client asked about lately changes nothing.
        """
        numbers, sums = row.numbers, at + SUMS
        if query.fresh:
            before, asked = query.before, numbers[at]
            for k, size in enumerate(SIZES):
                near = before >= size
                # A sum of 0 stays 0 where nothing happened
                if near or numbers[sums + k]:
                    usual = estimate_usual_rate(self.usual[k], numbers[at + 1 + k], asked, STRENGTH)
                    numbers[sums + k] = update_cusum(
                        numbers[sums + k], near, usual, usual + CAMPAIGN * (1 - usual)
                    )
                    numbers[at + 1 + k] += near
            numbers[at] = asked + 1
            # Halving both the queries and the events keeps the rate, and lets newer ones weigh more
            if asked >= LONG:
                for k in range(SUMS):
                    numbers[at + k] /= 2
            # A record that was known walks nowhere
            if before >= 0 and self.spans:
                self._walk(row, at + WALKS, query)
        return max(numbers[sums : sums + SIGNS])

    def _walk(self, row: ClientRow, at: int, query: ObservedQuery) -> None:
        """Take note of a query about a new record.

        The numbers from `at` are its sum, how many such there were, and how many walked on. The
        fourth is a client's part in what its pool sums up: it names clients, but alarms about none.
        """
        numbers, mark = row.numbers, encode_mark(query.bins)
        walks = has_agreement(row.lately, mark, self.spans[row.held])
        row.lately = append_mark(row.lately, mark, row.held)
        asked = numbers[at + 1]
        # Only the pool's walks are split among the clients who asked
        part = query.asker.numbers if query.asker is not None and row.held == POOL else None
        if walks or numbers[at] or (part and part[at + 3]):
            usual = estimate_usual_rate(self.usual[2], numbers[at + 2], asked, STRENGTH)
            numbers[at] = update_cusum(numbers[at], walks, usual, usual + CAMPAIGN * (1 - usual))
            numbers[at + 2] += walks
            if part:
                part[at + 3] = update_cusum(
                    part[at + 3], walks, usual, usual + CAMPAIGN * (1 - usual)
                )
        numbers[at + 1] = asked + 1
        if asked >= LONG:
            numbers[at + 1], numbers[at + 2] = numbers[at + 1] / 2, numbers[at + 2] / 2

    def reset(self, row: ClientRow, at: int) -> None:
        """Forget the sums, after an alarm."""
        for k in (SUMS, SUMS + 1, WALKS, WALKS + 3):
            row.numbers[at + k] = 0.0

    def suspicion(self, row: ClientRow, at: int) -> float:
        """Give the statistic, or this client's part in the pool's."""
        return max(*row.numbers[at + SUMS : at + SUMS + SIGNS], row.numbers[at + WALKS + 3])
