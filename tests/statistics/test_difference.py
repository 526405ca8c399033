"""Differences between two audits.

Known answers, simulated coverage, false alarms under the null, and planted increases.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from families import Gaussian, covers, shift_for
from scipy.stats import binom, norm

from memberscope.statistics import (
    Interval,
    auc_change,
    auc_interval,
    bootstrap_rates,
    correlate_estimates,
    difference_by_mover,
    difference_p_value,
    roc,
    shared_resamples,
    tpr_at_fpr,
)


def wilson(k: int, n: int) -> Interval:
    z, p = norm.ppf(0.975), k / n
    centre, half = (
        (p + z**2 / (2 * n)) / (1 + z**2 / n),
        z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n),
    )
    return Interval(p, centre - half, centre + half, "Wilson")


def pair(
    n: int, shifts: tuple[float, float], shared: float, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Scores of two models on the same records.

    Each N(0, 1), members moved by its shift, `shared` of the variance the record's own.
    """
    record, member = rng.standard_normal(2 * n), np.arange(2 * n) < n
    before, after = (
        shared**0.5 * record + (1 - shared) ** 0.5 * rng.standard_normal(2 * n) + s * member
        for s in shifts
    )
    return before, after, member


def tpr_changes(before, after, member, fpr, rng, confidence=0.95):
    """The difference with its interval by the correlation of shared resamples, and by none.

    Each is a function of the confidence. Limits of each audit are computed once for both.
    """
    _, tpr = shared_resamples([before, after], member, (fpr,), 100, rng)
    curves = [roc(scores, member) for scores in (before, after)]

    @cache
    def limit(level):
        return [tpr_at_fpr(curve, fpr, level) for curve in curves]

    return [
        lambda c=confidence, r=r: difference_by_mover(*limit(c), r)
        for r in (correlate_estimates(tpr[:, 0, 0], tpr[:, 1, 0]), 0.0)
    ]


def rarely(alarms: int, runs: int, level: float = 0.025) -> bool:
    return alarms <= binom.ppf(0.999, runs, level)


def test_independent_shares_as_published():
    """Newcombe 1998, table II, method 10, contrasts (a), (c) and (g)."""
    for after, before, low, high in (
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
    ):
        found = difference_by_mover(wilson(*before), wilson(*after))
        assert (found.low, found.high) == (
            pytest.approx(low, abs=1e-4),
            pytest.approx(high, abs=1e-4),
        )


def test_a_correlation_narrows_as_the_variance_of_a_difference_does():
    one = Interval(0.5, 0.4, 0.6, "")
    half = [difference_by_mover(one, one, r).high for r in (-1.0, 0.0, 0.5)]
    assert half == pytest.approx([0.1 * (2 - 2 * r) ** 0.5 for r in (-1.0, 0.0, 0.5)])
    assert difference_by_mover(one, one, 1.0).high > 0.02, "an interval is never empty"


def test_shared_resamples_agree_with_each_attacks_own_bootstrap():
    rng = np.random.default_rng(0)
    before, after, member = pair(300, (0.5, 1.0), 0.8, rng)
    auc, tpr = shared_resamples([before, after, before], member, (0.1,), 800, rng)
    np.testing.assert_array_equal(auc[:, 0], auc[:, 2])
    for k, scores in enumerate((before, after)):
        alone_auc, alone_tpr = bootstrap_rates(scores, member, (0.1,), 800, rng)
        for mine, its in ((auc[:, k], alone_auc), (tpr[:, k, 0], alone_tpr[:, 0])):
            assert mine.mean() == pytest.approx(its.mean(), abs=4 * its.std() / 800**0.5 * 2**0.5)
            assert mine.std() == pytest.approx(its.std(), rel=0.15)
    other = pair(300, (0.5, 1.0), 0.0, rng)
    apart, _ = shared_resamples([other[0], other[1]], other[2], (), 800, rng)
    assert (
        correlate_estimates(auc[:, 0], auc[:, 1])
        > 0.6
        > 0.2
        > abs(correlate_estimates(apart[:, 0], apart[:, 1]))
    )


@pytest.mark.parametrize("shifts", [(0.0, 0.0), (0.3, 0.8), (1.0, 3.0), (5.0, 5.0)])
@pytest.mark.parametrize("n", [50, 500])
def test_auc_of_independent_audits(n, shifts):
    rng, runs = np.random.default_rng([n, int(10 * shifts[1])]), 400
    truth = Gaussian(shifts[1]).auc() - Gaussian(shifts[0]).auc()
    hits = 0
    for _ in range(runs):
        found = difference_by_mover(
            *(auc_interval(*Gaussian(shift).draw(n, rng)) for shift in shifts)
        )
        hits += found.low <= truth <= found.high
    assert covers(hits, runs)


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("shifts", [(0.0, 0.0), (0.3, 0.8), (1.0, 3.0), (5.0, 5.0)])
@pytest.mark.parametrize("n", [50, 500])
def test_auc_on_the_same_records(n, shifts, shared):
    rng, runs = np.random.default_rng([n, int(10 * shifts[1]), int(100 * shared)]), 400
    truth = Gaussian(shifts[1]).auc() - Gaussian(shifts[0]).auc()
    hits = alarms = 0
    for _ in range(runs):
        before, after, member = pair(n, shifts, shared, rng)
        found = auc_change(before, after, member)
        hits += found.low <= truth <= found.high
        alarms += found.low > truth
    assert covers(hits, runs)
    assert rarely(alarms, runs)


