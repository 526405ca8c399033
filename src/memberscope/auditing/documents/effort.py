"""Say how much an audit spends: queries of searches and reference models, by a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memberscope.types import SignalSpec

Effort = Literal["quick", "normal", "thorough"]
BOUNDARY = 64  # queries a record from which the boundary search gains no AUC (docs/effort.md)


@dataclass(frozen=True)
class EffortLimits:
    """The most that an audit of this effort spends where the plan gives no number.

    `search_queries` and `boundary_queries` count a record for each label-only search, `rows` all
    records sent for one search (None: no limit), `references` the models.
    """

    search_queries: int
    boundary_queries: int
    references: int
    rows: int | None


QUICK = EffortLimits(128, BOUNDARY, 8, 1_000_000)
NORMAL = EffortLimits(128, 128, 16, 1_000_000)
THOROUGH = EffortLimits(512, 512, 64, None)
EFFORTS: dict[Effort, EffortLimits] = {"quick": QUICK, "normal": NORMAL, "thorough": THOROUGH}


@dataclass(frozen=True)
class SearchBudget:
    """Queries a record for the boundary search, and for each other label-only search."""

    boundary: int = 0
    other: int = 0

    def count(self, spec: SignalSpec) -> int:
        """Count the queries a record for the search of `spec`.

        HopSkipJump spends some tens on each of its steps, so it gets those of other searches.

        >>> SearchBudget(64, 128).count(SignalSpec("boundary"))
        64
        """
        is_walk = spec.name == "boundary" and not dict(spec.parameters).get("hopskipjump")
        return self.boundary if is_walk else self.other
