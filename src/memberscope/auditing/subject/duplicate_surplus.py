"""Count how many more non-members have a twin among the members than chance lets expect.

What chance lets expect follows from the collisions within each side.

References:
    [1] S. Hurlbert, "The nonconcept of species diversity: a critique and alternative parameters",
Ecology 52, 1971.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import gammaln

from memberscope.auditing.subject.feature_matrix import Keys
from memberscope.types import Bools, Floats, Ints

Twins = Callable[
    [Bools], tuple[Ints, Ints]
]  # from who is a member (t,) to each record's twins on either side
# Standard deviations beyond what exchanged sides give: about one clean audit in 500 (simulated)
SURE = 3.3
UPPER = 1.96  # of the upper limit
DRAWS = 200  # exchanges of the sides
LEAST_ROOM = 0.02  # of records without a twin by chance, below which copies cannot be counted


@dataclass(frozen=True)
class Surplus:
    """Duplicates of one kind: how many were found, and how many chance explains.

    There are `found` non-members with a twin among the members, of which `expected` by chance.

    `value` is the estimated number of copies beyond chance, `high` its upper limit; both count
    non-members.
    """

    kind: str
    found: int
    expected: float
    value: float
    high: int
    significant: bool


def measure_exact_surplus(
    keys: Keys, member: Bools, seed: int = 0, *, unit: Ints | None = None
) -> Surplus:
    """Measure the surplus of non-members that equal a member by their `keys` (n,).

    Records of one `unit` (n,) change sides together; none of them may equal another.
    """
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    # Records without a twin on either side only count towards the sides' sizes
    shared = np.flatnonzero(counts[inverse] > 1)
    group = np.unique(inverse[shared], return_inverse=True)[1]
    in_group = np.bincount(group)

    def twins(inside: Bools) -> tuple[Ints, Ints]:
        # A record is not its own twin, so it is taken off its own side
        members = np.bincount(group, inside).astype(np.int64)
        return members[group] - inside, (in_group - members)[group] - ~inside

    sizes = (int(member.sum()), int((~member).sum()))
    code = None if unit is None else unit[shared]
    found = _TwinComparison("exact", twins, _link_units(group, code), sizes, code)
    return found.conclude(member[shared], seed)


def measure_near_surplus(
    edges: Ints,
    compared: Ints,
    member: Bools,
    scale: float,
    n_non_members: int,
    seed: int = 0,
    *,
    unit: Ints | None = None,
) -> Surplus:
    """Measure the surplus of non-members near to a member.

    `edges` (e, 2) are near pairs of the positions `compared` (c,). What is found among those is
    multiplied by `scale` to hold for all `n_non_members`. Records of one `unit` (n,) change sides
    together; no edge may join two of them.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    touched, ends = np.unique(edges, return_inverse=True)
    first, second = ends.reshape(-1, 2).T
    n = len(touched)
    # Near pairs chain, so records that are linked vary together
    group = connected_components(
        coo_array((np.ones(len(first)), (first, second)), (n, n)), directed=False
    )[1]

    def count(chosen: Bools) -> Ints:
        found = np.bincount(first, chosen[second], n) + np.bincount(second, chosen[first], n)
        return found.astype(np.int64)

    def twins(inside: Bools) -> tuple[Ints, Ints]:
        return count(inside), count(~inside)

    sizes = (int(member[compared].sum()), int((~member[compared]).sum()))
    code = None if unit is None else unit[touched]
    group = _link_units(group.astype(np.int64), code)
    part = _TwinComparison("near", twins, group, sizes, code).conclude(member[touched], seed)
    # Scaling up must not count more copies than there are non-members
    high = min(n_non_members, int(np.ceil(part.high * scale)))
    return Surplus(
        "near",
        part.found,
        part.expected,
        min(part.value * scale, n_non_members),
        high,
        part.significant,
    )


