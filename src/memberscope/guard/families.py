"""Families of near-duplicates: each query joins the family of the nearest of the last distinct records, whoever asked about it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope.guard.observations import POINT
from memberscope.types import Ints

CHUNK = 64  # queries placed with one matrix product
COLLINEAR = 0.98  # cosine of two successive steps on one line, either way
ROOT = 100  # clients that a family remembers


@dataclass(frozen=True, eq=False)
class Placed:
    """Where n queries fell: `family` (n,) by its number, and `before` (n,), the variants that the family had by then.

    `before` is 0 for a new family and -1 for a record that was known. `step` (n,) says of new variants whether they go on along a
    line (2) and whether the label changed (1), added up; -1 for all others.
    """

    family: Ints
    before: Ints
    step: Ints


class Families:
    """The last `window` distinct records by their points; two of them nearer than `radius` are of one family.

    >>> at = np.zeros((3, 16), dtype=np.float32); at[1, 0] = 0.1; at[2, 0] = 5
    >>> Families(0.5).place(at, np.arange(3), np.zeros(3, dtype=int), np.ones(3)).before.tolist()
    [0, 1, 0]
    """

    def __init__(self, radius: float, window: int = 16_384) -> None:
        self.radius, self.window = radius, window
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
        self.clients: OrderedDict[int, list[int]] = OrderedDict()

    def place(self, point: NDArray[np.float32], record: NDArray[np.uint64], label: Ints, client: NDArray[np.uint64]) -> Placed:
        """Place n queries in their order."""
        n = len(record)
        found = Placed(np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.full(n, -1, dtype=np.int64))
        for start in range(0, n, CHUNK):
            part = slice(start, min(start + CHUNK, n))
            self._chunk(point[part], record[part].tolist(), label[part].tolist(), client[part].tolist(), found, start)
        return found

    def _chunk(
        self, point: NDArray[np.float32], record: list[int], label: list[int], client: list[int], found: Placed, start: int
    ) -> None:
        filled = min(self.added, self.window)
        own = (point * point).sum(axis=1)
        limit = self.radius**2
        if filled:
            distance = self.squares[:filled] - 2 * (point @ self.points[:filled].T)
            where = distance.argmin(axis=1)
            near = (distance[np.arange(len(point)), where] + own).tolist()
            owner = self.family[where].tolist()
        else:
            near, owner = [np.inf] * len(point), [-1] * len(point)
        among = own[:, None] + own[None, :] - 2 * point @ point.T
        added: list[tuple[int, int]] = []
        for i in range(len(point)):
            slot = self.slots.get(record[i])
            if slot is not None:
                found.family[start + i], found.before[start + i] = self.family[slot], -1
                continue
            best, family = near[i], owner[i]
            if added:
                row = among[i]
                nearest = min(added, key=lambda other: row[other[0]])
                if row[nearest[0]] < best:
                    best, family = float(row[nearest[0]]), nearest[1]
            if best > limit or self.number[family % self.window] != family:
                family = self._found(point[i], label[i])
            else:
                found.before[start + i] = self.variants[family % self.window]
                found.step[start + i] = self._joined(family, point[i], label[i], client[i])
            self._add(point[i], float(own[i]), record[i], family)
            added.append((i, family))
            found.family[start + i] = family

    def _found(self, point: NDArray[np.float32], label: int) -> int:
        """A new family, in the place of the oldest."""
        family = self.founded
        self.founded += 1
        at = family % self.window
        self.number[at], self.variants[at], self.label[at], self.evidence[at] = family, 1, label, 0.0
        self.last[at], self.step[at] = point, 0
        return family

    def _joined(self, family: int, point: NDArray[np.float32], label: int, client: int) -> int:
        """Count a new variant, and say how it was stepped to."""
        at = family % self.window
        step, before = point - self.last[at], self.step[at]
        length = float(step @ step)
        product = length * float(before @ before)
        straight = product > 1e-18 and abs(float(step @ before)) > COLLINEAR * product**0.5
        changed = label >= 0 and self.label[at] >= 0 and label != self.label[at]
        self.variants[at] += 1
        self.last[at], self.label[at] = point, label
        if length > 1e-12:
            self.step[at] = step
        known = self.clients.setdefault(family, [])
        if client not in known and len(known) < ROOT:
            known.append(client)
        if len(self.clients) > self.window:
            self.clients.popitem(last=False)
        return 2 * straight + changed

    def _add(self, point: NDArray[np.float32], square: float, record: int, family: int) -> None:
        """Remember a distinct record in the place of the oldest."""
        slot = self.added % self.window
        if self.added >= self.window:
            self.slots.pop(int(self.records[slot]), None)
        self.points[slot], self.squares[slot], self.records[slot], self.family[slot] = point, square, record, family
        self.slots[record] = slot
        self.added += 1
