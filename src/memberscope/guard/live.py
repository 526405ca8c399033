"""The monitor beside a serving guard: queries are sketched, logged and judged after they were answered, a few at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memberscope.errors import MemberscopeError
from memberscope.guard.access_log import AccessLog
from memberscope.guard.alerts import Alerter
from memberscope.guard.equipment import Equipment
from memberscope.guard.lease import Consumer, LeaseLost
from memberscope.guard.log import say
from memberscope.guard.metrics import Metrics
from memberscope.guard.observations import Observations, line_of, read_line
from memberscope.guard.policy import GuardPolicy
from memberscope.guard.responses import responses_of
from memberscope.guard.seen import Seen
from memberscope.guard.snapshots import restore, snapshot
from memberscope.guard.state import State, StateError
from memberscope.signals import write_bytes

WAITING, TURN = 100_000, 16  # records that may wait; records looked at before other work gets its turn
SAVED, RESTED = 300.0, 0.2  # seconds between snapshots; after a fault
CHECKED = 5.0  # seconds between checkpoints in Redis


@dataclass(frozen=True, eq=False)
class Waiting:
    """A query that waits for its turn."""

    seen: Seen
    at: float


class Sketched:
    """Queries on their way to observations: `watch` takes them from the middleware and never waits; what has no room is counted.

    `passed` gets each query's observations, with the line of the log that they make.
    """

    def __init__(self, equipment: Equipment, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        self.equipment, self.metrics, self.clock = equipment, metrics, clock
        self.waiting: deque[Waiting] = deque()
        self.records = 0
        self.awake = asyncio.Event()

    def watch(self, seen: Seen) -> None:
        """Take a query."""
        if self.records + seen.records > WAITING:
            self.metrics.dropped(seen.records)
            return
        self.waiting.append(Waiting(seen, self.clock()))
        self.records += seen.records
        self.awake.set()

    async def lines(self) -> list[tuple[Observations, str]]:
        """The observations of the next queries, about `TURN` records of them, in the order in which they were answered."""
        while not self.waiting:
            self.awake.clear()
            await self.awake.wait()
        found: list[tuple[Observations, str]] = []
        n = 0
        while self.waiting and n < TURN:
            first = self.waiting.popleft()
            self.records -= first.seen.records
            n += first.seen.records
            found += await self._observed(first)
        self.metrics.waiting(self.records)
        return found

    async def _observed(self, waiting: Waiting) -> list[tuple[Observations, str]]:
        seen, found = waiting.seen, []
        for start in range(0, seen.records, TURN):
            if start:
                await asyncio.sleep(0)
            stop = min(start + TURN, seen.records)
            part = seen.batch if seen.records <= TURN else seen.batch.take(list(range(start, stop)))
            try:
                record, point, bins = self.equipment.sketcher.sketch(part)
            except (MemberscopeError, ValueError, TypeError, OverflowError):
                self.metrics.dropped(stop - start)  # such as records that the model's server refused too
                continue
            n = len(record)
            client = np.full(n, int(seen.key, 16), dtype=np.uint64)
            whole = Observations(np.full(n, waiting.at), client, record, point, bins, seen.labels[start:stop])
            found.append((whole, line_of(whole, kind=seen.group, key=self.equipment.secret.id, status=seen.status)))
        return found


class Judge:
    """One monitor with what follows from its alarms: the log, alerts, and responses in the state that all workers share."""

    def __init__(self, policy: GuardPolicy, equipment: Equipment, metrics: Metrics, state: State) -> None:
        self.policy, self.equipment, self.metrics, self.state = policy, equipment, metrics, state
        self.monitor = equipment.monitor(policy.monitor.clients)
        watch = policy.monitor
        self.log = None if watch.log is None else AccessLog(policy.path(watch.log), watch.retention_days)
        self.memory = None if watch.memory is None else policy.path(watch.memory)
        self.alerter = Alerter(policy.alerts, home=Path(policy.home), retention_days=watch.retention_days, tally=metrics)

    async def take(self, parts: list[tuple[Observations, str]], now: float) -> None:
        """Log the queries, judge them, and act on alarms."""
        if self.log is not None and parts:
            try:
                self.log.write([line for _, line in parts], now)
            except OSError as error:
                self.metrics.alert_lost("log")
                say(logging.ERROR, "access_log_failed", error=type(error).__name__)
        for seen, _ in parts:
            for alarm in self.monitor.observe(seen):
                self.alerter.tell(alarm)
                for client, standing, seconds in responses_of(alarm, self.policy.respond):
                    try:
                        await self.state.stand(client, standing, seconds)
                    except StateError:
                        self.metrics.fault("state")
        if parts:
            self.metrics.watched(len(self.monitor.rows), max(0.0, now - float(parts[-1][0].time[-1])))

    def forget(self) -> None:
        """Begin anew, with nothing remembered."""
        self.monitor = self.equipment.monitor(self.policy.monitor.clients)

    def remember(self, data: bytes | None) -> None:
        """Go on from a snapshot; one of other settings, such as after tuning, is left."""
        self.forget()
        if data is not None:
            try:
                restore(self.monitor, data)
            except MemberscopeError as error:
                self.forget()
                say(logging.WARNING, "memory_left", said=str(error))

    async def save(self) -> None:
        """Write down what is remembered, where the policy says so."""
        if self.memory is not None:
            data = snapshot(self.monitor)
            try:
                await asyncio.to_thread(write_bytes, self.memory, data, mode=0o600)
            except MemberscopeError as error:
                say(logging.ERROR, "memory_not_saved", said=str(error))


class Alone:
    """The monitor of a single process."""

    def __init__(self, sketched: Sketched, judge: Judge) -> None:
        self.sketched, self.judge = sketched, judge
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, with what was remembered at the last end."""
        memory = self.judge.memory
        self.judge.remember(memory.read_bytes() if memory is not None and memory.is_file() else None)
        self.task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Look at what waits, and end."""
        while self.sketched.waiting:
            await asyncio.sleep(0.01)
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.judge.save()
        await asyncio.to_thread(self.judge.alerter.close)

    async def _work(self) -> None:
        saved = time.monotonic()
        while True:
            parts = await self.sketched.lines()
            try:
                await self.judge.take(parts, self.sketched.clock())
            except Exception as error:  # a monitor that ends would see nothing any more
                self.sketched.metrics.fault("watch")
                say(logging.ERROR, "monitor_failed", error=type(error).__name__)
            if time.monotonic() - saved > SAVED:
                await self.judge.save()
                saved = time.monotonic()
            await asyncio.sleep(0)


class Together:
    """One of several workers: each publishes what it saw, and whoever holds the lease judges all of it."""

    def __init__(self, sketched: Sketched, judge: Judge, consumer: Consumer) -> None:
        self.sketched, self.judge, self.consumer = sketched, judge, consumer
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to publish, and to wait for the lease."""
        self.tasks = [asyncio.create_task(self._publish()), asyncio.create_task(self._judge())]

    async def stop(self) -> None:
        """Publish what waits, and let go of the lease."""
        until = time.monotonic() + 5.0
        while self.sketched.waiting and time.monotonic() < until:
            await asyncio.sleep(0.01)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.consumer.close()
        await asyncio.to_thread(self.judge.alerter.close)

    async def _publish(self) -> None:
        while True:
            for seen, line in await self.sketched.lines():
                try:
                    await self.judge.state.publish(line)
                except StateError:
                    self.sketched.metrics.fault("state")
                    self.sketched.metrics.dropped(len(seen))

    async def _judge(self) -> None:
        """Hold the lease, judge, checkpoint; after a fault go on, and after a lost lease begin from the snapshot again."""
        while True:
            try:
                self.judge.remember(await self.consumer.resume())
                await self._read()
            except LeaseLost:
                say(logging.INFO, "lease_lost")
            except StateError:
                await asyncio.sleep(RESTED)
            except Exception as error:
                self.sketched.metrics.fault("watch")
                say(logging.ERROR, "monitor_failed", error=type(error).__name__)
                await asyncio.sleep(RESTED)

    async def _read(self) -> None:
        saved, clock = time.monotonic(), self.sketched.clock
        while True:
            try:
                async for id, line in self.consumer.lines():
                    try:
                        await self.judge.take([(read_line(line), line)], clock())
                    except MemberscopeError:
                        self.sketched.metrics.dropped(1)
                    if time.monotonic() - saved > CHECKED:
                        await self.consumer.checkpoint(id, snapshot(self.judge.monitor))
                        saved = time.monotonic()
                    await asyncio.sleep(0)
            except LeaseLost:
                raise
            except StateError:
                self.sketched.metrics.fault("state")
                await asyncio.sleep(RESTED)
