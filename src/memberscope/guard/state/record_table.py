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

Nothing that is not full gives way. A new bucket that finds no place is counted in a sketch instead:
the latest time of its set, and of two of its share's own cells. What the sketch says of a bucket is
the least of the three, which is never earlier than the truth (a count-min sketch [2] with
conservative update, of times in place of counts), so nobody gets a token too many.

A share is a network or a client with credentials. It gets a new place while it holds fewer than
twice the free ones, and the wider network around it four times the free ones (dynamic thresholds
[3]): alone it may take two thirds of the table, but however many records it makes up, a third stays
free for others, and what exceeds its share falls to its own cells.

Times are kept modulo 2^24 ticks. What is over is swept away within a sixteenth of the refill time,
or half a minute, before its time could be taken for one to come.

References:
    1. M. Mitzenmacher: The Power of Two Choices in Randomized Load Balancing. IEEE Transactions on
Parallel and Distributed Systems 12, 2001.
    2. G. Cormode, S. Muthukrishnan: An Improved Data Stream Summary: The Count-Min Sketch and its
Applications. Journal of Algorithms 55, 2005.
    3. A. K. Choudhury, E. L. Hahne: Dynamic Queue Length Thresholds for Shared-Memory Packet
Switches. IEEE/ACM Transactions on Networking 6, 1998.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any, NamedTuple

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
MASK, HALF = 2**TIME_BITS - 1, 2 ** (TIME_BITS - 1)
REST = 1 << TIME_BITS  # stands above the times of a sketch, so that none is 0
TAGS, WIDE = 1 << NARROW_BITS + WIDE_BITS, 1 << WIDE_BITS
# A share may hold so many times what is free, and so may the network around it
NARROW_SHARE, WIDE_SHARE = 2, 4
FEWEST_CELLS = 16
ZERO = bytes(4)
CHUNK = 4096  # sets that are swept at once
MANY = 24  # records from which arrays are faster than a loop


class Priced(NamedTuple):
    """What a charge of some buckets would come to."""

    keys: Sequence[int]
    costs: Sequence[int]
    tag: int
    now: int
    excess: int  # ticks that the bucket with the highest debt is above what it holds
    inexact: bool  # whether its debt came from the sketch
    # A debt and a place of each or, of arrays: sets, places, words, which are new, room, times
    found: Sequence[Any]