CASES = [
    (n, fpr, tprs)
    for n, fpr in ((100, 0.01), (100, 0.1), (500, 0.01))
    for tprs in ((0.02, 0.02), (0.02, 0.7), (0.3, 0.3))
]


@pytest.mark.parametrize(("n", "fpr", "tprs"), CASES)
def test_tpr_of_independent_audits(n, fpr, tprs):
    rng, runs = np.random.default_rng([n, int(100 * fpr), int(100 * tprs[1])]), 300
    hits = alarms = 0
    for _ in range(runs):
        drawn = [roc(*Gaussian(shift_for(tpr, fpr)).draw(n, rng)) for tpr in tprs]
        found = difference_by_mover(*(tpr_at_fpr(curve, fpr) for curve in drawn))
        hits += found.low <= tprs[1] - tprs[0] <= found.high
        alarms += found.low > tprs[1] - tprs[0]
    assert covers(hits, runs)
    assert rarely(alarms, runs)


@pytest.mark.parametrize("shared", [0.0, 0.95])
@pytest.mark.parametrize(("n", "fpr", "tprs"), CASES)
def test_tpr_on_the_same_records(n, fpr, tprs, shared):
    rng, runs = (
        np.random.default_rng([n, int(100 * fpr), int(100 * tprs[1]), int(100 * shared)]),
        100,
    )
    shifts = (shift_for(tprs[0], fpr), shift_for(tprs[1], fpr))
    truth, hits, alarms, widths = tprs[1] - tprs[0], 0, 0, []
    for _ in range(runs):
        before, after, member = pair(n, shifts, shared, rng)
        found, apart = (change() for change in tpr_changes(before, after, member, fpr, rng))
        hits += found.low <= truth <= found.high
        alarms += found.low > truth
        widths.append((found.high - found.low, apart.high - apart.low))
    print(
        f"n={n} fpr={fpr} tprs={tprs} shared={shared}: {hits / runs:.3f}, widths "
        f"{np.mean(widths, axis=0)}"
    )
    assert covers(hits, runs)
    assert rarely(alarms, runs)
    if (
        shared > 0.9 and n * fpr >= 5 and tprs[0] == tprs[1] >= fpr
    ):  # below chance the upper limit is that of guessing
        assert np.mean(widths, axis=0)[0] < 0.85 * np.mean(widths, axis=0)[1], (
            "the same records tell more"
        )


def test_a_bootstraps_own_lower_limit_is_too_high_too_often():
    """Why each audit keeps its limits.

    Percentiles of the resampled difference, at one false positive.
    """
    rng, runs, alarms, tprs = np.random.default_rng(1), 150, 0, (0.02, 0.7)
    for _ in range(runs):
        before, after, member = pair(100, tuple(shift_for(tpr, 0.01) for tpr in tprs), 0.95, rng)
        _, tpr = shared_resamples([before, after], member, (0.01,), 100, rng)
        alarms += np.quantile(tpr[:, 1, 0] - tpr[:, 0, 0], 0.025) > tprs[1] - tprs[0]
    assert not rarely(alarms, runs) and alarms > 0.08 * runs


def test_a_planted_increase_is_seen_on_the_same_records_and_less_often_on_others():
    rng, runs = np.random.default_rng(2), 60
    shifts = (shift_for(0.3, 0.05), shift_for(0.39, 0.05))
    seen = {True: 0, False: 0}
    for _ in range(runs):
        before, after, member = pair(800, shifts, 0.9, rng)
        for together, change in zip(
            seen, tpr_changes(before, after, member, 0.05, rng), strict=True
        ):
            seen[together] += change().low > 0
    assert seen[True] > 0.7 * runs and seen[True] > seen[False] + 0.2 * runs


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_the_p_value_is_that_of_the_lower_limit(margin):
    rng = np.random.default_rng(4)
    before, after, member = pair(400, (0.5, 0.7), 0.5, rng)
    for limits in (
        lambda c: auc_change(before, after, member, c),
        *tpr_changes(before, after, member, 0.1, rng),
    ):
        p = difference_p_value(limits, margin)
        assert 1e-9 < p < 0.5
        assert limits(1 - 2 * p).low == pytest.approx(margin, abs=1e-4)
        assert limits(1 - 2 * p * 1.01).low > margin > limits(1 - 2 * p * 0.99).low
    assert difference_p_value(lambda c: auc_change(after, before, member, c)) == 1.0


def test_p_values_under_the_null_are_rarely_small():
    rng, runs = np.random.default_rng(6), 400
    small = {0.025: 0, 0.1: 0}
    for _ in range(runs):
        before, after, member = pair(150, (1.0, 1.0), 0.5, rng)
        p = difference_p_value(
            lambda c, one=before, two=after, m=member: auc_change(one, two, m, c)
        )
        for level in small:
            small[level] += p < level
    for level, count in small.items():
        assert rarely(count, runs, level)
    assert small[0.1] > 0.05 * runs, "and not needlessly large"
