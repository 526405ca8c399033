"""Simulated coverage of every interval.

Not below nominal by a one-sided binomial test at 0.1%, and not needlessly wide.

Run with `-s` to see each mean width beside that of an oracle who knows the threshold.
"""

from __future__ import annotations

import numpy as np
import pytest
from families import Gaussian, covers, gaussian_cell, rounded_cell, shift_for

from memberscope.statistics import (
    ConfusionCounts,
    auc_difference,
    auc_interval,
    best_rates,
    clopper_pearson,
    epsilon_empirical,
    operating_point,
    ppv,
    ppv_at_fpr,
    ppv_from_counts,
    ranks_for_lower_limit,
    ranks_within_fold,
    ratio_of_shares,
    roc,
    threshold_rates,
    tpr_at_fpr,
)

CASES = [
    (n, fpr, tpr, steps)
    for n, fpr in ((50, 0.1), (500, 0.1), (500, 0.01))
    for tpr in (0.01, 0.5)
    for steps in (0, 2)
    if steps == 0 or tpr == 0.5
]


@pytest.mark.parametrize(("n", "fpr", "tpr", "steps"), CASES)
def test_tpr_and_precision_at_a_rate(n, fpr, tpr, steps):
    """Both are of the best rule at exactly the rate: at least chance, and straight across ties."""
    cell = rounded_cell(n, fpr, shift_for(tpr, fpr), steps) if steps else gaussian_cell(n, fpr, tpr)
    truth = max(cell.truth, fpr)
    rng = np.random.default_rng([n, int(1e4 * fpr), int(100 * tpr), steps])
    runs, hits, precise = 400, 0, 0
    for _ in range(runs):
        scores, member, _ = cell.sample(rng)
        curve = roc(scores, member)
        found, precision = tpr_at_fpr(curve, fpr), ppv_at_fpr(curve, fpr, 0.1)
        hits += found.low <= truth <= found.high
        precise += precision.low <= ppv(truth, fpr, 0.1) <= precision.high
    assert covers(hits, runs)
    assert covers(precise, runs)


def test_tpr_width_near_the_oracle_where_the_threshold_is_well_known():
    family = Gaussian(shift_for(0.5, 0.1))
    cut = family.threshold(0.1)
    rng = np.random.default_rng(5)
    widths, oracles = [], []
    for _ in range(50):
        scores, member = family.draw(5000, rng)
        found = tpr_at_fpr(roc(scores, member), 0.1)
        low, high = clopper_pearson(int((scores[:5000] >= cut).sum()), 5000)
        widths.append(found.high - found.low)
        oracles.append(float(high - low))
    # The threshold's own error alone, sqrt(slope^2 f (1 - f) / n), makes the ideal interval 1.63
    # times the oracle's here;
    # that the upper limit holds for curves of every shape, and for their hull, costs about a sixth
    # of the width.
    assert np.mean(widths) < 1.63 * 1.2 * np.mean(oracles)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("shift", [0.0, 0.74, 3.0, 5.0])
@pytest.mark.parametrize("n", [50, 500, 5000])
def test_auc(n, shift, steps):
    family, runs = Gaussian(shift, steps), {50: 1500, 500: 800, 5000: 300}[n]
    rng = np.random.default_rng([n, int(10 * shift), steps])
    truth = family.auc()
    found = [auc_interval(*family.draw(n, rng)) for _ in range(runs)]
    width = np.mean([entry.high - entry.low for entry in found])
    print(f"auc n={n} shift={shift} steps={steps}: width {width:.4f}")
    assert covers(sum(entry.low <= truth <= entry.high for entry in found), runs)


@pytest.mark.parametrize("n", [50, 500])
def test_auc_difference(n):
    rng = np.random.default_rng(n)
    hits, runs = 0, 800
    truth = Gaussian(1.0).auc() - Gaussian(1.0 / 2**0.5).auc()
    for _ in range(runs):
        scores, member = Gaussian(1.0).draw(n, rng)
        noisy = scores + rng.standard_normal(2 * n)
        found = auc_difference(scores, noisy, member)
        hits += found.low <= truth <= found.high
    assert covers(hits, runs)


