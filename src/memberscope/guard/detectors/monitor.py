"""Run every detector on every query, for its client, its pool and its family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from typing import NamedTuple, Protocol

import numpy as np

from memberscope.guard.detectors.alarm import POOLS, Alarm, Scope
from memberscope.guard.detectors.boundary_search import BoundaryDetector
from memberscope.guard.detectors.client_history import HEAD, ClientRow, ClientRows, ObservedQuery
from memberscope.guard.detectors.enumeration import CoverageDetector
from memberscope.guard.detectors.feature_walks import POOL
from memberscope.guard.detectors.membership_hits import Membership
from memberscope.guard.detectors.near_copies import Probing
from memberscope.guard.detectors.volume import DAY, Volume
from memberscope.guard.policy.tables import Detector
from memberscope.guard.sketching.fingerprints import Fingerprints
from memberscope.guard.sketching.near_duplicates import NearDuplicateIndex
from memberscope.guard.sketching.observations import Observations

HOUR, WEEK = 3600.0, 7 * DAY  # how long a client is a newcomer
NAMED = 100  # clients that an alarm names
# Clients seen last among whom those are looked for; more would take so long that clients could tell
# when
LATELY = 2_000
NAMES: tuple[Detector, ...] = ("volume", "probing", "boundary", "membership", "coverage")
STREAMS = (
    *(f"{name}.{scope}" for name in NAMES for scope in ("client", "pool")),
    "probing.family",
    "boundary.family",
)


class Sequential(Protocol):
    """Interface of a detector: numbers in a row, and how a query changes them."""

    @property
    def name(self) -> str:
        """Name of the detector."""
        ...

    @property
    def width(self) -> int:
        """Number of the numbers that it keeps of a client."""
        ...

    def step(self, row: ClientRow, at: int, query: ObservedQuery) -> float:
        """Take note of a query in the numbers from `at`, and say the statistic."""
        ...

    def reset(self, row: ClientRow, at: int) -> None:
        """Forget what an alarm was about."""
        ...

    def suspicion(self, row: ClientRow, at: int) -> float:
        """Give this row's share of the evidence, 0 for none."""
        ...


@dataclass(frozen=True)
class DetectorSettings:
    """Settings of the detectors, with the baseline that each was fitted to.

    A statistic above its stream's entry in `thresholds` alarms. Records nearer than `radius` are
    near-duplicates of one family.
    """

    thresholds: dict[str, float]
    radius: float
    volume: Volume = field(default_factory=Volume)
    probing: Probing = field(default_factory=Probing)
    boundary: BoundaryDetector = field(default_factory=BoundaryDetector)
    membership: Membership = field(default_factory=Membership)
    coverage: CoverageDetector = field(default_factory=CoverageDetector)
    window: int = 16_384

    @property
    def detectors(self) -> tuple[Sequential, ...]:
        """All five detectors."""
        return (self.volume, self.probing, self.boundary, self.membership, self.coverage)


class Place(NamedTuple):
    """Detector, the place of its numbers in a row, and its thresholds for client and pool."""

    detector: Sequential
    at: int
    name: str
    own: float
    pool: float


Peak = Callable[[str, str, float, float], None]  # stream, subject, time, statistic


