"""Bounds on epsilon from canaries and from many runs.

Published constants, noise, and simulated Gaussian mechanisms.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import binom

from memberscope.auditing import compute_privacy_bounds
from memberscope.errors import InputError
from memberscope.statistics import roc
from memberscope.statistics.epsilon.gaussian_dp import gaussian_delta, gaussian_epsilon, gaussian_mu
from memberscope.statistics.epsilon.many_runs import (
    epsilon_from_counts,
    epsilon_from_runs,
    gaussian_mu_from_counts,
)
from memberscope.statistics.epsilon.one_run_canaries import epsilon_from_one_run, find_hull_corners
from memberscope.statistics.epsilon.one_run_fdp import epsilon_one_run_fdp
from memberscope.statistics.threshold_rates import ConfusionCounts

MANY = int(
    binom.ppf(0.999, 1000, 0.05)
)  # of 1,000 runs of a test at 5%, exceeded once in a thousand


def shifted(n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores (2n,) at the normal quantiles, those of the first half moved up, and who is in."""
    out = ndtri((np.arange(n) + 0.5) / n)
    return np.concatenate([out + shift, out]), np.arange(2 * n) < n


@pytest.mark.parametrize(
    ("shift", "plain", "whole_curve"),
    [(0, 0, 0), (1, 1.13346, 2.164749), (2, 2.311945, 4.7218075), (4, 4.395568, 9.133752)],
)
def test_one_run_constants_of_another_library(shift, plain, whole_curve):
    scores, member = shifted(10_000, shift)
    assert epsilon_from_one_run(scores, member, 1e-6) == pytest.approx(plain, rel=1e-5)
    assert epsilon_from_one_run(scores, member, 1e-6, form="one_run_fdp") == pytest.approx(
        whole_curve, rel=1e-5
    )


@pytest.mark.parametrize(
    ("n", "explicit", "corner", "one_run"),
    [
        (50, 2.5696, 2.2978, 2.7819),
        (100, 3.2813, 3.0151, 3.4875),
        (500, 4.9056, 4.6438, 5.0875),
        (1000, 5.6006, 5.3394, 5.7554),
        (5000, 7.2115, 6.9507, 7.1409),
    ],
)
def test_perfect_separation(n, explicit, corner, one_run):
    scores, member = np.arange(2.0 * n), np.arange(2 * n) >= n
    assert epsilon_from_counts(ConfusionCounts(n, n, 0, n), 0.0) == pytest.approx(
        explicit, abs=6e-5
    )
    assert epsilon_from_runs(scores, member, 0.0) == pytest.approx(corner, abs=6e-5)
    assert epsilon_from_one_run(scores, member, 1e-5, threshold=float(n)) == pytest.approx(
        one_run, abs=6e-5
    )


@pytest.mark.parametrize(
    ("tp", "fp", "epsilon", "mu"), [(1000, 0, 5.60058, 5.35982), (900, 10, 3.87196, 3.26345)]
)
def test_several_runs(tp, fp, epsilon, mu):
    counts = ConfusionCounts(tp, 1000, fp, 1000)
    assert epsilon_from_counts(counts, 1e-5) == pytest.approx(epsilon, rel=1e-5)
    assert gaussian_mu_from_counts(counts) == pytest.approx(mu, rel=1e-5)


@pytest.mark.parametrize(
    ("sigma", "delta", "epsilon"),
    [(1, 1e-5, 4.377178), (2, 1e-5, 1.993091), (1, 0.1, 1.160334), (0.5, 1e-3, 7.58128)],
)
def test_the_gaussian_mechanism(sigma, delta, epsilon):
    assert gaussian_epsilon(1 / sigma, delta) == pytest.approx(epsilon, rel=1e-6)
    assert gaussian_mu(gaussian_epsilon(1 / sigma, delta), delta) == pytest.approx(
        1 / sigma, rel=1e-9
    )


def test_deltas_of_the_gaussian_mechanism():
    expected = [0.86749642, 0.67881797, 0.38292492, 0.12693674, 0.020923636]
    np.testing.assert_allclose(
        [gaussian_delta(e, 1.0) for e in (-2.0, -1.0, 0.0, 1.0, 2.0)], expected, rtol=1e-7
    )


def test_the_curves_audit_beside_a_tutorials_figure():
    """PrivacyGuard prints 3.2906 for these counts, from a search in steps; ours is the root."""
    assert epsilon_one_run_fdp(100, 80, 70, 1e-6) == pytest.approx(3.2906, rel=2e-3)


def test_corners_are_those_of_the_hull():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores, member = rng.integers(0, 8, 40).astype(float), rng.random(40) < 0.5
        curve = roc(scores, member)
        found = find_hull_corners(curve)
        for tp, fp in zip(curve.tp, curve.fp, strict=True):
            assert np.interp(fp, found.fp, found.tp) >= tp - 1e-9 or fp in found.fp[found.tp >= tp]
        slopes = np.diff(found.tp) / np.maximum(np.diff(found.fp), 1e-12)
        assert (np.diff(slopes) < 0).all()


@pytest.mark.parametrize("form", ["one_run", "one_run_fdp"])
def test_noise_seldom_refutes_anything(form):
    rng = np.random.default_rng(1)
    found = [
        epsilon_from_one_run(rng.normal(size=300), rng.random(300) < 0.5, 1e-5, form=form) > 0
        for _ in range(1000)
    ]
    assert sum(found) <= MANY


@pytest.mark.parametrize("shape", ["any", "gaussian"])
def test_noise_in_many_runs_seldom_refutes_anything(shape):
    rng = np.random.default_rng(2)
    member = np.arange(400) < 200
    assert (
        sum(
            epsilon_from_runs(rng.normal(size=400), member, 1e-5, shape=shape) > 0
            for _ in range(1000)
        )
        <= MANY
    )


@pytest.mark.parametrize("mu", [0.5, 1.5])
def test_a_true_epsilon_is_seldom_exceeded(mu):
    """One run with independent canaries, each observed under Gaussian noise.

    What the mechanism's own attack sees.
    """
    rng, truth = np.random.default_rng(3), gaussian_epsilon(mu, 1e-5)
    above = {"one_run": 0, "one_run_fdp": 0, "any": 0, "gaussian": 0}
    for _ in range(300):
        member = rng.random(500) < 0.5
        scores = rng.normal(size=500) + mu * member
        for form in ("one_run", "one_run_fdp"):
            above[form] += epsilon_from_one_run(scores, member, 1e-5, form=form) > truth
        for shape in ("any", "gaussian"):
            above[shape] += epsilon_from_runs(scores, member, 1e-5, shape=shape) > truth
    assert max(above.values()) <= binom.ppf(0.999, 300, 0.05), above


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_the_gaussian_bound_comes_near(mu):
    rng = np.random.default_rng(4)
    member = np.arange(20_000) < 10_000
    scores = rng.normal(size=20_000) + mu * member
    assert 0.8 * gaussian_epsilon(mu, 1e-5) < epsilon_from_runs(
        scores, member, 1e-5, shape="gaussian"
    )


def test_scores_that_are_no_numbers_are_refused():
    scores, member = shifted(20, 1.0)
    scores[3] = np.nan
    with pytest.raises(InputError, match="finite"):
        compute_privacy_bounds(scores, member, 1e-5)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1])
def test_deltas_outside_are_refused(delta):
    scores, member = shifted(20, 1.0)
    with pytest.raises(InputError, match="delta between 0 and 1"):
        epsilon_from_one_run(scores, member, delta, form="one_run_fdp")
    with pytest.raises(InputError, match="delta"):
        epsilon_from_runs(scores, member, delta, shape="gaussian")
