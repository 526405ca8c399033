"""Give out places for requests at once: a share for each client, and turns where some wait.

A client that waits is served in its turn: each client's first request before any client's second.
Whoever already holds its share of the places waits until one of its own is free, so that the rest
stays for others.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass
from math import ceil

from memberscope.guard.refused import RequestRefused

SOON = (("retry-after", "1"),)
FEWEST_UNREAD = 16  # requests that anybody may have at once before they are read


@dataclass(slots=True, eq=False)
class Load:
    """What one client, or one network, has under way, and how much it may have.

    Of `visits`, `unread` requests of `size` bytes are not parsed yet, `running` hold a place, and
    `waiting` wait for one.
    """

    key: str
    most_running: int
    most_waiting: int
    most_unread: int
    visits: int = 0
    unread: int = 0
    size: int = 0
    running: int = 0
    waiting: int = 0


Loads = tuple[Load, ...]


class FairPlaces:
    """`n` places for requests at once, and `queue` that wait, by clients in turn.

    Requests are made by `loads`: a client's, and a network's behind it. The first is whose turn it
    is.
    """

    def __init__(self, n: int, queue: int) -> None:
        """Open `n` places."""
        self._n, self._queue = n, queue
        self._free, self._waiting = n, 0
        self._lines: OrderedDict[str, deque[tuple[Loads, asyncio.Future[None]]]] = OrderedDict()

    def find_share(self, share: float) -> tuple[int, int, int]:
        """Find how many may run, wait, and be read at once, by such a `share`.

        >>> FairPlaces(64, 256).find_share(0.5)
        (32, 128, 160)
        """
        running, waiting = ceil(share * self._n), ceil(share * self._queue)
        return running, waiting, max(FEWEST_UNREAD, running + waiting)

    def check(self, loads: Loads) -> None:
        """Refuse what would find the queue full (503), or the client's share of it (429)."""
        if self._free > 0 and self._can_run(loads):
            return
        if self._waiting >= self._queue:
            raise RequestRefused("overloaded", SOON)
        if any(load.waiting >= load.most_waiting for load in loads):
            raise RequestRefused("too-many-at-once", SOON)

    def take_free(self, loads: Loads) -> bool:
        """Take a place that is free, and tell whether there was one."""
        if self._free <= 0 or not self._can_run(loads):
            return False
        self._free -= 1
        for load in loads:
            load.running += 1
        return True

    async def take(self, loads: Loads, seconds: float) -> None:
        """Take a place, waiting at most `seconds`.

        Raises:
            RequestRefused: There is none (503), or the client waits often enough (429).
        """
        # Waiting needs a timer, which most requests can do without
        if not self.take_free(loads):
            self.check(loads)
            await self._wait(loads, seconds)

    def give(self, loads: Loads) -> None:
        """Give a place back, and let those go on who wait for one."""
        self._free += 1
        for load in loads:
            load.running -= 1
        self._admit_waiting()

    def _can_run(self, loads: Loads) -> bool:
        first, last = loads[0], loads[-1]
        return first.running < first.most_running and last.running < last.most_running

    def _admit_waiting(self) -> None:
        """Give free places to those who wait, one client after the other."""
        for client in [*self._lines]:
            if self._free <= 0:
                return
            line = self._lines[client]
            while line and line[0][1].done():
                line.popleft()
            if line and self.take_free(line[0][0]):
                line.popleft()[1].set_result(None)
                # Whose turn it was comes last now
                self._lines.move_to_end(client)
            if not line:
                del self._lines[client]

    async def _wait(self, loads: Loads, seconds: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(loads[0].key, deque()).append((loads, turn))
        self._waiting += 1
        for load in loads:
            load.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException as error:
            # A place that came at the last moment goes to somebody else
            if turn.done() and not turn.cancelled():
                self.give(loads)
            turn.cancel()
            if isinstance(error, TimeoutError):
                raise RequestRefused("overloaded", SOON) from None
            raise
        finally:
            self._waiting -= 1
            for load in loads:
                load.waiting -= 1