class Monitor:
    """Run detectors on queries in order of time.

    The same for live traffic, replayed logs and simulations.

    A client, family or pool that alarmed is not told again by the same detector for a day, and its
    sum starts anew. `peak` is told every statistic, for calibration.
    """

    def __init__(
        self,
        settings: DetectorSettings,
        fingerprints: Fingerprints | None = None,
        *,
        clients: int = 100_000,
        peak: Peak | None = None,
    ) -> None:
        self.settings, self.fingerprints, self.peak = settings, fingerprints, peak
        self.places: list[Place] = []
        # Each detector's numbers follow those that every row begins with
        width = HEAD
        for detector in settings.detectors:
            own, pool = (
                settings.thresholds.get(f"{detector.name}.{scope}", inf)
                for scope in ("client", "pool")
            )
            self.places.append(Place(detector, width, detector.name, own, pool))
            width += detector.width
        self.rows, self.pools = ClientRows(width, clients), ClientRows(width, len(POOLS), POOL)
        self.families = NearDuplicateIndex(settings.radius, settings.window)
        self.family_limits = {
            name: settings.thresholds.get(f"{name}.family", inf) for name in ("probing", "boundary")
        }
        self.boundary_gains = [settings.boundary.gain(step) for step in range(4)]
        self.told: dict[tuple[str, str], float] = {}
        self.now = 0.0
        self.queries = 0

    def observe(self, seen: Observations) -> list[Alarm]:
        """Give the alarms that these queries cause; they come after all earlier ones.

        A clock that steps back stands still for up to an hour.
        """
        # Placed one by one as the loop asks, so that alarms do not depend on the size of blocks
        placed = self.families.each(seen.point, seen.record, seen.label, seen.client)
        hit = (
            [-1] * len(seen)
            if self.fingerprints is None
            else self.fingerprints.hits(seen.record).tolist()
        )
        found: list[Alarm] = []
        bins = np.ascontiguousarray(seen.bins)
        columns = zip(
            seen.time.tolist(),
            seen.client.tolist(),
            seen.record.tolist(),
            seen.label.tolist(),
            strict=True,
        )
        for i, ((time, client, record, label), (family, before, step)) in enumerate(
            zip(columns, placed, strict=True)
        ):
            # A clock that was ahead for more than an hour is set right
            if time > self.now or time < self.now - HOUR:
                self.now = time
            row = self.rows.of(client)
            query = ObservedQuery(
                self.now,
                row.is_fresh(record),
                before,
                step,
                hit[i],
                label,
                bins[i].tobytes(),
                -1.0,
                row,
            )
            self._one(query, row, client, found)
            # Only a new variant changes its family
            if step >= 0:
                self._family(query, family, found)
        self.queries += len(seen)
        return found

    def _one(self, query: ObservedQuery, row: ClientRow, client: int, found: list[Alarm]) -> None:
        # The row begins with the times of the first and the last query, and their number
        numbers = row.numbers
        if numbers[2] == 0:
            numbers[0] = query.time
        numbers[1] = query.time
        numbers[2] += 1
        # Newcomers and old clients have a pool each
        which = int(query.time - numbers[0] >= WEEK)
        pool = self.pools.of(which)
        pool.numbers[2] += 1
        for place in self.places:
            detector, at = place.detector, place.at
            value, pooled = detector.step(row, at, query), detector.step(pool, at, query)
            if self.peak:
                self.peak(f"{place.name}.client", f"{client:016x}", query.time, value)
                self.peak(f"{place.name}.pool", POOLS[which], query.time, pooled)
            # The sum starts anew after an alarm, also where the alarm is not told again
            if value > place.own:
                hits = detector.hits(row, at) if isinstance(detector, Membership) else 0
                self._alarm(
                    query,
                    place.name,
                    ("client", f"{client:016x}"),
                    (value, place.own),
                    (int(numbers[2]), hits),
                    found,
                )
                detector.reset(row, at)
            if pooled > place.pool:
                hits = detector.hits(pool, at) if isinstance(detector, Membership) else 0
                self._alarm(
                    query,
                    place.name,
                    ("pool", POOLS[which]),
                    (pooled, place.pool),
                    (int(pool.numbers[2]), hits),
                    found,
                )
                detector.reset(pool, at)

    def _family(self, query: ObservedQuery, family: int, found: list[Alarm]) -> None:
        at = family % self.families.window
        evidence = self.families.evidence
        evidence[at] = max(0.0, float(evidence[at]) + self.boundary_gains[query.step])
        # As of this query: the family itself already has those of the whole block
        variants = query.before + 1
        for name, value in (("probing", float(variants)), ("boundary", float(evidence[at]))):
            if self.peak:
                self.peak(f"{name}.family", str(family), query.time, value)
            limit = self.family_limits[name]
            if value > limit:
                self._alarm(
                    query, name, ("family", str(family)), (value, limit), (variants, 0), found
                )
                # Variants are a count of what is there and are not reset
                if name == "boundary":
                    evidence[at] = 0.0

    def _alarm(
        self,
        query: ObservedQuery,
        name: str,
        who: tuple[Scope, str],
        values: tuple[float, float],
        counts: tuple[int, int],
        found: list[Alarm],
    ) -> None:
        """Tell of a statistic above its threshold, once a day for each subject.

        `counts` are queries and hits.
        """
        stream, subject = f"{name}.{who[0]}", who[1]
        if query.time - self.told.get((stream, subject), -DAY) < DAY:
            return
        # Subjects told of more than a day ago may alarm again and need not be remembered
        if len(self.told) > 10_000:
            self.told = {key: time for key, time in self.told.items() if query.time - time < DAY}
        self.told[stream, subject] = query.time
        clients = self._concerned(name, *who)
        detector: Detector = name  # type: ignore[assignment]
        found.append(
            Alarm(
                query.time,
                detector,
                who[0],
                subject,
                values[0],
                values[1],
                counts[0],
                clients,
                counts[1],
            )
        )

    def _concerned(self, name: str, scope: Scope, subject: str) -> tuple[str, ...]:
        """List the clients behind an alarm.

        For a pool, they are those seen last and within a day whose own statistics are highest.
        """
        if scope == "client":
            return (subject,)
        if scope == "family":
            return tuple(f"{client:016x}" for client in self.families.clients.get(int(subject), []))
        place = next(place for place in self.places if place.name == name)
        active = [
            (place.detector.suspicion(row, place.at), client)
            for client, row in islice(reversed(self.rows.kept.items()), LATELY)
            if self.now - row.numbers[1] < DAY
            and (self.now - row.numbers[0] >= WEEK) == (subject == POOLS[1])
        ]
        return tuple(
            f"{client:016x}" for value, client in sorted(active, reverse=True)[:NAMED] if value > 0
        )
