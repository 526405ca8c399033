"""Keep buckets of clients in a table of fixed size that forgets nobody's debt.

A bucket is one number: when it will be full again. Until then it lacks the tokens that refill in
the meantime, so taking n tokens moves that time by n refills, and a full bucket need not be kept.

Buckets of one kind and one refill time lie in sets of 16, a bucket's set being given by its keyed
hash. A new one takes the place of one that is full again. Where all 16 are in use it takes the
place of the fullest and *starts from that one's level*, and so does every later newcomer to the set
until that time has passed (the rule of Space-Saving [1], with time in place of counts). So whatever
was dropped comes back with no more tokens than it had: no flood of identities buys anybody a token.
What a flood does cost is paid by newcomers, who start with less: by about as many tokens as the
flood took in all, divided by the places of the table.

References:
    1. A. Metwally, D. Agrawal, A. El Abbadi: Efficient Computation of Frequent and Top-k Elements
in Data Streams. ICDT 2005.
"""

from __future__ import annotations

import mmap

from memberscope.guard.state.record_table import HEADER

# Buckets in a set; a table has twice the places that it is made for, so that few sets overflow
WAYS = 16


class BucketTable:
    """Times when each bucket will be full again, for buckets with equal refill times.

    Keys are hashes of 64 bits.

    >>> table = BucketTable(mmap.mmap(-1, BucketTable.count_bytes(100)))
    >>> table.put(7, 5.0, now=0.0)
    >>> table.full_at(7), table.full_at(8)
    (5.0, 0.0)
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._search, self.older = memory.find, list[BucketTable]()  # of other sizes, read alone
        self.sets = (len(memory) - HEADER) // (8 * (2 * WAYS + 1))
        numbers = memoryview(memory)[HEADER:]
        part = 8 * WAYS * self.sets
        self.keys = numbers[:part].cast("Q")
        self.times = numbers[part : 2 * part].cast("d")
        # The latest time of all that a set has dropped
        self.floors = numbers[2 * part : 2 * part + 8 * self.sets].cast("d")
        self.last = max(self.times)  # when all will be full, or when the table was last looked at

    @staticmethod
    def count_bytes(size: int) -> int:
        """Count the bytes of a table for about so many buckets."""
        return HEADER + max(1, -(-2 * size // WAYS)) * 8 * (2 * WAYS + 1)

    def full_at(self, key: int) -> float:
        """Find when the bucket will be full; for one that may have been dropped, at the latest."""
        return self.find(key)[0]

    def find(self, key: int) -> tuple[float, int]:
        """Find when the bucket will be full, and its place, or -1."""
        start = HEADER + key % self.sets * (8 * WAYS)
        word = key.to_bytes(8, "little")
        found = self._search(word, start, start + 8 * WAYS)
        # Bytes of two neighbours may look like the key
        while found & 7 and found >= 0:
            found = self._search(word, found + 1, start + 8 * WAYS)
        if found < 0:
            # Unknown here: new, or dropped with no more tokens than the floor says
            return self.floors[key % self.sets], -1
        place = (found - HEADER) >> 3
        return self.times[place], place

    def put(self, key: int, full_at: float, now: float, place: int = -1) -> None:
        """Keep that time, in the bucket's place, in place of a full bucket, or of the fullest."""
        if place < 0 or self.keys[place] != key:
            place = self.find(key)[1]
        if place < 0:
            start = key % self.sets * WAYS
            times = self.times[start : start + WAYS].tolist()
            earliest = min(times)
            place = start + times.index(earliest)
            # The bucket that gives way is not full yet, so that the floor must remember it
            if earliest > now:
                self.floors[key % self.sets] = max(earliest, self.floors[key % self.sets])
            # The time first: whoever is cut off here leaves a bucket with less, not with more
            self.times[place] = full_at
            self.keys[place] = key
        self.times[place] = full_at
        self.last = max(self.last, full_at)

    def give_back(self, key: int, seconds: float) -> None:
        """Have a bucket that is known be full so much earlier."""
        place = self.find(key)[1]
        if place >= 0:
            self.times[place] -= seconds
