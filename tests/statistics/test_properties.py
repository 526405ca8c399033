"""Invariants, naive references, nulls and planted effects."""

from __future__ import annotations

import numpy as np
import pytest
from families import Gaussian
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2
from sklearn.metrics import roc_auc_score, roc_curve

from memberscope.errors import InputError
from memberscope.statistics import (
    ConfusionCounts,
    auc_interval,
    auc_value,
    best_rates,
    bootstrap_rates,
    build_reliability_bins,
    count_right_guesses,
    find_best_balanced_threshold,
    find_distinct_rankings,
    fit_likelihood_ratio,
    holm,
    minimum_detectable_auc,
    minimum_detectable_tpr,
    operating_point,
    ppv_from_counts,
    ranks_within_fold,
    roc,
    simultaneous_confidence,
    threshold_rates,
    tpr_at_fpr,
    tpr_p_value,
    tpr_staircase_at_fpr,
)
from memberscope.statistics.curves.bootstrap import ROWS
from memberscope.statistics.curves.resampling import FEW, Resampler, spawn_fast_rng

labelled = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(-5, 5), min_size=n, max_size=n),
        st.lists(st.integers(-5, 5), min_size=n, max_size=n),
    )
)


def sides(pair):
    inside, outside = pair
    return np.array(inside + outside, dtype=float), np.arange(len(inside) + len(outside)) < len(
        inside
    )


@given(labelled)
@settings(max_examples=150)
def test_auc_equals_scikit_learn(pair):
    scores, member = sides(pair)
    assert auc_value(roc(scores, member)) == pytest.approx(roc_auc_score(member, scores))


@given(labelled, st.sampled_from([0.1, 0.25, 0.5, 0.9]))
@settings(max_examples=150)
def test_operating_point_equals_brute_force(pair, fpr):
    scores, member = sides(pair)
    if fpr * (~member).sum() < 1:
        return
    best = 0
    for cut in [np.inf, *np.unique(scores)]:
        if ((scores >= cut) & ~member).sum() <= np.floor(fpr * (~member).sum() + 1e-9):
            best = max(best, int(((scores >= cut) & member).sum()))
    assert operating_point(roc(scores, member), fpr).tp == best


