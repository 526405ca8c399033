"""Run the monitor in a process of its own, so that serving does not slow down."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import subprocess
import sys
import time
from asyncio import StreamReader, StreamWriter
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.alerting.prometheus import Metrics
from memberscope.guard.logs.operational_log import LOGGER, log_event
from memberscope.guard.monitor.calls import Done, read_done
from memberscope.guard.monitor.frames import MessageError
from memberscope.guard.monitor.ipc import Begin, Look, encode_question
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


# What a monitor needs of the environment: how Python runs, and how alerts get out
KEPT = ("HOME", "PATH", "LANG", "TZ", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV")
KEPT_KINDS = ("LC_", "PYTHON", "OMP_", "OPENBLAS_", "MKL_", "SSL_CERT_", "LD_", "DYLD_")
KEPT_ENDS = ("_proxy", "_PROXY")


def select_monitor_environment(policy: GuardPolicy) -> dict[str, str]:
    """Select the environment of a monitor's process, without the guard's own secrets."""
    secret = policy.alerts.webhook_secret_env
    return {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or name == secret or name.startswith(KEPT_KINDS) or name.endswith(KEPT_ENDS)
    }


class ChildLink:
    """Talk to a monitor: a process of this one, or one that listens at a socket (None here)."""

    def __init__(
        self,
        process: subprocess.Popen[bytes] | None,
        reader: StreamReader,
        writer: StreamWriter,
    ) -> None:
        self.process, self.reader, self.writer = process, reader, writer
        self.asked: float | None = None  # when what is not yet answered was asked

    @classmethod
    async def open(cls, begin: Begin) -> ChildLink:
        """Start the process or connect to it, and wait until it is ready.

        Raises:
            InputError: What the policy names is not usable.
            OSError: It cannot be started or reached.
            asyncio.IncompleteReadError: It has ended at once.
            MessageError: It answered something else than a monitor does.
        """
        named = begin.policy.monitor.socket
        if named is None:
            link = await cls._start(begin.policy)
        else:
            path = begin.policy.path(named)
            # Whoever put a socket of his own there would get the records of all queries
            if path.parent.stat().st_mode & stat.S_IWOTH:
                raise InputError(
                    "Expected monitor.socket in a folder that not everybody may write to, got "
                    "another one. Move it to one such as /run/memberscope."
                )
            link = cls(None, *await asyncio.open_unix_connection(str(path)))
        try:
            calls = (await link.ask(begin)).calls
            if len(calls) != 1 or calls[0][0] not in ("begun", "refused"):
                raise MessageError("another first answer")
            if calls[0][0] == "refused":
                # What comes from another process reaches a terminal only in printable characters
                raise InputError("".join(c if c.isprintable() else "?" for c in calls[0][1][0]))
        except BaseException:
            # What was refused or cancelled must not leave a process behind
            await link.close(0.0)
            raise
        return link

    @classmethod
    async def _start(cls, policy: GuardPolicy) -> ChildLink:
        ours, theirs = socket.socketpair()
        command = [*PYTHON, "-m", "memberscope.guard.monitor.child_main", str(theirs.fileno())]
        with theirs:
            # A session of its own, so that the terminal's signals reach the serving process alone
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=select_monitor_environment(policy),
            )
        return cls(process, *await asyncio.open_connection(sock=ours))

    async def ask(self, message: Begin | Look) -> Done:
        """Ask the process and give its answer.

        Raises:
            OSError, asyncio.IncompleteReadError: It has ended, or does not answer.
            MessageError: Its answer is none.
        """
        self.asked = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            self.writer.writelines(encode_question(message))
            await self.writer.drain()
            found = await read_done(self.reader)
        self.asked = None
        return found

    def silent(self) -> float:
        """Give the seconds for which it has not answered."""
        return 0.0 if self.asked is None else time.monotonic() - self.asked

    async def close(self, seconds: float) -> None:
        """Hang up, and wait for the end of one's own process; after so long it is killed."""
        self.writer.close()
        if self.process is None:
            return
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
        self.followed = self.told = self.before = policy
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
        except (OSError, asyncio.IncompleteReadError, MessageError) as error:
            if self.policy.monitor.socket is not None:
                raise InputError(
                    "Expected memberscope guard monitor at monitor.socket, got "
                    f"{type(error).__name__}. Start it before the guard."
                ) from error
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
        self.before, self.told = self.told, follow or self.told
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
            # One that sends what no monitor sends is somebody else's by now
            await link.close(0.0 if isinstance(error, MessageError) else ENDED)
        self.metrics.fault("watch")
        code, said = (
            None if link is None or link.process is None else link.process.returncode,
            str(error) if isinstance(error, InputError | MessageError) else "",
        )
        log_event(logging.ERROR, "monitor_ended", code=code, error=type(error).__name__, said=said)

    async def _do(self, name: str, given: tuple[Any, ...]) -> None:
        """Do what the monitor asks for; all arguments were checked by their types.

        Raises:
            MessageError: The policy has no such response for such an alarm.
        """
        if name in ("begun", "refused"):
            raise MessageError("a beginning in the midst")
        if name != "stand":
            getattr(self.metrics, name)(*given)
            return
        client, standing, seconds = given
        # The policy that the monitor knew when it judged, or the one that it was just told
        if not any(
            getattr(policy.respond, standing.detector, None) == standing.response != "alert"
            and seconds <= 60.0 * policy.respond.minutes
            for policy in (self.told, self.followed, self.before)
        ):
            raise MessageError("a response that the policy does not have")
        try:
            await self.state.stand(client, standing, seconds)
        except StateError:
            self.metrics.fault("state")