@pytest.mark.parametrize("tpr", [0.0, 0.01, 0.5, 0.9])
@pytest.mark.parametrize("fpr", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("n", [50, 500, 5000])
def test_rates_at_a_fixed_threshold(n, fpr, tpr):
    rng = np.random.default_rng([n, int(100 * fpr), int(100 * tpr)])
    runs = 600
    truth = {
        "accuracy": (tpr + 1 - fpr) / 2,
        "balanced_accuracy": (tpr + 1 - fpr) / 2,
        "recall": tpr,
        "fpr": fpr,
        "fnr": 1 - tpr,
        "advantage": tpr - fpr,
    }
    if tpr + fpr > 0:
        truth |= {"precision": ppv(tpr, fpr, 0.5)}
    hits = dict.fromkeys([*truth, "ratio", "ppv"], 0)
    for _ in range(runs):
        tp, fp = int(rng.binomial(n, tpr)), int(rng.binomial(n, fpr))
        found = threshold_rates(ConfusionCounts(tp, n, fp, n))
        for name, value in truth.items():
            hits[name] += found[name].low - 1e-12 <= value <= found[name].high + 1e-12
        if fpr > 0:
            odds = ratio_of_shares((tp, n), (fp, n))
            hits["ratio"] += odds.low <= tpr / fpr <= odds.high
            precision = ppv_from_counts(tp, n, fp, n, prior=0.01)
            hits["ppv"] += precision.low <= ppv(tpr, fpr, 0.01) <= precision.high
    for name, count in hits.items():
        if name in truth or fpr > 0:
            assert covers(count, runs), name


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("n", [50, 500, 5000])
def test_best_threshold_covers_the_value_at_the_threshold_chosen(n, shift, steps):
    family, runs = Gaussian(shift, steps), {50: 800, 500: 500, 5000: 200}[n]
    rng = np.random.default_rng([n, int(shift), steps])
    hits = dict.fromkeys(
        ("balanced_accuracy", "recall", "fpr", "advantage", "precision", "accuracy"), 0
    )
    for _ in range(runs):
        scores, member = family.draw(n, rng)
        curve = roc(scores, member)
        found = best_rates(curve)
        at = 1 + int(np.argmax(curve.tp[1:] - curve.fp[1:]))
        tpr, fpr = family.rates_at(float(curve.thresholds[at]))
        truth = {
            "balanced_accuracy": (tpr + 1 - fpr) / 2,
            "accuracy": (tpr + 1 - fpr) / 2,
            "recall": tpr,
            "fpr": fpr,
            "advantage": tpr - fpr,
            "precision": ppv(tpr, fpr, 0.5),
        }
        for name, value in truth.items():
            hits[name] += found[name].low <= value <= found[name].high
    for name, count in hits.items():
        assert covers(count, runs), name


@pytest.mark.parametrize(("tpr", "fpr"), [(0.5, 0.1), (0.05, 0.05), (0.9, 0.01)])
@pytest.mark.parametrize("n", [50, 500, 5000])
def test_empirical_epsilon_covers_the_log_ratio(n, tpr, fpr):
    rng = np.random.default_rng([n, int(100 * tpr), int(100 * fpr)])
    truth = max(0.0, np.log(tpr / fpr), np.log((1 - fpr) / (1 - tpr)))
    hits, runs = 0, 600
    for _ in range(runs):
        counts = ConfusionCounts(int(rng.binomial(n, tpr)), n, int(rng.binomial(n, fpr)), n)
        found = epsilon_empirical(counts)
        hits += found.low <= truth + 1e-12 and truth <= found.high + 1e-12
    assert covers(hits, runs)


@pytest.mark.parametrize(
    ("n", "fpr", "tpr"), [(100, 0.1, 0.5), (500, 0.01, 0.01), (500, 0.02, 0.1), (2000, 0.0025, 0.1)]
)
def test_tpr_of_scores_that_compare_within_folds_only(n, fpr, tpr):
    """Down to one false positive a fold, where the plain staircase misses.

    Each fold's threshold is estimated by itself.
    """
    family, rng, runs = (
        Gaussian(shift_for(tpr, fpr)),
        np.random.default_rng([n, int(1e4 * fpr)]),
        400,
    )
    hits = 0
    for _ in range(runs):
        scores, member = family.draw(n, rng)
        fold = np.concatenate([rng.permutation(n) % 5, rng.permutation(n) % 5])
        scores = scores + 10 * fold
        curve, strict = (
            roc(place(scores, member, fold), member)
            for place in (ranks_within_fold, ranks_for_lower_limit)
        )
        found = tpr_at_fpr(curve, fpr, strict=strict)
        hits += found.low <= tpr <= found.high
    assert covers(hits, runs)


def test_the_naive_interval_at_the_chosen_threshold_undercovers():
    """Why the threshold's error must be counted.

    An exact binomial interval at the estimated threshold misses far too often.
    """
    family, rng = Gaussian(shift_for(0.5, 0.01)), np.random.default_rng(0)
    naive = 0
    for _ in range(300):
        scores, member = family.draw(500, rng)
        point = operating_point(roc(scores, member), 0.01)
        low, high = clopper_pearson(point.tp, 500)
        naive += low <= 0.5 <= high
    assert naive < 0.6 * 300
