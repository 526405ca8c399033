"""The monitor in a process of its own, so that sketching and judging take nothing from serving."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.frames import CALLS, Begin, Done, Look, awaited, packed
from memberscope.guard.log import LOGGER, say
from memberscope.guard.metrics import Metrics
from memberscope.guard.policy import GuardPolicy
from memberscope.guard.state import State, StateError
from memberscope.guard.waiting import Queue, pieces

TURN, PIECE = 256, 64  # records that are sent at once; that are sketched at once
SILENCE = 1.0  # seconds after which the monitor is asked without queries: for what it counted, and for its own clock
RESTED = 1.0  # seconds from a monitor's end to the next one's start
ENDED = 10.0  # seconds for what still waits at the end, and for a monitor that saves what it remembers


class Link:
    """One process, and the way to it."""

    def __init__(self, process: subprocess.Popen[bytes], reader: StreamReader, writer: StreamWriter) -> None:
        self.process, self.reader, self.writer = process, reader, writer

    @classmethod
    async def open(cls, begin: Begin) -> Link:
        """Start it, and wait until it is ready.

        Raises:
            InputError: What the policy names is not usable.
            OSError: It cannot be started.
            asyncio.IncompleteReadError: It has ended at once.
        """
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "memberscope.guard.watcher", str(theirs.fileno())]
        with theirs:
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True)
        link = cls(process, *await asyncio.open_connection(sock=ours))
        try:
            (begun,) = (await link.ask(begin)).calls
            if begun[0] == "refused":
                raise InputError(*begun[1])
        except BaseException:
            await link.close(0.0)
            raise
        return link

    async def ask(self, message: Begin | Look) -> Done:
        """What it answers.

        Raises:
            OSError, asyncio.IncompleteReadError: It has ended.
        """
        self.writer.write(packed(message))
        await self.writer.drain()
        found: Done = await awaited(self.reader)
        return found

    async def close(self, seconds: float) -> None:
        """Hang up, and wait for its end; after so long it is killed."""
        self.writer.close()
        try:
            await asyncio.to_thread(self.process.wait, seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            await asyncio.to_thread(self.process.wait)


class Apart:
    """Sends queries to a monitor's process, and does what it answers: counts, and puts responses in force.

    A process that ends is started again, and goes on from what it saved last; the queries that it had are counted as dropped.
    """

    def __init__(self, policy: GuardPolicy, metrics: Metrics, state: State) -> None:
        self.policy, self.metrics, self.state = policy, metrics, state
        self.queue = Queue(metrics, TURN)
        self.watch = self.queue.watch
        self.link: Link | None = None
        self.followed = self.told = policy  # the policy that was read last, and the one that the monitor knows of
        self.task: asyncio.Task[None] | None = None

    def follow(self, policy: GuardPolicy) -> None:
        """Respond from now on as a policy that was read again says; where files lie is settled."""
        self.followed = policy

    async def start(self) -> None:
        """Begin, with a monitor that is ready.

        Raises:
            InputError: What the policy names is not usable.
        """
        self.link = await Link.open(self._begin())
        self.task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Have what waits looked at, and have the monitor save what it remembers."""
        await self.queue.finished(ENDED)
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        if self.link is not None:
            await self.link.close(ENDED)

    async def _work(self) -> None:
        while True:
            if self.link is None:
                await asyncio.sleep(RESTED)
                await self._opened()
                continue
            taken = await self.queue.gathered(SILENCE)
            follow = None if self.followed is self.told else self.followed
            try:
                done = await self.link.ask(Look(tuple(pieces(taken, PIECE)), follow))
                self.told = follow or self.told
            except (OSError, asyncio.IncompleteReadError):
                self.metrics.dropped(sum(one.seen.records for one in taken))
                await self._lost()
            else:
                for name, given in done.calls:
                    await self._do(name, given)

    async def _opened(self) -> None:
        try:
            self.link, self.told = await Link.open(self._begin()), self.policy
        except InputError as error:
            say(logging.ERROR, "monitor_refused", said=str(error))
            await self._lost()
        except (OSError, asyncio.IncompleteReadError):
            await self._lost()

    def _begin(self) -> Begin:
        return Begin(self.policy, LOGGER.getEffectiveLevel())

    async def _lost(self) -> None:
        """Count a monitor that has ended."""
        link, self.link = self.link, None
        if link is not None:
            await link.close(ENDED)
        self.metrics.fault("watch")
        say(logging.ERROR, "monitor_ended", code=None if link is None else link.process.returncode)

    async def _do(self, name: str, given: tuple[Any, ...]) -> None:
        if name not in CALLS:
            return
        if name != "stand":
            getattr(self.metrics, name)(*given)
            return
        try:
            await self.state.stand(*given)
        except StateError:
            self.metrics.fault("state")