@given(labelled, st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_order_and_monotone_transforms_change_nothing(pair, random):
    scores, member = sides(pair)
    order = list(range(len(scores)))
    random.shuffle(order)
    transformed = np.exp(scores / 3)[order]
    assert auc_interval(scores, member) == auc_interval(transformed, member[order])
    first, second = roc(scores, member), roc(transformed, member[order])
    assert first.tp.tolist() == second.tp.tolist() and first.fp.tolist() == second.fp.tolist()


@given(labelled)
@settings(max_examples=60)
def test_turning_scores_round_mirrors_the_auc(pair):
    scores, member = sides(pair)
    assert auc_interval(-scores, member).value == pytest.approx(
        1 - auc_interval(scores, member).value
    )


def test_no_statistic_looks_at_the_labels_to_choose_a_direction():
    scores, member = Gaussian(-1.0).draw(300, np.random.default_rng(0))
    assert auc_interval(scores, member).high < 0.5
    curve = roc(scores, member)
    assert tpr_staircase_at_fpr(curve, 0.1).high < 0.1
    assert (
        tpr_at_fpr(curve, 0.1).high >= 0.1
    )  # whoever ignores the score and tosses coins finds as much


def test_best_threshold_equals_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores, member = np.round(rng.normal(size=40), 1), rng.random(40) < 0.5
        if member.all() or not member.any():
            continue
        cuts = sorted(np.unique(scores), reverse=True)
        gains = [(scores[member] >= cut).mean() - (scores[~member] >= cut).mean() for cut in cuts]
        assert (
            find_best_balanced_threshold(roc(scores, member))
            == cuts[int(np.argmax(np.round(gains, 12)))]
        )


def test_p_value_agrees_with_the_lower_limit():
    rng = np.random.default_rng(3)
    for steps in (0, 4):
        curve = roc(*Gaussian(1.5, steps).draw(400, rng))
        for confidence in (0.9, 0.95, 0.99):
            low = tpr_at_fpr(curve, 0.05, confidence).low
            assert tpr_p_value(curve, 0.05, low) == pytest.approx((1 - confidence) / 2, rel=1e-2)


def test_wider_confidence_gives_wider_intervals():
    curve = roc(*Gaussian(1.0).draw(400, np.random.default_rng(1)))
    narrow, wide = tpr_at_fpr(curve, 0.05, 0.9), tpr_at_fpr(curve, 0.05, 0.99)
    assert wide.low < narrow.low <= narrow.value <= narrow.high < wide.high


def test_thinned_ranks_agree_with_all_ranks(monkeypatch):
    from memberscope.statistics.curves import rank_tails

    curve = roc(*Gaussian(1.0).draw(20_000, np.random.default_rng(2)))
    thin = tpr_at_fpr(curve, 0.1)
    monkeypatch.setattr(rank_tails, "N_NODES", 10**9)
    rank_tails.mixture_weights.cache_clear()
    full = tpr_at_fpr(curve, 0.1)
    rank_tails.mixture_weights.cache_clear()
    assert thin.low <= full.low and thin.high == full.high
    assert thin.high - thin.low < 1.1 * (full.high - full.low)


def test_holm_equals_its_definition():
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_bonferroni_holds_for_several_nulls():
    rng = np.random.default_rng(0)
    confidence = simultaneous_confidence(0.95, 8)
    together = 0
    for _ in range(150):
        found = [auc_interval(*Gaussian(0.0).draw(100, rng), confidence) for _ in range(8)]
        together += all(entry.low <= 0.5 <= entry.high for entry in found)
    assert together >= 133  # 0.1% quantile of 150 at 95%


def test_distinct_rankings_sees_ties():
    a = np.array([1.0, 2.0, 2.0, 3.0])
    assert find_distinct_rankings([a, np.exp(a), np.array([1.0, 2.0, 2.1, 3.0]), -a]) == [0, 2, 3]


@pytest.mark.parametrize(
    ("n", "fpr", "limit", "attacks"),
    [(400, 0.05, 0.1, 1), (900, 0.01, 0.03, 23), (2000, 0.01, 0.03, 23)],
)
def test_power_is_what_it_says(n, fpr, limit, attacks):
    smallest = minimum_detectable_tpr(n, n, fpr, limit, n_candidates=attacks)
    assert smallest is not None
    from families import shift_for

    rng, rejected, runs = np.random.default_rng(0), 0, 500
    for _ in range(runs):
        curve = roc(*Gaussian(shift_for(smallest, fpr)).draw(n, rng))
        rejected += tpr_p_value(curve, fpr, limit) * attacks < 0.025
    assert 0.72 <= rejected / runs <= 0.9


def test_more_candidates_need_a_larger_leak():
    one = minimum_detectable_tpr(500, 500, 0.05, 0.1)
    many = minimum_detectable_tpr(500, 500, 0.05, 0.1, n_candidates=15)
    assert one is not None and many is not None and many > one
    assert minimum_detectable_tpr(5, 20, 0.05, 0.9) is None


def test_detectable_auc_is_detected():
    n, rng, seen = 300, np.random.default_rng(0), 0
    from scipy.special import ndtri

    shift = 2**0.5 * ndtri(minimum_detectable_auc(n, n))
    for _ in range(400):
        seen += auc_interval(*Gaussian(float(shift)).draw(n, rng)).low > 0.5
    assert 0.72 <= seen / 400 <= 0.88


@pytest.mark.parametrize(("n", "m", "digits"), [(300, 300, 3), (1000, 1500, 9), (40, 700, 1)])
def test_bootstrap_equals_a_loop_over_the_same_resamples(n, m, digits):
    rng = np.random.default_rng(0)
    scores = np.round(np.concatenate([rng.normal(0.7, 1, n), rng.normal(size=m)]), digits)
    member, fprs, n_replicates = np.arange(n + m) < n, (0.1, 0.01), 30
    auc, tpr = bootstrap_rates(scores, member, fprs, n_replicates, np.random.default_rng(9))
    stream = spawn_fast_rng(np.random.default_rng(9))
    inside, outside = np.sort(scores[member])[::-1], np.sort(scores[~member])[::-1]
    for b in range(n_replicates):
        if b % ROWS == 0:
            counts = Resampler(n, ROWS).draw(stream), Resampler(m, ROWS).draw(stream)
        drawn, others = (
            np.repeat(inside, counts[0][b % ROWS]),
            np.repeat(outside, counts[1][b % ROWS]),
        )
        naive = np.concatenate([drawn, others])
        assert auc[b] == pytest.approx(roc_auc_score(member, naive), abs=1e-12)
        x, y, _ = roc_curve(member, naive, drop_intermediate=False)
        assert tpr[b].tolist() == pytest.approx(
            [y[x <= fpr + 1e-12].max() for fpr in fprs], abs=1e-12
        )


@pytest.mark.parametrize("n", [FEW // 4, FEW + 1, 5000])
def test_records_are_drawn_as_by_drawing_with_replacement(n):
    rng, resampler = np.random.default_rng(0), Resampler(n, 5)
    draws = np.concatenate([resampler.draw(rng).copy() for _ in range(200_000 // n)])
    assert (draws.sum(axis=1) == n).all()
    seen = np.bincount(draws.ravel(), minlength=12)[:12]
    expected = draws.size * binom.pmf(np.arange(12), n, 1 / n)
    kept = expected > 20
    assert (((seen - expected)[kept] ** 2 / expected[kept]).sum()) < chi2.ppf(0.999, kept.sum())
    # How often each record, and each pair of neighbours, is drawn: multinomial means and
    # covariances.
    assert ((draws.sum(axis=0) - len(draws)) ** 2 / len(draws)).sum() < chi2.ppf(0.999, n)
    pairs = (
        (draws[:, 0::2].astype(float)[:, : n // 2] - 1) * (draws[:, 1::2].astype(float) - 1)
    ).mean()
    assert abs(pairs + 1 / n) < 4 / np.sqrt(draws.size / 2)


def test_posterior_is_calibrated_on_fresh_records():
    rng = np.random.default_rng(0)
    scores, member = Gaussian(1.5).draw(5000, rng)
    fresh, truth = Gaussian(1.5).draw(5000, rng)
    posterior = fit_likelihood_ratio(scores, member).posterior(fresh, 0.5)
    assert posterior.min() > 0 and posterior.max() < 1
    exact = 1 / (1 + np.exp(-(1.5 * fresh - 1.5**2 / 2)))
    assert np.abs(posterior - exact).mean() < 0.02
    for entry in build_reliability_bins(posterior, truth, 0.5):
        assert entry.low - 0.02 <= entry.predicted <= entry.high + 0.02


def test_posterior_of_noise_is_the_prior():
    rng = np.random.default_rng(0)
    ratio = fit_likelihood_ratio(*Gaussian(0.0).draw(5000, rng))
    fresh, _ = Gaussian(0.0).draw(2000, rng)
    assert np.abs(ratio.posterior(fresh, 0.01) - 0.01).mean() < 0.003


def test_within_fold_positions_keep_a_fair_null_and_the_order():
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(300):
        scores, member = Gaussian(0.0).draw(60, rng)
        fold = rng.permutation(np.arange(120) % 3)
        areas.append(auc_value(roc(ranks_within_fold(scores + 100 * fold, member, fold), member)))
    assert abs(np.mean(areas) - 0.5) < 0.01
    one = ranks_within_fold(scores, member, np.zeros(120, dtype=int))
    assert auc_value(roc(one, member)) == pytest.approx(auc_value(roc(scores, member)))


def test_one_run_guesses_break_ties_without_the_truth():
    member = np.arange(1000) < 500
    right = [
        count_right_guesses(np.zeros(1000), member, 200, np.random.default_rng(i))
        for i in range(200)
    ]
    assert abs(np.mean(right) - 100) < 2


def test_no_false_positives_bounds_precision_by_the_upper_limit_of_the_fpr():
    few, many = (ppv_from_counts(n // 2, n, 0, n, prior=0.01) for n in (100, 10_000))
    assert few.value == many.value == 1.0 and few.high == 1.0
    assert few.low < 0.15 < many.low


def test_rates_of_a_perfect_and_a_useless_attack():
    perfect = threshold_rates(ConfusionCounts(100, 100, 0, 100))
    assert (
        perfect["balanced_accuracy"].value == 1.0
        and perfect["balanced_accuracy"].high <= 1.0 + 1e-12
    )
    useless = threshold_rates(ConfusionCounts(50, 100, 50, 100))
    assert useless["advantage"].low < 0 < useless["advantage"].high
    assert best_rates(roc(np.zeros(20), np.arange(20) < 10))["balanced_accuracy"].value == 0.5


@pytest.mark.parametrize(
    ("scores", "member", "words"),
    [
        ([1.0, np.nan], [True, False], "finite scores"),
        ([1.0, 2.0, 3.0], [True, False], "one length"),
        ([1.0, 2.0], [True, True], "2 members and 0 non-members"),
    ],
)
def test_bad_input_is_one_sentence(scores, member, words):
    with pytest.raises(InputError, match=words):
        roc(np.array(scores), np.array(member))
