"""Keep the history of each client in some hundred numbers.

Where there is no room, the client seen least recently is dropped.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from dataclasses import dataclass

from memberscope.guard.detectors.feature_walks import CLIENT
from memberscope.guard.sketching.observations import BINS

# Records that a client is known to have asked about, by 16 bits each, in sets of four
SEEN, WAYS = 64, 4
HEAD = 4  # first seen, last seen, queries, alarms


@dataclass(slots=True)
class ObservedQuery:
    """Query as detectors see it.

    `fresh` says that the client did not ask about this record lately; `before` and `step` are as in
    `Placements`.

    `hit` is 1 for a member's fingerprint, 2 for a honey record, 0 for none, -1 where nothing is
    known. `base` is the rate of hits that was expected of the client, for the pool that it is in.
    `asker` is the client's row.
    """

    time: float
    fresh: bool
    before: int
    step: int
    hit: int
    label: int
    bins: bytes
    base: float = -1.0
    asker: ClientRow | None = None


@dataclass(slots=True)
class ClientRow:
    """History of one client: numbers of its detectors, its last records, where they lay."""

    numbers: array[float]
    seen: array[int]
    held: int = CLIENT
    lately: int = 0

    def walked(self) -> bytes:
        """Give `lately` as bytes of fixed length."""
        return self.lately.to_bytes(BINS * self.held, "little")

    def is_fresh(self, record: int) -> bool:
        """Test whether the record is new among those lately asked about, and remember it."""
        # The lowest bits choose the set and the highest are the mark; 0 is an empty place
        start, mark = (record % (SEEN // WAYS)) * WAYS, (record >> 48) | 1
        among = self.seen[start : start + WAYS]
        if mark in among:
            return False
        # The oldest of the set gives way
        self.seen[start + 1 : start + WAYS] = among[: WAYS - 1]
        self.seen[start] = mark
        return True


class ClientRows:
    """At most `most` clients by their hashes.

    >>> rows = ClientRows(width=2, most=2)
    >>> [rows.of(client).numbers[0] for client in (1, 2, 3)], len(rows), 1 in rows.kept
    ([0.0, 0.0, 0.0], 2, False)
    """

    def __init__(self, width: int, most: int, held: int = CLIENT) -> None:
        self.kept: OrderedDict[int, ClientRow] = OrderedDict()
        self.width, self.most, self.held = width, most, held

    def of(self, client: int) -> ClientRow:
        """Find the client's row, empty if it was never seen or too long ago."""
        row = self.kept.get(client)
        if row is None:
            if len(self.kept) >= self.most:
                self.kept.popitem(last=False)
            row = self.kept[client] = ClientRow(
                array("d", bytes(8 * self.width)), array("H", bytes(2 * SEEN)), self.held
            )
        else:
            self.kept.move_to_end(client)
        return row

    def __len__(self) -> int:
        return len(self.kept)
