"""Published and independently computed values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from memberscope.errors import InputError
from memberscope.statistics import (
    auc_interval,
    auc_value,
    clopper_pearson,
    epsilon_one_run,
    one_run_p_value,
    operating_point,
    ppv,
    roc,
    tpr_at_fpr,
)


@pytest.mark.parametrize(
    ("m", "guesses", "right", "delta", "epsilon"),
    [
        (1000, 1000, 1000, 0, 5.809068),
        (1000, 1000, 1000, 1e-5, 5.782283),
        (1000, 100, 100, 0, 3.492965),
        (1000, 100, 100, 1e-5, 3.465376),
        (1000, 100, 99, 1e-5, 3.002832),
        (1000, 100, 90, 1e-5, 1.626143),
        (1000, 200, 150, 1e-5, 0.819973),
        (1000, 500, 300, 1e-5, 0.251205),
        (5000, 1000, 900, 1e-5, 2.018259),
        (5000, 5000, 3000, 1e-5, 0.357372),
        (10, 10, 10, 0, 1.051873),
        (1000, 132, 86, 0, 0.3122),
    ],
)
def test_one_run_epsilon(m, guesses, right, delta, epsilon):
    assert epsilon_one_run(m, guesses, right, delta) == pytest.approx(
        epsilon, rel=1e-4 if epsilon == 0.3122 else 2e-6
    )


@pytest.mark.parametrize(
    ("m", "guesses", "right", "epsilon", "delta", "p"),
    [
        (1000, 100, 90, 1.0, 1e-5, 0.00084129),
        (1000, 100, 90, 2.0, 1e-5, 0.34498684),
        (100, 10, 9, 0.5, 1e-3, 0.10346174),
        (100, 100, 75, 0.5, 0, 0.0048047395),
        (100, 100, 75, 1.0, 1e-5, 0.3829001937),
        (1000, 100, 90, 1.0, 1e-3, 0.0814204015),
    ],
)
def test_one_run_p_value(m, guesses, right, epsilon, delta, p):
    assert one_run_p_value(m, guesses, right, epsilon, delta) == pytest.approx(p, rel=1e-5)


def test_one_run_closed_form():
    q = 0.05 ** (1 / 40)
    assert epsilon_one_run(40, 40, 40) == pytest.approx(np.log(q / (1 - q)), rel=1e-8)


def test_one_run_says_nothing_about_noise():
    rng = np.random.default_rng(0)
    positive = sum(epsilon_one_run(500, 100, int(rng.binomial(100, 0.5))) > 0 for _ in range(1000))
    assert positive <= 73


@pytest.mark.parametrize(
    ("k", "n", "tail", "upper"),
    [
        (0, 100, 0.05, 0.0295130496),
        (5, 100, 0.05, 0.1022533776),
        (0, 1000, 0.025, 0.0036820839),
        (10, 1000, 0.025, 0.0183132431),
    ],
)
def test_clopper_pearson_upper(k, n, tail, upper):
    assert float(clopper_pearson(k, n, 1 - 2 * tail)[1]) == pytest.approx(upper, rel=1e-8)


def test_auc_is_the_staircase_not_its_hull():
    scores = np.array([0.0, 4, 6, 7, 1, 2, 3, 5])
    assert auc_value(roc(scores, np.arange(8) < 4)) == 0.6875


def test_reversed_scores_give_an_auc_below_one_half():
    scores = np.arange(20.0)
    assert auc_interval(scores, np.arange(20) < 10).value == 0.0


def test_ties_move_as_a_block():
    curve = roc(np.array([9.0, 9, 5, 5]), np.array([True, False, True, False]))
    assert curve.fp.tolist() == [0, 1, 2] and curve.tp.tolist() == [0, 1, 2]
    assert auc_value(curve) == 0.5


def test_false_positive_counts_of_a_published_example():
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    curve = roc(scores, np.array([False, True, True, True, False, False]))
    assert curve.fp.tolist()[1:] == [1, 2, 2, 2, 2, 3]
    assert curve.tp.tolist()[1:] == [0, 0, 1, 2, 3, 3]


def test_step_function_at_one_half_and_a_third():
    y, p = np.array([1, 0, 1, 1, 1, 0], dtype=bool), np.array([0.35, 0.33, 0.32, 0.6, 0.6, 0.2])
    point = operating_point(roc(p, y), 0.5)
    assert (point.tp, point.fp, point.threshold) == (4, 1, 0.32)


def test_disclosure_example():
    y, p = np.array([0, 0, 0, 1, 1, 1], dtype=bool), np.array([0.1, 0.6, 0.2, 0.45, 0.9, 0.99])
    curve = roc(p, y)
    assert auc_value(curve) == pytest.approx(8 / 9)
    assert operating_point(curve, 0.4).tp / 3 == 1.0


def test_circular_roc():
    n = 2001
    grid = np.linspace(0, 1, n)
    scores = np.concatenate([np.sqrt(1 - grid**2), grid])
    curve = roc(scores, np.arange(2 * n) < n)
    assert auc_value(curve) == pytest.approx(np.pi / 4, abs=1e-3)
    for fpr in (0.05, 0.3):
        assert operating_point(curve, fpr).tp / n == pytest.approx(
            np.sqrt(fpr * (2 - fpr)), abs=2e-3
        )


def test_gaussian_tpr_on_the_staircase():
    quantiles = ndtri((np.arange(10_000) + 0.5) / 10_000)
    curve = roc(np.concatenate([quantiles + 1, quantiles]), np.arange(20_000) < 10_000)
    assert operating_point(curve, 1e-3).tp / 10_000 == pytest.approx(
        float(ndtr(ndtri(1e-3) + 1)), abs=2e-3
    )


def test_rates_that_n_cannot_resolve_are_refused():
    curve = roc(np.arange(200.0), np.arange(200) < 100)
    with pytest.raises(InputError, match=r"FPR of at least 0\.01 with 100 non-members, got 0\.001"):
        tpr_at_fpr(curve, 0.001)
    assert tpr_at_fpr(curve, 0.01).value == 0.0


def test_floor_is_not_fooled_by_floating_point():
    curve = roc(np.concatenate([np.full(10, 5.0), np.arange(1000.0)]), np.arange(1010) < 10)
    assert operating_point(curve, 0.007).fp == 7  # 0.007 * 1000 is 7.000000000000001


def test_precision_at_a_low_prior():
    assert ppv(0.5, 0.01, 0.01) == pytest.approx(0.005 / (0.005 + 0.0099))
