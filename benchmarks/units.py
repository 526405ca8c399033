"""Records in units: the coverage of intervals, and what units add to the time of the estimates.

    python benchmarks/units.py coverage [--runs 4000] [--tpr-runs 400]
    python benchmarks/units.py speed [--records 100000] [--units 10000]

`coverage`: units of 1, 2, 10 and 50 records whose scores correlate by 0, .3 or .9, members moved by
one standard deviation, TPR at 10% false positives. Each row has the shares of runs in which the
limits hold the truth: by unit, and with the records of a unit taken as independent. In the last
columns a unit has one score, the mean of its records'. The TPR's limits, which take longer, are
simulated in fewer runs. `speed`: the estimate stage of an audit with
units over that of the same scores without, in one process and turn by turn, in processor time.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from joblib import Parallel, delayed
from scipy.special import ndtr, ndtri

from memberscope.auditing import AttackScores, AuditArrays, EstimateSettings, recompute_estimates
from memberscope.auditing.estimates.ranking import build_ranking
from memberscope.auditing.verdict.recompute import estimate_by_unit
from memberscope.statistics import estimate_curve_auc, roc, tpr_at_fpr
from memberscope.types import Access

JOBS = int(os.environ.get("JOBS", "1"))  # processes
BLOCK = 50  # runs that one job does
UNITS = (20, 50, 100)
ROWS = (1, 2, 10, 50)
CORRELATIONS = (0.0, 0.3, 0.9)
SHIFT, FPR = 1.0, 0.1
AIM = (0.94, 0.975)  # coverage of a nominal 95% interval, from 100 units a side
ADDED = 0.3  # share of the estimate stage that units may add
TIMED = 3  # turns of which the fastest counts


def draw_clustered_scores(
    units: int, rows: int, correlation: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, membership and units of `units` a side with `rows` records each."""
    unit = np.arange(2 * units * rows) // rows
    member = unit < units
    common = rng.standard_normal(2 * units)[unit]
    own = rng.standard_normal(len(unit))
    scores = correlation**0.5 * common + (1 - correlation) ** 0.5 * own + SHIFT * member
    return scores, member, unit


def list_truths(rows: int, correlation: float) -> tuple[float, float, float, float]:
    """The AUC and the TPR of records, and both of units with the mean of their records' scores."""
    found = []
    for spread in (1.0, (correlation + (1 - correlation) / rows) ** 0.5):
        found += [ndtr(SHIFT / spread / 2**0.5), ndtr(SHIFT / spread + ndtri(FPR))]
    return tuple(float(value) for value in found)


def cover_once(
    units: int, rows: int, correlation: float, seed: list[int], *, rates: bool
) -> list[float]:
    """Whether each interval holds its truth, and the width by unit over that ignoring units.

    Of the AUC by unit, ignoring units and of units, or of the TPR (`rates`).
    """
    scores, member, unit = draw_clustered_scores(
        units, rows, correlation, np.random.default_rng(seed)
    )
    truths = list_truths(rows, correlation)[int(rates) :: 2]
    curves = (
        roc(scores, member, unit),
        roc(scores, member),
        roc(scores.reshape(-1, rows).mean(axis=1), np.arange(2 * units) < units),
    )
    found = [
        tpr_at_fpr(curve, FPR) if rates else estimate_curve_auc(curve).limits() for curve in curves
    ]
    held = [
        float(interval.low <= truth <= interval.high)
        for interval, truth in zip(found, (truths[0], truths[0], truths[1]), strict=True)
    ]
    return [*held, (found[0].high - found[0].low) / (found[1].high - found[1].low)]


def cover_in_runs(
    units: int, rows: int, correlation: float, runs: int, *, rates: bool
) -> list[float]:
    """The means of `cover_once` over the runs."""

    def work(first: int) -> list[list[float]]:
        seeds = [
            [units, rows, int(100 * correlation), first + k]
            for k in range(min(BLOCK, runs - first))
        ]
        return [cover_once(units, rows, correlation, seed, rates=rates) for seed in seeds]

    blocks = Parallel(n_jobs=JOBS)(delayed(work)(first) for first in range(0, runs, BLOCK))
    return np.concatenate(blocks).mean(axis=0).tolist()


