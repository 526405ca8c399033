"""Alarm: what a detector reports when its statistic passes the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from memberscope.guard.policy.tables import Detector

Scope = Literal["client", "family", "pool"]
Pool = Literal["newcomers", "established"]  # clients first seen within a week, and all others
POOLS: tuple[Pool, ...] = get_args(Pool)


@dataclass(frozen=True)
class Alarm:
    """Report that one detector's statistic passed its threshold at `time` (seconds since 1970).

    `subject` is who or what: a client's keyed hash, a family of near-duplicate records (its
    number), or a pool of clients (one of `POOLS`). The detector `unreadable` has no statistic: a
    client's records had no sketch, and `queries` of them were answered or refused without one. `clients` are the keyed hashes of those who took
    part, at most 100, and `queries` how many the subject had asked by then. An alarm of
    `membership` says in `hits` how many hits on fingerprints or honey records stand behind it; no
    other alarm has any.

    >>> Alarm(0.0, "probing", "client", "00000000000000ff", 12.5, 10.0, 40, ("00000000000000ff",)).sentence()
    'probing by client 00000000000000ff after 40 queries (12.5, threshold 10)'
    """

    time: float
    detector: Detector | Literal["unreadable"]
    scope: Scope
    subject: str
    statistic: float
    threshold: float
    queries: int
    clients: tuple[str, ...]
    hits: int = 0

    def sentence(self) -> str:
        """Describe the alarm in one sentence."""
        return (
            f"{self.detector} by {self.scope} {self.subject} after {self.queries} queries "
            f"({self.statistic:.4g}, threshold {self.threshold:.4g})"
        )
