"""Detect boundary search: variants of a record on one line, or with alternating labels.

HopSkipJump and its kin halve intervals, which puts successive queries on a line, and then sit on
the boundary, where about every second answer has another label. Benign near-duplicates do neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar

from memberscope.guard.detectors.client_history import ClientRow, ObservedQuery
from memberscope.guard.detectors.cusum import FORGET

# Elsewhere with the same label; with another; on the line with the same; with another
SEARCH = 0.4, 0.3, 0.15, 0.15
USUAL = (0.9, 0.06, 0.03, 0.01)


@dataclass(frozen=True)
class BoundaryDetector:
    """Detect boundary search; `usual` (4,) is how benign variants are stepped to.

    The statistic is a cumulative sum of log likelihood ratios over variants.
    """

    usual: tuple[float, ...] = USUAL
    name: ClassVar[str] = "boundary"
    width: ClassVar[int] = 1

    def gain(self, step: int) -> float:
        """Give what a step adds to the sum."""
        return log(SEARCH[step] / self.usual[step])

    def step(self, row: ClientRow, at: int, query: ObservedQuery) -> float:
        """Take note of a query, and say the statistic."""
        if query.step >= 0:
            row.numbers[at] = max(0.0, FORGET * row.numbers[at] + self.gain(query.step))
        return row.numbers[at]

    def reset(self, row: ClientRow, at: int) -> None:
        """Forget the sum, after an alarm."""
        row.numbers[at] = 0.0

    def suspicion(self, row: ClientRow, at: int) -> float:
        """Give the statistic."""
        return row.numbers[at]