def print_coverage(runs: int, tpr_runs: int, units: tuple[int, ...]) -> None:
    """Print a row for each number of units, of records and correlation, and judge the aim."""
    print(
        "| units a side | records a unit | correlation | AUC | AUC, units ignored | its width | AUC "
        "of units | TPR | TPR, units ignored | its width | TPR of units |"
    )
    print("| ---" * 11 + " |")
    low, high = [], []
    for size in units:
        for rows in ROWS:
            for correlation in CORRELATIONS if rows > 1 else (0.0,):
                auc = cover_in_runs(size, rows, correlation, runs, rates=False)
                tpr = cover_in_runs(size, rows, correlation, tpr_runs, rates=True)
                cells = [
                    f"{one:.3f} | {ignored:.3f} | {1 / width:.2f} | {alone:.3f}"
                    for one, ignored, alone, width in (auc, tpr)
                ]
                print(f"| {size} | {rows} | {correlation:g} | {' | '.join(cells)} |", flush=True)
                named = {"AUC": auc[0], "AUC of units": auc[2]}
                rated = {"TPR": tpr[0], "TPR of units": tpr[2]}
                at = f"{size} x {rows}, {correlation:g}:"
                if size >= 100:
                    low += [f"{at} {n} {v:.3f}" for n, v in (named | rated).items() if v < AIM[0]]
                    high += [f"{at} {n} {v:.3f}" for n, v in named.items() if v > AIM[1]]
    print(f"{runs} runs of the AUC, {tpr_runs} of the TPR a row; from 100 units a side:")
    print(f"below {AIM[0]}: {'; '.join(low) or 'none'}")
    print(f"AUC above {AIM[1]}: {'; '.join(high) or 'none'}")


def build_unit_audit(records: int, units: int) -> AuditArrays:
    """Arrays of an audit with `records` and `units` a side, and the scores of ten attacks."""
    rng = np.random.default_rng(0)
    n = 2 * records
    member = np.arange(n) < records
    unit = np.concatenate(
        [np.sort(rng.integers(0, units, records)), units + np.sort(rng.integers(0, units, records))]
    )
    fold = rng.integers(0, 5, 2 * units)[unit]
    common, labels = rng.standard_normal(2 * units)[unit], rng.integers(0, 10, n)
    names = (
        *("gap", "loss", "confidence", "entropy", "modified_entropy", "margin", "lira", "base"),
        *("loss_per_class", "entropy_per_class"),
    )
    scored = []
    for name in names:
        scores = 0.5 * common + rng.standard_normal(n) + rng.random() * member
        thresholds = {
            point: np.quantile(scores[~member], 1 - fpr) * np.ones(5)
            for point, fpr in (("fpr=0.1", 0.1), ("fpr=0.01", 0.01), ("fpr=0.001", 0.001))
        }
        thresholds["balanced"] = np.zeros(5)
        scored.append(
            AttackScores(name, "probabilities", name.endswith("class"), scores, thresholds)
        )
    values = {"class": tuple(str(k) for k in range(10))}
    return AuditArrays(
        np.arange(n).astype(str), member, labels, fold, tuple(scored), {"class": labels}, values,
        unit=unit,
    )  # fmt: skip


def time_estimates(arrays: AuditArrays, settings: EstimateSettings) -> float:
    """Processor seconds of ranking and estimating everything that a result holds."""
    started = time.process_time()
    ranking = build_ranking(arrays, Access.PROBABILITIES)
    recompute_estimates(arrays, ranking, settings)
    estimate_by_unit(arrays, ranking, settings)
    return time.process_time() - started


def print_speed(records: int, units: int) -> None:
    """Print the processor time with and without units, and their ratio."""
    from dataclasses import replace

    arrays = build_unit_audit(records, units)
    settings = EstimateSettings((0.1, 0.01, 0.001), (0.01, 0.1, 0.5), 0.95, claimed=(0.01,))
    kinds = {"without": replace(arrays, unit=None), "with": arrays}
    spent = {
        name: min(found)
        for name, found in zip(
            kinds,
            np.array(
                [[time_estimates(kind, settings) for kind in kinds.values()] for _ in range(TIMED)]
            ).T,
            strict=True,
        )
    }
    ratio = spent["with"] / spent["without"]
    print(
        f"{records:,} + {records:,} records in {2 * units:,} units, {len(arrays.scored)} attacks: "
        f"{spent['without']:.2f} s without units, {spent['with']:.2f} s with, ratio {ratio:.2f} "
        f"(aim at most {1 + ADDED:.2f}: {'met' if ratio <= 1 + ADDED else 'missed'})"
    )


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["coverage", "speed"])
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--tpr-runs", type=int, default=400)
    parser.add_argument("--sides", default=",".join(map(str, UNITS)))
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--units", type=int, default=10_000)
    given = parser.parse_args()
    if given.part == "coverage":
        sides = tuple(int(size) for size in given.sides.split(","))
        print_coverage(given.runs, given.tpr_runs, sides)
    else:
        print_speed(given.records, given.units)


if __name__ == "__main__":
    main()
