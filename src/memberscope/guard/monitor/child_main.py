"""Run the monitor's own process: `python -m memberscope.guard.monitor.child_main SOCKET`.

`ChildMonitor` starts it, sends it queries, and ends it by closing the socket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.counters import Faulty
from memberscope.guard.detectors.alarm import Alarm
from memberscope.guard.logs.operational_log import log_event, log_to_stderr
from memberscope.guard.monitor.artifacts import load_monitor_artifacts
from memberscope.guard.monitor.calls import LONGEST_SENTENCE, MOST_CALLS, Done, encode_done
from memberscope.guard.monitor.engine import SAVED, TIDIED, MonitorEngine
from memberscope.guard.monitor.frames import MessageError
from memberscope.guard.monitor.ipc import Begin, Look, read_question
from memberscope.guard.monitor.observe_queries import Lines, build_log_lines
from memberscope.guard.state.interface import ActiveResponse

NICE = 5  # where all processors are busy, answers go first
# Queries at least that are judged before whoever serves may have the processor, which a scheduler
# does not give for milliseconds
STEP = 4


class Report:
    """Collect what the serving process must count and put in force, until it asks.

    Alerts are counted from a thread of their own.
    """

    def __init__(self) -> None:
        self.calls: deque[tuple[str, tuple[Any, ...]]] = deque()

    def alarm(self, alarm: Alarm) -> None:
        """Report an alarm."""
        self.calls.append(("alarm", (alarm,)))

    def alert_lost(self, where: str) -> None:
        """Report an alert that could not be sent."""
        self.calls.append(("alert_lost", (where,)))

    def waiting(self, n: int) -> None:
        """Do nothing, as nothing waits here."""

    def late(self, seconds: float) -> None:
        """Do nothing, as nothing waits here."""

    def dropped(self, n: int) -> None:
        """Report queries that could not be sketched."""
        self.calls.append(("dropped", (n,)))

    def unreadable(self, n: int) -> None:
        """Report records that the sketch could not read."""
        self.calls.append(("unreadable", (n,)))

    def fault(self, which: Faulty) -> None:
        """Report a failure of something that protection needs."""
        self.calls.append(("fault", (which,)))

    def watched(self, clients: int, lag: float) -> None:
        """Report the number of clients that the monitor knows, and its `lag` in seconds."""
        self.calls.append(("watched", (clients, lag)))

    async def stand(self, client: str, standing: ActiveResponse, seconds: float) -> None:
        """Report a response to be put in force for so many seconds."""
        self.calls.append(("stand", (client, standing, seconds)))

    def taken(self) -> Done:
        """Take what was collected, as much as one answer may hold."""
        # As many as there are now: the thread of alerts may add more meanwhile
        most = min(len(self.calls), MOST_CALLS)
        return Done(tuple(self.calls.popleft() for _ in range(most)))


class Watcher:
    """Judge queries that are sent, and look at the clock now and then."""

    def __init__(self, begin: Begin, clock: Callable[[], float] = time.time) -> None:
        """Read what the policy names.

        Raises:
            InputError: A file is missing or damaged, or there is another key by now.
        """
        equipment = load_monitor_artifacts(begin.policy)
        if equipment.secret.id != begin.key:
            raise InputError(
                f"Expected the key {begin.key} that the guard began with, got "
                f"{equipment.secret.id}. Start the guard again."
            )
        self.equipment, self.report, self.clock = equipment, Report(), clock
        self.judge = MonitorEngine(begin.policy, equipment, self.report, self.report)
        # Only with the same key are clients known by the same names as in what was saved
        self.judge.recall()
        self.saved = self.tidied = time.monotonic()
        self.judge.tidied(clock())

    async def look(self, look: Look) -> Done:
        """Sketch, log and judge; and what the clock asks for."""
        if look.follow is not None:
            self.judge.follow(look.follow)
        lines: Lines = []
        for piece in look.taken:
            try:
                lines += build_log_lines(piece, self.equipment, self.report.unreadable)
            except Exception as error:
                self._failed(error, len(piece.labels))
            # Whoever serves gets the processor between two pieces
            os.sched_yield()
        # The log first: what fails in judging can be replayed from it
        self.judge.write([line for _, line in lines], self.clock())
        step = max(STEP, len(lines) // 4)
        for start in range(0, len(lines), step):
            some = lines[start : start + step]
            try:
                await self.judge.take(some, self.clock())
            except Exception as error:  # a monitor that ends would see nothing any more
                self._failed(error, sum(len(seen) for seen, _ in some))
            os.sched_yield()
        now = time.monotonic()
        # What is due by the clock is done here too, as messages come at least every second
        if now - self.saved > SAVED:
            self.saved = now
            await self.judge.save()
        if now - self.tidied > TIDIED:
            self.tidied = now
            self.judge.tidied(self.clock())
        return self.report.taken()

    def _failed(self, error: Exception, records: int) -> None:
        self.report.fault("watch")
        self.report.dropped(records)
        log_event(logging.ERROR, "monitor_failed", error=type(error).__name__)

    async def end(self) -> None:
        """Save what is remembered, and tell the alerts that wait."""
        await self.judge.save()
        await asyncio.to_thread(self.judge.alerter.close)


async def answer_guard(
    ours: socket.socket, settle: Callable[[Begin], Begin] = lambda begin: begin
) -> None:
    """Answer each message until the other end hangs up, also because its process is gone.

    `settle` changes what the other end says at the beginning.
    """
    watcher = None
    try:
        with ours, ours.makefile("rb") as stream:
            # The first message says what to read, and the answer whether that went well
            begin = read_question(stream)
            if not isinstance(begin, Begin):
                return
            log_to_stderr(begin.log_level)
            try:
                watcher = Watcher(settle(begin))
            except InputError as error:
                said = str(error)[:LONGEST_SENTENCE]
                ours.sendall(encode_done(Done((("refused", (said,)),))))
                return
            ours.sendall(encode_done(Done((("begun", ()),))))
            while isinstance(look := read_question(stream), Look):
                ours.sendall(encode_done(await watcher.look(look)))
    except (ConnectionError, TimeoutError):
        pass
    except MessageError as error:
        log_event(logging.ERROR, "message_refused", said=str(error))
    finally:
        if watcher is not None:
            await watcher.end()


def prepare_process() -> None:
    """Let those that serve go first, and start no threads that only wait for one another."""
    from threadpoolctl import threadpool_limits

    os.nice(NICE)
    threadpool_limits(1)


if __name__ == "__main__":
    # The serving process ends it when it has ended itself
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    prepare_process()
    asyncio.run(answer_guard(socket.socket(fileno=int(sys.argv[1]))))
