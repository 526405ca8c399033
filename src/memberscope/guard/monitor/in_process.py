"""Run the monitor in the serving process.

Queries are sketched, logged and judged after they were answered, a few at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from memberscope.errors import MemberscopeError
from memberscope.guard.detectors.snapshot import take_snapshot
from memberscope.guard.logs.operational_log import log_event
from memberscope.guard.monitor.artifacts import MonitorArtifacts
from memberscope.guard.monitor.engine import SAVED, MonitorCounters, MonitorEngine
from memberscope.guard.monitor.observe_queries import Lines, build_log_lines
from memberscope.guard.monitor.query_queue import Queue, split_into_pieces
from memberscope.guard.sketching.observations import mark_access_line, read_line
from memberscope.guard.state.interface import State, StateError
from memberscope.guard.state.stream_lease import Consumer, LeaseLost

TURN = 16  # records looked at before other work gets its turn; texts, which take longer, one by one
RESTED = 0.2  # seconds after a fault
ENDED = 5.0  # seconds for what still waits at the end
HELD = 20_000  # lines that wait for a checkpoint at most
# Seconds between checkpoints in Redis; how many times as long as the last one took, at least
CHECKED, SHARE = 5.0, 50.0


class SketchQueue(Queue):
    """Sketch queries in the serving process.

    `lines` gives them a few at a time, so that requests get their turn.
    """

    def __init__(
        self,
        equipment: MonitorArtifacts,
        metrics: MonitorCounters,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(metrics, 1 if equipment.sketcher.kind == "text" else TURN, clock)
        self.equipment, self.metrics = equipment, metrics

    async def lines(self) -> Lines:
        """Give the observations of the next queries, with their lines of the log."""
        found: Lines = []
        for place, piece in enumerate(split_into_pieces(await self.gathered(), self.turn)):
            # Requests get their turn between two pieces
            if place:
                await asyncio.sleep(0)
            found += build_log_lines(piece, self.equipment, self.metrics.unreadable)
        return found


async def cancel_tasks(tasks: list[asyncio.Task[None]], lock: asyncio.Lock) -> None:
    """Cancel tasks, nobody holding the lock, until all have ended.

    A client of Redis can take the first time for a fault of its own.
    """
    while left := [task for task in tasks if not task.done()]:
        # Not in the midst of what the lock guards
        async with lock:
            for task in left:
                task.cancel()
        await asyncio.wait(left, timeout=RESTED)
    await asyncio.gather(*tasks, return_exceptions=True)


class LocalMonitor:
    """Run the monitor of a single process."""

    def __init__(self, sketched: SketchQueue, judge: MonitorEngine) -> None:
        self.sketched, self.judge = sketched, judge
        self.watch, self.follow, self.tell = sketched.watch, judge.follow, sketched.tell
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin, with what was remembered at the last end."""
        self.judge.recall()
        self.tasks = [
            asyncio.create_task(self._work()),
            asyncio.create_task(self.judge.tidy(self.sketched.clock)),
        ]

    async def stop(self) -> None:
        """Look at what waits, and end."""
        await self.sketched.finished(ENDED)
        await cancel_tasks(self.tasks, asyncio.Lock())
        await self.judge.save()
        await asyncio.to_thread(self.judge.alerter.close)

    async def _work(self) -> None:
        saved = time.monotonic()
        while True:
            try:
                parts = await self.sketched.lines()
                # The log first: what fails in judging can be replayed from it
                self.judge.write([line for _, line in parts], self.sketched.clock())
                await self.judge.take(parts, self.sketched.clock())
            except Exception as error:  # a monitor that ends would see nothing any more
                self.sketched.metrics.fault("watch")
                log_event(logging.ERROR, "monitor_failed", error=type(error).__name__)
            if time.monotonic() - saved > SAVED:
                await self.judge.save()
                saved = time.monotonic()
            await asyncio.sleep(0)


