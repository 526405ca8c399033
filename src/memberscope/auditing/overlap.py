"""Exact and near duplicates between members and non-members, under different ids.

A non-member that was also trained on makes every attack look weaker than it is; the audit counts and names such pairs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from memberscope.types import Bools, Floats, Ints

NEAR = 0.1  # a near duplicate is within this share of the usual distance between a member and its nearest fellow
MAX_RECORDS = 10_000
SKETCH = 32
EXAMPLES = 10


@dataclass(frozen=True, eq=False)
class Overlap:
    """Pairs of positions (p, 2): a non-member and the member that it duplicates, exactly or nearly.

    `compared_near` counts the records of each side that the near search looked at.
    """

    exact: Ints
    near: Ints
    compared_near: tuple[int, int]

    def non_members(self) -> Ints:
        """Positions of the non-members to leave out."""
        return np.unique(np.concatenate([self.exact[:, 0], self.near[:, 0]]))


def find_overlap(features: Floats, member: Bools, rng: np.random.Generator) -> Overlap:
    """Duplicates between members and non-members of `features` (n, f); NaN equals NaN.

    >>> x = np.array([[0.0, 1.0], [5.0, 5.0], [9.0, 1.0], [0.0, 1.0]])
    >>> find_overlap(x, np.array([True, True, True, False]), np.random.default_rng(0)).exact.tolist()
    [[3, 0]]
    """
    exact = exact_pairs(features, member)
    near, compared = near_pairs(features, member, rng)
    known = {(int(a), int(b)) for a, b in exact}
    twins = set(exact[:, 0].tolist())
    kept = [pair for pair in near if tuple(pair) not in known and int(pair[0]) not in twins]
    return Overlap(exact, np.array(kept, dtype=np.int64).reshape(-1, 2), compared)


def exact_pairs(features: Floats, member: Bools) -> Ints:
    """Each non-member (p, 2) that equals some member bit for bit, with the first such member."""
    rows = np.ascontiguousarray(np.nan_to_num(features + 0.0, nan=np.finfo(np.float64).max))
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
    first: dict[bytes, int] = {}
    for index in np.flatnonzero(member):
        first.setdefault(digests[index], int(index))
    pairs = [(int(i), first[digests[i]]) for i in np.flatnonzero(~member) if digests[i] in first]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def near_pairs(features: Floats, member: Bools, rng: np.random.Generator) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Each non-member much nearer to a member than members are to one another, with that member."""
    sides = [sampled(np.flatnonzero(side), rng) for side in (member, ~member)]
    members, others = sides
    compared = (len(members), len(others))
    if min(compared) < 3:
        return [], compared
    sketch = sketched(scaled(features), rng)
    nearest = nearest_member(sketch[members], sketch[members], skip_self=True)[1]
    usual = float(np.median(nearest))
    if usual <= 0:
        return [], compared
    index, distance = nearest_member(sketch[others], sketch[members])
    close = np.flatnonzero(distance < NEAR * usual)
    return [(int(others[i]), int(members[index[i]])) for i in close], compared


def sampled(where: Ints, rng: np.random.Generator) -> Ints:
    """At most `MAX_RECORDS` of the positions, in order."""
    if len(where) <= MAX_RECORDS:
        return where
    return np.sort(rng.choice(where, MAX_RECORDS, replace=False))


def scaled(features: Floats) -> Floats:
    """Features in units of their spread, missing entries at the mean."""
    centred = np.nan_to_num(features - np.nanmean(features, axis=0))
    spread = centred.std(axis=0)
    units: Floats = centred / np.where(spread > 0, spread, 1.0)
    return units


def sketched(features: Floats, rng: np.random.Generator) -> Floats:
    """Random projections (n, 32) that keep distances roughly, for records with many features."""
    if features.shape[1] <= SKETCH:
        return features
    projection = rng.standard_normal((features.shape[1], SKETCH)) / np.sqrt(SKETCH)
    sketch: Floats = features @ projection
    return sketch


def nearest_member(queries: Floats, members: Floats, *, skip_self: bool = False) -> tuple[Ints, Floats]:
    """Index and Euclidean distance (q,) of each query's nearest member, in blocks of bounded memory."""
    block = max(1, 20_000_000 // max(len(members), 1))
    index = np.empty(len(queries), dtype=np.int64)
    distance = np.empty(len(queries))
    norms = (members**2).sum(axis=1)
    for start in range(0, len(queries), block):
        part = queries[start : start + block]
        squared = norms - 2 * part @ members.T + (part**2).sum(axis=1)[:, None]
        if skip_self:
            squared[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        index[start : start + block] = squared.argmin(axis=1)
        gap = part - members[index[start : start + block]]
        distance[start : start + block] = np.sqrt((gap**2).sum(axis=1))
    return index, distance
