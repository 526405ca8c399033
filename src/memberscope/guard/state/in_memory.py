"""Keep budgets and responses of one process in memory of fixed size.

A bucket is one number: when it will be full again. Until then it lacks the tokens that refill in
the meantime, so taking n tokens moves that time by n refills, and a full bucket need not be kept.

Buckets of one kind and one refill time lie in a table of sets of 16, a bucket's set being given by
Python's keyed hash. A new one takes the place of one that is full again. Where all 16 are in use it
takes the place of the fullest and *starts from that one's level*, and so does every later newcomer
to the set until that time has passed (the rule of Space-Saving [1], with time in place of counts).
So whatever was dropped comes back with no more tokens than it had: no flood of identities buys
anybody a token. What a flood does cost is paid by newcomers, who start with less: by about as many
tokens as the flood took in all, divided by the places of the table.

References:
    1. A. Metwally, D. Agrawal, A. El Abbadi: Efficient Computation of Frequent and Top-k Elements
in Data Streams. ICDT 2005.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from math import inf
from typing import get_args

from memberscope.guard.policy.tables import Response
from memberscope.guard.state.interface import ActiveResponse, Bucket, Taken

# Buckets in a set; a table has twice the places that it is made for, so that few sets overflow
WAYS = 16
# Buckets of a kind for each client: one for all clients together, four records a client, else one
SHARE = {
    "a": 0,
    "r": 4,
}
ROUNDING = 1e-9  # of the refill time: what sums of refills may err by
HARDNESS: tuple[Response, ...] = get_args(Response)


class BucketTable:
    """Times when each bucket will be full again, for about `size` buckets with equal refill times.

    >>> table = BucketTable(100)
    >>> table.put(7, 5.0, now=0.0)
    >>> table.full_at(7), table.full_at(8)
    (5.0, 0.0)
    """

    def __init__(self, size: int) -> None:
        self.sets = max(1, -(-2 * size // WAYS))
        self.keys = array("q", bytes(8 * WAYS * self.sets))
        self.times = array("d", bytes(8 * WAYS * self.sets))
        # The latest time of all that a set has dropped
        self.floors = array("d", bytes(8 * self.sets))
        self.last = 0.0  # when all will be full, or when the table was last looked at

    def full_at(self, key: int) -> float:
        """Find when the bucket will be full; for one that may have been dropped, at the latest."""
        start = key % self.sets * WAYS
        try:
            return self.times[self.keys.index(key, start, start + WAYS)]
        except ValueError:
            # Unknown here: new, or dropped with no more tokens than the floor says
            return self.floors[key % self.sets]

    def put(self, key: int, full_at: float, now: float) -> None:
        """Keep that time, in place of a full bucket or of the fullest."""
        start = key % self.sets * WAYS
        try:
            place = self.keys.index(key, start, start + WAYS)
        except ValueError:
            earliest = min(self.times[start : start + WAYS])
            place = self.times.index(earliest, start, start + WAYS)
            # The bucket that gives way is not full yet, so that the floor must remember it
            if earliest > now:
                self.floors[key % self.sets] = max(earliest, self.floors[key % self.sets])
            self.keys[place] = key
        self.times[place] = full_at
        self.last = max(self.last, full_at)


class MemoryState:
    """State of a guard that is one process.

    `publish` is called with each line of the access log.

    `clients` bounds the memory: about 33 bytes for each client's bucket, and 130 for those of its
    records. `clock` is in seconds; where it steps back, no time has passed. To be used from one
    event loop.

    >>> import asyncio
    >>> from memberscope.guard.policy.tables import RateLimit
    >>> state = MemoryState(clients=100, clock=lambda: 0.0)
    >>> ask = lambda n: asyncio.run(state.take([Bucket("c:default:ff", RateLimit.of("10/h"), n)]))
    >>> ask(10), ask(1)
    (Taken(allowed=True, retry_after=0.0, lacking=None), Taken(allowed=False, retry_after=360.0,
    lacking=0))
    """

    def __init__(
        self,
        clients: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
        publish: Callable[[str], object] = lambda line: None,
    ) -> None:
        self._clients, self._clock, self._publish = clients, clock, publish
        self._seen, self._time = clock(), 0.0
        self._tables: dict[tuple[str, float], BucketTable] = {}
        self._standing: dict[str, dict[Response, tuple[float, str]]] = {}

    async def take(self, buckets: Sequence[Bucket]) -> Taken:
        """Take from all buckets or from none."""
        now = self._now()
        wanted: dict[tuple[str, float], tuple[BucketTable, int, float]] = {}
        longest, lacking = 0.0, None
        for place, bucket in enumerate(buckets):
            rate, n = bucket.rate, bucket.n
            holds, whole = rate.n, rate.seconds
            name = (bucket.key, whole)
            table, key, full_at = wanted.get(name) or self._found(bucket.key, whole, now)
            # A bucket that filled up earlier holds no more than a full one
            if full_at < now:
                full_at = now
            # Under a smaller rate than before, a bucket is empty at most
            elif full_at > now + whole:
                full_at = now + whole
            full_at += n * whole / holds
            # A bucket that never holds n tokens will not do so after any time
            wait = inf if n > holds else full_at - now - whole
            # Sums of refills err in the last digits, which must not refuse the last token
            if wait > longest and wait > ROUNDING * whole:
                longest, lacking = wait, place
            # The same bucket may be drawn from twice in one request
            wanted[name] = table, key, full_at
        if lacking is not None:
            return Taken(False, longest, lacking)
        # All have enough: only now is anything taken
        for table, key, full_at in wanted.values():
            if full_at > now:
                table.put(key, full_at, now)
        return Taken(True)

    async def refund(self, buckets: Sequence[Bucket], taken: Taken) -> None:
        """Give back what was taken, as far as it has not come back by itself."""
        now = self._now()
        for bucket in buckets:
            table, key, full_at = self._found(bucket.key, bucket.rate.seconds, now)
            if full_at > now:
                table.put(key, full_at - bucket.n * bucket.rate.seconds / bucket.rate.n, now)

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
        """Do nothing: nothing is held open."""

    def _now(self) -> float:
        """Give the seconds since the start, as far as the clock went forwards."""
        seen = self._clock()
        self._time += max(0.0, seen - self._seen)
        self._seen = seen
        return self._time

    def _found(self, name: str, whole: float, now: float) -> tuple[BucketTable, int, float]:
        kind, colon, _ = name.partition(":")
        table = self._tables.get((kind if colon else "", whole)) or self._table(
            kind if colon else "", whole, now
        )
        # A table in use is not dropped as one of an earlier policy
        if table.last < now:
            table.last = now
        key = hash(name)
        return table, key, table.full_at(key)

    def _table(self, kind: str, whole: float, now: float) -> BucketTable:
        """Make a table; drop those of an earlier policy that are full and not in use."""
        self._tables = {name: other for name, other in self._tables.items() if other.last >= now}
        table = self._tables[kind, whole] = BucketTable(self._clients * SHARE.get(kind, 1))
        return table

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
