"""Attacks on predictions: naive definitions, invariances, planted leaks and their absence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import multivariate_normal, norm
from sklearn.covariance import ledoit_wolf

from memberscope.attacks import (
    ErrorQuantile,
    LiRA,
    LiRAPrediction,
    LiRASeries,
    PredictionError,
    RMIAPrediction,
    RobustLiRAPrediction,
)
from memberscope.attacks.outputs.lira_series import (
    SERIES_ERRORS,
    _build_trend_basis,
    measure_series_errors,
)
from memberscope.errors import InputError, UnmetNeedError
from memberscope.statistics import auc_value, roc
from memberscope.types import Attack, Evidence

RNG = np.random.default_rng
EVERY: tuple[Attack, ...] = (
    PredictionError(),
    LiRAPrediction(),
    LiRAPrediction("offline"),
    LiRAPrediction("offline", covariance="diagonal"),
    LiRAPrediction(variance="per_example"),
    LiRAPrediction(covariance="diagonal"),
    RobustLiRAPrediction(),
    RMIAPrediction(),
    RMIAPrediction("offline"),
    RMIAPrediction(density="laplace"),
)
SERIES: tuple[Attack, ...] = (LiRASeries(), LiRASeries("offline"), LiRASeries(errors=("mse",)))
COVARIANCE = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.3], [0.0, 0.3, 1.0]])


def scene(n: int, m: int, pull: float, seed: int, width: int = 3) -> tuple[Evidence, np.ndarray]:
    """Models that predict a part of the truth, and `pull` of what is left where they saw it.

    Their noise has the covariance `COVARIANCE` within a record.
    """
    rng = RNG(seed)
    member = rng.random(n) < 0.5
    inside = np.argsort(rng.random((m, n)), axis=0) < m // 2
    truth = 4 * rng.standard_normal((n, width))
    saw = np.concatenate([member[None], inside])[:, :, None]
    mean = 0.3 * truth + pull * 0.7 * truth * saw
    noise = rng.multivariate_normal(np.zeros(width), COVARIANCE[:width, :width], (m + 1, n))
    found = (mean + noise)[:, :, None, :]
    hidden = np.full(n, -1, dtype=np.int8)
    return Evidence(
        "prediction", found[0], truth, hidden, references=found[1:], inside=inside
    ), member


def area(attack: Attack, evidence: Evidence, member: np.ndarray) -> float:
    return auc_value(roc(attack.score(evidence, RNG(0)), member))


@pytest.mark.parametrize("covariance", ["shrunk", "diagonal"])
@pytest.mark.parametrize("width", [1, 3])
def test_lira_equals_a_loop_over_records(width, covariance):
    evidence, _ = scene(80, 12, 0.3, 0, width)
    refs, inside = evidence.references[:, :, 0], evidence.inside
    shared = []
    for side in (True, False):
        residuals = np.concatenate(
            [refs[g, j] - refs[g, j].mean(0) for j in range(80) for g in [inside[:, j] == side]]
        )
        deviation = np.sqrt((residuals**2).mean(axis=0))
        correlation = np.eye(width)
        if covariance == "shrunk" and width > 1:
            correlation = ledoit_wolf(residuals / deviation, assume_centered=True)[0]
        shared.append(correlation * np.outer(deviation, deviation))
    expected = []
    for j in range(80):
        parts = [
            multivariate_normal(refs[inside[:, j] == side, j].mean(0), shared[place]).logpdf(
                evidence.target[j, 0]
            )
            for place, side in enumerate((True, False))
        ]
        expected.append(parts[0] - parts[1])
    got = LiRAPrediction(covariance=covariance).score(evidence, RNG(0))
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-10)


def test_one_output_gives_what_lira_gives_of_a_number():
    evidence, _ = scene(60, 8, 0.3, 1, 1)
    number = replace(evidence, signal="logit_confidence", labels=np.zeros(60, int))
    for variance in ("fixed", "per_example"):
        np.testing.assert_allclose(
            LiRAPrediction(variance=variance).score(evidence, RNG(0)),
            LiRA("online", variance).score(number, RNG(0)),
            rtol=1e-9,
        )


@pytest.mark.parametrize("attack", (*EVERY, *SERIES[:1]), ids=lambda attack: attack.name)
def test_scores_do_not_depend_on_the_unit_of_the_outputs(attack):
    evidence, _ = scene(80, 12, 0.3, 2)
    factor = np.array([100.0, 0.01, 3.0]) if attack in EVERY else np.full(3, 100.0)
    moved = replace(
        evidence,
        target=evidence.target * factor,
        labels=evidence.labels * factor,
        references=evidence.references * factor,
    )
    np.testing.assert_allclose(
        attack.score(moved, RNG(0)), attack.score(evidence, RNG(0)), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("attack", (*EVERY, *SERIES), ids=lambda attack: attack.name)
def test_a_planted_leak_is_found_and_none_where_there_is_none(attack):
    assert area(attack, *scene(1500, 12, 0.4, 3)) > 0.7
    areas = [area(attack, *scene(500, 12, 0.0, seed)) for seed in range(12)]
    spread = np.sqrt(501 / (12 * 250 * 250)) / np.sqrt(len(areas))
    assert abs(np.mean(areas) - 0.5) < 4 * spread


def test_correlated_outputs_reach_the_best_that_there_is():
    """Two outputs that vary together and move apart: only their difference tells."""
    rng = RNG(4)
    n, m = 3000, 128
    member, inside = rng.random(n) < 0.5, np.argsort(rng.random((m, n)), axis=0) < m // 2
    saw = np.concatenate([member[None], inside])[:, :, None]
    covariance = np.array([[1.0, 0.9], [0.9, 1.0]])
    found = rng.multivariate_normal(np.zeros(2), covariance, (m + 1, n))
    found = (found + saw * np.array([0.3, -0.3]))[:, :, None]
    truth = np.tile([5.0, -5.0], (n, 1))
    evidence = Evidence("prediction", found[0], truth, np.full(n, -1, np.int8), found[1:], inside)
    shift = np.array([0.3, -0.3])
    distance = np.sqrt(shift @ np.linalg.solve(covariance, shift))
    best = ndtr(distance / 2**0.5)
    fixed = LiRAPrediction(variance="fixed")
    assert best - 0.025 < area(fixed, evidence, member) < best + 0.02
    apart = replace(fixed, covariance="diagonal")
    assert area(apart, evidence, member) < best - 0.05
    assert area(replace(fixed, mode="offline"), evidence, member) > best - 0.025


def test_robust_lira_needs_no_more_than_two_models():
    evidence, member = scene(1500, 2, 0.4, 5)
    assert area(RobustLiRAPrediction(), evidence, member) > 0.8
    with pytest.raises(UnmetNeedError, match="at least 2 reference model"):
        LiRAPrediction().score(evidence, RNG(0))


@pytest.mark.parametrize("density", ["gaussian", "laplace"])
def test_rmia_equals_its_definition(density):
    evidence, _ = scene(50, 8, 0.3, 6, 1)
    error = np.abs(evidence.references[:, :, 0, 0] - evidence.labels[:, 0])
    out = ~evidence.inside
    own = np.abs(evidence.target[:, 0, 0] - evidence.labels[:, 0])
    if density == "gaussian":
        scale = np.sqrt((error[out] ** 2).mean())
        p, q = (norm.pdf(values, scale=scale) for values in (own, error))
    else:
        scale = error[out].mean()
        p, q = np.exp(-own / scale), np.exp(-error / scale)
    both = [(q[~out[:, j], j].mean() + q[out[:, j], j].mean()) / 2 for j in range(len(evidence))]
    ratio = p / both
    expected = (ratio[:, None] >= ratio[None, :]).mean(axis=1)
    got = RMIAPrediction(density=density).score(evidence, RNG(0))
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_rmia_takes_a_population():
    evidence, member = scene(400, 8, 0.4, 7)
    others, _ = scene(300, 8, 0.0, 8)
    population = replace(others, inside=np.zeros_like(others.inside))
    attack = RMIAPrediction()
    assert area(attack, replace(evidence, population=population), member) == pytest.approx(
        area(attack, evidence, member), abs=0.01
    )


def test_quantile_regression_removes_difficulty_that_the_record_explains():
    """Errors that grow with a feature hide the leak from one threshold for all."""
    rng = RNG(9)
    n = 4000
    member = rng.random(n) < 0.5
    x = rng.uniform(-3, 3, (n, 1))
    error = np.exp(x + 0.5 * rng.standard_normal((n, 1)) - 0.6 * member[:, None])
    known = np.where(rng.random(n) < 0.5, member, -1).astype(np.int8)
    truth = rng.standard_normal((n, 1))
    evidence = Evidence("prediction", (truth + error)[:, None], truth, known, features=x)
    hidden = evidence.hidden

    def found(attack: Attack) -> float:
        return auc_value(roc(attack.score(evidence, RNG(0))[hidden], member[hidden]))

    best = ndtr(0.6 / 0.5 / 2**0.5)
    assert found(PredictionError()) < 0.65
    assert best - 0.05 < found(ErrorQuantile()) < best + 0.02


def test_errors_of_a_series_by_their_formulas():
    rng = RNG(10)
    outputs, truth = rng.normal(size=(5, 24)), rng.normal(size=(5, 24))
    found = measure_series_errors(SERIES_ERRORS, _build_trend_basis(24), outputs, truth)
    steps = np.arange(24)
    for row in range(5):
        error = outputs[row] - truth[row]
        trend = np.polyval(np.polyfit(steps, error, 3), steps)
        smape = np.abs(error) / (np.abs(outputs[row]) + np.abs(truth[row]))
        expected = [
            (error**2).mean(),
            np.abs(error).mean(),
            smape.mean(),
            (trend**2).mean(),
            ((error - trend) ** 2).mean(),
        ]
        np.testing.assert_allclose(found[row], expected, rtol=1e-9)


def test_trend_and_rest_tell_no_less_than_the_squared_error_that_they_add_up_to():
    evidence, member = scene(3000, 16, 0.3, 11)
    once = area(LiRASeries(errors=("mse",)), evidence, member)
    assert area(LiRASeries(), evidence, member) > once - 0.01
    one_step = replace(
        evidence,
        target=evidence.target[:, :, :1],
        labels=evidence.labels[:, :1],
        references=evidence.references[..., :1],
    )
    np.testing.assert_array_equal(
        LiRASeries().score(one_step, RNG(0)), LiRASeries(errors=("mse",)).score(one_step, RNG(0))
    )
    with pytest.raises(InputError, match="got median"):
        LiRASeries(errors=("median",))


def test_the_truth_has_a_column_for_each_output():
    evidence, _ = scene(30, 8, 0.3, 12)
    with pytest.raises(UnmetNeedError, match=r"shape \(30, 3\), got \(30,\)"):
        PredictionError().score(replace(evidence, labels=np.zeros(30)), RNG(0))


def test_models_that_agree_on_everything_tell_nothing():
    evidence, _ = scene(30, 8, 0.3, 13)
    same = replace(
        evidence,
        target=np.full_like(evidence.target, 0.1),
        references=np.full(evidence.references.shape, 0.1, np.float32),
    )
    for attack in (LiRAPrediction(), RobustLiRAPrediction()):
        scores = attack.score(same, RNG(0))
        assert np.ptp(scores) < 1e-6, attack.name
