"""The monitor beside a serving guard: queries are sketched, logged and judged after they were answered, a few at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from memberscope.errors import MemberscopeError
from memberscope.guard.access_log import AccessLog
from memberscope.guard.alerts import alerter_of
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

WAITING, WEIGHT = 100_000, 2**26  # records that may wait, and bytes of them
TURN = 16  # records looked at before other work gets its turn; texts, which take longer, one by one
GATHERED = 0.02  # seconds in which queries gather to be looked at together
SAVED, RESTED, TIDIED = 300.0, 0.2, 3600.0  # seconds between snapshots; after a fault; between looks for old files
ENDED = 5.0  # seconds for what still waits at the end
HELD = 20_000  # lines that wait for a checkpoint at most
CHECKED, SHARE = 5.0, 50.0  # seconds between checkpoints in Redis; how many times as long as the last one took, at least


@dataclass(frozen=True, eq=False)
class Waiting:
    """A query that waits for its turn."""

    seen: Seen
    at: float
    weight: int


def weight_of(batch: Batch) -> int:
    """About how many bytes the records take."""
    parts = list(batch.columns.values()) if batch.columns else [np.asarray(batch.array)]
    numbers = sum(part.nbytes for part in parts)
    return numbers + sum(len(str(value)) for part in parts if part.dtype == object for value in part.ravel())


class Sketched:
    """Queries on their way to observations: `watch` takes them from the middleware and never waits; what has no room is counted.

    `lines` gives each query's observations, with the line of the log that they make.
    """

    def __init__(self, equipment: Equipment, metrics: Metrics, clock: Callable[[], float] = time.time) -> None:
        self.equipment, self.metrics, self.clock = equipment, metrics, clock
        self.waiting: deque[Waiting] = deque()
        self.records = self.weight = 0
        self.busy = False  # what was taken from those that wait is not yet judged
        self.awake = asyncio.Event()
        self.turn = 1 if equipment.sketcher.kind == "text" else TURN

    def watch(self, seen: Seen) -> None:
        """Take a query."""
        weight = weight_of(seen.batch)
        if self.records + seen.records > WAITING or self.weight + weight > WEIGHT:
            self.metrics.dropped(seen.records)
            return
        self.waiting.append(Waiting(seen, self.clock(), weight))
        self.records += seen.records
        self.weight += weight
        self.awake.set()

    async def finished(self, seconds: float) -> None:
        """Wait, for so long at most, until nothing waits and all that was taken is judged."""
        until = time.monotonic() + seconds
        while (self.waiting or self.busy) and time.monotonic() < until:
            await asyncio.sleep(0.01)

    async def lines(self) -> list[tuple[Observations, str]]:
        """The observations of the next queries, about `turn` records of them, in the order in which they were answered.

        Those that come within `GATHERED` seconds are sketched together, which takes a fraction of the time.
        """
        self.busy = False
        while not self.waiting:
            self.awake.clear()
            await self.awake.wait()
        if self.records < self.turn:
            await asyncio.sleep(GATHERED)
        self.busy = True
        found: list[tuple[Observations, str]] = []
        for taken in runs(self._next(), self.turn):
            found += await self._long(taken[0]) if taken[0].seen.records > self.turn else self._together(taken)
        self.metrics.waiting(self.records)
        return found

    def _next(self) -> list[Waiting]:
        """About `turn` records of those that wait."""
        found: list[Waiting] = []
        n = 0
        while self.waiting and n < self.turn:
            found.append(self.waiting.popleft())
            n += found[-1].seen.records
            self.weight -= found[-1].weight
        self.records -= n
        return found

    async def _long(self, one: Waiting) -> list[tuple[Observations, str]]:
        """A query about many records, `turn` of them at a time."""
        seen, found = one.seen, []
        for start in range(0, seen.records, self.turn):
            if start:
                await asyncio.sleep(0)
            where = range(start, min(start + self.turn, seen.records))
            part = replace(seen, batch=seen.batch.take(list(where)), labels=seen.labels[start : start + self.turn])
            found += self._together([Waiting(part, one.at, 0)])
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


def runs(taken: list[Waiting], turn: int = TURN) -> list[list[Waiting]]:
    """Queries in their order, with those that follow one another and whose records have one form together; long ones alone."""
    found: list[list[Waiting]] = []
    last: object = None
    for one in taken:
        form = None if one.seen.records > turn else form_of(one.seen.batch)
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
        self.respond = policy.respond
        self.monitor = equipment.monitor(policy.monitor.clients)
        watch = policy.monitor
        self.log = None if watch.log is None else AccessLog(policy.path(watch.log), watch.retention_days)
        self.memory = None if watch.memory is None else policy.path(watch.memory)
        self.alerter = alerter_of(policy, tally=metrics)

    def write(self, lines: list[str], now: float) -> None:
        """Append to the access log; a disk that is full is told and counted."""
        if self.log is None or not lines:
            return
        try:
            self.log.write(lines, now)
        except OSError as error:
            self.metrics.alert_lost("log")
            say(logging.ERROR, "access_log_failed", error=type(error).__name__)

    async def tidy(self, clock: Callable[[], float]) -> None:
        """Remove what is too old from the access log, now and every hour, whether or not queries come."""
        while True:
            if self.log is not None:
                try:
                    self.log.tidy(clock())
                except OSError as error:
                    say(logging.ERROR, "access_log_failed", error=type(error).__name__)
            await asyncio.sleep(TIDIED)

    async def take(self, parts: list[tuple[Observations, str]], now: float) -> None:
        """Judge queries, and act on alarms."""
        for alarm in self.monitor.observe(joined([seen for seen, _ in parts])) if parts else ():
            self.alerter.tell(alarm)
            for client, standing, seconds in responses_of(alarm, self.respond):
                try:
                    await self.state.stand(client, standing, seconds)
                except StateError:
                    self.metrics.fault("state")
        if parts:
            self.metrics.watched(len(self.monitor.rows), max(0.0, now - float(parts[-1][0].time[-1])))

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


async def ended(tasks: list[asyncio.Task[None]], lock: asyncio.Lock) -> None:
    """Cancel tasks, nobody holding the lock, until all have ended: a client of Redis can take the first time for a fault of its own."""
    while left := [task for task in tasks if not task.done()]:
        async with lock:
            for task in left:
                task.cancel()
        await asyncio.wait(left, timeout=RESTED)
    await asyncio.gather(*tasks, return_exceptions=True)


class Alone:
    """The monitor of a single process."""

    def __init__(self, sketched: Sketched, judge: Judge) -> None:
        self.sketched, self.judge = sketched, judge
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin, with what was remembered at the last end."""
        memory = self.judge.memory
        self.judge.remember(memory.read_bytes() if memory is not None and memory.is_file() else None)
        self.tasks = [asyncio.create_task(self._work()), asyncio.create_task(self.judge.tidy(self.sketched.clock))]

    async def stop(self) -> None:
        """Look at what waits, and end."""
        await self.sketched.finished(ENDED)
        await ended(self.tasks, asyncio.Lock())
        await self.judge.save()
        await asyncio.to_thread(self.judge.alerter.close)

    async def _work(self) -> None:
        saved = time.monotonic()
        while True:
            parts = await self.sketched.lines()
            try:
                self.judge.write([line for _, line in parts], self.sketched.clock())
                await self.judge.take(parts, self.sketched.clock())
            except Exception as error:  # a monitor that ends would see nothing any more
                self.sketched.metrics.fault("watch")
                say(logging.ERROR, "monitor_failed", error=type(error).__name__)
            if time.monotonic() - saved > SAVED:
                await self.judge.save()
                saved = time.monotonic()
            await asyncio.sleep(0)


