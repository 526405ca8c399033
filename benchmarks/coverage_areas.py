"""Coverage of AUC, best advantage, shares by unit and separations.

Today's constructions beside those of version 467bde6.

Each row has the coverage of a nominal 95% interval before and now, the misses on each side now (the
limit lies above, or below, the truth), and the mean width now over that before.

    python benchmarks/coverage_areas.py --runs 10000
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from scipy.special import expit, logit, nctdtrinc, ndtr, ndtri, stdtrit

from memberscope.auditing.estimates.record_vulnerability import measure_separation
from memberscope.statistics import (
    ConfusionCounts,
    Interval,
    auc_interval,
    best_rates,
    effective_counts,
    kolmogorov_band,
    roc,
    threshold_rates,
)
from memberscope.statistics.curves.auc import compute_placements, newcombe_limits
from memberscope.types import Evidence

Pair = tuple[Interval, Interval, float]  # before, now, truth
BLOCK = 50  # runs that one job does
LOPSIDED = (
    (30, 5000, 0.96),
    (30, 5000, 0.99),
    (50, 500, 0.99),
    (100, 5000, 0.999),
    (100, 10_000, 0.99),
    (200, 2000, 0.99),
)
PEOPLE = ((20, 10), (50, 10), (200, 10))
MODELS = ((2, 14), (4, 12), (8, 8))


def old_auc(scores: np.ndarray, member: np.ndarray) -> Interval:
    """Logit-DeLong, and Newcombe's below 15 discordant records.

    The construction of version 467bde6.
    """
    inside, outside = compute_placements(scores, member)
    n, m, value = len(inside), len(outside), float(inside.mean())
    parts = np.array([inside.var(ddof=1) / n, outside.var(ddof=1) / m])
    least = min(
        max((inside < 1).sum(), (outside < 1).sum()), max((inside > 0).sum(), (outside > 0).sum())
    )
    if parts.sum() <= 0 or not 0 < value < 1 or least < 15:
        return Interval(value, *newcombe_limits(value, n, m, 0.95), "")
    freedom = parts.sum() ** 2 / float(np.sum(parts**2 / np.array([n - 1, m - 1])))
    half = float(stdtrit(freedom, 0.975)) * parts.sum() ** 0.5 / (value * (1 - value))
    return Interval(value, float(expit(logit(value) - half)), float(expit(logit(value) + half)), "")


def old_advantage(scores: np.ndarray, member: np.ndarray) -> Interval:
    """Kolmogorov bands of both sides at once: the construction of version 467bde6."""
    curve = roc(scores, member)
    gain = curve.tp / curve.n_members - curve.fp / curve.n_non_members
    reach = sum(kolmogorov_band(n, 0.975) for n in (curve.n_members, curve.n_non_members))
    return Interval(float(gain.max()), float(gain.max()) - reach, float(gain.max()) + reach, "")


def old_separation(values: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Limits (n,) from a variance pooled over both kinds: the construction of version 467bde6."""
    one, two = values[inside[:, 0]], values[~inside[:, 0]]
    m = len(values)
    pooled = (
        ((one - one.mean(axis=0)) ** 2).sum(axis=0) + ((two - two.mean(axis=0)) ** 2).sum(axis=0)
    ) / (m - 2)
    value, scale = (
        (one.mean(axis=0) - two.mean(axis=0)) / pooled**0.5,
        (len(one) * len(two) / m) ** 0.5,
    )
    return tuple(nctdtrinc(m - 2, tail, value * scale) / scale for tail in (0.975, 0.025))


def binormal(
    n1: int, n0: int, auc: float, spread: float, rounded: bool
) -> Callable[[np.random.Generator], Pair]:
    """AUC of members N(s, spread) against N(0, 1), rounded to whole units or not."""
    shift = float(ndtri(auc)) * (1 + spread**2) ** 0.5
    truth = auc
    if rounded:
        grid = np.arange(-12, 13)
        outside, above = ndtr(grid + 0.5) - ndtr(grid - 0.5), ndtr((shift - grid - 0.5) / spread)
        truth = float(np.sum(outside * (above + ndtr((shift - grid + 0.5) / spread)) / 2))
    member = np.arange(n1 + n0) < n1

    def draw(rng: np.random.Generator) -> Pair:
        scores = np.concatenate([shift + spread * rng.standard_normal(n1), rng.standard_normal(n0)])
        scores = np.round(scores) if rounded else scores
        return old_auc(scores, member), auc_interval(scores, member), truth

    return draw


