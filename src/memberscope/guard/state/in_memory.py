"""Keep budgets and responses of one process in memory of fixed size, or in files mapped into it.

Buckets of clients lie in one table for each kind and refill time (`BucketTable`), those of records
in one for each refill time (`RecordTable`). Hashes are keyed, so that nobody can choose where a
bucket lies.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import get_args

from memberscope.guard.policy.tables import Response
from memberscope.guard.state.bucket_table import BucketTable
from memberscope.guard.state.budget_folder import BudgetFolder
from memberscope.guard.state.interface import (
    ActiveResponse,
    AnyBucket,
    RecordBuckets,
    Taken,
)
from memberscope.guard.state.record_table import Charged, RecordTable

ROUNDING = 1e-9  # of the refill time: what sums of refills may err by
RECORD_BYTES = 64 * 2**20  # of a table of records
KEEPS_TIME = 1.0  # seconds after which the time of the budgets is kept again
HARDNESS: tuple[Response, ...] = get_args(Response)


@dataclass(frozen=True)
class Saturation:
    """How full the tables of records are: the fullest one's share of places in use.

    `unplaced` counts queries refused as a new record found no place.
    """

    used: float
    unplaced: int


class MemoryState:
    """State of a guard that is one process.

    `publish` is called with each line of the access log.

    `clients` bounds the memory: about 33 bytes for each client's bucket. `record_bytes` are those
    of each table of records, of which there is one for each refill time. With a `folder` both are
    files there, and budgets go on after a restart. `clock` is in seconds, and `wall` too, which
    tells how long a restart took; where they step back, no time has passed. `secret` lasts as long
    as the budgets. To be used from one event loop.

    >>> import asyncio
    >>> from memberscope.guard.policy.tables import RateLimit
    >>> from memberscope.guard.state.interface import Bucket
    >>> state = MemoryState(clients=100, clock=lambda: 0.0)
    >>> ask = lambda n: asyncio.run(state.take([Bucket("c:default:ff", RateLimit.of("10/h"), n)]))
    >>> ask(10), ask(1)
    (Taken(allowed=True, retry_after=0.0, lacking=None, full_after=3600.0),
    Taken(allowed=False, retry_after=360.0, lacking=0, full_after=3600.0))
    """

    def __init__(
        self,
        clients: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
        publish: Callable[[str], object] = lambda line: None,
        *,
        record_bytes: int = RECORD_BYTES,
        folder: BudgetFolder | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._clients, self._clock, self._publish = clients, clock, publish
        self._record_bytes, self._folder, self._wall = record_bytes, folder, wall
        self._seen = clock()
        self._time = 0.0 if folder is None else folder.resume(wall())
        self._kept = -inf
        self._unplaced = 0
        self._tables: dict[tuple[str, float], BucketTable] = {}
        self._records: dict[float, RecordTable] = {}
        self._standing: dict[str, dict[Response, tuple[float, str]]] = {}
        self.secret = os.urandom(32) if folder is None else folder.secret
        # Copied for each name, as that is faster than setting the key up
        start = hashlib.blake2b(digest_size=8, key=self.secret, person=b"bucket")

        def hash_name(name: str) -> int:
            one = start.copy()
            one.update(name.encode())
            return int.from_bytes(one.digest(), "little")

        def find_tag(share: tuple[str, str]) -> int:
            return RecordTable.find_tag(hash_name(share[0]), hash_name(share[1]))

        def find_kind(name: str) -> tuple[str, int]:
            kind, colon, _ = name.partition(":")
            return kind if colon else "", hash_name(name)

        # Remembered, as the same clients come again
        self._hash, self._known = lru_cache(8192)(hash_name), lru_cache(8192)(find_kind)
        self._tag = lru_cache(8192)(find_tag)

    async def take(self, buckets: Sequence[AnyBucket]) -> Taken:
        """Take from all buckets or from none."""
        now = self._now()
        wanted: dict[tuple[str, float], tuple[BucketTable, int, float, int]] = {}
        charged: list[tuple[RecordTable, Charged, int]] = []
        longest, lacking = 0.0, None
        for place, bucket in enumerate(buckets):
            rate = bucket.rate
            holds, whole = rate.n, rate.seconds
            if isinstance(bucket, RecordBuckets):
                wait = self._charge(bucket, now, charged)
            else:
                name = (bucket.key, whole)
                table, key, full_at, at = wanted.get(name) or self._found(bucket.key, whole, now)
                # A bucket that filled up earlier holds no more than a full one
                if full_at < now:
                    full_at = now
                # Under a smaller rate than before, a bucket is empty at most
                elif full_at > now + whole:
                    full_at = now + whole
                full_at += bucket.n * whole / holds
                # A bucket that never holds n tokens will not do so after any time
                wait = inf if bucket.n > holds else full_at - now - whole
                # The same bucket may be drawn from twice in one request
                wanted[name] = table, key, full_at, at
            # Sums of refills err in the last digits, which must not refuse the last token
            if wait > longest and wait > ROUNDING * whole:
                longest, lacking = wait, place
        owed = _find_first_debt(buckets, wanted, now, taken=lacking is None)
        if lacking is not None:
            for records, changed, tag in reversed(charged):
                records.undo(changed, tag)
            return Taken(False, longest, lacking, owed)
        # All have enough: only now is anything taken
        for table, key, full_at, at in wanted.values():
            if full_at > now:
                table.put(key, full_at, now, at)
        return Taken(True, full_after=owed, at=now)

    async def refund(self, buckets: Sequence[AnyBucket], taken: Taken) -> None:
        """Give back what was taken, less what has refilled since.

        What only a sketch has counted stays taken.
        """
        now = self._now()
        for bucket in buckets:
            rate = bucket.rate
            if isinstance(bucket, RecordBuckets):
                table = self._record_table(rate.seconds, now)
                keys, costs, tag = self._address(bucket, table.price_token(rate.n)[0])
                # Without the taking, a bucket would have refilled no more than this since
                since = int(now / table.tick) - int(taken.at / table.tick)
                table.give_back(
                    keys, [max(0, cost - since) for cost in costs], tag, table.count_ticks(now)
                )
            else:
                back = bucket.n * rate.seconds / rate.n - (now - taken.at)
                if back > 0:
                    clients, key, _, _ = self._found(bucket.key, rate.seconds, now)
                    clients.give_back(key, back)

    async def standing(self, client: str) -> ActiveResponse | None:
        """Find the hardest response in force for `client`."""
        if client not in self._standing:
            return None
        now = self._now()
        in_force = {
            kind: detector for kind, (end, detector) in self._standing[client].items() if end > now
        }
        return next(
            (
                ActiveResponse(kind, in_force[kind])
                for kind in reversed(HARDNESS)
                if kind in in_force
            ),
            None,
        )

    async def stand(self, client: str, standing: ActiveResponse, seconds: float) -> None:
        """Put a response in force for so long.

        One in force that is harder, or lasts longer, stays.
        """
        now = self._now()
        # Memory stays bounded, however many clients alarm
        if client not in self._standing and len(self._standing) >= self._clients:
            self._forget(now)
        kept = self._standing.setdefault(client, {})
        if now + seconds > kept.get(standing.response, (now, ""))[0]:
            kept[standing.response] = now + seconds, standing.detector

    async def publish(self, line: str) -> None:
        """Hand a line of the access log to the monitor."""
        self._publish(line)

    async def close(self) -> None:
        """Write the files of budgets, if there are any, and let go of them."""
        if self._folder is not None:
            self._folder.keep_time(self._now(), self._wall())
            self._folder.close()

    def reserve(self, seconds: float) -> None:
        """Make the table of records with this refill time now, not when a record is asked about.

        Raises:
            InputError: Its file cannot be made.
        """
        self._record_table(seconds, self._now())

    def saturation(self) -> Saturation:
        """Tell how full the tables of records are."""
        tables = self._records.values()
        return Saturation(
            max((table.used / table.places for table in tables), default=0.0),
            self._unplaced,
        )

    def _now(self) -> float:
        """Give the seconds since the start, as far as the clock went forwards."""
        seen = self._clock()
        self._time += max(0.0, seen - self._seen)
        self._seen = seen
        if self._folder is not None and self._time >= self._kept + KEEPS_TIME:
            self._kept = self._time
            self._folder.keep_time(self._time, self._wall())
        return self._time

    def _charge(
        self, bucket: RecordBuckets, now: float, charged: list[tuple[RecordTable, Charged, int]]
    ) -> float:
        """Charge some records' buckets, note what is to be undone, and give the seconds to wait."""
        whole, holds = bucket.rate.seconds, bucket.rate.n
        table = self._records.get(whole) or self._record_table(whole, now)
        token, most = table.price_token(holds)
        keys, costs, tag = self._address(bucket, token)
        found = table.charge(keys, costs, tag, most, table.count_ticks(now))
        charged.append((table, found, tag))
        if found.unplaced:
            self._unplaced += 1
            # Others become full within the refill time; when is not known
            return whole / 16
        if found.excess <= 0:
            return 0.0
        return inf if max(bucket.times) > holds else (found.excess + 1) * table.tick

    def _address(self, bucket: RecordBuckets, token: int) -> tuple[list[int], list[int], int]:
        """Give the hashes, the costs and the share's tag of some records' buckets.

        `token` is the cost of one.
        """
        # Both are keyed hashes: which client's a bucket is shifts where all of them lie
        owner, tag = self._hash(bucket.key), self._tag(bucket.share)
        if len(bucket.records) == 1:
            return [owner ^ bucket.records[0]], [token * bucket.times[0]], tag
        return [owner ^ record for record in bucket.records], [token * n for n in bucket.times], tag

    def _record_table(self, whole: float, now: float) -> RecordTable:
        table = self._records.get(whole)
        if table is None:
            self._drop_tables(now)
            memory, *older = self._open_memories(f"records-{whole:.12g}", self._record_bytes)
            table = self._records[whole] = RecordTable(memory, whole)
            table.older = [RecordTable(part, whole) for part in older]
            # What a file has counted is not over before it has refilled
            table.last = now + whole
        return table

    def _found(self, name: str, whole: float, now: float) -> tuple[BucketTable, int, float, int]:
        kind, key = self._known(name)
        table = self._tables.get((kind, whole)) or self._table(kind, whole, now)
        # A table in use is not dropped as one of an earlier policy
        if table.last < now:
            table.last = now
        full_at, at = table.find(key)
        for older in table.older:
            full_at = max(full_at, older.full_at(key))
        return table, key, full_at, at

    def _table(self, kind: str, whole: float, now: float) -> BucketTable:
        """Make a table; drop those of an earlier policy that are full and not in use."""
        self._drop_tables(now)
        # One bucket is all clients' together
        size = BucketTable.count_bytes(0 if kind == "a" else self._clients)
        memory, *older = self._open_memories(f"{kind or 'x'}-{whole:.12g}", size)
        table = self._tables[kind, whole] = BucketTable(memory)
        table.older = [BucketTable(part) for part in older]
        table.last = max([table.last, *(part.last for part in table.older)])
        return table

    def _open_memories(self, name: str, size: int) -> list[mmap.mmap]:
        """Open a table's memory, and those of other sizes that earlier settings left."""
        if self._folder is None:
            return [mmap.mmap(-1, size)]
        memory = self._folder.open_memory(f"{name}-{size}", size)
        return [memory, *self._folder.open_others(name, size)]

    def _drop_tables(self, now: float) -> None:
        """Drop the tables of an earlier policy that are full and not in use."""
        for (kind, whole), table in [*self._tables.items()]:
            if table.last < now:
                del self._tables[kind, whole]
                self._drop_file(f"{kind or 'x'}-{whole:.12g}")
        for whole, records in [*self._records.items()]:
            if records.last < now:
                del self._records[whole]
                self._drop_file(f"records-{whole:.12g}")

    def _drop_file(self, name: str) -> None:
        if self._folder is not None:
            self._folder.drop_memories(name)

    def _forget(self, now: float) -> None:
        """Drop the clients whose responses are over, or else the tenth that end first."""
        ends = {
            client: max((end for end, _ in kept.values()), default=now)
            for client, kept in self._standing.items()
        }
        order = sorted(ends, key=ends.__getitem__)
        over = sum(end <= now for end in ends.values())
        # A tenth at once, so that sorting is not done anew for each client that follows
        for client in order[: max(over, len(order) // 10, 1)]:
            del self._standing[client]


def _find_first_debt(
    buckets: Sequence[AnyBucket],
    wanted: dict[tuple[str, float], tuple[BucketTable, int, float, int]],
    now: float,
    *,
    taken: bool,
) -> float:
    """Find the seconds until the first bucket is full, 0 if it is one of records.

    All that is asked for is `taken`, or none of it.
    """
    # The client's own bucket comes first, where it has one
    if not buckets or isinstance(buckets[0], RecordBuckets):
        return 0.0
    first = buckets[0]
    owed = wanted[first.key, first.rate.seconds][2] - now
    return max(0.0, owed if taken else owed - first.debt)
