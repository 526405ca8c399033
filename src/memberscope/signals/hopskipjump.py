"""Run HopSkipJump over all records in lockstep.

It follows the boundary along its normal, which is estimated from the labels of points around it.

One call asks about all probes of all records. The probes are the same directions for every record,
and the estimates of a record's iterations are pooled, since the normal turns little from one to the
next; a step aims at the boundary's nearest point.

References:
    [1] J. Chen, M. Jordan, M. Wainwright, "HopSkipJumpAttack: A Query-Efficient Decision-Based
        Attack", IEEE S&P 2020, arXiv:1904.02144.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UnmetNeedError
from memberscope.signals.boundary_walk import NEAR, BoundaryWalk, score_distances
from memberscope.signals.domain import Domain
from memberscope.signals.label_oracle import Oracle, split_rows
from memberscope.types import Floats, Ints

PROBES = 24  # directions of the first iteration; later ones grow with its square root
# Distance of probes from the boundary point, as a share of its distance from the record
PROBED = 0.2
HALVINGS = 4  # times that a step is halved before it is given up
BISECTIONS = 6  # halvings of a stretch, down to the precision NEAR
# Unit of these distances, which are several times shorter than along paths to other records
CLOSER = 0.25


class HopSkipJump:
    """State of the search: each record's nearest point with another label, and its normal.

    The normal is the sum of its estimates (n, f).
    """

    def __init__(self, oracle: Oracle, z: Floats, predicted: Ints, seed: int) -> None:
        """Start from the nearest record with another label; bits may take values in between.

        Raises:
            UnmetNeedError: Features cannot change little by little.
        """
        domain = _make_continuous(oracle.domain)
        self.oracle, self.z, self.domain = oracle, z, domain
        # One path each: only a start is needed, the rest of the budget goes to the steps
        self.walk = BoundaryWalk(_replace_domain(oracle, domain), z, predicted, seed, n_paths=1)
        self.rng = np.random.default_rng((seed, 1))
        self.right = predicted == oracle.labels
        self.normal = np.zeros_like(z)
        self.distance = np.full(len(z), np.inf)
        self.point = z.copy()
        self.iteration, self.unit = 0, CLOSER * oracle.domain.unit

    def advance(self, budget: int) -> Floats:
        """Run as many whole iterations as `budget` allows every record; give the values (n,)."""
        if not self.iteration:
            self.walk.advance(budget)
            self.start()
        while True:
            n_probes = int(PROBES * (self.iteration + 1) ** 0.5)
            # An iteration begins only if the budget allows all of it
            cost = n_probes + HALVINGS + BISECTIONS
            going = self.right & np.isfinite(self.distance) & (self.oracle.asked + cost <= budget)
            if not going.any():
                return score_distances(self.distance, self.right, self.unit)
            self.iteration += 1
            # The same directions for every record: what differs between records is then not the
            # probes
            directions = self.rng.standard_normal((n_probes, self.z.shape[1]))
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            for rows in split_rows(np.flatnonzero(going), self.z.shape[1]):
                self.iterate(rows, directions)

    def start(self) -> None:
        """Take over the points that the walk found."""
        found = np.isfinite(self.walk.best) & self.right
        share = self.walk.best[found] / np.maximum(self.walk.lengths[found, 0], 1e-300)
        z = self.z[found]
        ends = self.domain.movable(z, self.walk.pool[self.walk.ends[found, 0]])
        self.point[found] = z + share[:, None] * (ends - z)
        self.distance[found] = self.walk.best[found]

    def iterate(self, rows: NDArray[np.int64], directions: Floats) -> None:
        """Estimate the normal of the records `rows` (r,), step along it, and bisect back."""
        z, scale = self.z[rows], self.domain.scale
        reach = PROBED * self.distance[rows, None] * scale
        probes = (
            (rows, self.domain.inside(self.point[rows] + reach * direction))
            for direction in directions
        )
        signs = np.where([same for _, same in self.oracle.keeps_each(probes)], -1.0, 1.0)
        mean = signs.mean(axis=0)
        # The baseline of [1]: subtracting the mean lowers the variance of the estimate
        centred = np.where(np.abs(mean) < 1, signs - mean, signs)
        self.normal[rows] += centred.T @ directions
        norm = np.linalg.norm(self.normal[rows], axis=1, keepdims=True)
        unit = self.normal[rows] / np.maximum(norm, 1e-300)
        # Steps shrink as [1] has them, from the size of the distance
        step = self.distance[rows] / self.iteration**0.5
        target, open_ = self.point[rows].copy(), np.ones(len(rows), dtype=bool)
        for _ in range(HALVINGS):
            asked = np.flatnonzero(open_)
            aim = self.domain.inside(
                self.point[rows[asked]] + step[asked, None] * scale * unit[asked]
            )
            other = ~self.oracle.keeps(rows[asked], aim)
            target[asked[other]] = aim[other]
            open_[asked[other]] = False
            step = step / 2
        self.bisect(rows[~open_], z[~open_], target[~open_])

    def bisect(self, rows: NDArray[np.int64], z: Floats, target: Floats) -> None:
        """Halve the stretches between the records and points with another label.

        A point is kept only if it is nearer than the one before.
        """
        low, high = np.zeros(len(rows)), np.ones(len(rows))
        for _ in range(BISECTIONS):
            # Stretches that are fine already cost no more queries
            wide = np.flatnonzero(high - low > NEAR * high / 2)
            middle = (low[wide] + high[wide]) / 2
            same = self.oracle.keeps(
                rows[wide], self.domain.inside(z[wide] + middle[:, None] * (target[wide] - z[wide]))
            )
            low[wide], high[wide] = (
                np.where(same, middle, low[wide]),
                np.where(same, high[wide], middle),
            )
        point = z + high[:, None] * (target - z)
        distance = np.sqrt(self.domain.differences(z, point).sum(axis=1))
        nearer = distance < self.distance[rows]
        self.point[rows[nearer]], self.distance[rows[nearer]] = point[nearer], distance[nearer]


def _make_continuous(domain: Domain) -> Domain:
    """Change a domain's bits into numbers between their two values.

    Raises:
        UnmetNeedError: A feature is a category of more than two, or the model takes whole numbers
            alone.
    """
    named = [j for j in np.flatnonzero(domain.discrete) if len(np.unique(domain.levels[j])) > 2]
    if named or not (domain.is_image or domain.real):
        raise UnmetNeedError(
            "Expected features that can change little by little for hopskipjump, got categories "
            "or whole numbers. Use the attack boundary."
        )
    scale = np.where(domain.discrete, domain.high - domain.low, domain.scale)
    none = np.zeros_like(domain.discrete)
    return replace(
        domain,
        discrete=none,
        whole=none,
        scale=np.where((scale > 0) | (domain.scale == 0), scale, 1.0),
    )


def _replace_domain(oracle: Oracle, domain: Domain) -> Oracle:
    """Build an oracle that adds to the same counts and reads points of `domain`."""
    return Oracle(oracle.target, domain, oracle.labels, oracle.asked, oracle.owners)