def people(
    n: int, rows: int, correlation: float, shift: float, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Scores, membership and units of `n` people a side with `rows` records each."""
    unit = np.arange(2 * n * rows) // rows
    member = unit < n
    noise = (1 - correlation) ** 0.5 * rng.standard_normal(len(unit))
    return (
        correlation**0.5 * rng.standard_normal(2 * n)[unit] + noise + shift * member,
        member,
        unit,
    )


def auc_by_unit(
    n: int, rows: int, correlation: float, auc: float
) -> Callable[[np.random.Generator], Pair]:
    """AUC of clustered rows."""

    def draw(rng: np.random.Generator) -> Pair:
        scores, member, unit = people(n, rows, correlation, float(ndtri(auc)) * 2**0.5, rng)
        return old_auc(scores, member), auc_interval(scores, member, unit=unit), auc

    return draw


def share_by_unit(
    n: int, rows: int, correlation: float, name: str
) -> Callable[[np.random.Generator], Pair]:
    """A rate at a fixed threshold, 1, of clustered rows."""
    tpr, fpr = float(ndtr(0.0)), float(ndtr(-1.0))
    truth = {"recall": tpr, "fpr": fpr, "balanced_accuracy": (tpr + 1 - fpr) / 2}[name]

    def draw(rng: np.random.Generator) -> Pair:
        scores, member, unit = people(n, rows, correlation, 1.0, rng)
        called = scores >= 1
        counts = ConfusionCounts(
            int((called & member).sum()), n * rows, int((called & ~member).sum()), n * rows
        )
        return (
            threshold_rates(counts)[name],
            threshold_rates(effective_counts(called, member, unit))[name],
            truth,
        )

    return draw


def advantage(
    n1: int, n0: int, shift: float, steps: int, correlation: float = 0.0
) -> Callable[[np.random.Generator], Pair]:
    """Best advantage of N(shift, 1) against N(0, 1), rounded to a grid of `steps` a unit or not.

    People of ten if correlated.
    """
    cut = shift / 2 if not steps else np.arange(-8 * steps, 9 * steps) / steps - 0.5 / steps
    truth = float(np.max(ndtr(shift - cut) - ndtr(-cut)))
    rows = 10 if correlation else 1

    def draw(rng: np.random.Generator) -> Pair:
        if correlation:
            scores, member, unit = people(n1 // rows, rows, correlation, shift, rng)
        else:
            member, unit = np.arange(n1 + n0) < n1, None
            scores = rng.standard_normal(n1 + n0) + shift * member
        scores = np.round(scores * steps) / steps if steps else scores
        found = best_rates(roc(scores, member, unit))["advantage"]
        return old_advantage(scores, member), found, truth

    return draw


def separated(
    counts: tuple[int, int], spread: float, depth: float
) -> Callable[[np.random.Generator], Pair]:
    """One record's separation, with `counts` models with it and without it.

    `spread` is the ratio of the two spreads.
    """
    m = sum(counts)
    inside = np.arange(m)[:, None] < np.array([counts[0]])
    unit = ((spread**2 + 1) / 2) ** 0.5
    hidden, labels = np.full(1, -1, dtype=np.int8), np.zeros(1, dtype=np.int64)

    def draw(rng: np.random.Generator) -> Pair:
        values = rng.standard_normal((m, 1)) * np.where(inside, spread, 1.0) + inside * depth * unit
        references = values[:, :, None, None]
        evidence = Evidence(
            "logit_confidence", np.zeros((1, 1, 1)), labels, hidden, references, inside
        )
        low, high = old_separation(values, inside)
        value, new_low, new_high = measure_separation(evidence, 0.95).columns()[0]
        return Interval(value, low[0], high[0], ""), Interval(value, new_low, new_high, ""), depth

    return draw


@dataclass(frozen=True)
class Row:
    """One cell of the table."""

    name: str
    draw: Callable[[np.random.Generator], Pair]


def rows() -> Iterator[Row]:
    """Every cell, in the order of the table."""
    for n1, n0, auc in LOPSIDED:
        for words, spread, rounded in (
            ("equal sd", 1.0, False),
            ("sd 2", 2.0, False),
            ("rounded", 1.0, True),
        ):
            yield Row(f"AUC {auc:g}, {n1}/{n0}, {words}", binormal(n1, n0, auc, spread, rounded))
    for n, size in PEOPLE:
        for correlation in (0.1, 0.3, 0.5, 0.8):
            for auc in (0.5, 0.8):
                yield Row(
                    f"AUC {auc:g}, {n} people x {size}, ICC {correlation}",
                    auc_by_unit(n, size, correlation, auc),
                )
    for correlation in (0.1, 0.3, 0.5, 0.8):
        for name in ("recall", "fpr", "balanced_accuracy"):
            yield Row(
                f"{name} at a fixed threshold, 200 people x 10, ICC {correlation}",
                share_by_unit(200, 10, correlation, name),
            )
    for n1, n0 in ((100, 100), (1000, 1000), (100, 2000)):
        for shift in (0.0, 1.0, 3.0):
            for steps in (0, 1):
                words = "whole units" if steps else "no ties"
                yield Row(
                    f"J, shift {shift:g}, {n1}/{n0}, {words}", advantage(n1, n0, shift, steps)
                )
    for correlation in (0.1, 0.8):
        for shift in (0.0, 1.0):
            yield Row(
                f"J, shift {shift:g}, 200 people x 10, ICC {correlation}",
                advantage(2000, 2000, shift, 0, correlation),
            )
    for counts in MODELS:
        for spread in (1.0, 2.0, 3.0):
            for depth in (0.0, 2.0, 5.0):
                yield Row(
                    f"separation {depth:g}, {counts} models, spreads {spread:g}",
                    separated(counts, spread, depth),
                )


def measure(index: int, block: int, runs: int) -> np.ndarray:
    """Hits before, hits now, limits above and below the truth now, and both widths.

    Summed over `runs`.
    """
    row, rng = list(rows())[index], np.random.default_rng([index, block])
    found = np.zeros(6)
    for _ in range(runs):
        before, now, truth = row.draw(rng)
        above, below = now.low > truth, now.high < truth
        found += (
            before.low <= truth <= before.high,
            not (above or below),
            above,
            below,
            before.high - before.low,
            now.high - now.low,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=-1)
    given = parser.parse_args()
    blocks = max(1, given.runs // BLOCK)
    print("| what | before | now | low above / high below | width over before |\n|" + " --- |" * 5)
    with Parallel(n_jobs=given.jobs) as parallel:
        for index, row in enumerate(rows()):
            parts = parallel(delayed(measure)(index, block, BLOCK) for block in range(blocks))
            before, now, above, below, old, new = np.sum(parts, axis=0) / (blocks * BLOCK)
            print(
                f"| {row.name} | {before:.3f} | {now:.3f} | {above:.3f} / {below:.3f} | "
                f"{new / old:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
