"""Keep one bucket a record in a table of fixed size that fails softly.

A bucket is the time when it will be full again, in ticks of a 3,603,600th of the refill time (a
number that most budgets divide; 16 microseconds at least). Taking n tokens moves that time; a bucket
that is full need not be kept. A budget of h is h tokens of ceil(ticks / h) ticks each, so that it
holds exactly h, and refills too late by less than a tick a token: never too early.

A place takes eight bytes: 24 bits of the time, a fingerprint of 28 bits, and 12 bits of the share
that the client belongs to. Places lie in sets of 16. A bucket's keyed hash names two sets, and it lies in
that which was emptier when it came, so that hardly a set is full before the table is [1]. Where both
have its fingerprint and share, the later time counts; whoever is taken for another so only has less:
one in ten million new records at 60% of the places in use.

Nothing that is not full gives way: a query about a new record that finds no place is refused, so
nobody gets a token too many. Who is refused is settled by shares. A share is a network or a client
with credentials. It gets a new place while it holds fewer than three times the free ones, and the
wider network around it four times (dynamic thresholds [2]): alone it may take three quarters of the
table, but however many records it makes up, others find room, and only its own excess is refused.

Times are kept modulo 2^24 ticks. What is over is swept away within a sixteenth of the refill time,
or half a minute, before its time could be taken for one to come.

References:
    1. M. Mitzenmacher: The Power of Two Choices in Randomized Load Balancing. IEEE Transactions on
Parallel and Distributed Systems 12, 2001.
    2. A. K. Choudhury, E. L. Hahne: Dynamic Queue Length Thresholds for Shared-Memory Packet
Switches. IEEE/ACM Transactions on Networking 6, 1998.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WAYS = 16  # places in a set
SET_BYTES = 8 * WAYS  # 16 fingerprints, then 16 times
HEADER = 4096  # bytes that are the file's own
SWEPT_AT = 64  # the byte of them where the time of the last sweep stands
# 2^4 3^2 5^2 7 11 13: budgets that divide it refill exactly
TICKS = 3_603_600
SHORTEST = 16e-6  # seconds of a tick
TIME_BITS, PRINT_BITS, NARROW_BITS, WIDE_BITS = 24, 20, 4, 8
MASK, HALF = (1 << TIME_BITS) - 1, 1 << TIME_BITS - 1
TAGS, WIDE = 1 << NARROW_BITS + WIDE_BITS, 1 << WIDE_BITS
# A share may hold so many times what is free, and so may the network around it
NARROW_SHARE, WIDE_SHARE = 3, 4
CHUNK = 4096  # sets that are swept at once
MANY = 24  # records from which arrays are faster than a loop


class Charged(NamedTuple):
    """What a charge of some buckets came to, and what it changed, to be undone if it is refused."""

    excess: int  # ticks that the bucket with the highest debt is above what it holds
    unplaced: bool  # whether a new bucket found no place
    changes: Sequence[tuple[int, int]]  # a place, and the stamp before, which is 0 for a new one


class RecordTable:
    """Times when each record's bucket will be full again, within the memory given.

    >>> table = RecordTable(mmap.mmap(-1, 1 << 20), 86400.0)
    >>> token, holds = table.price_token(5)
    >>> now = table.count_ticks(0.0)
    >>> [table.charge([7], [token], 0, holds, now).excess <= 0 for _ in range(6)]
    [True, True, True, True, True, False]
    """

    def __init__(self, memory: mmap.mmap, seconds: float) -> None:
        self.seconds, self._search = seconds, memory.find
        self.older = list[RecordTable]()  # of other sizes, whose buckets are copied when asked for
        self.tick = max(seconds / TICKS, SHORTEST)
        self.ticks = ceil(seconds / self.tick - 1e-6)
        self.sets = (len(memory) - HEADER) // SET_BYTES
        self._view = memoryview(memory).cast("I")
        words = np.frombuffer(memory, dtype=np.uint32)
        first, last = HEADER // 4, HEADER // 4 + 2 * WAYS * self.sets
        self._entries = words[first:last].reshape(self.sets, 2 * WAYS)
        self.places = WAYS * self.sets
        self._tokens: dict[int, tuple[int, int]] = {}
        self.used, self.last = 0, 0.0
        self._narrow, self._wide = [0] * TAGS, [0] * WIDE
        # The whole table in a sixteenth of the refill time, or half a minute
        self._next_chunk, self._swept = 0, memoryview(memory)[SWEPT_AT : SWEPT_AT + 8].cast("d")
        self._step = max(seconds / 16, 30.0) * min(1.0, CHUNK / self.sets)
        self._count_places()

    @staticmethod
    def find_tag(wide: int, narrow: int) -> int:
        """Give the tag of a share from two hashes: of the network around it, and of itself."""
        return wide % WIDE << NARROW_BITS | narrow % (1 << NARROW_BITS)

    def price_token(self, holds: int) -> tuple[int, int]:
        """Give the ticks of one token, and of all, of a bucket that holds so many."""
        found = self._tokens.get(holds)
        if found is None:
            token = -(-self.ticks // holds)
            found = self._tokens[holds] = token, token * holds
        return found

    def count_ticks(self, now: float) -> int:
        """Give the time in ticks, modulo 2^32, and sweep as far as is due."""
        self.last = now + self.seconds
        ticks = int(now / self.tick) & MASK
        rest = now - self._swept[0]
        if rest >= self._step:
            # Times cannot tell how long ago they were, once all buckets are full
            if rest >= self.seconds + self._step:
                self._clear()
            for _ in range(int(min(rest / self._step, self.sets / CHUNK + 1))):
                self._sweep(ticks)
            self._swept[0] = now
        return ticks

    def charge(
        self, keys: Sequence[int], costs: Sequence[int], tag: int, holds: int, now: int
    ) -> Charged:
        """Charge each bucket its cost, until one would owe more than it holds or finds no place.

        Then the rest is not charged, and what was is to be undone. Keys are hashes of 64 bits; costs
        and `holds` are in ticks.
        """
        excess, unplaced, changes = -holds, False, list[tuple[int, int]]()
        rest: Iterable[int] = range(len(keys))
        if len(keys) >= MANY and not self.older:
            excess, rest = self._charge_many(keys, costs, tag, (holds, now), changes)
        for i in rest:
            key, cost = keys[i], costs[i]
            debt, place = self._find_debt(key, tag, now)
            for older in self.older:
                debt = max(debt, older._find_debt(key, tag, now)[0])
            # Under a smaller budget than before, a bucket is empty at most
            excess = max(excess, (debt if debt < holds else holds) + cost - holds)
            if excess > 0 or unplaced:
                continue
            if place >= 0:
                changes.append((place, self._view[place]))
                self._view[place] = _stamp(key, now + debt + cost)
                continue
            place = self._take_place(key, tag, now)
            unplaced = place < 0
            if not unplaced:
                changes.append((place, 0))
                # The time first: a bucket that was cut off here is nobody's, and over in time
                self._view[place] = _stamp(key, now + debt + cost)
                self._view[place - WAYS] = _shorten(key, tag)
        return Charged(excess, unplaced, changes)

    def undo(self, charged: Charged, tag: int) -> None:
        """Undo a charge at once, before any other."""
        for place, before in reversed(charged.changes):
            if not before:
                self._view[place - WAYS] = 0
                self._count_place(tag, -1)
            self._view[place] = before

    def give_back(self, keys: Sequence[int], costs: Sequence[int], tag: int, now: int) -> None:
        """Lower the debt of buckets that have a place of their own; a sketch keeps what it has."""
        for key, cost in zip(keys, costs, strict=True):
            debt, place = self._find_debt(key, tag, now)
            if place >= 0 and debt:
                left = debt - cost
                # A bucket that is full again was so before now; 0 stands for an empty place
                self._view[place] = _stamp(key, now + left if left > 0 else now - 1)

    def _find_debt(self, key: int, tag: int, now: int) -> tuple[int, int]:
        """Find the ticks until a bucket is full, and the place of its time, or -1."""
        word, rest = _shorten(key, tag).to_bytes(4, "little"), key >> 36 & 255
        best, place = 0, -1
        for start in (key % self.sets * SET_BYTES, (key >> 17) % self.sets * SET_BYTES):
            start += HEADER
            found = self._search(word, start, start + 4 * WAYS)
            while found >= 0:
                # Bytes of two neighbours may look like the word, and another may begin like it
                at = (found >> 2) + WAYS
                if not found & 3 and self._view[at] >> TIME_BITS == rest:
                    debt = self._view[at] - now & MASK
                    debt = debt if debt < HALF else 0
                    if debt >= best:
                        best, place = debt, at
                    break
                found = self._search(word, found + 1, start + 4 * WAYS)
        return best, place

    def _take_place(self, key: int, tag: int, now: int) -> int:
        """Find the time of a place that is free or over, if the share may have one, or -1."""
        if self._count_admitted(tag) < 1:
            return -1
        most, place, starts = 0, -1, (key % self.sets, (key >> 17) % self.sets)
        for start in starts:
            first = HEADER // 4 + 2 * WAYS * start + WAYS
            times = self._view[first : first + WAYS].tolist()
            free = times.count(0)
            if free > most:
                most, place = free, first + times.index(0)
        if place < 0:
            place = max(self._find_over(start, now) for start in starts)
        if place >= 0:
            self._count_place(tag, 1)
        return place

    def _find_over(self, start: int, now: int) -> int:
        """Find a place in a set whose bucket is full by now, and count it as free."""
        first = HEADER // 4 + 2 * WAYS * start + WAYS
        for place in range(first, first + WAYS):
            if not 0 < (self._view[place] - now & MASK) < HALF:
                self._count_place(self._view[place - WAYS] >> PRINT_BITS, -1)
                return place
        return -1

    def _count_admitted(self, tag: int) -> int:
        """Count the places that a share may still take, after which it asks again."""
        free = self.places - self.used
        # Each place taken also lowers what is free
        narrow = (NARROW_SHARE * free - self._narrow[tag]) // (NARROW_SHARE + 1)
        wide = (WIDE_SHARE * free - self._wide[tag >> NARROW_BITS]) // (WIDE_SHARE + 1)
        return min(narrow, wide, free)

    def _count_place(self, tag: int, n: int) -> None:
        self.used += n
        self._narrow[tag] += n
        self._wide[tag >> NARROW_BITS] += n

    def _charge_many(
        self,
        keys: Sequence[int],
        costs: Sequence[int],
        tag: int,
        limit: tuple[int, int],
        changes: list[tuple[int, int]],
    ) -> tuple[int, Iterable[int]]:
        """Charge by arrays all that are alone in their set; give the excess and which are left.

        `limit` is what a bucket holds, and the time. Where one has too little, none is charged.
        """
        holds, now = limit
        hashes, cost = np.asarray(keys, dtype=np.uint64), np.asarray(costs, dtype=np.int64)
        every, total = np.arange(len(hashes)), np.uint64(self.sets)
        pairs = np.stack([hashes % total, (hashes >> np.uint64(17)) % total], axis=1)
        words = (hashes >> np.uint64(64 - PRINT_BITS)).astype(np.uint32)
        words = np.maximum(words | np.uint32(tag << PRINT_BITS), np.uint32(1))
        rest = (hashes >> np.uint64(36)).astype(np.uint32) << np.uint32(TIME_BITS)
        rows = self._entries[pairs.astype(np.int64)]  # (n, 2, 32)
        times = rows[:, :, WAYS:].reshape(len(hashes), 2 * WAYS)
        match = (rows[:, :, :WAYS] == words[:, None, None]).reshape(len(hashes), 2 * WAYS)
        match &= (times ^ rest[:, None]) <= np.uint32(MASK)
        debts = np.where(match, self._subtract(times, now), -1)
        places = debts.argmax(axis=1)
        new = debts[every, places] < 0
        after = np.maximum(debts[every, places], 0) + cost
        excess = int((np.minimum(after - cost, holds) + cost).max()) - holds
        if excess > 0:
            return excess, ()
        # What is new goes to the emptier set, to its first free place
        free = (times == 0).reshape(len(hashes), 2, WAYS)
        emptier = free.sum(axis=2).argmax(axis=1)
        which = np.where(new, emptier, places // WAYS)
        place = np.where(new, free[every, emptier].argmax(axis=1), places % WAYS)
        sets = pairs[every, which].astype(np.int64)
        # Two in one set might want one place
        order = np.argsort(sets)
        near = sets[order][1:] == sets[order][:-1]
        alone = ~new | free[every, which, place]
        alone[order[1:][near]] = alone[order[:-1][near]] = False
        # Two with one word may not see each other here, which harms nobody if both cost the same
        if new.sum() > self._count_admitted(tag) or len(set(costs)) > 1:
            alone &= ~new
        stamps = np.maximum(rest | ((now + after) & MASK).astype(np.uint32), np.uint32(1))
        at = HEADER // 4 + 2 * WAYS * sets[alone] + WAYS + place[alone]
        before = self._entries[sets[alone], place[alone] + WAYS]
        changes += zip(at.tolist(), before.tolist(), strict=True)
        self._entries[sets[alone], place[alone] + WAYS] = stamps[alone]
        self._entries[sets[alone], place[alone]] = words[alone]
        self._count_place(tag, int((new & alone).sum()))
        return excess, np.flatnonzero(~alone).tolist()

    def _subtract(self, times: NDArray[np.uint32], now: int) -> NDArray[np.int64]:
        """Find the ticks from now until each time, 0 where it is over or none."""
        ahead = ((times - np.uint32(now)) & np.uint32(MASK)).astype(np.int64)
        return np.where((times == 0) | (ahead >= HALF), 0, ahead)

    def _sweep(self, now: int) -> None:
        """Empty the places of one chunk whose buckets are full."""
        chunk = self._entries[self._next_chunk : self._next_chunk + CHUNK]
        times = chunk[:, WAYS:]
        over = (times != 0) & (self._subtract(times, now) == 0)
        if over.any():
            # Words first: a word without a time would be found
            tags = chunk[:, :WAYS][over] >> PRINT_BITS
            chunk[:, :WAYS][over] = 0
            times[over] = 0
            for tag, n in enumerate(np.bincount(tags).tolist()):
                if n:
                    self._count_place(tag, -n)
        self._next_chunk += CHUNK
        if self._next_chunk >= self.sets:
            self._next_chunk = 0

    def _clear(self) -> None:
        """Forget all buckets."""
        self._entries[:] = 0
        self.used, self._narrow, self._wide = 0, [0] * TAGS, [0] * WIDE

    def _count_places(self) -> None:
        """Count the places in use, and empty those that were written half."""
        for start in range(0, self.sets, CHUNK):
            chunk = self._entries[start : start + CHUNK]
            words, times = chunk[:, :WAYS], chunk[:, WAYS:]
            words[(times == 0) & (words != 0)] = 0
            if times.any():
                tags = np.bincount(words[times != 0] >> PRINT_BITS)
                for tag in np.flatnonzero(tags).tolist():
                    self._count_place(tag, int(tags[tag]))


def _shorten(key: int, tag: int) -> int:
    """Give the word of a bucket: its share and the first 20 bits of its fingerprint, never 0."""
    return tag << PRINT_BITS | key >> 64 - PRINT_BITS or 1


def _stamp(key: int, time: int) -> int:
    """Give the time of a bucket, with the last 8 bits of its fingerprint, never 0."""
    return (key >> 36 & 255) << TIME_BITS | time & MASK or 1