class Together:
    """One of several workers: each publishes what it saw, and whoever holds the lease judges all of it.

    Lines go to the access log when the checkpoint that contains them is stored, so that whoever takes over writes none again. Alarms
    are told at once: one after the last checkpoint of a holder that died is told twice.
    """

    def __init__(self, sketched: Sketched, judge: Judge, consumer: Consumer) -> None:
        self.sketched, self.judge, self.consumer = sketched, judge, consumer
        self.tasks: list[asyncio.Task[None]] = []
        self.judged: list[str] = []  # lines since the last checkpoint
        self.lock = asyncio.Lock()
        self.last, self.due = "", 0.0  # the id of the last of them; when the next checkpoint is due

    async def start(self) -> None:
        """Begin to publish, and to wait for the lease."""
        work = (self._publish(), self._judge(), self._store(), self.judge.tidy(self.sketched.clock))
        self.tasks = [asyncio.create_task(task) for task in work]

    async def stop(self) -> None:
        """Publish what waits, store what was judged, and let go of the lease."""
        await self.sketched.finished(ENDED)
        await ended(self.tasks, self.lock)  # not in the midst of a line
        try:
            await self._checkpoint()
        except StateError:
            self.sketched.metrics.fault("state")
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
                snapshot = await self.consumer.resume()
                self.judged, self.last = [], ""
                self.judge.remember(snapshot)
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
        while True:
            try:
                async for id, line in self.consumer.lines():
                    async with self.lock:
                        await self._one(line)
                        self.judged.append(line)
                        self.last = id
                        if time.monotonic() > self.due:
                            await self._checkpoint()
                        if len(self.judged) >= HELD:
                            self._write()
                    await asyncio.sleep(0)
            except LeaseLost:
                raise
            except StateError:
                self.sketched.metrics.fault("state")
                await asyncio.sleep(RESTED)

    async def _one(self, line: str) -> None:
        """Judge a line; one that cannot be judged is left out, since it would come again after every start."""
        try:
            await self.judge.take([(read_line(line), line)], self.sketched.clock())
        except MemberscopeError:
            self.sketched.metrics.dropped(1)
        except Exception as error:
            self.sketched.metrics.fault("watch")
            say(logging.ERROR, "monitor_failed", error=type(error).__name__)

    async def _checkpoint(self) -> None:
        """Store the monitor's memory with the place it has reached, and write the lines up to there to the log.

        Raises:
            StateError: Redis does not answer, or another worker holds the lease; what was judged goes with the next one.
        """
        if not self.last:
            return
        begin = time.monotonic()
        self.due = begin + CHECKED  # also after a failure: memory that is not stored at once is not stored at every line
        await self.consumer.checkpoint(self.last, snapshot(self.judge.monitor))
        self.due = begin + max(CHECKED, SHARE * (time.monotonic() - begin))
        self.last = ""
        self._write()

    def _write(self) -> None:
        lines, self.judged = self.judged, []
        self.judge.write(lines, self.sketched.clock())

    async def _store(self) -> None:
        """See to checkpoints also where no line comes."""
        while True:
            await asyncio.sleep(1.0)
            try:
                async with self.lock:
                    if time.monotonic() > self.due:
                        await self._checkpoint()
            except StateError:
                continue  # whoever reads lines hears of it
