"""TPR at a rate: known answers, a naive reference beside the fast limits, clusters, ties.

And what the limits must obey.
"""

from __future__ import annotations

import numpy as np
import pytest
from families import Gaussian, coverage_cells, shift_for
from scipy.special import betainc, betaincinv, ndtri
from scipy.stats import binom

from memberscope.errors import InputError
from memberscope.statistics import (
    can_fail,
    effective_sizes,
    kish_size,
    largest_tpr,
    ppv,
    ppv_at_fpr,
    randomised_tpr,
    ranks_for_lower_limit,
    ranks_within_fold,
    roc,
    roc_band,
    tpr_at_fpr,
    tpr_lower,
    tpr_p_value,
    tpr_staircase_at_fpr,
    tpr_upper,
)
from memberscope.statistics.curves.rank_tails import rank_tails
from memberscope.statistics.curves.roc import count_members_above
from memberscope.statistics.curves.tpr_hull import hull_grid
from memberscope.statistics.curves.tpr_limits import paulson_limits, paulson_margin


def quantiles(n):
    return ndtri((np.arange(n) + 0.5) / n)


def curve_of(members, others, unit=None):
    return roc(
        np.concatenate([members, others]),
        np.arange(len(members) + len(others)) < len(members),
        unit,
    )


def block_curve(members, others, n=1000):
    """A top block of `members` and `others`, of `n` each; the rest share the score below."""
    return curve_of((np.arange(n) < members) * 1.0, (np.arange(n) < others) * 1.0)


@pytest.mark.parametrize(
    ("curve", "fpr", "value", "low", "high"),
    [
        (curve_of(quantiles(200), quantiles(200)), 0.05, 0.05, 0.01245092, 0.11358321),
        (curve_of(quantiles(1000) + 1, quantiles(1000)), 0.01, 0.095, 0.04502260, 0.14457744),
        (curve_of(quantiles(1000) + 1, quantiles(200)), 0.05, 0.267, 0.14143020, 0.37639581),
        (block_curve(600, 20), 0.01, 0.3, 0.12109583, 0.56391852),
        (block_curve(1000, 700), 0.01, 0.01428571, 0.00451631, 0.03178936),
        (curve_of(quantiles(500) + 9, quantiles(500)), 0.01, 1.0, 0.99205729, 1.0),
    ],
)
def test_known_intervals(curve, fpr, value, low, high):
    assert tpr_at_fpr(curve, fpr)[:3] == (
        pytest.approx(value, abs=5e-9),
        pytest.approx(low, abs=5e-9),
        pytest.approx(high, abs=5e-9),
    )


