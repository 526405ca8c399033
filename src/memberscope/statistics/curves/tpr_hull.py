"""Bound H, the least concave curve above the ROC, from above at a rate.

The bound is the hull of upper limits of R on a grid of rates.

An exact limit at every rate of the grid would take thousands of inverse beta functions. So the
hull's supporting line is guessed from approximate limits, and a rate is made exact only where its
limit exceeds that line: near the rate asked for, by a beta function at each rank whose approximate
limit comes close to the line; further away, by a bound, the count at the end of a range of ranks
with the smallest tail in it. What is returned is the hull of the exact limits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import betaincc

from memberscope.statistics.curves.rank_tails import rank_bounds, rank_tails
from memberscope.statistics.curves.tpr_limits import (
    RankCounts,
    paulson_limits,
    paulson_margin,
    upper_limit,
)
from memberscope.types import Bools, Floats, Ints


class NearTails(NamedTuple):
    """Ranks of the thresholds at all rates near the one asked for, in one row (k,).

    Each rank with its tail, the tail's normal quantile, the place of its rate, and its margin.
    """

    ranks: Ints
    tails: Floats
    quantiles: Floats
    place: Ints
    margin: Floats


class NearLimits(NamedTuple):
    """Counts and approximate limits (k,) at the ranks of `NearTails`."""

    found: Floats
    guess: Floats


@lru_cache(maxsize=512)
def hull_grid(fpr: float) -> tuple[tuple[float, ...], int]:
    """Give the rising rates at which the curve is bounded so as to bound its hull at `fpr`.

    Also give the place of `fpr` among them.
    """
    # Dense near the rate asked for, where the hull's corners usually are, and coarse elsewhere
    below = [0.0] + [fpr * 2 ** (-i / 2) for i in range(12, 0, -1)]
    near = [fpr * 2 ** (i / 24) for i in range(49)]
    far = [4 * fpr * 2 ** (j / 6) for j in range(1, 80)]
    return (*below, *(u for u in near + far if u < 1), 1.0), len(below)


class UpperHull(NamedTuple):
    """A line through the upper limit of H at a rate that no limit on the grid of rates exceeds.

    Attributes:
        height: The upper limit of H at the rate.
        slope: How much the line rises a unit of rate.
    """

    height: float
    slope: float


def exceeds_hull(counts: RankCounts, fpr: float, alpha: float, hull: UpperHull) -> bool:
    """Check whether the upper limit of H at `fpr` may exceed that of another curve.

    If not, no limit of this curve lies above the line of the other's `hull`, so its own hull does
    not either. It takes a fraction of the time of `find_upper_hull`.
    """
    near = _near_tails(counts.n_non_members, fpr, alpha)
    line = hull.height + hull.slope * (np.asarray(hull_grid(fpr)[0]) - fpr)
    return bool(
        _is_above_line(counts, near, _guess_limits(counts, near), line).any()
        or _can_exceed_line(counts, fpr, alpha, line).any()
    )


def _guess_limits(counts: RankCounts, near: NearTails) -> NearLimits:
    """Approximate the limits at all rates near the one asked for, at once."""
    found = counts.at(np.arange(near.ranks.max() + 2, dtype=np.float64))[near.ranks + 1]
    return NearLimits(found, paulson_limits(found, near.quantiles, counts.n_members))


def hull_upper_limit(counts: RankCounts, fpr: float, alpha: float) -> float:
    """Give the upper limit at level `alpha` of H at `fpr`."""
    return find_upper_hull(counts, fpr, alpha).height


def find_upper_hull(counts: RankCounts, fpr: float, alpha: float) -> UpperHull:
    """Find the upper limit at level `alpha` of H at `fpr`, with its supporting line."""
    rates, at = hull_grid(fpr)
    grid = np.asarray(rates)
    near = _near_tails(counts.n_non_members, fpr, alpha)
    guesses = _guess_limits(counts, near)
    limits = np.full(len(grid), np.nan)
    limits[: near.place[-1] + 1] = np.maximum.reduceat(
        guesses.guess, np.flatnonzero(np.diff(near.place, prepend=-1))
    )
    # At rate one everything is accused, so the limit is exact
    limits[-1] = 1.0
    exact = np.arange(len(grid)) == len(grid) - 1
    # Each round makes exact what the current line does not rule out; it ends once no approximate
    # limit could lift the line any more
    wanted = {at, *_find_support(grid, limits, np.isfinite(limits), at)}
    while wanted:
        for place in wanted:
            limits[place] = (
                limits[place] if exact[place] else upper_limit(counts, rates[place], alpha)
            )
            exact[place] = True
        height, slope = _find_hull_line(grid, limits, exact, at)
        line = height + slope * (grid - fpr)
        above = np.concatenate(
            [
                _is_above_line(counts, near, guesses, line, exact),
                _can_exceed_line(counts, fpr, alpha, line),
            ]
        )
        wanted = set(np.flatnonzero(above & ~exact).tolist())
    return UpperHull(float(height), float(slope))


def _find_support(grid: Floats, limits: Floats, usable: Bools, at: int) -> tuple[int, int]:
    """Find the two usable points whose connection is highest at place `at`.

    One lies at or before `at`, the other at or after it.
    """
    left, right = np.flatnonzero(usable[: at + 1]), at + np.flatnonzero(usable[at:])
    # Left and right may be the same point, which must not divide by zero
    gap = np.maximum(grid[right][None, :] - grid[left][:, None], 1e-300)
    share = (grid[at] - grid[left])[:, None] / gap
    heights = limits[left][:, None] + share * (limits[right][None, :] - limits[left][:, None])
    i, j = np.unravel_index(int(np.argmax(heights)), heights.shape)
    # No connection passes above the point itself, so it is a corner of the hull
    if heights[i, j] <= limits[at]:
        return at, at
    return int(left[i]), int(right[j])


def _find_hull_line(grid: Floats, limits: Floats, exact: Bools, at: int) -> tuple[float, float]:
    """Find a line on the hull of the exact points: its height at place `at`, and its slope.

    Where several slopes are possible, one near those of the inexact points is taken.
    """
    i, j = _find_support(grid, limits, exact, at)
    if i != j:
        slope = (limits[j] - limits[i]) / (grid[j] - grid[i])
        return float(limits[i] + slope * (grid[at] - grid[i])), float(slope)
    # At a corner any slope between those of its neighbours supports the hull
    slopes = np.divide(
        limits - limits[at],
        grid - grid[at],
        where=np.arange(len(grid)) != at,
        out=np.full(len(grid), np.nan),
    )
    highest = np.min(slopes[:at][exact[:at]], initial=np.inf)
    lowest = np.max(slopes[at + 1 :][exact[at + 1 :]])
    before, after = np.fmin.reduce(slopes[:at]), np.fmax.reduce(slopes[at + 1 :])
    # A slope near those of the inexact points leaves the fewest of them above the line
    middle = (np.clip(before, lowest, highest) + np.clip(after, lowest, highest)) / 2
    return float(limits[at]), float(middle)


# Groups of every size are asked about in turn, each at every rate
@lru_cache(maxsize=128)
def _near_tails(n: int, fpr: float, alpha: float) -> NearTails:
    """Give the tails of the rates up to four times `fpr`, where the hull's corners usually are."""
    # Four times, as `hull_grid` is dense so far
    rates = [rate for rate in hull_grid(fpr)[0] if rate <= 4 * fpr * (1 + 1e-9) and rate < 1]
    found = [rank_tails(n, rate, alpha) for rate in rates]
    place = np.repeat(np.arange(len(found)), [len(entry.ranks) for entry in found])
    ranks, tails, quantiles = (np.concatenate([entry[i] for entry in found]) for i in range(3))
    return NearTails(ranks.astype(np.int64), tails, quantiles, place, paulson_margin(tails))


