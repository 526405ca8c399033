"""Run one monitor and act on its alarms, in whatever process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from memberscope._files import write_bytes
from memberscope.errors import MemberscopeError
from memberscope.guard.alerting.alerter import Tally, build_alerter
from memberscope.guard.counters import Faulty
from memberscope.guard.detectors.snapshot import restore_monitor, take_snapshot
from memberscope.guard.logs.daily_jsonl import DailyJsonl
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.monitor.artifacts import MonitorArtifacts
from memberscope.guard.monitor.observe_queries import Lines
from memberscope.guard.monitor.query_queue import QueueCounters
from memberscope.guard.monitor.responses import list_responses
from memberscope.guard.monitor.unreadable_alerts import UnreadableAlerts
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.sketching.observations import join_observations
from memberscope.guard.state.interface import ActiveResponse, StateError

SAVED, TIDIED = 300.0, 3600.0  # seconds between snapshots; between looks for old files


class MonitorCounters(QueueCounters, Tally, Protocol):
    """Interface of what counts the monitor's work, such as `Metrics`."""

    def fault(self, which: Faulty) -> None:
        """Count a failure of something that protection needs."""
        ...

    def watched(self, clients: int, lag: float) -> None:
        """Set the number of clients that the monitor knows, and its `lag` in seconds."""
        ...


class ResponseSink(Protocol):
    """Interface of what puts responses in force, such as a `State`."""

    async def stand(self, client: str, standing: ActiveResponse, seconds: float) -> None:
        """Put a response in force for so long."""
        ...


class MonitorEngine:
    """Run one monitor; write its log, send its alerts, put its responses in force."""

    def __init__(
        self,
        policy: GuardPolicy,
        equipment: MonitorArtifacts,
        metrics: MonitorCounters,
        state: ResponseSink,
    ) -> None:
        self.policy, self.equipment, self.metrics, self.state = policy, equipment, metrics, state
        self.respond = policy.respond
        self.monitor = equipment.monitor(policy.monitor.clients)
        watch = policy.monitor
        self.log = (
            None if watch.log is None else DailyJsonl(policy.path(watch.log), watch.retention_days)
        )
        self.memory = None if watch.memory is None else policy.path(watch.memory)
        self.alerter = build_alerter(policy, tally=metrics)
        self.unreadable = UnreadableAlerts()

    def write(self, lines: list[str], now: float) -> None:
        """Append to the access log; a disk that is full is told and counted."""
        if self.log is None or not lines:
            return
        try:
            self.log.write(lines, now)
        except OSError as error:
            self.metrics.alert_lost("log")
            log_event(logging.ERROR, "access_log_failed", error=type(error).__name__)

    async def tidy(self, clock: Callable[[], float]) -> None:
        """Remove what is too old from the access log, now and every hour, queries or not."""
        while True:
            self.tidied(clock())
            await asyncio.sleep(TIDIED)

    def tidied(self, now: float) -> None:
        """Remove what is too old from the access log."""
        if self.log is not None:
            try:
                self.log.tidy(now)
            except OSError as error:
                log_event(logging.ERROR, "access_log_failed", error=type(error).__name__)

    async def take(self, parts: Lines, now: float) -> None:
        """Judge queries, and act on alarms."""
        sketched = [seen for seen, _ in parts if len(seen)]
        for alarm in self.unreadable.build_alarms([line for seen, line in parts if not len(seen)]):
            self.alerter.tell(alarm)
        for alarm in self.monitor.observe(join_observations(sketched)) if sketched else ():
            # Alerts do not wait for the state, which may not answer
            self.alerter.tell(alarm)
            for client, standing, seconds in list_responses(alarm, self.respond):
                try:
                    await self.state.stand(client, standing, seconds)
                except StateError:
                    self.metrics.fault("state")
        if sketched:
            self.metrics.watched(
                len(self.monitor.rows), max(0.0, now - float(sketched[-1].time[-1]))
            )

    def follow(self, policy: GuardPolicy) -> None:
        """Respond from now on as a policy that was read again says; where files lie is settled."""
        self.respond = policy.respond

    def forget(self) -> None:
        """Begin anew, with nothing remembered."""
        self.monitor = self.equipment.monitor(self.policy.monitor.clients)

    def remember(self, data: bytes | None) -> None:
        """Go on from a snapshot; one of other settings, such as after tuning, is left."""
        self.forget()
        if data is not None:
            try:
                restore_monitor(self.monitor, data)
            except MemberscopeError as error:
                # A snapshot may have been restored in part before it turned out not to fit
                self.forget()
                log_event(logging.WARNING, "memory_left", said=str(error))

    def recall(self) -> None:
        """Go on from what was saved last."""
        self.remember(
            self.memory.read_bytes() if self.memory is not None and self.memory.is_file() else None
        )

    async def save(self) -> None:
        """Write down what is remembered, where the policy says so."""
        if self.memory is not None:
            data = take_snapshot(self.monitor)
            try:
                # A disk that is slow must not hold up what else this process does
                await asyncio.to_thread(write_bytes, self.memory, data, mode=0o600)
            except MemberscopeError as error:
                log_event(logging.ERROR, "memory_not_saved", said=str(error))
