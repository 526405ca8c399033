"""Search the distance to the decision boundary by walks towards other records.

Only labels are used: the search finds the nearest change of label on each path.

The search walks from each record towards the nearest records that the model gives another label. On
each path one query shows whether it could come closer than the best so far, and only then is the
border bisected. A path is a line where features are numbers or pixels. Where some are bits or
categories, it replaces features one by one in a fixed random order, so that nothing leaves the
domain. Records that the model labels wrongly cost one query and get the floor.

References:
    [1] C. Choquette-Choo, F. Tramèr, N. Carlini, N. Papernot, "Label-Only Membership Inference
        Attacks", ICML 2021, arXiv:2007.14321.
    [2] Z. Li, Y. Zhang, "Membership Leakage in Label-Only Exposures", CCS 2021, arXiv:2007.15528.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memberscope.signals.domain import Domain
from memberscope.signals.label_oracle import Oracle, split_rows
from memberscope.types import Bools, Floats, Ints

PATHS = 64  # records with another label that each record walks towards
POOL = 1024  # records that may serve as ends of paths
# Values a log-distance: brings boundary distances of trained networks to the spread of logits of
# confidence
STEEP = 2.0
STARTS = 8  # random points tried where no record has another label
NEAREST = -3.0  # values of records that are labelled rightly are no less
# Value of a record that is labelled wrongly: it lies beyond the boundary, just below all others
FLOOR = -3.001
CEILING = 8.0  # value where no other label was found at all: the most robust
NEAR = 0.1  # relative precision of a bisection


class BoundaryWalk:
    """State of the search: each record's path, the stretch bisected, and the best distance (n,)."""

    def __init__(
        self, oracle: Oracle, z: Floats, predicted: Ints, seed: int, n_paths: int = PATHS
    ) -> None:
        """Choose the paths of the records `z` (n, f), which the model labels `predicted` (n,)."""
        rng = np.random.default_rng(seed)
        self.oracle, self.z, self.unit = oracle, z, oracle.domain.unit
        self.right = predicted == oracle.labels
        self.ends, self.lengths, self.pool = _find_path_ends(oracle, z, predicted, rng, n_paths)
        # Each path has one order of its features for all records
        self.orders = np.stack([rng.permutation(z.shape[1]) for _ in range(self.ends.shape[1])])
        self.ranks = np.argsort(self.orders, axis=1)
        self.replaces = bool(oracle.domain.discrete.any()) and not oracle.domain.is_image
        n = len(z)
        # Ends that are records of the pool have a known label, the random points have not
        self.certain = (
            np.isfinite(self.lengths) & (self.ends < len(self.pool) - STARTS) & self.reached()
        )
        self.path = np.zeros(n, dtype=np.int64)
        self.best = np.where(self.certain[:, 0], self.lengths[:, 0], np.inf)
        self.low, self.high, self.halving = np.zeros(n), self.best.copy(), self.certain[:, 0].copy()

    def reached(self) -> Bools:
        """Check whether each path (n, paths) ends at the very record that it walks towards.

        Missing and fixed entries count too.
        """
        domain, found = self.oracle.domain, np.ones(self.ends.shape, dtype=bool)
        if (domain.scale > 0).all() and not np.isnan(self.z).any():
            return found
        for k in range(self.ends.shape[1]):
            for rows in split_rows(np.arange(len(self.z)), self.z.shape[1]):
                end = self.pool[self.ends[rows, k]]
                last = domain.movable(self.z[rows], end)
                found[rows, k] = ((last == end) | (np.isnan(last) & np.isnan(end))).all(axis=1)
        return found

    def advance(self, budget: int) -> Floats:
        """Search until every record has spent `budget` queries or has no path left.

        Give the values (n,).
        """
        n_paths = self.ends.shape[1]
        while True:
            going = self.right & (self.oracle.asked < budget) & (self.path < n_paths)
            if not going.any():
                return score_distances(self.best, self.right, self.unit)
            for rows in split_rows(np.flatnonzero(going), self.z.shape[1]):
                self.ask_next(rows)

    def ask_next(self, rows: NDArray[np.int64]) -> None:
        """Make one query for each record in `rows` (r,) that has one left, all in one call."""
        blocks = []
        moving = rows
        # What needs no query would make calls of few rows, so that all go on until they need one
        while len(moving):
            ask, points, distance = self.find_queries(moving)
            blocks.append((moving[ask], points, distance))
            moving = np.delete(moving, ask)
            moving = moving[self.path[moving] < self.ends.shape[1]]
        asked, points, distance = (np.concatenate(part) for part in zip(*blocks, strict=True))
        keeps = self.oracle.keeps(asked, points)
        # Records whose new path comes no closer go on to the next
        passed = asked[keeps & ~self.halving[asked]]
        self.low[asked[keeps]] = distance[keeps]
        self.halve(asked[~keeps], distance[~keeps])
        self.leave(passed)

    def find_queries(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Find the queries of the records in `rows` (r,), and move those without one a step on.

        Give the positions in `rows` that have one (q,), the points to ask about (q, f), and their
        distances (q,).
        """
        length = self.lengths[rows, self.path[rows]]
        halving, best = self.halving[rows], self.best[rows]
        # The middle of a stretch, or as far along a new path as could still be closer
        aim = np.where(
            halving, (self.low[rows] + self.high[rows]) / 2, np.minimum(best * (1 - NEAR), length)
        )
        # The end is known to have another label, so that no query is needed there
        known = ~halving & self.certain[rows, self.path[rows]] & (length <= best * (1 - NEAR))
        fine = halving & (self.high[rows] - self.low[rows] <= NEAR * self.high[rows])
        ask = np.flatnonzero(~known & ~fine & np.isfinite(length))
        self.halve(rows[known], length[known])
        points, distance = self.points(rows[ask], aim[ask])
        # A discrete path may have no point strictly between what is known: a query there would be
        # wasted
        worth = (distance > 0) & (~halving[ask] | (distance < self.high[rows[ask]] * (1 - 1e-9)))
        # A path is left when its stretch is fine, or when it cannot come closer
        left = ~known
        left[ask[worth]] = False
        self.leave(rows[left])
        return ask[worth], points[worth], distance[worth]

    def leave(self, rows: NDArray[np.int64]) -> None:
        """Go on to the next path of the records `rows` (r,)."""
        self.path[rows] += 1
        self.halving[rows] = False

    def halve(self, rows: NDArray[np.int64], distance: Floats) -> None:
        """Continue with the stretch up to `distance` (r,), where the label is another."""
        self.low[rows] = np.where(self.halving[rows], self.low[rows], 0.0)
        self.high[rows], self.halving[rows] = distance, True
        self.best[rows] = np.minimum(self.best[rows], distance)

    def points(self, rows: NDArray[np.int64], aim: Floats) -> tuple[Floats, Floats]:
        """Give points (r, f) on the records' paths, and their distances (r,).

        The points lie at most `aim` (r,) away, but beyond what is known.
        """
        start = self.z[rows]
        end = self.oracle.domain.movable(start, self.pool[self.ends[rows, self.path[rows]]])
        length = self.lengths[rows, self.path[rows]]
        # Numbers and pixels move along a line
        if not self.replaces:
            share = aim / np.maximum(length, 1e-300)
            return self.oracle.domain.inside(start + share[:, None] * (end - start)), aim
        ranks, order = self.ranks[self.path[rows]], self.orders[self.path[rows]]
        total = np.cumsum(
            np.take_along_axis(self.oracle.domain.differences(start, end), order, axis=1), axis=1
        )
        # Rounding in the sums must not drop a feature that lies exactly at the distance asked for
        slack = 1e-9 * total[:, -1:]
        count = (total <= (aim * aim)[:, None] + slack).sum(axis=1)
        count = np.where(~self.halving[rows] & (aim >= length), total.shape[1], count)
        low = np.where(self.halving[rows], self.low[rows], 0.0)
        # Features that are replaced at the inner end of the stretch; at least one more is tried
        passed = (total <= (low * low)[:, None] + slack).sum(axis=1)
        count = np.where(
            self.halving[rows], np.maximum(count, np.minimum(passed + 1, total.shape[1])), count
        )
        reached = np.where(count > 0, total[np.arange(len(rows)), np.maximum(count, 1) - 1], 0.0)
        return np.where(ranks < count[:, None], end, start), np.sqrt(reached)


def score_distances(distance: Floats, right: Bools, unit: float) -> Floats:
    """Convert distances to twice the log-distance (n,) in `unit`, within bounds.

    Records that are labelled wrongly get a value below all others.
    """
    with np.errstate(divide="ignore"):
        logs = np.clip(STEEP * np.log(distance / unit), NEAREST, CEILING)
    return np.where(right, logs, FLOOR)


def _find_path_ends(
    oracle: Oracle, z: Floats, predicted: Ints, rng: np.random.Generator, n_paths: int
) -> tuple[Ints, Floats, Floats]:
    """Find the nearest records with a label other than a record's own.

    Give the `n_paths` nearest for each record, (n, paths), their distances (n, paths), and the
    pool.

    Ends are chosen by their contents, so that the order of the records plays no part. The pool's
    last points are random ones, tried where no record has another label.
    """
    n, f = z.shape
    # A random projection as the order: the same for the same records, wherever they stand
    key = np.nan_to_num(z * rng.standard_normal(f)).sum(axis=1)
    pooled = np.argsort(key, kind="stable")[:POOL]
    pool = np.vstack([z[pooled], _draw_random_points(oracle.domain, STARTS, rng)])
    where, placed = oracle.domain.placed(pool), oracle.domain.placed(z)
    labels = np.append(predicted[pooled], np.full(STARTS, -1))
    n_paths = min(n_paths, len(pool))
    ends, lengths = np.zeros((n, n_paths), dtype=np.int64), np.full((n, n_paths), np.inf)
    real = np.arange(len(pool)) < len(pooled)
    for rows in split_rows(np.arange(n), max(f, len(pool))):
        for label in np.unique(oracle.labels[rows]):
            own = rows[oracle.labels[rows] == label]
            other = np.flatnonzero((labels != label) & real)
            other = other if len(other) else np.flatnonzero(~real)
            # Rounded, so that distances equal up to the last bits are ordered by place on every
            # machine
            squares = np.round(_measure_squared_distances(placed[own], where[other]), 6)
            nearest = np.argsort(squares, axis=1, kind="stable")[:, :n_paths]
            ends[own, : nearest.shape[1]] = other[nearest]
            lengths[own, : nearest.shape[1]] = np.sqrt(np.take_along_axis(squares, nearest, axis=1))
    return ends, lengths, pool


def _measure_squared_distances(a: Floats, b: Floats) -> Floats:
    """Compute squared Euclidean distances (r, p) between points (r, g) and (p, g).

    An entry that is missing in either point counts as zero.
    """
    if np.isnan(a).any() or np.isnan(b).any():
        seen, there = (~np.isnan(part) * 1.0 for part in (a, b))
        a, b = np.nan_to_num(a), np.nan_to_num(b)
        return np.asarray(np.maximum((a * a) @ there.T + seen @ (b * b).T - 2 * a @ b.T, 0.0))
    found: Floats = np.maximum(
        (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T, 0.0
    )
    return found


def _draw_random_points(domain: Domain, n: int, rng: np.random.Generator) -> Floats:
    """Draw points (n, f), uniform over each feature's range.

    Bits and categories are drawn as often as the records have them.
    """
    u = rng.random((n, len(domain.low)))
    drawn = domain.low + u * (domain.high - domain.low)
    for j in np.flatnonzero(domain.discrete):
        drawn[:, j] = domain.levels[j][(u[:, j] * len(domain.levels[j])).astype(np.int64)]
    return domain.inside(drawn)
