"""Turn queries into observations and into lines of the access log."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from memberscope.guard.monitor.artifacts import MonitorArtifacts
from memberscope.guard.monitor.query_queue import Asked, Piece
from memberscope.guard.policy.tables import ServingConfig
from memberscope.guard.rewriting.exchange import Exchange
from memberscope.guard.sketching.observations import (
    EMPTY,
    Observations,
    format_access_line,
    format_unsketched_line,
)
from memberscope.types import Ints

Lines = list[tuple[Observations, str]]


def build_log_lines(
    piece: Piece, equipment: MonitorArtifacts, unreadable: Callable[[int], None]
) -> Lines:
    """Build each query's observations and its line of the log.

    `unreadable` is called with the number of records that cannot be sketched. Their query has a
    line that says so, and no observations.
    """
    try:
        record, point, bins = equipment.sketcher.sketch(piece.batch)
    # Whatever a client sent, the monitor goes on
    except Exception:
        # One of them spoils it for all: each is tried by itself
        if len(piece.asked) > 1:
            return [
                found
                for one in piece.alone()
                for found in build_log_lines(one, equipment, unreadable)
            ]
        unreadable(len(piece.labels))
        (one,) = piece.asked
        line = format_unsketched_line(
            one.at, one.key, one.records, kind=one.group, key=equipment.secret.id, status=one.status
        )
        return [(EMPTY, line)]
    found, start = [], 0
    for one in piece.asked:
        part = slice(start, start + one.records)
        # Answers that passed as they were are read only here, out of the way of requests
        labels = (
            _read_answer_classes(one)
            if one.answer and one.serving is not None
            else piece.labels[part]
        )
        client = np.full(one.records, int(one.key, 16), dtype=np.uint64)
        whole = Observations(
            np.full(one.records, one.at), client, record[part], point[part], bins[part], labels
        )
        found.append(
            (
                whole,
                format_access_line(
                    whole, kind=one.group, key=equipment.secret.id, status=one.status
                ),
            )
        )
        start = part.stop
    return found


def _read_answer_classes(one: Asked) -> Ints:
    """Read the top classes (n,) of an answer that passed as it was, -1 where unreadable."""
    try:
        assert one.serving is not None
        return _build_exchange(one.serving).tops(bytes(one.answer), one.records)
    # Whatever a server said, the monitor goes on
    except Exception:
        return np.full(one.records, -1, dtype=np.int64)


@lru_cache(maxsize=8)
def _build_exchange(serving: ServingConfig) -> Exchange:
    """Build the exchange that reads answers, one for each policy."""
    return Exchange.of(serving)
