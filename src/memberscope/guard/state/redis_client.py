"""Ask Redis within a time limit: one connection pool, no retries, rests after failures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from memberscope.errors import InputError
from memberscope.guard.state.interface import StateError

CONNECTIONS = 64
# Failures in a row after which only one question at a time tries whether Redis is back
PATIENCE = 3
REST = 0.25  # seconds between such questions


class RedisLink:
    """Ask the Redis at `url` within `timeout` seconds, or raise StateError.

    Nothing is asked twice: a question whose answer was late may have been carried out. Connections
    are made anew when they broke. After three failures in a row one question at a time is sent,
    with rests, and the others fail at once, so that a Redis that comes back is not met by a storm.

    Raises:
        InputError: The address is none of a Redis.

    >>> RedisLink("http://nowhere", 0.25)
    Traceback (most recent call last):
    memberscope.errors.InputError: Expected redis as redis://host:port/0, got 'http://nowhere'.
    Give state.redis such an address.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.timeout = timeout
        self._failures, self._rest_until = 0, 0.0
        try:
            # No retries: a question whose answer was late may have been carried out
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=timeout,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise InputError(
                f"Expected redis as redis://host:port/0, got {url!r}. Give state.redis such "
                "an address."
            ) from error
        self.redis: Any = Redis.from_pool(pool)

    def script(self, source: str) -> Callable[[Sequence[str], Sequence[Any]], Awaitable[Any]]:
        """Register a Lua script as a function of keys and arguments.

        Redis is sent its text only when it does not know it.
        """
        call: Any = self.redis.register_script(source)
        return lambda keys, arguments: self.ask(lambda: call(keys=keys, args=arguments))

    async def ask(self, question: Callable[[], Awaitable[Any]]) -> Any:
        """Ask one question.

        Raises:
            StateError: There is none in time, or Redis refuses.
        """
        now = time.monotonic()
        if self._failures >= PATIENCE:
            if now < self._rest_until:
                raise StateError(
                    "Redis did not answer the last questions and is not asked again yet."
                )
            # While this question is under way no other one is sent
            self._rest_until = now + self.timeout
        # The client of Redis can take a cancel for a time-out of its own
        cancels = _count_cancels()
        try:
            async with asyncio.timeout(self.timeout):
                answer = await question()
        except (RedisError, OSError, TimeoutError) as error:
            _stop_if_cancelled(cancels)
            self._failures += 1
            self._rest_until = time.monotonic() + REST
            raise StateError(
                f"Redis did not answer within {self.timeout:g} s: {type(error).__name__}."
            ) from error
        _stop_if_cancelled(cancels)
        self._failures = 0
        return answer

    async def close(self) -> None:
        """Let go of all connections."""
        await self.redis.aclose()


def _count_cancels() -> int:
    """Count the cancels of the running task that are not yet heeded."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _stop_if_cancelled(before: int) -> None:
    """Cancel the running task again if more than `before` came.

    The client sends with `asyncio.wait_for`, which loses some until Python 3.12.

    Raises:
        asyncio.CancelledError: One was lost.
    """
    if _count_cancels() > before:
        raise asyncio.CancelledError
