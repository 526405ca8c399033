"""Trace of one query through the pipeline, kept for the log, the counters and the monitor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from memberscope.guard.policy.tables import ServingConfig
from memberscope.guard.query_event import QueryEvent
from memberscope.guard.state.interface import AnyBucket, Taken
from memberscope.types import Ints
from memberscope.wire import Batch

NO_LABELS = np.full(64, -1, dtype=np.int64)  # shared by all queries of usual length
NO_LABELS.flags.writeable = False


@dataclass(slots=True)
class Trace:
    """Collect what the log, the counters and the monitor need to know of one query."""

    start: float
    client: str = ""
    key: str = ""
    group: str = ""
    reason: str = ""
    begun: bool = False  # whether reading the request's body has begun
    whole: bool = False  # whether the request's body was read to its end
    batch: Batch | None = None
    counted: bool = False  # whether budgets count its records
    buckets: Sequence[AnyBucket] = ()  # what budgets have counted, and when
    taken: Taken | None = None
    labels: Ints | None = None
    passed: bytes = b""  # the body of an answer that nobody has read, and how it is read
    serving: ServingConfig | None = None
    told: tuple[tuple[bytes, bytes], ...] = ()  # headers of the answer that tell of budgets
    status: int = 499
    faults: list[str] = field(default_factory=list)

    def build_event(self, batch: Batch, seconds: float) -> QueryEvent:
        """Build the monitor's event; labels are unknown (-1) unless the query was answered."""
        # Only a client that was answered has learnt a label
        answered = self.status < 300
        passed = self.passed if answered else b""
        return QueryEvent(
            batch,
            self.client,
            self.key,
            self.group,
            self.labels
            if answered and self.labels is not None
            else _build_unknown_labels(len(batch)),
            self.status,
            seconds,
            passed,
            self.serving if passed else None,
        )


def _build_unknown_labels(n: int) -> Ints:
    """Give n unknown top classes (n,), read-only.

    >>> _build_unknown_labels(2).tolist()
    [-1, -1]
    """
    return NO_LABELS[:n] if n <= len(NO_LABELS) else np.full(n, -1, dtype=np.int64)
