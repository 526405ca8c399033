"""Simulated errors of the TPR's limits at a false-positive rate, one row a kind of curve.

Beside the construction before.

Both are judged by what the best rule finds at that rate, coins allowed. Nominal is .025 a side. The
standard error of a simulated share p over R runs is sqrt(p (1 - p) / R): .0016 at .025 and 10,000
runs.

    python benchmarks/coverage.py --runs 400 --cells jump
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import joblib
import numpy as np
from scipy.special import betainc, gammaln

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "statistics"))
from families import Cell, coverage_cells

from memberscope.statistics import Roc, ranks_for_lower_limit, ranks_within_fold, roc, tpr_at_fpr

CHUNK = 50


def mixture_of_old(curve: Roc, fpr: float, *, lower: bool) -> tuple[np.ndarray, np.ndarray]:
    """Counts and weights of the mixture over ranks that both limits came from."""
    n = curve.n_non_members
    spread = 8 * (n * fpr * (1 - fpr)) ** 0.5 + 8
    ranks = np.arange(max(0, int(n * fpr - spread)), min(n, int(n * fpr + spread) + 1) + 1)
    logs = (
        gammaln(n + 1)
        - gammaln(ranks + 1)
        - gammaln(n - ranks + 1)
        + ranks * np.log(fpr)
        + (n - ranks) * np.log1p(-fpr)
    )
    weights = np.exp(logs)
    at = np.searchsorted(curve.fp, ranks - 1 if lower else ranks, side="right") - 1
    return np.where(at >= 0, curve.tp[np.maximum(at, 0)], 0), weights / weights.sum()


def quantile_of_old(curve: Roc, fpr: float, level: float, *, lower: bool) -> float:
    """Quantile of the mixture of beta limits."""
    counts, weights = mixture_of_old(curve, fpr, lower=lower)
    n, low, high = curve.n_members, 0.0, 1.0
    counts, inverse = np.unique(counts, return_inverse=True)
    weights = np.bincount(inverse, weights=weights)
    for _ in range(30):
        theta = (low + high) / 2
        if lower:
            below = np.where(counts > 0, betainc(np.maximum(counts, 1), n - counts + 1, theta), 1.0)
        else:
            below = np.where(
                counts < n,
                betainc(counts + 1, np.maximum(n - counts, 1), theta),
                float(theta >= 1.0),
            )
        low, high = (low, theta) if weights @ below >= level else (theta, high)
    return low if lower else high


def old_limits(
    curve: Roc, fpr: float, strict: Roc | None, tail: float = 0.025
) -> tuple[float, float]:
    """The interval before: the staircase's.

    With tails halved where non-members tie near the threshold.
    """
    n = curve.n_non_members
    reach = 4 * (n * fpr * (1 - fpr)) ** 0.5 + 1
    near = (curve.fp[1:] >= n * fpr - reach) & (curve.fp[:-1] <= n * fpr + reach)
    tail = tail / 2 if (np.diff(curve.fp)[near] > 1).any() else tail
    low = quantile_of_old(strict or curve, fpr, tail, lower=True)
    return low, quantile_of_old(curve, fpr, 1 - tail, lower=False)


def errors_of(cell: Cell, seed: np.random.SeedSequence, runs: int, old: bool) -> np.ndarray:
    """Misses below and above and summed width, of the old construction and of the new (6,)."""
    rng, found = np.random.default_rng(seed), np.zeros(6)
    for _ in range(runs):
        scores, member, unit = cell.sample(rng)
        curve, strict, plain = roc(scores, member, unit), None, None
        if cell.folds > 1:
            fold = np.concatenate(
                [rng.permutation(cell.n) % cell.folds, rng.permutation(cell.n) % cell.folds]
            )
            curve, strict = (
                roc(place(scores, member, fold), member)
                for place in (ranks_within_fold, ranks_for_lower_limit)
            )
        interval = tpr_at_fpr(curve, cell.fpr, strict=strict)
        found[3:] += (
            interval.low > cell.truth,
            interval.high < cell.truth,
            interval.high - interval.low,
        )
        if old:
            plain = roc(scores, member) if unit is not None else curve
            low, high = old_limits(plain, cell.fpr, strict)
            found[:3] += low > cell.truth, high < cell.truth, high - low
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="simulated data sets a cell")
    parser.add_argument("--cells", default="", help="only the cells whose name contains this")
    parser.add_argument("--jobs", type=int, default=-1, help="processes, -1 for one a core")
    options = parser.parse_args()
    print(
        f"{options.runs} runs a cell; misses of the lower and of the upper limit, nominal .025 "
        "each; mean width.\n"
    )
    head = (
        "n a side",
        "FPR",
        "curve",
        "best rule finds",
        "before: low",
        "high",
        "width",
        "now: low",
        "high",
        "width",
    )
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    chunks = [CHUNK] * (options.runs // CHUNK) + [options.runs % CHUNK] * (options.runs % CHUNK > 0)
    with joblib.Parallel(n_jobs=options.jobs) as parallel:
        for number, cell in enumerate(coverage_cells()):
            if options.cells not in cell.name:
                continue
            seeds = np.random.SeedSequence(number).spawn(len(chunks))
            jobs = (
                joblib.delayed(errors_of)(cell, s, r, True)
                for s, r in zip(seeds, chunks, strict=True)
            )
            shares = np.sum(list(parallel(jobs)), axis=0) / options.runs
            words = [
                f"{share:.4f}".lstrip("0") if i % 3 < 2 else f"{share:.4f}"
                for i, share in enumerate(shares)
            ]
            name = cell.name + (f", {cell.folds} folds" if cell.folds > 1 else "")
            print(
                f"| {cell.n:,} | {cell.fpr:g} | {name} | {cell.truth:.4f} | "
                + " | ".join(words)
                + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
