"""Turn the scores of records into one row of features a unit, on one scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from memberscope import _check
from memberscope.errors import InputError
from memberscope.types import Bools, Floats, Ints

TAIL = 0.025  # share of the scores at either end that is moved in to the next one
ROUNDING = 1e-9  # spread, as a share of the largest score, below which scores are constant


@dataclass(frozen=True, eq=False)
class UnitFeatures:
    """Features (u, f) of units, of which `member` (u,) belong to the suspect collection.

    `names` (u,) number the units, and `kept` (f,) are the columns of the scores that vary.
    """

    values: Floats
    member: Bools
    names: Ints
    kept: Ints

    @property
    def sizes(self) -> tuple[int, int]:
        """The number of suspect units, and of held-out units."""
        inside = int(self.member.sum())
        return inside, len(self.member) - inside


def build_unit_features(
    scores: Floats, member: Bools, unit: Ints | None = None, *, by_rank: bool = False
) -> UnitFeatures:
    """Clip the tails of `scores` (n, f), bring them to one scale, and average them by `unit` (n,).

    With `by_rank` scores become normal quantiles of their ranks instead, which keeps the order
    within the tails. Which records are suspect does not enter the scale, so that exchanging suspect
    and held-out units changes no feature. Columns without spread are left out.

    Raises:
        InputError: The lengths differ, a unit has records on both sides, or a score is NaN.

    >>> found = build_unit_features(np.arange(6.0)[:, None], np.arange(6) < 3, np.array([7, 7, 8, 9, 9, 9]))
    >>> found.values.round(2).ravel().tolist(), found.member.tolist()
    ([-1.18, -0.3, 0.89], [True, True, False])
    """
    member = np.asarray(member, dtype=bool)
    values = np.asarray(scores, dtype=np.float64)
    n = _check.check_same_length(scores=values, member=member)
    _check.check_finite("scores", values)
    if unit is not None:
        _check.check_same_length(scores=values, unit=unit)
    scaled, kept = _scale_columns(rank_columns(values) if by_rank else _clip_columns(values))
    means, first, names = average_units(scaled, unit)
    rows = np.searchsorted(names, np.arange(n) if unit is None else unit)
    split = names[np.bincount(rows, member != member[first][rows]) > 0]
    if len(split):
        raise InputError(
            f"Expected each unit on one side, got {len(split)} units with records on both, the "
            f"first is number {split[0]}. Leave them out."
        )
    return UnitFeatures(means, member[first], names, kept)


def average_units(values: Floats, unit: Ints | None) -> tuple[Floats, Ints, Ints]:
    """Average values (n, f) by `unit` (n,) into (u, f), with each unit's first row and its name.

    >>> average_units(np.array([[1.0], [3.0], [5.0]]), np.array([4, 4, 2]))[0].ravel().tolist()
    [5.0, 2.0]
    """
    if unit is None:
        every = np.arange(len(values))
        return values, every, every
    names, first, rows = np.unique(np.asarray(unit), return_index=True, return_inverse=True)
    sizes = np.bincount(rows)
    means = np.empty((len(names), values.shape[1]))
    for index, column in enumerate(values.T):
        means[:, index] = np.bincount(rows, column) / sizes
    return means, first, names


def rank_columns(values: Floats) -> Floats:
    """Replace each column (n, f) by normal quantiles of its ranks; ties share theirs.

    >>> rank_columns(np.array([[1.0], [9.0], [9.0], [20.0]])).round(2).ravel().tolist()
    [-1.15, 0.0, 0.0, 1.15]
    """
    found = np.empty_like(values)
    for index, column in enumerate(values.T):
        _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
        middle = np.cumsum(counts) - counts / 2
        found[:, index] = ndtri(middle / len(column))[inverse]
    return found


def _clip_columns(values: Floats) -> Floats:
    """Clip each column (n, f) at its tails, unless nearly all of it is one value."""
    cut = np.quantile(values, (TAIL, 1 - TAIL), axis=0)
    # Clipping would remove the only scores that differ
    flat = cut[1] - cut[0] <= ROUNDING * np.abs(cut).max(axis=0)
    return np.clip(values, np.where(flat, -np.inf, cut[0]), np.where(flat, np.inf, cut[1]))


def _scale_columns(values: Floats) -> tuple[Floats, Ints]:
    """Centre each column (n, f) that varies and divide it by its standard deviation."""
    spread = values.std(axis=0)
    kept = np.flatnonzero(spread > ROUNDING * np.abs(values).max(axis=0, initial=0.0))
    values = values[:, kept]
    return (values - values.mean(axis=0)) / spread[kept], kept.astype(np.int64)
