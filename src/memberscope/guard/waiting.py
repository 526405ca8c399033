"""Queries that wait for the monitor: those that come together go together, and what has no room is counted."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from memberscope.guard.seen import Seen
from memberscope.targets.batches import Batch

WAITING, WEIGHT = 100_000, 2**26  # records that may wait, and bytes of them
GATHERED = 0.02  # seconds in which queries gather to be looked at together


class Counts(Protocol):
    """What counts those that wait, such as `Metrics`."""

    def waiting(self, n: int) -> None:
        """So many wait."""
        ...

    def dropped(self, n: int) -> None:
        """There was no room for so many."""
        ...


@dataclass(frozen=True, eq=False)
class Waiting:
    """A query that waits for its turn, since a time in seconds since 1970, and about how many bytes it takes."""

    seen: Seen
    at: float
    weight: int


def weight_of(batch: Batch) -> int:
    """About how many bytes the records take."""
    parts = list(batch.columns.values()) if batch.columns else [np.asarray(batch.array)]
    numbers = sum(part.nbytes for part in parts)
    return numbers + sum(len(str(value)) for part in parts if part.dtype == object for value in part.ravel())


class Queue:
    """Queries on their way to the monitor: `watch` takes them from the middleware and never waits.

    `busy` says that what was taken is not yet judged. To be used from one event loop.
    """

    def __init__(self, counts: Counts, turn: int, clock: Callable[[], float] = time.time) -> None:
        self.counts, self.turn, self.clock = counts, turn, clock
        self.waiting: deque[Waiting] = deque()
        self.records = self.weight = 0
        self.busy = False
        self.awake = asyncio.Event()

    def watch(self, seen: Seen) -> None:
        """Take a query."""
        weight = weight_of(seen.batch)
        if self.records + seen.records > WAITING or self.weight + weight > WEIGHT:
            self.counts.dropped(seen.records)
            return
        self.waiting.append(Waiting(seen, self.clock(), weight))
        self.records += seen.records
        self.weight += weight
        self.awake.set()

    async def gathered(self, seconds: float | None = None) -> list[Waiting]:
        """About `turn` records of those that wait, in the order in which they were answered; none where none come for so long.

        What comes within `GATHERED` seconds goes together, which takes a fraction of the time.
        """
        self.busy = False
        while not self.waiting:
            self.awake.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self.awake.wait()
            except TimeoutError:
                return []
        if self.records < self.turn:
            await asyncio.sleep(GATHERED)
        self.busy = True
        return self._next()

    def _next(self) -> list[Waiting]:
        found: list[Waiting] = []
        n = 0
        while self.waiting and n < self.turn:
            found.append(self.waiting.popleft())
            n += found[-1].seen.records
            self.weight -= found[-1].weight
        self.records -= n
        self.counts.waiting(self.records)
        return found

    async def finished(self, seconds: float) -> None:
        """Wait, for so long at most, until nothing waits and all that was taken is judged."""
        until = time.monotonic() + seconds
        while (self.waiting or self.busy) and time.monotonic() < until:
            await asyncio.sleep(0.01)


def pieces(taken: list[Waiting], turn: int) -> Iterator[list[Waiting]]:
    """Queries in their order: those that follow one another and whose records have one form together, long ones in parts of `turn` records."""
    for together in runs(taken, turn):
        if together[0].seen.records > turn:
            yield from parts(together[0], turn)
        else:
            yield together


def runs(taken: list[Waiting], turn: int) -> list[list[Waiting]]:
    """Queries of one form together; those about more than `turn` records alone."""
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


def parts(one: Waiting, turn: int) -> Iterator[list[Waiting]]:
    """A query about many records, `turn` of them at a time."""
    seen = one.seen
    for start in range(0, seen.records, turn):
        where = list(range(start, min(start + turn, seen.records)))
        part = replace(seen, batch=seen.batch.take(where), labels=seen.labels[start : start + turn])
        yield [Waiting(part, one.at, 0)]


def form_of(batch: Batch) -> object:
    """What records must share to be put into one batch: types, shapes, and names of columns."""
    if batch.columns is None:
        array = np.asarray(batch.array)
        return array.dtype, array.shape[1:]
    return tuple((name, column.dtype, column.shape[1:]) for name, column in batch.columns.items())
