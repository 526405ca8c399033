"""Limit the seconds of many waits at once, by one timer for all of them.

A timer for each request takes more time than the rest of its limit, and nearly none ever fires.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class _Waits:
    """Waits of one event loop in the order of their ends, and the timer of an early one."""

    running: dict[TimeLimit, None] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None


class TimeLimits:
    """Limits of `seconds` each, as `asyncio.timeout` has them.

    >>> async def wait() -> str:
    ...     limits = TimeLimits(0.001)
    ...     try:
    ...         with limits.start():
    ...             await asyncio.sleep(60)
    ...     except TimeoutError:
    ...         return "too late"
    >>> asyncio.run(wait())
    'too late'
    """

    def __init__(self, seconds: float) -> None:
        """Limit nothing yet."""
        self.seconds = seconds
        self._loops: dict[asyncio.AbstractEventLoop, _Waits] = {}

    def start(self) -> TimeLimit:
        """Start a limit for the current task, to be entered at once."""
        loop = asyncio.get_running_loop()
        waits = self._loops.get(loop) or self._open(loop)
        limit = TimeLimit(waits, loop.time() + self.seconds)
        # All limits are equally long, so that they end in the order in which they begin
        waits.running[limit] = None
        if waits.timer is None:
            waits.timer = loop.call_at(limit.end, self._expire, loop, waits)
        return limit

    def _open(self, loop: asyncio.AbstractEventLoop) -> _Waits:
        for other in [other for other in self._loops if other.is_closed()]:
            del self._loops[other]
        found = self._loops[loop] = _Waits()
        return found

    def _expire(self, loop: asyncio.AbstractEventLoop, waits: _Waits) -> None:
        """End the waits that are over, and set the timer for the next one."""
        waits.timer = None
        now = loop.time()
        for limit in list(waits.running):
            if limit.end > now:
                waits.timer = loop.call_at(limit.end, self._expire, loop, waits)
                return
            del waits.running[limit]
            limit.expire()


class TimeLimit:
    """Limit on the time of a block; a block that takes longer is cancelled.

    Raises:
        TimeoutError: It took too long.
    """

    __slots__ = ("_before", "_expired", "_task", "_waits", "end")

    def __init__(self, waits: _Waits, end: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._waits, self.end, self._task = waits, end, task
        self._before, self._expired = task.cancelling(), False

    def expire(self) -> None:
        """Cancel the block."""
        self._expired = True
        self._task.cancel()

    def __enter__(self) -> None:
        """Begin; the time runs already."""

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        """Stop the clock, and tell a block that was cancelled for its time from any other."""
        if not self._expired:
            del self._waits.running[self]
        # Somebody else may have cancelled the task too, which then stays cancelled
        elif self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error