class SharedMonitor:
    """Run the monitor of one of several workers.

    Each publishes its queries, and the one that holds the lease judges all of them.

    Lines go to the access log before the checkpoint that contains them is stored, so that none is
    lost if the holder dies in between; whoever takes over writes those again. Each has its ID in
    the stream, by which readers of the log count it once. Alarms are told at once: one after the
    last checkpoint of a holder that died is told twice.
    """

    def __init__(
        self, sketched: SketchQueue, judge: MonitorEngine, consumer: Consumer, state: State
    ) -> None:
        self.sketched, self.judge, self.consumer, self.state = sketched, judge, consumer, state
        self.watch, self.follow, self.tell = sketched.watch, judge.follow, sketched.tell
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
        await cancel_tasks(self.tasks, self.lock)  # not in the midst of a line
        try:
            await self._checkpoint()
        except StateError:
            self.sketched.metrics.fault("state")
        # The lease is given back after the last checkpoint, from which another worker goes on
        await self.consumer.close()
        await asyncio.to_thread(self.judge.alerter.close)

    async def _publish(self) -> None:
        while True:
            try:
                lines = await self.sketched.lines()
            except Exception as error:
                self.sketched.metrics.fault("watch")
                log_event(logging.ERROR, "monitor_failed", error=type(error).__name__)
                continue
            for seen, line in lines:
                try:
                    await self.state.publish(line)
                except StateError:
                    self.sketched.metrics.fault("state")
                    self.sketched.metrics.dropped(len(seen))

    async def _judge(self) -> None:
        """Hold the lease, judge, checkpoint.

        After a fault go on, and after a lost lease begin from the snapshot again.
        """
        while True:
            try:
                # What was judged since the last checkpoint comes again from the stream
                snapshot = await self.consumer.resume()
                self.judged, self.last = [], ""
                self.judge.remember(snapshot)
                await self._read()
            except LeaseLost:
                log_event(logging.INFO, "lease_lost")
            except StateError:
                await asyncio.sleep(RESTED)
            except Exception as error:
                self.sketched.metrics.fault("watch")
                log_event(logging.ERROR, "monitor_failed", error=type(error).__name__)
                await asyncio.sleep(RESTED)

    async def _read(self) -> None:
        while True:
            try:
                async for id, line in self.consumer.lines():
                    async with self.lock:
                        await self._one(line)
                        self.judged.append(mark_access_line(line, id))
                        self.last = id
                        if time.monotonic() > self.due:
                            await self._checkpoint()
                        # Lines without a checkpoint are written too, rather than kept without end
                        if len(self.judged) >= HELD:
                            self._write()
                    await asyncio.sleep(0)
            except LeaseLost:
                raise
            except StateError:
                self.sketched.metrics.fault("state")
                await asyncio.sleep(RESTED)

    async def _one(self, line: str) -> None:
        """Judge a line; drop one that cannot be judged, else it returns after every start."""
        try:
            await self.judge.take([(read_line(line), line)], self.sketched.clock())
        except MemberscopeError:
            self.sketched.metrics.dropped(1)
        except Exception as error:
            self.sketched.metrics.fault("watch")
            log_event(logging.ERROR, "monitor_failed", error=type(error).__name__)

    async def _checkpoint(self) -> None:
        """Log the lines that were judged, and store the monitor's memory with their last place.

        Raises:
            StateError: Redis does not answer, or another worker holds the lease; the memory goes with
                the next one.
        """
        if not self.last:
            return
        begin = time.monotonic()
        # Also after a failure: memory that is not stored at once is not stored at every line
        self.due = begin + CHECKED
        # The log first: lines before a stored checkpoint are never read from the stream again
        self._write()
        await self.consumer.checkpoint(self.last, take_snapshot(self.judge.monitor))
        # A large memory is stored less often, so that storing takes a small share of the time
        self.due = begin + max(CHECKED, SHARE * (time.monotonic() - begin))
        self.last = ""

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
