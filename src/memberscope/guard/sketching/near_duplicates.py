"""Group queries into families of near-duplicates.

Each joins the family of the nearest of the last distinct records, whoever asked about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope.guard.sketching.observations import POINT
from memberscope.types import Ints

CHUNK = 64  # queries placed with one matrix product
COLLINEAR = 0.98  # cosine of two successive steps on one line, either way
ROOT = 100  # clients that a family remembers
FAR = 1000.0  # beyond which points are not told apart; ordinary ones are about 1 apart
SLACK = 1e-5  # share of squares by which a distance from a matrix product may err


@dataclass(frozen=True, eq=False)
class Placements:
    """Places of n queries: `family` (n,) by its number, and its earlier variants `before` (n,).

    `before` is 0 for a new family and -1 for a record that was known. `step` (n,) says of new
    variants whether they go on along a line (2) and whether the label changed (1), added up; -1 for
    all others.
    """

    family: Ints
    before: Ints
    step: Ints


class NearDuplicateIndex:
    """Index of the last `window` distinct records by their points.

    Two of them nearer than `radius` are of one family.

    >>> at = np.zeros((3, 16), dtype=np.float32); at[1, 0] = 0.1; at[2, 0] = 5
    >>> NearDuplicateIndex(0.5).place(at, np.arange(3), np.zeros(3, dtype=int), np.ones(3)).before.tolist()
    [0, 1, 0]
    """

    def __init__(self, radius: float, window: int = 16_384) -> None:
        self.radius, self.window = radius, window
        # Empty places are so far away that nothing is near them
        self.points = np.full((window, POINT), 1e6, dtype=np.float32)
        self.squares = np.full(window, np.inf, dtype=np.float32)
        self.records = np.zeros(window, dtype=np.uint64)
        self.family = np.full(window, -1, dtype=np.int64)
        self.slots: dict[int, int] = {}
        self.added = self.founded = 0
        self.number = np.full(window, -1, dtype=np.int64)
        self.variants = np.zeros(window, dtype=np.int64)
        self.last = np.zeros((window, POINT), dtype=np.float32)
        self.step = np.zeros((window, POINT), dtype=np.float32)
        self.label = np.full(window, -1, dtype=np.int64)
        self.evidence = np.zeros(window)  # what the boundary detector sums up
        self.clients: dict[int, list[int]] = {}  # of families that have variants

    def place(
        self,
        point: NDArray[np.float32],
        record: NDArray[np.uint64],
        label: Ints,
        client: NDArray[np.uint64],
    ) -> Placements:
        """Place n queries in their order."""
        spots = np.array(list(self.each(point, record, label, client)), dtype=np.int64).reshape(
            len(record), 3
        )
        return Placements(*np.ascontiguousarray(spots.T))

    def each(
        self,
        point: NDArray[np.float32],
        record: NDArray[np.uint64],
        label: Ints,
        client: NDArray[np.uint64],
    ) -> Iterator[tuple[int, int, int]]:
        """Give `family`, `before` and `step` of one query after the other.

        Each is placed when it is asked for, however many are given at once.
        """
        # Written so that NaN is caught too
        if len(point) and not np.abs(point).max() <= FAR:
            point = np.clip(np.nan_to_num(point, nan=0.0), -FAR, FAR)
        for start in range(0, len(record), CHUNK):
            part = slice(start, start + CHUNK)
            nearest = self._nearest(point[part])
            columns = zip(
                point[part],
                record[part].tolist(),
                label[part].tolist(),
                client[part].tolist(),
                strict=True,
            )
            for i, (at, known, told, who) in enumerate(columns):
                yield self._one(nearest, i, at, known, (told, who))

    def _one(
        self,
        nearest: Callable[[int], int],
        i: int,
        point: NDArray[np.float32],
        record: int,
        told: tuple[int, int],
    ) -> tuple[int, int, int]:
        slot = self.slots.get(record)
        # A record that was known adds nothing to its family
        if slot is not None:
            return int(self.family[slot]), -1, -1
        family, before, step = nearest(i), 0, -1
        # No neighbour, or one whose family's place a newer one has taken
        if family < 0 or self.number[family % self.window] != family:
            family = self._found(point, told[0])
        else:
            before = int(self.variants[family % self.window])
            step = self._joined(family, point, *told)
        self._add(point, record, family)
        return family, before, step

    def _nearest(self, point: NDArray[np.float32]) -> Callable[[int], int]:
        """Build a function of i that finds the family of the i-th point (n, 16), in order.

        The family is that of the nearest record within the radius, -1 for none.

        One matrix product finds who may be the nearest; distances between those are then taken one
        by one, so that the answer does not depend on how many queries came together. Of equals the
        oldest counts.
        """
        begin, filled = self.added, min(self.added, self.window)
        # Squares of distances, less the point's own square, by one matrix product
        own = (point * point).sum(axis=1)
        product = (-2 * point) @ self.points[:filled].T
        product += self.squares[:filled]
        # A little beyond the radius, by as much as single precision may err
        limits = (self.radius**2 + SLACK * (own + self.radius**2) - own).tolist()
        least = product.min(axis=1).tolist() if filled else [np.inf] * len(point)
        close: dict[int, list[int]] = {}
        # Points of the same block that lie near an earlier one of it
        if len(point) > 1:
            for i, j in np.argwhere(
                np.tril(own - 2 * point @ point.T <= np.array(limits)[:, None], -1)
            ).tolist():
                close.setdefault(i, []).append(j)
        put: dict[int, int] = {}  # the slots of those of the points that were added

        def family(i: int) -> int:
            slots: list[int] = []
            if least[i] <= limits[i]:
                # Places that points of this block took since do not hold what the product saw
                row = product[i]
                row[
                    [
                        (begin + k) % self.window
                        for k in range(self.added - begin)
                        if begin + k >= self.window
                    ]
                ] = np.inf
                # All that could be nearest, given by how much the product may err
                most = min(float(row.min()) + 2 * SLACK * float(own[i] + self.radius**2), limits[i])
                slots = np.flatnonzero(row <= most).tolist()
            slots += [put[j] for j in close.get(i, ()) if j in put]
            # The place that the caller adds this point to next
            put[i] = self.added % self.window
            return self._closest(point[i], slots) if slots else -1

        return family

    def _closest(self, point: NDArray[np.float32], slots: list[int]) -> int:
        """Find the family of the record in `slots` nearest to the point.

        It is -1 where none is within the radius.
        """
        away = self.points[slots].astype(np.float64) - point
        distance = (away * away).sum(axis=1).tolist()
        # Of equals the place that is overwritten next is the oldest
        best, _, slot = min(
            (d, (slot - self.added) % self.window, slot)
            for d, slot in zip(distance, slots, strict=True)
        )
        return int(self.family[slot]) if best <= self.radius**2 else -1

    def _found(self, point: NDArray[np.float32], label: int) -> int:
        """Start a new family, in the place of the oldest."""
        family = self.founded
        self.founded += 1
        at = family % self.window
        # The family whose place is taken is forgotten with its clients
        self.clients.pop(int(self.number[at]), None)
        self.number[at], self.variants[at], self.label[at], self.evidence[at] = (
            family,
            1,
            label,
            0.0,
        )
        self.last[at], self.step[at] = point, 0
        return family

    def _joined(self, family: int, point: NDArray[np.float32], label: int, client: int) -> int:
        """Count a new variant, and say how it was stepped to."""
        at = family % self.window
        step, before = point - self.last[at], self.step[at]
        length = float(step @ step)
        product = length * float(before @ before)
        # Steps of no length have no direction; on one line counts whichever way
        straight = product > 1e-18 and abs(float(step @ before)) > COLLINEAR * product**0.5
        # An unknown label (-1) tells of no change
        changed = label >= 0 and self.label[at] >= 0 and label != self.label[at]
        self.variants[at] += 1
        self.last[at], self.label[at] = point, label
        # A step of no length must not wipe out the last direction
        if length > 1e-12:
            self.step[at] = step
        known = self.clients.setdefault(family, [])
        if client not in known and len(known) < ROOT:
            known.append(client)
        return 2 * straight + changed

    def _add(self, point: NDArray[np.float32], record: int, family: int) -> None:
        """Remember a distinct record in the place of the oldest."""
        slot = self.added % self.window
        if self.added >= self.window:
            self.slots.pop(int(self.records[slot]), None)
        self.points[slot], self.squares[slot] = point, point @ point
        self.records[slot], self.family[slot] = record, family
        self.slots[record] = slot
        self.added += 1