class RecordTable:
    """Times when each record's bucket will be full again, within the memory given.

    >>> table = RecordTable(mmap.mmap(-1, 1 << 20), 86400.0)
    >>> token, holds = table.price_token(5)
    >>> now = table.count_ticks(0.0)
    >>> for _ in range(5):
    ...     table.charge(table.price([7], [token], 0, holds, now))
    >>> table.price([7], [token], 0, holds, now).excess == token
    True
    """

    def __init__(self, memory: mmap.mmap, seconds: float) -> None:
        self.seconds, self._search = seconds, memory.find
        self.older = list[RecordTable]()  # of other sizes, whose buckets are copied when asked for
        self.tick = max(seconds / TICKS, SHORTEST)
        self.ticks = ceil(seconds / self.tick - 1e-6)
        self.sets = (len(memory) - HEADER - 4 * 2 * WIDE * FEWEST_CELLS) // (SET_BYTES + 8)
        self.cells = max(FEWEST_CELLS, self.sets // (2 * WIDE))
        self._view = memoryview(memory).cast("I")
        words = np.frombuffer(memory, dtype=np.uint32)
        first, last = HEADER // 4, HEADER // 4 + 2 * WAYS * self.sets
        self._entries = words[first:last].reshape(self.sets, 2 * WAYS)
        self._floors_at, self._cells_at = last, last + self.sets
        self._floors = words[last : last + self.sets]
        self._sketch = words[self._cells_at : self._cells_at + 2 * WIDE * self.cells]
        self.places = WAYS * self.sets
        self._tokens: dict[int, tuple[int, int]] = {}
        self.used, self.overflowed, self.last = 0, 0, 0.0
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

    def price(
        self, keys: Sequence[int], costs: Sequence[int], tag: int, holds: int, now: int
    ) -> Priced:
        """Find what each bucket would owe after its cost, and the worst, without taking anything.

        Keys are hashes of 64 bits, each different; costs and `holds` are in ticks.
        """
        if len(keys) >= MANY:
            return self._price_many(keys, costs, tag, holds, now)
        # Most requests are about one record
        if len(keys) == 1:
            debt, place = self._find_debt(keys[0], tag, now)
            above = (debt if debt < holds else holds) + costs[0] - holds
            return Priced(keys, costs, tag, now, above, place < 0 < debt, ((debt, place),))
        excess, inexact, found = -holds, False, []
        for key, cost in zip(keys, costs, strict=True):
            debt, place = self._find_debt(key, tag, now)
            # Under a smaller budget than before, a bucket is empty at most
            above = (debt if debt < holds else holds) + cost - holds
            if above > excess:
                excess, inexact = above, place < 0 < debt
            found.append((debt, place))
        return Priced(keys, costs, tag, now, excess, inexact, found)

    def charge(self, priced: Priced) -> None:
        """Take what was priced; nothing else may have been taken in between."""
        keys, costs, tag, now, _, _, found = priced
        if len(keys) == 1:
            self._put(keys[0], found[0][0] + costs[0], tag, now, found[0][1])
            return
        if len(keys) < MANY:
            rest: Iterable[int] = range(len(keys))
        else:
            rest = self._charge_arrays(priced).tolist()
        for i in rest:
            # Found again: two of them may be one bucket
            debt, place = self._find_debt(keys[i], tag, now)
            self._put(keys[i], debt + costs[i], tag, now, place)

    def copy_debts(self, older: RecordTable, keys: Sequence[int], tag: int, now: int) -> None:
        """Have each bucket owe at least what a table with the same refill time says."""
        for key in keys:
            debt = older._find_debt(key, tag, now)[0]
            if debt:
                own, place = self._find_debt(key, tag, now)
                if debt > own:
                    self._put(key, debt, tag, now, place)

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
        if place >= 0:
            return best, place
        floor = self._view[self._floors_at + key % self.sets]
        # Most sets have never sent a bucket to the sketch
        if not floor:
            return 0, -1
        times = floor, *(self._view[cell] for cell in self._find_cells(key, tag))
        debts = [time - now & MASK if time else 0 for time in times]
        return min(debt if debt < HALF else 0 for debt in debts), -1

    def _find_word(self, word: bytes, start: int) -> int:
        """Find a word of four bytes among the 16 from `start`; as an index of words, or -1."""
        place = self._search(word, start, start + 4 * WAYS)
        while place & 3 and place >= 0:
            place = self._search(word, place + 1, start + 4 * WAYS)
        return place >> 2

    def _find_cells(self, key: int, tag: int) -> tuple[int, int]:
        first = self._cells_at + 2 * self.cells * (tag >> NARROW_BITS)
        return (
            first + (key >> 13) % self.cells,
            first + self.cells + (key >> 29) % self.cells,
        )

    def _put(self, key: int, debt: int, tag: int, now: int, place: int) -> None:
        """Keep a bucket's debt in its place, in a new one, or in the sketch."""
        if place >= 0:
            self._view[place] = _stamp(key, now + debt)
        elif (place := self._take_place(key, tag, now)) >= 0:
            # The time first: a bucket that was cut off here is nobody's, and over in time
            self._view[place] = _stamp(key, now + debt)
            self._view[place - WAYS] = _shorten(key, tag)
        else:
            self.overflowed += 1
            for cell in (self._floors_at + key % self.sets, *self._find_cells(key, tag)):
                kept = self._view[cell] - now & MASK if self._view[cell] else 0
                if kept >= HALF or kept < debt:
                    self._view[cell] = REST | now + debt & MASK

    def _take_place(self, key: int, tag: int, now: int) -> int:
        """Find the time of a place that is free or over, if the share may have one, or -1."""
        if self._count_admitted(tag) < 1:
            return -1
        # Sets are filled from their first place on: the first free one tells how full they are
        starts = [
            HEADER + key % self.sets * SET_BYTES,
            HEADER + (key >> 17) % self.sets * SET_BYTES,
        ]
        first, second = (self._find_word(ZERO, start + 4 * WAYS) for start in starts)
        place = second
        if first >= 0 and (second < 0 or first - starts[0] // 4 <= second - starts[1] // 4):
            place = first
        if place < 0:
            place = max(self._find_over(start // 4 + WAYS, now) for start in starts)
        if place >= 0:
            self._count_place(tag, 1)
        return place

    def _find_over(self, first: int, now: int) -> int:
        """Find a place whose bucket is full by now, and count it as free."""
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

    def _price_many(
        self, keys: Sequence[int], costs: Sequence[int], tag: int, holds: int, now: int
    ) -> Priced:
        """Price as `price` does, by arrays."""
        hashes, cost = np.asarray(keys, dtype=np.uint64), np.asarray(costs, dtype=np.int64)
        every, total = np.arange(len(hashes)), np.uint64(self.sets)
        pairs = np.stack([hashes % total, (hashes >> np.uint64(17)) % total], axis=1)
        words = (hashes >> np.uint64(64 - PRINT_BITS)).astype(np.uint32)
        words = np.maximum(words | np.uint32(tag << PRINT_BITS), np.uint32(1))
        rest = (hashes >> np.uint64(36)).astype(np.uint32) << np.uint32(TIME_BITS)
        rows = self._entries[pairs.astype(np.int64)]  # (n, 2, 32)
        times = rows[:, :, WAYS:].reshape(len(hashes), 2 * WAYS)
        match = (rows[:, :, :WAYS] == words[:, None, None]).reshape(len(hashes), 2 * WAYS)
        match &= (times & np.uint32(~MASK & 2**32 - 1)) == rest[:, None]
        all_debts = np.where(match, self._subtract(times, now), -1)
        places = all_debts.argmax(axis=1)
        debts = all_debts[every, places]
        unknown = debts < 0
        debts[unknown] = self._find_sketched(hashes[unknown], tag, now)
        after = np.minimum(debts, holds) + cost
        worst = int(after.argmax())
        inexact = bool(unknown[worst] and debts[worst])
        # What is new goes to the emptier set, to its first free place
        free = (times == 0).reshape(len(hashes), 2, WAYS)
        emptier = free.sum(axis=2).argmax(axis=1)
        place = np.where(unknown, free[every, emptier].argmax(axis=1), places % WAYS)
        which = np.where(unknown, emptier, places // WAYS)
        room = ~unknown | free[every, which, place]
        stamps = np.maximum(rest | ((now + debts + cost) & MASK).astype(np.uint32), np.uint32(1))
        found = pairs[every, which].astype(np.int64), place, words, unknown, room, stamps
        return Priced(keys, costs, tag, now, int(after[worst]) - holds, inexact, found)

    def _find_sketched(self, hashes: NDArray[np.uint64], tag: int, now: int) -> NDArray[np.int64]:
        """Find what the sketch says of some buckets' debts."""
        sets = (hashes % np.uint64(self.sets)).astype(np.int64)
        debts = self._subtract(self._floors[sets], now)
        some = np.flatnonzero(debts)
        if len(some):
            cells, first = np.uint64(self.cells), 2 * self.cells * (tag >> NARROW_BITS)
            for row, shift in ((0, 13), (1, 29)):
                at = (hashes[some] >> np.uint64(shift)) % cells
                times = self._sketch[at.astype(np.int64) + first + row * self.cells]
                debts[some] = np.minimum(debts[some], self._subtract(times, now))
        return debts

    def _subtract(self, times: NDArray[np.uint32], now: int) -> NDArray[np.int64]:
        """Find the ticks from now until each time, 0 where it is over or none."""
        ahead = ((times - np.uint32(now)) & np.uint32(MASK)).astype(np.int64)
        return np.where((times == 0) | (ahead >= HALF), 0, ahead)

    def _charge_arrays(self, priced: Priced) -> NDArray[np.int64]:
        """Charge all buckets that are alone in their set; give the places of the others."""
        sets, place, words, unknown, room, stamps = priced.found
        order = np.argsort(sets)
        near = sets[order][1:] == sets[order][:-1]
        # Two in one set might want one place
        alone = room.copy()
        alone[order[1:][near]] = alone[order[:-1][near]] = False
        new = alone & unknown
        # Two with one word may not see each other here, which harms nobody if both cost the same
        if new.sum() > self._count_admitted(priced.tag) or len(set(priced.costs)) > 1:
            alone &= ~unknown
            new[:] = False
        self._entries[sets[alone], place[alone] + WAYS] = stamps[alone]
        self._entries[sets[new], place[new]] = words[new]
        self._count_place(priced.tag, int(new.sum()))
        return np.flatnonzero(~alone)

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
        floors = self._floors[self._next_chunk : self._next_chunk + CHUNK]
        floors[self._subtract(floors, now) == 0] = 0
        self._next_chunk += CHUNK
        if self._next_chunk >= self.sets:
            self._next_chunk = 0
            self._sketch[self._subtract(self._sketch, now) == 0] = 0

    def _clear(self) -> None:
        """Forget all buckets."""
        for part in (self._entries, self._floors, self._sketch):
            part[:] = 0
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
