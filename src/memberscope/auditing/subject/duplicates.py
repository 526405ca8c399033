"""Find records that stand on both sides under different ids, exactly or nearly.

How many more they are than by chance is counted, too.

A non-member that was also trained on makes every attack look weaker than it is. In tables of few
columns many records are equal by chance, so what counts is the *excess*: non-members with a twin
among the members, less what collisions within each side let expect. Both are brought to one number
of comparisons by rarefaction [1]; the smaller of the two sides' rates is taken, so that repeating
the records of one side cannot hide copies; and the excess is held against its law under random
exchanges of the sides, given all records (a permutation test).

References:
    [1] S. Hurlbert, "The nonconcept of species diversity: a critique and alternative parameters",
Ecology 52, 1971.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from memberscope._parallel import map_in_parallel
from memberscope.auditing.subject.duplicate_surplus import (
    Surplus,
    measure_exact_surplus,
    measure_near_surplus,
)
from memberscope.auditing.subject.feature_matrix import Keys, hash_feature_rows, mix_keys
from memberscope.types import Bools, Floats, Ints

# A near duplicate is within this share of the usual distance between a record and its nearest
# fellow
NEAR = 0.1
# Share of a side's answers with a twin on that side beyond which equal answers mean nothing
MOST_EQUAL = 0.05
# A side, in the near search, whose cost grows with the square
MAX_RECORDS = 7_000  # a side, in the near search
MOST_EDGES = 2_000_000  # near pairs beyond which nearness says nothing about copies
# Random projections that are left of many features, enough to keep distances roughly
SKETCH = 32
EXAMPLES = 10


@dataclass(frozen=True, eq=False)
class Overlap:
    """Pairs of positions (p, 2): a non-member and the member that it duplicates, exactly or nearly.

    `compared_near` counts the records of each side that the near search looked at. `involved` (n,)
    marks the records of either side that have a twin on the other one. `surplus` says, for exact
    and for near duplicates, how many non-members have a twin, how many were to be expected, and the
    excess; `within` counts the records of members and of non-members that have a twin within their
    own side.
    """

    exact: Ints
    near: Ints
    compared_near: tuple[int, int]
    involved: Bools = field(default_factory=lambda: np.zeros(0, dtype=bool))
    surplus: tuple[Surplus, ...] = ()
    within: tuple[int, int] = (0, 0)
    near_within: tuple[int, int] = (0, 0)

    def non_members(self) -> Ints:
        """Give the positions of the non-members that duplicate members."""
        return np.unique(np.concatenate([self.exact[:, 0], self.near[:, 0]]))

    def marked(self) -> Bools:
        """Mark the non-members (n,) that duplicate members."""
        found = np.zeros(len(self.involved), dtype=bool)
        found[self.non_members()] = True
        return found

    @property
    def excess(self) -> int:
        """Upper limit of how many non-members are copies of members beyond chance.

        0 where that is not significant.

        Where near duplicates were looked for among a part of the records, it may be more than were
        found.
        """
        # What was sampled stands for more than was found, so only the side bounds it
        sampled = sum(self.compared_near) < len(self.involved)
        most = {"exact": len(self.exact), "near": len(self.involved) if sampled else len(self.near)}
        return sum(min(part.high, most[part.kind]) for part in self.surplus if part.significant)


def find_overlap(
    features: Floats, member: Bools, seed: int = 0, *, apart: Bools | None = None
) -> Overlap:
    """Find duplicates between members and non-members of `features` (n, f); NaN equals NaN.

    Records `apart` (n,), such as copies that were inserted on purpose, are left out of what is
    expected by chance.

    >>> x = np.array([[0.0, 1.0], [5.0, 5.0], [9.0, 1.0], [0.0, 1.0]])
    >>> find_overlap(x, np.array([True, True, True, False])).exact.tolist()
    [[3, 0]]
    """
    keys = hash_feature_rows(features)
    counted = np.ones(len(member), dtype=bool) if apart is None else ~apart
    exact, involved = find_exact_pairs(keys, member)
    edges, compared = _find_near_edges(features, keys, member)
    # Copies that were inserted on purpose have twins by design
    edges = edges[counted[edges].all(axis=1)]
    crossing = member[edges[:, 0]] != member[edges[:, 1]]
    involved[edges[crossing].ravel()] = True
    surplus = [measure_exact_surplus(keys[counted], member[counted], seed)]
    n_members, n_others = int(member.sum()), int((~member).sum())
    # The near search compared a part of all pairs, and its count is scaled to all of them
    if crossing.any():
        scale = (
            n_members * n_others / (int(member[compared].sum()) * int((~member[compared]).sum()))
        )
        surplus.append(
            measure_near_surplus(edges, compared[counted[compared]], member, scale, n_others, seed)
        )
    # What collides within a side is told beside the excess
    sides = [np.flatnonzero(member == side) for side in (True, False)]
    own = np.unique(edges[~crossing])
    within = [int(mark_repeated_keys(keys[side]).sum()) for side in sides]
    near_within = [int(np.isin(side, own).sum()) for side in sides]
    sizes = [int((member[compared] == side).sum()) for side in (True, False)]
    return Overlap(
        exact,
        find_nearest_pairs(edges[crossing], member, exact[:, 0]),
        (sizes[0], sizes[1]),
        involved,
        tuple(surplus),
        (within[0], within[1]),
        (near_within[0], near_within[1]),
    )


def find_equal_answers(
    answers: Floats, labels: Ints, member: Bools, seed: int = 0
) -> Overlap | None:
    """Find non-members whose answers (n, k) and label (n,) equal a member's.

    This is for stored signals without the records.

    None where equal answers are common within a side, as those of a small forest are: they then say
    nothing of the records.
    """
    keys = hash_feature_rows(answers, labels)
    within = [int(mark_repeated_keys(keys[side]).sum()) for side in (member, ~member)]
    if within[0] > MOST_EQUAL * member.sum() or within[1] > MOST_EQUAL * (~member).sum():
        return None
    exact, involved = find_exact_pairs(keys, member)
    none = np.empty((0, 2), dtype=np.int64)
    sizes = (int(member.sum()), int((~member).sum()))
    surplus = (measure_exact_surplus(keys, member, seed),)
    return Overlap(exact, none, sizes, involved, surplus, (within[0], within[1]))


def mark_repeated_keys(keys: Keys) -> Bools:
    """Mark the keys (n,) that are not unique.

    >>> mark_repeated_keys(np.array([3, 1, 3], dtype=np.uint64)).tolist()
    [True, False, True]
    """
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    mask: Bools = counts[inverse] > 1
    return mask


def find_exact_pairs(keys: Keys, member: Bools) -> tuple[Ints, Bools]:
    """Pair each non-member (p, 2) that equals some member with the first such member.

    Gives all records (n,) so involved as well.
    """
    inside, outside = np.flatnonzero(member), np.flatnonzero(~member)
    values, first = np.unique(keys[inside], return_index=True)
    # A key beyond the last member's would index past the end
    place = np.minimum(np.searchsorted(values, keys[outside]), max(len(values) - 1, 0))
    equal = values[place] == keys[outside] if len(values) else np.zeros(len(outside), dtype=bool)
    pairs = (
        np.column_stack([outside[equal], inside[first[place[equal]]]])
        .astype(np.int64)
        .reshape(-1, 2)
    )
    return pairs, np.isin(keys, keys[outside[equal]])


def find_nearest_pairs(across: Ints, member: Bools, twins: Ints) -> Ints:
    """Pick one near pair (p, 2) for each non-member of `across` without an exact twin.

    The non-member comes first; `across` (e, 2) are edges between the sides.
    """
    # Edges point either way
    ordered = np.where(member[across[:, :1]], across[:, ::-1], across)
    values, first = np.unique(ordered[:, 0], return_index=True)
    return ordered[first[~np.isin(values, twins)]].astype(np.int64).reshape(-1, 2)


def _find_near_edges(features: Floats, keys: Keys, member: Bools) -> tuple[Ints, Ints]:
    """Find near pairs (e, 2) that are not equal, and the positions (c,) that were compared.

    Those are some of each side.

    Near is what lies much nearer than the nearest fellow usually does: within the sparser side, so
    that repeating the records of one side makes nothing less near, or across the sides, so that
    several rows of each person do not either.
    """
    compared = np.concatenate(
        [sample_positions(np.flatnonzero(member == side), keys) for side in (True, False)]
    )
    none, inside = np.empty((0, 2), dtype=np.int64), member[compared]
    # The median distance of one or two records says nothing
    if min(int(inside.sum()), int((~inside).sum())) < 3:
        return none, compared
    sketch = _sketch_features(_standardise_features(features))[compared]
    own, other = _measure_side_distances(sketch, inside)
    # The radius follows from the records' own distances, so that it needs no setting
    within = [float(np.median(own[side])) for side in (inside, ~inside)]
    across = [float(np.median(other[side])) for side in (inside, ~inside)]
    radius = NEAR * max(*within, min(across))
    close = np.flatnonzero(np.minimum(own, other) < radius)
    # Half of the records have an exact twin, or nothing is near
    if radius <= 0 or not len(close):
        return none, compared
    edges = _find_edges_within(sketch, close, radius)
    if len(edges) > MOST_EDGES:
        return none, compared
    # Exact twins are counted by themselves
    edges = compared[edges]
    return edges[keys[edges[:, 0]] != keys[edges[:, 1]]], compared


def sample_positions(where: Ints, keys: Keys, most: int = MAX_RECORDS) -> Ints:
    """Choose at most so many of the positions by a hash of their content, in order."""
    if len(where) <= most:
        return where
    return np.sort(where[np.argsort(mix_keys(keys[where]), kind="stable")[:most]])


def _standardise_features(features: Floats) -> Floats:
    """Scale features to units of their spread, missing and infinite entries at the mean."""
    seen = np.isfinite(features)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(seen, features, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        centred = np.where(seen, features - mean, 0.0)
        spread = centred.std(axis=0)
        # A constant feature has no spread and tells no two records apart
        units: Floats = centred / np.where(spread > 0, spread, 1.0)
    # A column of numbers too large to add up tells none apart either
    return np.nan_to_num(units, nan=0.0, posinf=0.0, neginf=0.0)


def _sketch_features(features: Floats) -> Floats:
    """Project (n, 32) at random, which keeps distances roughly, for many features."""
    if features.shape[1] <= SKETCH:
        return features
    projection = np.random.default_rng(0).standard_normal((features.shape[1], SKETCH)) / np.sqrt(
        SKETCH
    )
    sketch: Floats = features @ projection
    return sketch


def _compute_row_distances(points: Floats, rows: Ints) -> Floats:
    """Compute squared distances (r, n) of `rows` of `points` (n, d), infinite to themselves."""
    norms = (points**2).sum(axis=1)
    squared: Floats = norms - 2 * points[rows] @ points.T + norms[rows][:, None]
    squared[np.arange(len(rows)), rows] = np.inf
    return squared


def _measure_side_distances(points: Floats, inside: Bools) -> tuple[Floats, Floats]:
    """Measure the distance (n,) of each point to its nearest fellow on its own and the other side.

    In blocks of bounded memory.
    """
    sides = [np.flatnonzero(inside), np.flatnonzero(~inside)]
    searches = [(rows, among) for rows in sides for among in sides]
    # One thread a search, so that ties are broken alike whatever the number of cores
    found = map_in_parallel(lambda search: _find_nearest(points, *search), searches)
    distances = {True: np.empty(len(points)), False: np.empty(len(points))}
    for (rows, among), nearest in zip(searches, found, strict=True):
        # Dot products, which the search uses, round badly for near points
        distances[rows is among][rows] = np.sqrt(
            ((points[rows] - points[nearest]) ** 2).sum(axis=1)
        )
    return distances[True], distances[False]


def _find_nearest(points: Floats, rows: Ints, among: Ints) -> Ints:
    """Find the nearest point (r,) to each of `rows` `among` others, by position in `points`."""
    from sklearn.neighbors import NearestNeighbors

    # A point among others of its side finds itself too
    own = rows is among
    search = NearestNeighbors(n_neighbors=2 if own else 1, algorithm="brute").fit(points[among])
    found = among[search.kneighbors(points[rows], return_distance=False)]
    nearest: Ints = found[:, 0]
    if own:
        # Where points are equal, it may find any of them first
        nearest = np.where(nearest == rows, found[:, 1], nearest)
    return nearest


def _find_edges_within(points: Floats, rows: Ints, radius: float) -> Ints:
    """Find pairs (e, 2), one of them among `rows`, that are less than `radius` apart.

    Each is given once.
    """
    block = max(1, 20_000_000 // len(points))
    among = np.zeros(len(points), dtype=bool)
    among[rows] = True
    found: list[Ints] = []
    total = 0
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        near = (
            _compute_row_distances(points, part) < 4 * radius**2 + 1e-9
        )  # rounding; the true distance follows
        first, second = np.nonzero(near)
        a, b = part[first], second
        # A pair of two of `rows` is found from both ends
        once = (a < b) | ~among[b]
        a, b = a[once], b[once]
        true = ((points[a] - points[b]) ** 2).sum(axis=1) < radius**2
        found.append(np.column_stack([a[true], b[true]]))
        total += len(found[-1])
        # So many near pairs say nothing of copies, and the caller drops them
        if total > MOST_EDGES:
            break
    return np.concatenate(found).astype(np.int64).reshape(-1, 2)
