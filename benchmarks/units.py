"""Records in units: the coverage of intervals, and what units add to the time of the estimates.

    python benchmarks/units.py coverage [--runs 4000] [--tpr-runs 400]
    python benchmarks/units.py speed [--records 100000] [--units 10000]
    python benchmarks/units.py threads [--runs 200]

`coverage`: units of 1, 2, 10 and 50 records whose scores correlate by 0, .3 or .9, members moved by
one standard deviation, TPR at 10% false positives. Each row has the shares of runs in which the
limits hold the truth: by unit, and with the records of a unit taken as independent. In the last
columns a unit has one score, the mean of its records'. The TPR's limits, which take longer, are
simulated in fewer runs. `speed`: the estimate stage of an audit with
units over that of the same scores without, in one process and turn by turn, in processor time.
`threads`: Stack Exchange threads cut into windows of 200 characters, scored by a model that counts
which character follows two others in the members' threads. One audit with the thread as unit; and
how often intervals hold .5 where neither side of `--runs` random splits trained the model.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from joblib import Parallel, delayed
from scipy.special import ndtr, ndtri

import data
from memberscope.auditing import (
    AttackScores,
    AuditArrays,
    EstimateSettings,
    Plan,
    audit_signals,
    recompute_estimates,
)
from memberscope.auditing.estimates.ranking import build_ranking
from memberscope.auditing.verdict.recompute import estimate_by_unit
from memberscope.statistics import estimate_auc, estimate_curve_auc, roc, tpr_at_fpr
from memberscope.targets import StoredSignals
from memberscope.types import Access

JOBS = int(os.environ.get("JOBS", "1"))  # processes
BLOCK = 50  # runs that one job does
UNITS = (20, 50, 100)
ROWS = (1, 2, 10, 50)
CORRELATIONS = (0.0, 0.3, 0.9)
SHIFT, FPR = 1.0, 0.1
AIM = (0.94, 0.975)  # coverage of a nominal 95% interval, from 100 units a side
ADDED = 0.3  # share of the estimate stage that units may add
TIMED = 9  # turns of which the fastest counts
WINDOW, ORDER, SMOOTHING = 200, 2, 5.0  # characters of a window, of a context; counts added to it


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


class Threads:
    """The windows of all threads, and which string of characters each of their positions ends."""

    def __init__(self, texts: list[str]) -> None:
        """Number the contexts and strings of every window, with its thread as `unit`."""
        pieces = [
            (thread, text[start : start + WINDOW])
            for thread, text in enumerate(texts)
            for start in range(0, len(text) - WINDOW + 1, WINDOW)
        ]
        self.unit = np.array([thread for thread, _ in pieces])
        letters = np.array([[ord(one) for one in piece] for _, piece in pieces])
        self.letter = np.unique(letters, return_inverse=True)[1].reshape(letters.shape)
        context = self.letter[:, :-ORDER]
        for k in range(1, ORDER):
            context = self._number(context, self.letter[:, k : k - ORDER])
        self.letter = self.letter[:, ORDER:]
        self.context, self.string = context, self._number(context, self.letter)

    @staticmethod
    def _number(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Number the pairs that occur."""
        pairs = first * (int(second.max()) + 1) + second
        return np.unique(pairs, return_inverse=True)[1].reshape(pairs.shape)

    def measure_losses(self, trained: np.ndarray) -> np.ndarray:
        """Mean loss of each window, in nats, under counts of the `trained` windows."""
        strings, contexts, letters = (
            np.bincount(codes[trained].ravel(), minlength=int(codes.max()) + 1)
            for codes in (self.string, self.context, self.letter)
        )
        single = (letters + 1) / (letters + 1).sum()
        found = strings[self.string] + SMOOTHING * single[self.letter]
        return -np.log(found / (contexts[self.context] + SMOOTHING)).mean(axis=1)


def print_threads(runs: int) -> None:
    """Print an audit with threads as units, and the coverage where nothing was trained on."""
    threads = Threads(data.texts("stackexchange"))
    unit, n = threads.unit, int(threads.unit.max()) + 1
    member = (np.random.default_rng(0).permutation(n) < n // 2)[unit]
    losses = threads.measure_losses(member)
    print(f"{len(unit):,} windows of {len(np.unique(unit))} threads, half of which trained a model")
    signals = StoredSignals(
        "loss", losses[:, None], np.zeros(len(unit), np.int64), member,
        np.arange(len(unit)).astype(str), unit=unit.astype(str),
    )  # fmt: skip
    plan = Plan(attacks=("loss",), fprs=(0.1, 0.01), assume_exchangeable=True)
    result = audit_signals(signals, plan=plan)
    print("| of | AUC | found at 10% | found at 1% |\n| --- | --- | --- | --- |")
    rows = [*result.estimates, *result.by_unit]
    for of in ("records", "records_ignoring_units", "units"):
        cells = [
            next(
                f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
                for one in rows
                if (one.attack, one.metric, one.fpr, one.of) == ("loss", metric, fpr, of)
                and one.group is None
                and one.threshold in (None, "best")
            )
            for metric, fpr in (("auc", None), ("tpr", 0.1), ("tpr", 0.01))
        ]
        print(f"| {of.replace('_', ' ')} | {' | '.join(cells)} |")
    held = np.mean([cover_null_once(threads, n, seed) for seed in range(runs)], axis=0)
    print(
        f"Neither side trained on, {runs} splits: intervals that hold .5: by unit {held[0]:.1%}, "
        f"ignoring units {held[1]:.1%}, of units {held[2]:.1%}"
    )


def cover_null_once(threads: Threads, n: int, seed: int) -> list[bool]:
    """Train on a third of `n` threads, and ask whether limits of the other two hold .5."""
    third = (np.random.default_rng([1, seed]).permutation(n) % 3)[threads.unit]
    tried = third > 0
    scores = -threads.measure_losses(third == 0)[tried]
    member, unit = third[tried] == 1, threads.unit[tried]
    _, first, code = np.unique(unit, return_index=True, return_inverse=True)
    means = np.bincount(code, scores) / np.bincount(code)
    found = [
        estimate_auc(scores, member, unit).limits(),
        estimate_auc(scores, member).limits(),
        estimate_auc(means, member[first]).limits(),
    ]
    return [one.low <= 0.5 <= one.high for one in found]


def main() -> None:
    """Print one of the three tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["coverage", "speed", "threads"])
    parser.add_argument("--runs", type=int, help="default 4000, of threads 200")
    parser.add_argument("--tpr-runs", type=int, default=400)
    parser.add_argument("--sides", default=",".join(map(str, UNITS)))
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--units", type=int, default=10_000)
    given = parser.parse_args()
    if given.part == "coverage":
        sides = tuple(int(size) for size in given.sides.split(","))
        print_coverage(given.runs or 4000, given.tpr_runs, sides)
    elif given.part == "threads":
        print_threads(given.runs or 200)
    else:
        print_speed(given.records, given.units)


if __name__ == "__main__":
    main()
