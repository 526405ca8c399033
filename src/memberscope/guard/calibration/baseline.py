"""Estimate the baseline of a benign log.

It holds counts a day, near-duplicates, rates of hits, and how often queries follow in order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from memberscope.errors import InputError
from memberscope.guard.detectors import feature_walks as walks
from memberscope.guard.detectors.boundary_search import BoundaryDetector
from memberscope.guard.detectors.client_history import ClientRow, ClientRows
from memberscope.guard.detectors.enumeration import SIGNS, CoverageDetector
from memberscope.guard.detectors.membership_hits import Membership
from memberscope.guard.detectors.monitor import DetectorSettings
from memberscope.guard.detectors.near_copies import SIZES, Probing
from memberscope.guard.detectors.volume import DAY, MINUTE, Volume
from memberscope.guard.sketching.fingerprints import Fingerprints
from memberscope.guard.sketching.near_duplicates import NearDuplicateIndex
from memberscope.guard.sketching.observations import BINS, Observations

HALF = 0.5  # added to every count, so that nothing is impossible
# More than a live monitor keeps, so that no client of the log is dropped
CLIENTS = 1_000_000


@dataclass
class BaselineCounts:
    """Counts of a benign log.

    They are fresh queries, `near` ones (2,) and `hits` among them, `steps` (4,), `kept` (9,) out of
    `pairs`, and the queries of each client and day.

    `agreed` (9,) are the fresh queries about new records by the most positions in which they agree
    with one of their client's last.
    """

    near: list[float] = field(default_factory=lambda: [HALF] * len(SIZES))
    steps: list[float] = field(default_factory=lambda: [HALF] * 4)
    kept: list[float] = field(default_factory=lambda: [HALF] * SIGNS)
    agreed: list[float] = field(default_factory=lambda: [HALF] * (BINS + 1))
    pairs: float = 1.0
    fresh: float = 0.0
    hits: float = 0.0
    days: dict[tuple[int, float], list[float]] = field(
        default_factory=lambda: defaultdict(lambda: [0.0, 0.0, 0.0, 0.0, 0.0])
    )
    last: dict[int, tuple[int, bytes]] = field(default_factory=dict)


def learn_baseline(
    blocks: Iterable[Observations], fingerprints: Fingerprints | None, radius: float
) -> tuple[DetectorSettings, tuple[float, float]]:
    """Learn settings without thresholds, and the log's first and last time.

    Raises:
        InputError: The log is empty.
    """
    counts, families, rows = BaselineCounts(), NearDuplicateIndex(radius), ClientRows(1, CLIENTS)
    first, last = np.inf, -np.inf
    for block in blocks:
        if not len(block):
            continue
        first, last = min(first, float(block.time[0])), max(last, float(block.time[-1]))
        placed = families.place(block.point, block.record, block.label, block.client)
        hit = [0] * len(block) if fingerprints is None else fingerprints.hits(block.record).tolist()
        bins = np.ascontiguousarray(block.bins)
        for i, (time, client, record, label) in enumerate(
            zip(
                block.time.tolist(),
                block.client.tolist(),
                block.record.tolist(),
                block.label.tolist(),
                strict=True,
            )
        ):
            row = rows.of(client)
            fresh = row.is_fresh(record)
            _count_day_query(counts, time, client, fresh)
            # Only new variants are steps
            if placed.step[i] >= 0:
                counts.steps[placed.step[i]] += 1
            # Detectors look at fresh queries alone, so that rates are taken among those
            if fresh:
                counts.fresh += 1
                counts.hits += hit[i] > 0
                for k, size in enumerate(SIZES):
                    counts.near[k] += placed.before[i] >= size
                _count_agreement(counts, row, bins[i].tobytes(), int(placed.before[i]))
                _count_transition(counts, client, label, bins[i].tobytes())
    if not counts.days:
        raise InputError(
            "Expected a log of benign queries, got an empty one. Observe for some days."
        )
    return _build_detector_settings(counts, radius, fingerprints is not None), (
        float(first),
        float(last),
    )


def _count_day_query(counts: BaselineCounts, time: float, client: int, fresh: bool) -> None:
    """Count a query for its client's day.

    Counted are queries, distinct ones, and those of the busiest minute.
    """
    day = counts.days[client, time // DAY]
    minute = time // MINUTE
    # The last two numbers are the minute that runs and its queries
    if day[3] != minute:
        day[3], day[4] = minute, 0.0
    day[0] += 1
    day[1] += fresh
    day[4] += 1
    day[2] = max(day[2], day[4])


def _count_agreement(counts: BaselineCounts, row: ClientRow, bins: bytes, before: int) -> None:
    """Count in how many positions a query about a new record agrees with one of its client's last."""
    # A record that was known walks nowhere
    if before < 0:
        return
    mark = walks.encode_mark(bins)
    counts.agreed[walks.find_best_agreement(row.lately, mark, row.held)] += 1
    row.lately = walks.append_mark(row.lately, mark, row.held)


def _count_transition(counts: BaselineCounts, client: int, label: int, bins: bytes) -> None:
    """Count how a client's query follows on the one before."""
    before = counts.last.get(client)
    counts.last[client] = (label, bins)
    if before is not None:
        counts.pairs += 1
        counts.kept[0] += label >= 0 and before[0] == label
        for k in range(SIGNS - 1):
            # As the detector of enumeration counts: a feature moved by at most one bin
            counts.kept[1 + k] += abs(bins[k] - before[1][k]) <= 1


def _build_detector_settings(
    counts: BaselineCounts, radius: float, marked: bool
) -> DetectorSettings:
    """Build the detectors' settings from the counts."""
    logs = np.log1p(np.array([day[:3] for day in counts.days.values()]))
    # Clients who all do the same must not make every other day an alarm
    mean, spread = logs.mean(axis=0).tolist(), np.maximum(logs.std(axis=0), 0.3).tolist()
    steps = np.array(counts.steps)
    small, large = (float(near / (counts.fresh + 1)) for near in counts.near)
    level, walking = walks.choose_agreement_level(counts.agreed)
    return DetectorSettings(
        {},
        radius,
        Volume((mean[0], mean[1], mean[2]), (spread[0], spread[1], spread[2])),
        Probing((small, large, walking), level),
        BoundaryDetector(tuple((steps / steps.sum()).tolist())),
        Membership((counts.hits + HALF) / (counts.fresh + 1) if marked else 0.0),
        CoverageDetector(tuple(min(kept / counts.pairs, 1.0) for kept in counts.kept)),
    )