@pytest.mark.parametrize(
    ("unit", "fpr", "value", "low", "high"),
    [
        (37 * np.arange(200) % 200 // 10, 0.1, 0.395, 0.25376086, 0.52805839),
        (np.arange(200) // 5, 0.3, 0.685, 0.43448774, 0.89179683),
    ],
)
def test_known_intervals_of_clustered_records(unit, fpr, value, low, high):
    curve = curve_of(quantiles(200) + 1, quantiles(200), np.concatenate([unit, unit + 1000]))
    assert tpr_at_fpr(curve, fpr)[:3] == (
        pytest.approx(value),
        pytest.approx(low, abs=5e-9),
        pytest.approx(high, abs=5e-9),
    )


def test_known_p_value_fails_a_tied_score_even_among_twenty_attacks():
    assert tpr_p_value(block_curve(600, 20), 0.01, 0.03) == pytest.approx(0.00031790, abs=5e-9)
    assert can_fail(block_curve(600, 20), 0.01, 0.03, 0.025 / 20)


def test_known_tails_of_the_ranks():
    found = rank_tails(100, 0.05, 0.025)
    by_rank = dict(zip(found.ranks.astype(int).tolist(), found.tails.tolist(), strict=True))
    for rank, tail in ((0, 0.00522921), (5, 0.00927134), (10, 0.18550988)):
        assert by_rank[rank] == pytest.approx(tail, abs=5e-9)
    assert 13 not in by_rank  # it may spend everything


def naive_counts(members, others):
    counts, above = [0.0], 0
    for score in np.unique(np.concatenate([members, others]))[::-1]:
        tied, more = int((others == score).sum()), int((members == score).sum())
        counts += [above + i * more / (tied + 1) for i in range(1, tied + 1)]
        above += more
    return np.array([*counts, len(members)])


def naive_upper(counts, n, n_others, rate, alpha):
    if rate >= 1:
        return 1.0
    ranks = np.arange(n_others + 1)
    reached, weights = binom.sf(ranks - 1, n_others, rate), binom.pmf(ranks, n_others, rate)
    low, high = 0.0, 1.0
    for _ in range(100):
        c = (low + high) / 2
        low, high = (
            (c, high)
            if weights @ np.minimum(1, c / np.maximum(reached, 1e-300)) < alpha
            else (low, c)
        )
    tails = np.minimum(1, c / np.maximum(reached, 1e-300))
    found, tails = counts[1:][tails < 1], tails[tails < 1]
    return float(
        np.max(
            np.where(found < n, betaincinv(found + 1, np.maximum(n - found, 1e-9), 1 - tails), 1.0)
        )
    )


def naive_hull(counts, n, n_others, fpr, alpha):
    grid = np.array(hull_grid(fpr)[0])
    limits = [naive_upper(counts, n, n_others, rate, alpha) for rate in grid]
    return max(
        np.interp(fpr, [a, b], [x, y])
        for a, x in zip(grid, limits, strict=True)
        if a <= fpr
        for b, y in zip(grid, limits, strict=True)
        if b >= fpr and b > a
    )


def naive_p_value(counts, n, n_others, fpr, limit):
    ranks, found = np.arange(n_others + 1), counts[:-1]
    reached = np.where(found > 0, betainc(np.maximum(found, 1e-300), n - found + 1, limit), 1.0)
    return float(binom.pmf(ranks, n_others, fpr) @ reached)


def test_fast_limits_equal_the_naive_ones():
    rng = np.random.default_rng(0)
    for trial in range(24):
        n, n_others = rng.integers(30, 250, 2)
        fpr, alpha = rng.choice([0.05, 0.1, 0.3]), rng.choice([0.025, 0.00125])
        members, others = (
            rng.standard_normal(n) + rng.choice([0.0, 1.0, 3.0]),
            rng.standard_normal(n_others),
        )
        if trial % 3:
            members, others = (np.round(scores * trial % 7 + 1) for scores in (members, others))
        curve, counts = curve_of(members, others), naive_counts(members, others)
        found = tpr_at_fpr(curve, fpr, 1 - 2 * alpha)
        assert count_members_above(curve, np.arange(n_others + 2.0)).tolist() == pytest.approx(
            counts.tolist()
        )
        assert found.high == pytest.approx(
            max(found.value, naive_hull(counts, n, n_others, fpr, alpha)), abs=1e-9
        )
        assert tpr_p_value(curve, fpr, 0.2) == pytest.approx(
            naive_p_value(counts, n, n_others, fpr, 0.2), rel=1e-8
        )
        if 0 < found.low < found.value:
            assert naive_p_value(counts, n, n_others, fpr, found.low) == pytest.approx(
                alpha, rel=1e-6
            )


def test_the_grid_of_the_hull():
    grid, at = hull_grid(0.01)
    assert grid[at] == 0.01 and grid[0] == 0 and grid[-1] == 1 and list(grid) == sorted(set(grid))
    assert (
        grid[1] == pytest.approx(0.01 / 64)
        and grid[at + 48] == pytest.approx(0.04)
        and len(grid) == 90
    )


def test_guessed_limits_are_within_the_margin_that_the_search_allows_for():
    for n in (10.0, 30.5, 1000.0, 1e5):
        found = np.unique(np.concatenate([np.arange(min(n - 1, 40)), np.linspace(0, n - 1, 60)]))
        for tail in (0.9, 0.5, 0.1001, 0.1, 0.01, 1e-3, 1e-6):
            tails = np.full(len(found), tail)
            exact = betaincinv(found + 1, n - found, 1 - tails)
            assert np.all(paulson_limits(found, -ndtri(tails), n) * paulson_margin(tails) >= exact)


def test_both_sides_may_have_their_own_confidence():
    curve = roc(*Gaussian(1.0).draw(400, np.random.default_rng(1)))
    both = tpr_at_fpr(curve, 0.05, 0.95, low_confidence=0.999)
    assert (both.low, both.high) == (tpr_lower(curve, 0.05, 0.999), tpr_upper(curve, 0.05, 0.95))
    assert both.low < tpr_lower(curve, 0.05, 0.95)


def test_a_coin_decides_among_ties_and_the_staircase_does_not():
    curve = block_curve(600, 20)
    assert randomised_tpr(curve, 0.01) == 0.3 and randomised_tpr(curve, 0.02) == 0.6
    staircase = tpr_staircase_at_fpr(curve, 0.01)
    assert staircase.value == 0 and staircase.low == 0


def test_all_scores_equal_find_what_chance_finds():
    found = tpr_at_fpr(curve_of(np.ones(500), np.ones(500)), 0.05)
    assert found.value == pytest.approx(0.05) and found.low < 0.05 < found.high


def test_the_staircase_interval_holds_where_scores_tie_and_where_they_do_not():
    rng, runs = np.random.default_rng(4), 400
    for steps in (0, 2):
        family = Gaussian(1.0, steps)
        truth, _ = family.rates_at(family.threshold(0.05))
        found = [tpr_staircase_at_fpr(roc(*family.draw(300, rng)), 0.05) for _ in range(runs)]
        for misses in (
            sum(entry.low > truth for entry in found),
            sum(entry.high < truth for entry in found),
        ):
            assert misses <= binom.ppf(0.999, runs, 0.025)


def test_units_of_one_record_change_nothing():
    scores, member = Gaussian(1.0).draw(300, np.random.default_rng(2))
    alone, units = roc(scores, member), roc(scores, member, np.arange(600))
    assert effective_sizes(units, 0.05) == (300.0, 300)
    assert tpr_at_fpr(units, 0.05) == tpr_at_fpr(alone, 0.05)
    assert tpr_p_value(units, 0.05, 0.1) == tpr_p_value(alone, 0.05, 0.1)


def test_rows_written_ten_times_count_once():
    scores, member = Gaussian(1.0).draw(300, np.random.default_rng(3))
    again = [np.repeat(part, 10) for part in (scores, member, np.arange(600))]
    clustered, alone = tpr_at_fpr(roc(*again), 0.1), tpr_at_fpr(roc(scores, member), 0.1)
    careless = tpr_at_fpr(roc(*again[:2]), 0.1)
    assert effective_sizes(roc(*again), 0.1).n_non_members <= 300
    assert (
        clustered.high - clustered.low
        > 0.95 * (alone.high - alone.low)
        > 2 * (careless.high - careless.low)
    )


def test_units_are_heard_by_all_functions_of_a_curve():
    scores, member = (
        np.repeat(part, 5) for part in Gaussian(1.5).draw(100, np.random.default_rng(5))
    )
    alone, units = roc(scores, member), roc(scores, member, np.arange(1000) // 5)
    assert tpr_p_value(units, 0.1, 0.2) > tpr_p_value(alone, 0.1, 0.2)
    for function in (tpr_staircase_at_fpr, lambda curve, fpr: ppv_at_fpr(curve, fpr, 0.1)):
        assert function(units, 0.1).high > function(alone, 0.1).high
    assert roc_band(units, np.array([0.1]))[2][0] == pytest.approx(tpr_upper(units, 0.1))
    assert can_fail(alone, 0.01, 0.1) and not can_fail(units, 0.01, 0.1)


def test_the_number_of_equal_clusters():
    assert kish_size(np.full(7, 3)) == 7 and kish_size(np.array([9, 1])) == pytest.approx(100 / 82)


def test_precision_follows_the_rule_at_exactly_the_rate():
    curve = block_curve(600, 20)
    found, tpr = ppv_at_fpr(curve, 0.01, 0.1), tpr_at_fpr(curve, 0.01)
    assert found[:3] == tuple(ppv(rate, 0.01, 0.1) for rate in tpr[:3])


def test_the_band_agrees_with_the_intervals():
    curve = roc(*Gaussian(1.0).draw(500, np.random.default_rng(6)))
    fprs = np.array([0.01, 0.05, 0.2, 0.9])
    value, low, high = roc_band(curve, fprs)
    for i, fpr in enumerate(fprs):
        found = tpr_at_fpr(curve, float(fpr))
        assert (value[i], low[i]) == (found.value, pytest.approx(found.low))
        assert high[i] == pytest.approx(found.high, rel=0.03)


@pytest.mark.parametrize(
    "function",
    [tpr_at_fpr, tpr_lower, tpr_upper, tpr_staircase_at_fpr, lambda c, f: tpr_p_value(c, f, 0.1)],
)
def test_a_rate_that_cannot_be_resolved_is_refused(function):
    with pytest.raises(InputError, match=r"FPR of at least 0\.01 with 100 non-members, got 0\.001"):
        function(roc(np.arange(200.0), np.arange(200) < 100), 0.001)


def test_units_of_another_length_are_refused():
    with pytest.raises(InputError, match="one length"):
        roc(np.arange(4.0), np.arange(4) < 2, np.arange(3))


CELLS = [
    cell
    for cell in coverage_cells()
    if cell.n <= 1000 or cell.sizes or (cell.folds > 1 and cell.truth != 0.1)
]


@pytest.mark.parametrize(
    "cell", CELLS, ids=lambda cell: f"{cell.name}, {cell.n} a side, {cell.folds} folds"
)
def test_neither_limit_misses_too_often(cell):
    """Alarms at 0.1% for a nominal .025 a side.

    `benchmarks/coverage.py` has the table with more runs.
    """
    runs, rng = 200 if cell.folds > 1 else 400, np.random.default_rng(len(cell.name) + cell.n)
    low = high = 0
    for _ in range(runs):
        scores, member, unit = cell.sample(rng)
        curve, strict = roc(scores, member, unit), None
        if cell.folds > 1:
            fold = np.concatenate(
                [rng.permutation(cell.n) % cell.folds, rng.permutation(cell.n) % cell.folds]
            )
            scores = scores + 10 * fold
            curve, strict = (
                roc(place(scores, member, fold), member)
                for place in (ranks_within_fold, ranks_for_lower_limit)
            )
        found = tpr_at_fpr(curve, cell.fpr, strict=strict)
        low, high = low + (found.low > cell.truth), high + (found.high < cell.truth)
    assert max(low, high) <= binom.ppf(0.999, runs, 0.025)


def test_a_planted_effect_is_found_and_noise_is_not():
    rng = np.random.default_rng(7)
    leak, noise = (
        sum(tpr_p_value(roc(*Gaussian(s).draw(500, rng)), 0.05, 0.1) < 0.025 for _ in range(100))
        for s in (1.5, shift_for(0.1, 0.05))
    )
    assert leak > 95 and noise <= binom.ppf(0.999, 100, 0.025)


@pytest.mark.parametrize("n", [60, 400])
def test_the_largest_limits_are_those_of_all_curves_one_by_one(n):
    """What is left out could not have been the largest."""
    rng, member = np.random.default_rng(5), np.arange(2 * n) < n
    for _ in range(8):
        curves = []
        for shift in rng.choice([0.0, 0.2, 0.5, 1.5, 3.0], 6):
            scores = (rng.normal(size=2 * n) + shift * member).round(int(rng.integers(1, 9)))
            strict = roc(scores.round(1), member) if rng.random() < 0.3 else None
            curves.append((roc(scores, member), strict))
        found = largest_tpr(curves, 0.1, 0.95, low_confidence=0.99)
        each = [tpr_at_fpr(c, 0.1, 0.95, strict=s, low_confidence=0.99) for c, s in curves]
        assert [entry.value for entry in found] == [entry.value for entry in each]
        assert {entry.low for entry in found} == {max(entry.low for entry in each)}
        assert {entry.high for entry in found} == {max(entry.high for entry in each)}
