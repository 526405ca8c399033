"""Run the monitor in a process of its own, so that serving does not slow down."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from asyncio import StreamReader, StreamWriter
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.alerting.prometheus import Metrics
from memberscope.guard.logs.operational_log import LOGGER, log_event
from memberscope.guard.monitor.ipc import (
    CALLS,
    Begin,
    Done,
    Look,
    encode_message_parts,
    read_message_async,
)
from memberscope.guard.monitor.query_queue import Queue, Waiting, split_into_pieces
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.state.interface import State, StateError

# With -P, what lies in the folder that the guard is started from is none of the monitor's modules
PYTHON = (sys.executable, "-P")
TURN, PIECE = 256, 32  # records that are sent at once; that are sketched at once
# Seconds after which the monitor is asked without queries: for what it counted, and for its own
# clock
SILENCE = 1.0
RESTED = 1.0  # seconds from a monitor's end to the next one's start
LONGEST = 60.0  # as many after one has failed again and again
PATIENCE = 60.0  # seconds after which a monitor that does not answer is ended
# Seconds for what still waits at the end, and for a monitor that saves what it remembers
ENDED = 10.0
HANGS = 9.0  # seconds without an answer after which it is not waited for at the end


class ChildLink:
    """Start one process and talk to it."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: StreamReader, writer: StreamWriter
    ) -> None:
        self.process, self.reader, self.writer = process, reader, writer
        self.asked: float | None = None  # when what is not yet answered was asked

    @classmethod
    async def open(cls, begin: Begin) -> ChildLink:
        """Start it, and wait until it is ready.

        Raises:
            InputError: What the policy names is not usable.
            OSError: It cannot be started.
            asyncio.IncompleteReadError: It has ended at once.
        """
        ours, theirs = socket.socketpair()
        command = [*PYTHON, "-m", "memberscope.guard.monitor.child_main", str(theirs.fileno())]
        with theirs:
            # A session of its own, so that the terminal's signals reach the serving process alone
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        link = cls(process, *await asyncio.open_connection(sock=ours))
        try:
            (begun,) = (await link.ask(begin)).calls
            if begun[0] == "refused":
                raise InputError(*begun[1])
        except BaseException:
            # What was refused or cancelled must not leave a process behind
            await link.close(0.0)
            raise
        return link

    async def ask(self, message: Begin | Look) -> Done:
        """Ask the process and give its answer.

        Raises:
            OSError, asyncio.IncompleteReadError: It has ended, or does not answer.
        """
        self.asked = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            self.writer.writelines(encode_message_parts(message))
            await self.writer.drain()
            found: Done = await read_message_async(self.reader)
        self.asked = None
        return found

    def silent(self) -> float:
        """Give the seconds for which it has not answered."""
        return 0.0 if self.asked is None else time.monotonic() - self.asked

    async def close(self, seconds: float) -> None:
        """Hang up, and wait for its end; after so long it is killed."""
        self.writer.close()
        try:
            await asyncio.to_thread(self.process.wait, seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)


class ChildMonitor:
    """Send queries to a monitor's process; count and put in force what it answers.

    A process that ends is started again, and goes on from what it saved last; the queries that it
    had are counted as dropped.
    """

    def __init__(self, policy: GuardPolicy, key: str, metrics: Metrics, state: State) -> None:
        self.policy, self.key, self.metrics, self.state = policy, key, metrics, state
        self.queue = Queue(metrics, TURN)
        self.watch, self.tell = self.queue.watch, self.queue.tell
        self.link: ChildLink | None = None
        # The policy that was read last, and the one that the monitor knows of
        self.followed = self.told = policy
        self.task: asyncio.Task[None] | None = None

    def follow(self, policy: GuardPolicy) -> None:
        """Respond from now on as a policy that was read again says; where files lie is settled."""
        self.followed = policy

    async def start(self) -> None:
        """Begin, with a monitor that is ready.

        Raises:
            InputError: What the policy names is not usable.
        """
        try:
            self.link = await ChildLink.open(self._begin())
        except (OSError, asyncio.IncompleteReadError) as error:
            raise InputError(
                "Expected the monitor's process to start, got one that ended at once. See what it "
                "said above."
            ) from error
        self.task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Have what waits looked at, and have the monitor save what it remembers.

        One silent for `HANGS` seconds is ended without.
        """
        await self.queue.finished(ENDED)
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        if self.link is not None:
            await self.link.close(ENDED if self.link.silent() < HANGS else 0.0)

    async def _work(self) -> None:
        rest = RESTED
        while True:
            if self.link is None:
                await asyncio.sleep(rest)
                await self._opened()
                # Twice as long after each failure: starting a broken monitor takes processor time
                rest = RESTED if self.link is not None else min(2 * rest, LONGEST)
                continue
            taken = await self.queue.gathered(SILENCE)
            try:
                await self._ask(taken)
            except Exception as error:  # whatever it is, another process can go on
                self.metrics.dropped(sum(one.seen.records for one in taken))
                await self._lost(error)

    async def _ask(self, taken: list[Waiting]) -> None:
        """Have queries looked at, and do what follows."""
        assert self.link is not None
        follow = None if self.followed is self.told else self.followed
        # Also without queries: the answer brings counts, and the monitor looks at its clock
        done = await self.link.ask(Look(tuple(split_into_pieces(taken, PIECE)), follow))
        self.told = follow or self.told
        for name, given in done.calls:
            await self._do(name, given)

    async def _opened(self) -> None:
        try:
            self.link, self.told = await ChildLink.open(self._begin()), self.policy
        except Exception as error:
            await self._lost(error)

    def _begin(self) -> Begin:
        return Begin(self.policy, self.key, LOGGER.getEffectiveLevel())

    async def _lost(self, error: Exception) -> None:
        """Count a monitor that has ended, or end one that does not answer."""
        link, self.link = self.link, None
        if link is not None:
            await link.close(ENDED)
        self.metrics.fault("watch")
        code, said = (
            None if link is None else link.process.returncode,
            str(error) if isinstance(error, InputError) else "",
        )
        log_event(logging.ERROR, "monitor_ended", code=code, error=type(error).__name__, said=said)

    async def _do(self, name: str, given: tuple[Any, ...]) -> None:
        # Only methods that were meant to be called from the other process
        if name not in CALLS:
            return
        if name != "stand":
            getattr(self.metrics, name)(*given)
            return
        try:
            await self.state.stand(*given)
        except StateError:
            self.metrics.fault("state")
