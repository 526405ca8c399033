"""Queue queries for the monitor; batch those that come together, count those without room."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from memberscope.guard.policy.tables import ServingConfig
from memberscope.guard.query_event import QueryEvent
from memberscope.types import Ints
from memberscope.wire import Batch

WAITING, WEIGHT = 100_000, 2**26  # records that may wait, and bytes of them
GATHERED = 0.05  # seconds in which queries gather to be looked at together


class QueueCounters(Protocol):
    """Interface of what counts queued queries, such as `Metrics`."""

    def waiting(self, n: int) -> None:
        """Set the number of queued queries."""
        ...

    def dropped(self, n: int) -> None:
        """Count as many for which there was no room."""
        ...

    def late(self, seconds: float) -> None:
        """Set the age of the oldest queued query."""
        ...

    def unreadable(self, n: int) -> None:
        """Count as many records that the sketch could not read."""
        ...


class Waiting(NamedTuple):
    """Queued query, since when it waits (seconds since 1970), and about how many bytes it takes."""

    seen: QueryEvent
    at: float
    weight: int


def _estimate_weight(batch: Batch) -> int:
    """Estimate how many bytes the records take."""
    if batch.columns is None and (array := np.asarray(batch.array)).dtype.kind != "O":
        return array.nbytes
    parts = list(batch.columns.values()) if batch.columns else [np.asarray(batch.array)]
    # An array of objects counts its pointers only, so that their texts are added
    numbers = sum(part.nbytes for part in parts)
    return numbers + sum(
        len(str(value)) for part in parts if part.dtype == object for value in part.ravel()
    )


class Queue:
    """Queue queries for the monitor: `watch` never waits.

    `busy` says that what was taken is not yet judged. Use it from one event loop.
    """

    def __init__(
        self, counts: QueueCounters, turn: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.counts, self.turn, self.clock = counts, turn, clock
        self.waiting: deque[Waiting] = deque()
        self.records = self.weight = 0
        self.busy = False
        self.first = 0.0  # when the first of those that were taken was answered
        self.awake = asyncio.Event()

    def watch(self, seen: QueryEvent) -> None:
        """Take a query."""
        weight, told, records = _estimate_weight(seen.batch), len(seen.answer), len(seen.labels)
        # What was asked counts for more than what was told: answers go first where room is short
        if told and self.weight + weight + told > WEIGHT / 2:
            seen, told = seen._replace(answer=b""), 0
        weight += told
        if self.records + records > WAITING or self.weight + weight > WEIGHT:
            self.counts.dropped(records)
            return
        self.waiting.append(Waiting(seen, self.clock(), weight))
        self.records += records
        self.weight += weight
        self.awake.set()

    async def gathered(self, seconds: float | None = None) -> list[Waiting]:
        """Take about `turn` records of those that wait, in the order in which they were answered.

        The list is empty where none come for so long.

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
        # With a full turn there is nothing to wait for
        if self.records < self.turn:
            await asyncio.sleep(GATHERED)
        self.busy, self.first = True, self.waiting[0].at
        return self._next()

    def tell(self) -> None:
        """Count those that wait as of now, also where nobody takes them."""
        self.counts.waiting(self.records)
        if self.busy or self.waiting:
            self.counts.late(
                max(0.0, self.clock() - (self.first if self.busy else self.waiting[0].at))
            )

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


class Asked(NamedTuple):
    """One query of a batch: when it was answered, its client, its status, its number of records."""

    at: float
    key: str
    group: str
    status: int
    records: int
    answer: bytes | bytearray
    serving: ServingConfig | None


@dataclass(frozen=True, eq=False)
class Piece:
    """Batch of queries in order, with all their records (n), and `labels` (n,)."""

    asked: list[Asked]
    batch: Batch
    labels: Ints

    def alone(self) -> Iterator[Piece]:
        """Split a batch into its queries."""
        start = 0
        for one in self.asked:
            part = slice(start, start + one.records)
            yield Piece([one], self.batch.take(range(part.start, part.stop)), self.labels[part])
            start = part.stop


def split_into_pieces(taken: Sequence[Waiting], turn: int) -> Iterator[Piece]:
    """Batch queries in order: neighbours of one form together, long ones in parts of `turn`."""
    for together in _group_by_form(taken, turn):
        if together[0].seen.records > turn:
            yield from _split_query(together[0], turn)
        else:
            batch = (
                together[0].seen.batch
                if len(together) == 1
                else _stack_waiting_batches([one.seen.batch for one in together])
            )
            yield Piece(
                [_summarize_query(one) for one in together],
                batch,
                np.concatenate([one.seen.labels for one in together]),
            )


def _summarize_query(one: Waiting) -> Asked:
    """Keep what a query says beside its records."""
    seen, answer = one.seen, one.seen.answer
    return Asked(
        one.at,
        seen.key,
        seen.group,
        seen.status,
        len(seen.labels),
        answer,
        seen.serving,
    )


def _group_by_form(taken: Sequence[Waiting], turn: int) -> list[list[Waiting]]:
    """Batch queries of one form; those about more than `turn` records stay alone."""
    found: list[list[Waiting]] = []
    last: object = None
    for one in taken:
        # None never equals the form before, so that a long query stays alone
        form = None if len(one.seen.labels) > turn else _find_batch_form(one.seen.batch)
        if found and form is not None and form == last:
            found[-1].append(one)
        else:
            found.append([one])
        last = form
    return found


def _split_query(one: Waiting, turn: int) -> Iterator[Piece]:
    """Split a query about many records into pieces of `turn`.

    An answer that is still to be read keeps it in one piece.
    """
    whole, seen = _summarize_query(one), one.seen
    if whole.answer:
        # Labels are read from the answer as a whole
        turn = seen.records
    for start in range(0, seen.records, turn):
        where = range(start, min(start + turn, seen.records))
        yield Piece(
            [whole._replace(records=len(where))],
            seen.batch.take(where),
            seen.labels[start : start + turn],
        )


def _find_batch_form(batch: Batch) -> object:
    """Find what records must share to be batched: types, shapes, and names of columns."""
    if batch.columns is None:
        array = np.asarray(batch.array)
        return array.dtype, array.shape[1:]
    return tuple((name, column.dtype, column.shape[1:]) for name, column in batch.columns.items())


def _stack_waiting_batches(batches: list[Batch]) -> Batch:
    """Join batches of one form.

    >>> len(_stack_waiting_batches([Batch(np.eye(2)), Batch(np.eye(2))]))
    4
    """
    if batches[0].columns is None:
        return Batch(np.concatenate([np.asarray(batch.array) for batch in batches]))
    names = batches[0].columns
    return Batch(
        columns={
            name: np.concatenate([(batch.columns or {})[name] for batch in batches])
            for name in names
        }
    )