def _is_above_line(
    counts: RankCounts,
    near: NearTails,
    guesses: NearLimits,
    line: Floats,
    settled: Bools | None = None,
) -> Bools:
    """Check whether the upper limit at each of the near rates exceeds `line` (u,) there.

    Rates that are `settled` (u,) are not asked about, and never do.
    """
    n, height = counts.n_members, np.clip(line, 0.0, 1.0)[near.place]
    full = guesses.found >= n
    # Only ranks whose approximate limit comes close to the line need a beta function
    wanted = (full | (guesses.guess * near.margin > height)) & (height < 1)
    # The line passes through exact limits, where most ranks come close to it
    close = np.flatnonzero(wanted if settled is None else wanted & ~settled[near.place])
    found = guesses.found[close]
    # The slack is for rounding, since the line passes through exact limits themselves
    reached = betaincc(found + 1, np.maximum(n - found, 1e-300), height[close]) > near.tails[
        close
    ] * (1 + 1e-12)
    above = np.bincount(
        near.place[close], weights=full[close] | reached, minlength=int(near.place[-1]) + 1
    )
    return np.asarray(above > 0)


def _can_exceed_line(counts: RankCounts, fpr: float, alpha: float, line: Floats) -> Bools:
    """Check whether a bound on the upper limit at each remaining rate exceeds `line` there.

    At rate 1 it never does.
    """
    rates = tuple(rate for rate in hull_grid(fpr)[0] if rate > 4 * fpr * (1 + 1e-9) or rate >= 1)
    ranks, tails = rank_bounds(counts.n_non_members, rates, alpha)
    n, found = counts.n_members, counts.at(ranks + 1)
    height = np.clip(line[-len(rates) :], 0.0, 1.0)
    # First the cheap bounds, which rule out most rates
    reached = betaincc(found + 1, np.maximum(n - found, 1e-300), height[:, None]) > tails[None, :]
    above = ((found >= n) | reached).any(axis=1) & (height < 1) & (np.asarray(rates) < 1)
    # Then a sharper one for each rate that is left
    for i in np.flatnonzero(above):
        above[i] = _bound_upper_limit(counts, rates[i], alpha) > height[i]
    return np.asarray(above)


def _bound_upper_limit(counts: RankCounts, rate: float, alpha: float) -> float:
    """Bound the upper limit at `rate` from above.

    Approximate limits are multiplied by how far they may fall short.
    """
    ranks, tails, quantiles = rank_tails(counts.n_non_members, rate, alpha)
    guess = paulson_limits(counts.at(ranks + 1), quantiles, counts.n_members)
    return float(np.max(guess * paulson_margin(tails)))
