"""The monitor beside a serving guard: queries are sketched, logged and judged after they were answered, a few at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from memberscope.errors import MemberscopeError
from memberscope.guard.access_log import AccessLog
from memberscope.guard.alerts import Alerter
from memberscope.guard.equipment import Equipment
from memberscope.guard.lease import Consumer, LeaseLost
from memberscope.guard.log import say
from memberscope.guard.metrics import Metrics
from memberscope.guard.observations import Observations, joined, line_of, read_line
from memberscope.guard.policy import GuardPolicy
from memberscope.guard.responses import responses_of
from memberscope.guard.seen import Seen
from memberscope.guard.snapshots import restore, snapshot
from memberscope.guard.state import State, StateError
from memberscope.signals import write_bytes
from memberscope.targets.batches import Batch

WAITING, TURN = 100_000, 16  # records that may wait; records looked at before other work gets its turn
GATHERED = 0.02  # seconds in which queries gather to be looked at together
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
        """The observations of the next queries, about `TURN` records of them, in the order in which they were answered.

        Those that come within `GATHERED` seconds are sketched together, which takes a fraction of the time.
        """
        while not self.waiting:
            self.awake.clear()
            await self.awake.wait()
        if self.records < TURN:
            await asyncio.sleep(GATHERED)
        found: list[tuple[Observations, str]] = []
        for taken in runs(self._next()):
            found += await self._long(taken[0]) if taken[0].seen.records > TURN else self._together(taken)
        self.metrics.waiting(self.records)
        return found

    def _next(self) -> list[Waiting]:
        """About `TURN` records of those that wait."""
        found: list[Waiting] = []
        n = 0
        while self.waiting and n < TURN:
            found.append(self.waiting.popleft())
            n += found[-1].seen.records
        self.records -= n
        return found

    async def _long(self, one: Waiting) -> list[tuple[Observations, str]]:
        """A query about many records, `TURN` of them at a time."""
        seen, found = one.seen, []
        for start in range(0, seen.records, TURN):
            if start:
                await asyncio.sleep(0)
            where = range(start, min(start + TURN, seen.records))
            part = replace(seen, batch=seen.batch.take(list(where)), labels=seen.labels[start : start + TURN])
            found += self._together([Waiting(part, one.at)])
        return found

    def _together(self, taken: list[Waiting]) -> list[tuple[Observations, str]]:
        """Queries about records of one form."""
        batch = taken[0].seen.batch if len(taken) == 1 else stacked([one.seen.batch for one in taken])
        try:
            record, point, bins = self.equipment.sketcher.sketch(batch)
        except Exception:  # whatever a client sent, the monitor goes on
            if len(taken) > 1:  # one of them spoils it for all
                return [found for one in taken for found in self._together([one])]
            self.metrics.dropped(taken[0].seen.records)  # such as records that the model's server refused too
            return []
        found, start = [], 0
        for one in taken:
            seen, n = one.seen, one.seen.records
            part = slice(start, start + n)
            client = np.full(n, int(seen.key, 16), dtype=np.uint64)
            whole = Observations(np.full(n, one.at), client, record[part], point[part], bins[part], seen.labels)
            found.append((whole, line_of(whole, kind=seen.group, key=self.equipment.secret.id, status=seen.status)))
            start += n
        return found


def runs(taken: list[Waiting]) -> list[list[Waiting]]:
    """Queries in their order, with those that follow one another and whose records have one form together; long ones alone."""
    found: list[list[Waiting]] = []
    last: object = None
    for one in taken:
        form = None if one.seen.records > TURN else form_of(one.seen.batch)
        if found and form is not None and form == last:
            found[-1].append(one)
        else:
            found.append([one])
        last = form
    return found


def form_of(batch: Batch) -> object:
    """What records must share to be put into one batch: types, shapes, and names of columns."""
    if batch.columns is None:
        array = np.asarray(batch.array)
        return array.dtype, array.shape[1:]
    return tuple((name, column.dtype, column.shape[1:]) for name, column in batch.columns.items())


def stacked(batches: list[Batch]) -> Batch:
    """Batches of one form as one.

    >>> len(stacked([Batch(np.eye(2)), Batch(np.eye(2))]))
    4
    """
    if batches[0].columns is None:
        return Batch(np.concatenate([np.asarray(batch.array) for batch in batches]))
    names = batches[0].columns
    return Batch(columns={name: np.concatenate([(batch.columns or {})[name] for batch in batches]) for name in names})


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
        for alarm in self.monitor.observe(joined([seen for seen, _ in parts])) if parts else ():
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