@dataclass(frozen=True, eq=False)
class _TwinComparison:
    """Records (t,) that have twins, in the groups (t,) that twins form.

    They are of sides of `sizes` (members, non-members), and change them with all of their `unit`
    (t,), if there are any.
    """

    kind: str
    twins: Twins
    group: Ints
    sizes: tuple[int, int]
    unit: Ints | None = None

    def copies(self, inside: Bools) -> tuple[float, float, float]:
        """Estimate the copies beyond chance if `inside` (t,) are the members.

        Gives them with their sampling error and the chance of a twin.

        Records that have no twin count among the sides only. The error takes the groups as
        independent.
        """
        n_in, n_out = self.sizes
        # Both sides are brought to one number of comparisons, one less than the smaller side has
        drawn = min(self.sizes) - 1
        of_one, of_member, of_other = (
            _tabulate_chance(others, drawn) for others in (n_in, n_in - 1, n_out - 1)
        )
        # How often a non-member meets a twin across, and how often records do on their own side
        among_members, among_others = self.twins(inside)
        across = np.where(inside, 0.0, of_one[among_members]) / n_out
        own = [
            np.where(inside, of_member[np.minimum(among_members, n_in - 1)], 0.0) / n_in,
            np.where(inside, 0.0, of_other[np.minimum(among_others, n_out - 1)]) / n_out,
        ]
        # The smaller rate: repeating the records of one side must not hide copies
        chance = min(own, key=lambda rates: float(rates.sum()))
        # Members without a twin are not among the groups, and a copy of theirs would be found for
        # sure
        lone = max(n_in - int(inside.sum()), 0)
        certain = (
            of_one[np.minimum(among_members[inside] + 1, n_in)].sum() + lone * of_one[1]
        ) / n_in
        # A copy that would have a twin by chance as well is not seen as one
        room = max(float(certain - chance.sum()), LEAST_ROOM)
        parts = np.bincount(self.group, across - chance) * n_out / room
        return float(parts.sum()), float((parts**2).sum()) ** 0.5, float(chance.sum())

    def conclude(self, inside: Bools, seed: int) -> Surplus:
        """Hold the copies against chance.

        Chance is random exchanges of the sides, or the groups' own spread.

        The former errs on the safe side where one side repeats its records, which an exchange would
        spread over both.
        """
        # With one record a side there is nothing to compare
        found = int((self.twins(inside)[0][~inside] > 0).sum())
        if min(self.sizes) < 2 or not found:
            return Surplus(self.kind, found, 0.0, 0.0, 0, False)
        value, error, chance = self.copies(inside)
        rng = np.random.default_rng([seed, len(inside)])
        code = None if self.unit is None else np.unique(self.unit, return_inverse=True)[1]
        exchanged = np.array(
            [
                self.copies(_exchange_sides(len(inside), self.sizes, rng, code))[0]
                for _ in range(DRAWS)
            ]
        )
        # The mean under exchange corrects the estimate, but never below no copies
        value = min(max(value - max(float(exchanged.mean()), 0.0), 0.0), float(self.sizes[1]))
        # The smaller spread, so that copies do not hide behind repeated records
        spread = min(float(exchanged.std(ddof=1)), error)
        sure = bool(spread > 0 and value > SURE * spread)
        high = min(int(np.ceil(value + UPPER * spread)), found)
        return Surplus(self.kind, found, self.sizes[1] * chance, value, high if sure else 0, sure)


def _link_units(group: Ints, unit: Ints | None) -> Ints:
    """Join groups (t,) of twins that have records of one `unit` (t,), since these vary together.

    >>> _link_units(np.array([0, 1, 2]), np.array([7, 7, 8])).tolist()
    [0, 0, 1]
    """
    if unit is None or not len(group):
        return group
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Groups and units are the two kinds of nodes, and each record is an edge between them
    code, n = np.unique(unit, return_inverse=True)[1], int(group.max()) + 1
    size = n + int(code.max()) + 1
    edges = coo_array((np.ones(len(group)), (group, n + code)), (size, size))
    linked: Ints = connected_components(edges, directed=False)[1][group].astype(np.int64)
    return linked


@lru_cache(maxsize=16)
def _tabulate_chance(others: int, drawn: int) -> Floats:
    """Tabulate `compute_twin_chance` (others + 1,) for every number of twins."""
    return compute_twin_chance(np.arange(others + 1), others, drawn)


def _exchange_sides(
    n: int, sizes: tuple[int, int], rng: np.random.Generator, unit: Ints | None = None
) -> Bools:
    """Draw which of `n` records would be members had the sides been drawn at random.

    Records of one `unit` (n,), numbered from 0, are drawn together.
    """
    if unit is not None:
        # Sides of records are close to those of units, whose number on each side is not at hand
        drawn = _exchange_sides(int(unit.max()) + 1, sizes, rng)
        return drawn[unit]
    inside = np.zeros(n, dtype=bool)
    # The number of members among these records varies as well
    inside[: int(rng.hypergeometric(sizes[0], sizes[1], n))] = True
    shuffled: Bools = rng.permutation(inside)
    return shuffled


def compute_twin_chance(twins: Ints, others: int, drawn: int) -> Floats:
    """Compute the chance (n,) that `drawn` of `others` records hold one of the `twins` (n,) [1].

    They are drawn at random.

    >>> compute_twin_chance(np.array([0, 1, 2]), 4, 2).round(3).tolist()
    [0.0, 0.5, 0.833]
    """
    # Logarithms of factorials, since the binomials overflow
    left = others - twins - drawn
    log = (
        gammaln(others - twins + 1.0)
        - gammaln(np.maximum(left, 0) + 1.0)
        - gammaln(others + 1.0)
        + gammaln(others - drawn + 1.0)
    )
    # Fewer others than draws are left, so a twin is certain; expm1 keeps small chances exact
    found: Floats = np.where(left < 0, 1.0, -np.expm1(np.minimum(log, 0.0)))
    return found
