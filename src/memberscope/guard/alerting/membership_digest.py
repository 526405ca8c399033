"""Collect alarms about membership and send them together at fixed times.

Neither a single hit nor its time can be seen from a digest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from memberscope.guard.detectors.alarm import Alarm
from memberscope.guard.policy.tables import Alerts

DIGEST = "digest"  # the subject of what a digest tells
# Subjects that wait for a digest at most, and clients that one names
SUBJECTS, NAMED = 10_000, 100


class Digest:
    """Collect alarms of `membership`; send digests at whole multiples of `digest_minutes`.

    Alarms with fewer hits than `digest_least` wait for a later digest, for `kept` seconds at most.
    What is told is coarse: hits are rounded down to a multiple of `digest_least`, queries to one
    digit, and the time is the digest's own.

    >>> digest = Digest(Alerts(digest_minutes=60, digest_least=5))
    >>> digest.add(Alarm(10.0, "membership", "client", "0a", 7.0, 6.0, 40, ("0a",), hits=4), 10.0)
    >>> digest.due(3600.0) is None
    True
    >>> digest.add(Alarm(3700.0, "membership", "client", "0b", 7.0, 6.0, 48, ("0b",), hits=4), 3700.0)
    >>> digest.due(3701.0) is None
    True
    >>> told = digest.due(7205.0)
    >>> told.time, told.subject, told.statistic, told.queries, told.clients
    (7200.0, 'digest', 5.0, 80, ('0a', '0b'))
    """

    def __init__(self, alerts: Alerts, kept: float = 30 * 86400.0) -> None:
        self.every, self.least, self.kept = 60.0 * alerts.digest_minutes, alerts.digest_least, kept
        self.waiting: dict[tuple[str, str], Alarm] = {}
        self.last: int | None = None  # the digest before now, told or not

    def add(self, alarm: Alarm, now: float) -> None:
        """Keep an alarm for the digest after `now` (seconds since 1970).

        Alarms of one subject become one.
        """
        self._begin(now)
        before = self.waiting.pop((alarm.scope, alarm.subject), None)
        self.waiting[alarm.scope, alarm.subject] = (
            alarm if before is None else _merge_alarms(before, alarm)
        )
        if len(self.waiting) > SUBJECTS:
            # The subject whose last alarm is longest ago
            del self.waiting[next(iter(self.waiting))]

    def due(self, now: float) -> Alarm | None:
        """Give the digest that is due at `now`, or None where there is nothing, or too little.

        A clock that steps back delays the next digest to the next multiple by the new time.
        """
        before, window = self._begin(now), math.floor(now / self.every)
        self.last = window
        # The digest of this window was looked at already, or the clock stepped back
        if window <= before:
            return None
        # The end of the window, not now, which would tell when somebody looked
        time = (before + 1) * self.every
        self.waiting = {
            key: alarm for key, alarm in self.waiting.items() if alarm.time >= time - self.kept
        }
        told = _build_digest_alarm(self.waiting.values(), self.least, time)
        # Too few hits wait on for a later digest
        if told is not None:
            self.waiting = {}
        return told

    def _begin(self, now: float) -> int:
        self.last = math.floor(now / self.every) if self.last is None else self.last
        return self.last


def _merge_alarms(first: Alarm, second: Alarm) -> Alarm:
    """Merge two alarms of one subject, with the hits of both."""
    return Alarm(
        second.time,
        second.detector,
        second.scope,
        second.subject,
        second.statistic,
        second.threshold,
        # Queries are those of the subject so far, so that the later count holds the earlier
        max(first.queries, second.queries),
        tuple(dict.fromkeys((*second.clients, *first.clients)))[:NAMED],
        _count_hits(first) + _count_hits(second),
    )


def _count_hits(alarm: Alarm) -> int:
    """Count the hits behind an alarm: at least one."""
    return max(1, alarm.hits)


def _build_digest_alarm(alarms: Iterable[Alarm], least: int, time: float) -> Alarm | None:
    """Build one rounded alarm for all, or None where fewer than `least` hits are behind them.

    A hit can be behind a client's alarm and the pool's: hits count in the scope that has most.
    """
    alarms = tuple(alarms)
    hits: dict[str, int] = {}
    queries: dict[str, dict[str, int]] = {}
    for alarm in alarms:
        hits[alarm.scope] = hits.get(alarm.scope, 0) + _count_hits(alarm)
        asked = queries.setdefault(alarm.scope, {})
        asked[alarm.subject] = max(asked.get(alarm.subject, 0), alarm.queries)
    most = max(hits.values(), default=0)
    if most < least:
        return None
    # Sorted, as their order could tell who hit first
    clients = sorted({client for alarm in alarms for client in alarm.clients})
    total = _coarsen_count(max(sum(asked.values()) for asked in queries.values()))
    return Alarm(
        time,
        "membership",
        "pool",
        DIGEST,
        float(most // least * least),
        float(least),
        total,
        tuple(clients[:NAMED]),
    )


def _coarsen_count(n: int) -> int:
    """Round a count down to one digit.

    >>> _coarsen_count(0), _coarsen_count(9), _coarsen_count(1234)
    (0, 9, 1000)
    """
    unit = int(10 ** (len(str(n)) - 1))
    return n // unit * unit


def replace_by_digests(
    alarms: Iterable[Alarm], alerts: Alerts, kept: float = 30 * 86400.0
) -> tuple[Alarm, ...]:
    """Replace alarms of `membership` by the digests that a live guard would have sent.

    >>> early = Alarm(10.0, "membership", "client", "0a", 7.0, 6.0, 40, ("0a",), hits=9)
    >>> [(alarm.time, alarm.subject) for alarm in replace_by_digests([early], Alerts(digest_minutes=60))]
    [(3600.0, 'digest')]
    """
    digest = Digest(alerts, kept)
    found: list[Alarm | None] = []
    for alarm in sorted(alarms, key=lambda entry: entry.time):
        if alarm.detector == "membership" and alarm.subject != DIGEST:
            found.append(digest.due(alarm.time))
            digest.add(alarm, alarm.time)
        else:
            found.append(alarm)
    # What still waits at the end of the log is told in the digest after it
    if digest.last is not None:
        found.append(digest.due((digest.last + 1) * digest.every))
    return tuple(
        sorted((alarm for alarm in found if alarm is not None), key=lambda entry: entry.time)
    )
