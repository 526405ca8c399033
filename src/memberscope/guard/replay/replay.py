"""Replay a log through the detectors of live traffic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from memberscope.guard.alerting.membership_digest import replace_by_digests
from memberscope.guard.calibration.thresholds import Tuned
from memberscope.guard.detectors.alarm import Alarm, Scope
from memberscope.guard.detectors.monitor import STREAMS, Monitor
from memberscope.guard.detectors.volume import DAY
from memberscope.guard.monitor.artifacts import MonitorArtifacts
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.policy.tables import Detector
from memberscope.guard.replay.campaigns import Calibration, Day, Replay, Threshold
from memberscope.guard.sketching.observations import Observations

# That of the limits in a calibration
CONFIDENCE = 0.95


@dataclass
class LogCounts:
    """Counts of a log: times, queries by day, and clients by day."""

    first: float = 0.0
    last: float = 0.0
    queries: dict[float, int] = field(default_factory=dict)
    clients: set[int] = field(default_factory=set)
    pairs: set[tuple[int, float]] = field(default_factory=set)

    def add(self, seen: Observations) -> None:
        """Count a block."""
        if not self.queries:
            self.first = float(seen.time[0])
        self.last = max(self.last, float(seen.time[-1]))
        for time, client in zip(seen.time.tolist(), seen.client.tolist(), strict=True):
            day = time // DAY
            self.queries[day] = self.queries.get(day, 0) + 1
            self.clients.add(client)
            self.pairs.add((client, day))


def collect_alarms(
    monitor: Monitor, blocks: Iterable[Observations]
) -> tuple[list[Alarm], LogCounts]:
    """Collect every alarm of a log, and what was counted in it."""
    alarms: list[Alarm] = []
    counted = LogCounts()
    for block in blocks:
        counted.add(block)
        alarms += monitor.observe(block)
    return alarms, counted


def build_replay(
    name: str, alarms: list[Alarm], counted: LogCounts, policy: GuardPolicy, tuned: Tuned | None
) -> Replay:
    """Build the replay of a log; membership alarms become digests, as live."""
    told = replace_by_digests(alarms, policy.alerts, policy.monitor.retention_days * DAY)
    days = sorted(counted.queries)
    return Replay.of(
        name,
        told,
        start=counted.first,
        end=counted.last,
        n_queries=sum(counted.queries.values()),
        n_clients=len(counted.clients),
        n_client_days=len(counted.pairs),
        thresholds=() if tuned is None else _list_thresholds(tuned),
        calibration=None if tuned is None else _build_calibration(tuned),
        days=tuple(
            Day(day * DAY, counted.queries[day], sum(alarm.time // DAY == day for alarm in told))
            for day in days
        ),
    )


def _list_thresholds(tuned: Tuned) -> tuple[Threshold, ...]:
    """List every stream's threshold, with its share of the stated rate."""
    limits, share = tuned.settings.thresholds, tuned.rate / len(STREAMS)
    found = [stream.split(".") for stream in STREAMS if stream in limits]
    places: list[tuple[Detector, Scope]] = found  # type: ignore[assignment]
    return tuple(Threshold(name, scope, limits[f"{name}.{scope}"], share) for name, scope in places)


def _build_calibration(tuned: Tuned) -> Calibration:
    """Read the false-alarm rate that the last quarter of the calibration log showed."""
    how = (
        f"Thresholds for {tuned.rate:g} false alarms a client-day over all detectors together, by "
        "the tails of the statistics on "
        f"{tuned.client_days:,} client-days of the log; checked on its last quarter with "
        "thresholds that had not seen it."
    )
    return Calibration(
        tuned.alarms / max(tuned.days, 1), tuned.low, tuned.high, CONFIDENCE, tuned.days, how
    )


def build_fresh_monitor(equipment: MonitorArtifacts, policy: GuardPolicy) -> Monitor:
    """Build a monitor with an empty memory, as a guard does at its first start."""
    return equipment.monitor(policy.monitor.clients)
