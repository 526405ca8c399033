"""Treat units that hold several records: variances of means, and effective numbers.

References:
    [1] N. Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53, 1997.
    [2] E. Korn, B. Graubard, "Confidence intervals for proportions with small expected number of
        positive counts estimated from survey data", Survey Methodology 24, 1998.
    [3] L. Kish, "Survey Sampling", 1965 (effective sizes).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from memberscope import _check
from memberscope.types import Bools, Floats, Ints

# Units with a record called, and units with one that is not, from which a design effect is
# estimated
FEWEST = 10
DENSE = 8  # times as many numbers as records, up to which units are counted rather than sorted
TAIL = 0.975  # where a t quantile is compared with a normal one


@dataclass(frozen=True, eq=False)
class Sides:
    """Units of the members and of the non-members.

    `codes` (n1,) and (n0,) number each record's unit from 0, and `sizes` are effective ones.

    `n_units` counts units with members, units with non-members, and all. `counted` (u,) are the
    records of each unit among the members and among the non-members, where they were counted.
    """

    codes: tuple[Ints, Ints]
    sizes: tuple[float, float]
    n_units: tuple[int, int, int]
    counted: tuple[Ints, Ints] | None = None

    @cached_property
    def records(self) -> tuple[Ints, Ints]:
        """The records of each unit (u,) among the members and among the non-members."""
        if self.counted is not None:
            return self.counted
        inside, outside = (np.bincount(side, minlength=self.n_units[2]) for side in self.codes)
        return inside, outside

    @property
    def is_shared(self) -> bool:
        """True if some unit has records of both kinds."""
        return self.n_units[0] + self.n_units[1] > self.n_units[2]

    def variance_of_mean(self, inside: Floats, outside: Floats) -> tuple[float, float]:
        """Estimate the variance of the sum of both means, and its degrees of freedom.

        Given are residuals of members (n1,) and non-members (n0,). Both results are 0 where a side
        is a single unit.
        """
        n1, n0, n_all = self.n_units
        # One unit has no spread to estimate
        if min(n1, n0) < 2:
            return 0.0, 0.0
        # Residuals of one unit are added first, as they may depend on one another
        sums = [
            sum_by_unit(values / len(values), codes, n_all)
            for values, codes in zip((inside, outside), self.codes, strict=True)
        ]
        # Sorted before summing: the result must not depend on the order of the records
        parts = [
            count / (count - 1) * float(np.sort(entry**2).sum())
            for count, entry in zip((n1, n0), sums, strict=True)
        ]
        # Units on both sides make the two means dependent: their covariance is added, and the
        # smaller side decides the degrees of freedom
        if self.is_shared:
            both = 2 * n_all / (n_all - 1) * float(np.sort(sums[0] * sums[1]).sum())
            return max(0.0, sum(parts) + both), min(self.sizes) - 1
        variance = sum(parts)
        if variance <= 0:
            return 0.0, 0.0
        # Welch and Satterthwaite, with effective numbers of units
        weight = sum(
            part**2 / (size - 1) for part, size in zip(parts, self.sizes, strict=True) if part > 0
        )
        return variance, variance**2 / weight


def sum_by_unit(values: Floats, codes: Ints, n: int) -> Floats:
    """Sum values (m,) by the unit's number `codes` (m,) into (n,).

    The sums do not depend on the order of the records.

    >>> sum_by_unit(np.array([1.0, 2.0, 4.0]), np.array([1, 0, 1]), 2).tolist()
    [2.0, 5.0]
    """
    # Where each code occurs once there is nothing to sum; zero is added so that -0.0 becomes 0.0
    if len(codes) <= n and np.bincount(codes, minlength=n).max(initial=0) <= 1:
        alone = np.zeros(n)
        alone[codes] = values + 0.0
        return alone
    # From the smallest value up, whatever the order of the records. Those of a curve often stand in
    # that order, or in the opposite one, which a look shows sooner than sorting
    steps = np.diff(values)
    if (steps <= 0).all():
        codes, values = codes[::-1], values[::-1]
    elif not (steps >= 0).all():
        order = np.argsort(values)
        codes, values = codes[order], values[order]
    return np.bincount(codes, weights=values, minlength=n).astype(np.float64)


def kish_size(rows: Ints) -> float:
    """Give the effective number of units with `rows` (k,) records.

    It is their number if all have equally many records, and smaller otherwise.

    >>> kish_size(np.array([10, 10])), kish_size(np.array([1, 9]))
    (2.0, 1.2195121951219512)
    """
    # Units without a record on this side do not count
    rows = rows[rows > 0].astype(np.float64)
    return float(rows.sum() ** 2 / (rows**2).sum())


def _has_small_codes(unit: NDArray[np.generic]) -> bool:
    """Tell whether units (n,) are whole numbers from 0 that need not be sorted to be numbered."""
    # Seen without a sign, numbers below 0 are large
    return (
        unit.dtype.kind == "i"
        and len(unit) > 0
        and int(unit.view(f"u{unit.dtype.itemsize}").max()) <= DENSE * len(unit)
    )


@dataclass(frozen=True, eq=False)
class UnitNumbers:
    """Units of records (n,) numbered once, for all scores of the same records.

    `codes` (n,) number each record's unit from 0, without gaps. The rest is as in `Sides`.
    """

    codes: Ints
    sizes: tuple[float, float]
    n_units: tuple[int, int, int]
    counted: tuple[Ints, Ints]
    _restricted: dict[int, list[tuple[Ints, UnitNumbers]]] = field(
        init=False, repr=False, default_factory=dict
    )

    def split(self, member: Bools, order: Ints | None = None) -> Sides:
        """Split the units by side; with `order` (n,), `member` is in that order, as sides then are."""
        codes = self.codes if order is None else self.codes[order]
        return Sides((codes[member], codes[~member]), self.sizes, self.n_units, self.counted)

    def restrict(self, places: Ints, member: Bools) -> UnitNumbers:
        """Number the units of the records at `places` (m,), which are `member` (m,).

        Kept for the next attack that is restricted to the same records.
        """
        kept = self._restricted.setdefault(len(places), [])
        for known, found in kept:
            if np.array_equal(known, places):
                return found
        kept.append((places, number_units(member, self.codes[places])))
        return kept[-1][1]


def number_units(member: Bools, unit: Ints) -> UnitNumbers:
    """Number the units of records (n,).

    Raises:
        InputError: The lengths differ.
    """
    member = np.asarray(member, dtype=bool)
    _check.check_same_length(member=member, unit=unit)
    codes = np.asarray(unit)
    if _has_small_codes(codes):
        codes = codes.astype(np.int64, copy=False)
    else:
        codes = np.unique(codes, return_inverse=True)[1]
    # Codes stay common to both sides, which shows units that have records on both
    n_units = int(codes.max(initial=-1)) + 1
    rows = [np.bincount(codes[side], minlength=n_units) for side in (member, ~member)]
    present = (rows[0] + rows[1]) > 0
    # Codes of a larger table have gaps
    if not present.all():
        codes, n_units = (np.cumsum(present) - 1)[codes], int(present.sum())
        rows = [entry[present] for entry in rows]
    counts = (int((rows[0] > 0).sum()), int((rows[1] > 0).sum()), n_units)
    sizes = kish_size(rows[0]), kish_size(rows[1])
    return UnitNumbers(codes, sizes, counts, (rows[0], rows[1]))


def cluster_sides(member: Bools, unit: Ints | None = None) -> Sides:
    """Give the units of members and non-members; each record by itself without `unit` (n,).

    Raises:
        InputError: The lengths differ.

    >>> cluster_sides(np.arange(6) < 3, np.array([0, 0, 1, 2, 3, 4])).sizes
    (1.8, 3.0)
    """
    member = np.asarray(member, dtype=bool)
    if unit is None:
        # Numbers of their own for each record, so that no unit is shared
        n1 = int(member.sum())
        n0 = len(member) - n1
        return Sides((np.arange(n1), n1 + np.arange(n0)), (float(n1), float(n0)), (n1, n0, n1 + n0))
    return number_units(member, unit).split(member)


def design_effect(called: Bools, codes: Ints, rows: Ints | None = None) -> float:
    """Give the factor by which fewer independent records would say as much as these do, by unit.

    About the share of `called` (n,). `rows` (u,) are the records of each unit, if they are known.
    It is never below 1, and the largest possible, as if each unit were one record, where fewer than
    ten units have a record called or fewer than ten have one that is not.

    >>> codes = np.arange(1000) // 10
    >>> [round(design_effect(called, codes), 2) for called in (codes % 2 == 0, np.arange(1000) % 2 == 0)]
    [10.0, 1.02]
    """
    called = np.asarray(called, dtype=np.float64)
    # Units behind the last of this side are the other's
    rows = np.bincount(codes) if rows is None else rows[: int(codes.max(initial=-1)) + 1]
    n, size = len(called), kish_size(rows)
    # As if each unit were one record
    most = n / size
    hits = np.bincount(codes, weights=called, minlength=len(rows))
    # Too few units to estimate a variance: assume that each is one record
    if (hits > 0).sum() < FEWEST or (hits < rows).sum() < FEWEST:
        return most
    share, n_units = hits.sum() / n, int((rows > 0).sum())
    # The variance of the share by units, over that of independent records
    found = (
        n_units
        / (n_units - 1)
        * float(((hits - share * rows) ** 2).sum())
        / (n * share * (1 - share))
    )
    # Estimated from few units, it is inflated as a t quantile exceeds a normal one [2]
    return float(min(max(1.0, found) * (stdtrit(size - 1, TAIL) / ndtri(TAIL)) ** 2, most))
