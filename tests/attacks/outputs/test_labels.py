"""Attacks on several labels a record: one label gives what a class of two gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, ndtr
from scipy.stats import rankdata

from memberscope.attacks import (
    RMIA,
    LabelGap,
    LabelLoss,
    LiRA,
    LiRALabels,
    Logit,
    Loss,
    RMIALabels,
    RobustLiRA,
    RobustLiRALabels,
)
from memberscope.statistics import auc_value, roc
from memberscope.types import Attack, Evidence

RNG = np.random.default_rng
EVERY: tuple[Attack, ...] = (
    LabelGap(),
    LabelLoss(),
    LiRALabels(),
    LiRALabels("offline"),
    LiRALabels(covariance="shrunk"),
    RobustLiRALabels(),
    RMIALabels(),
    RMIALabels("offline"),
)


def scene(n: int, m: int, shift: float, seed: int, labels: int = 4) -> tuple[Evidence, np.ndarray]:
    """Labels whose logits are N(difficulty, 1), `shift` surer where a model saw the record."""
    rng = RNG(seed)
    member, inside = rng.random(n) < 0.5, np.argsort(rng.random((m, n)), axis=0) < m // 2
    truth = rng.integers(0, 2, (n, labels))
    saw = np.concatenate([member[None], inside])[:, :, None]
    logit = rng.standard_normal((n, labels)) + rng.standard_normal((m + 1, n, labels)) + shift * saw
    p = expit(np.where(truth > 0, logit, -logit))[:, :, None]
    hidden = np.full(n, -1, dtype=np.int8)
    return Evidence("label_probabilities", p[0], truth, hidden, p[1:], inside), member


def as_class_of_two(evidence: Evidence) -> tuple[Evidence, Evidence]:
    """The one label as a class, as the logit-scaled confidence and as probabilities."""
    y = evidence.labels[:, 0]

    def logit(p: np.ndarray) -> np.ndarray:
        right = np.where(y[:, None, None] > 0, p, 1 - p)
        return np.log(right) - np.log(1 - right)

    both = np.concatenate([1 - evidence.target, evidence.target], axis=2)
    probabilities = Evidence("probabilities", both, y, evidence.known)
    numbers = replace(
        evidence,
        signal="logit_confidence",
        target=logit(evidence.target),
        labels=y,
        references=logit(evidence.references),
    )
    return numbers, probabilities


@pytest.mark.parametrize(
    ("attack", "twin"),
    [
        (LiRALabels(), LiRA()),
        (LiRALabels("offline"), LiRA("offline")),
        (LiRALabels(variance="per_example"), LiRA("online", "per_example")),
        (RobustLiRALabels(), RobustLiRA()),
    ],
    ids=lambda one: one.name,
)
def test_one_label_equals_a_class_of_two(attack, twin):
    evidence, _ = scene(80, 10, 1.0, 0, labels=1)
    numbers, _ = as_class_of_two(evidence)
    np.testing.assert_allclose(
        attack.score(evidence, RNG(0)), twin.score(numbers, RNG(0)), rtol=1e-7, atol=1e-9
    )


def test_one_label_equals_a_class_of_two_without_references():
    evidence, _ = scene(80, 10, 1.0, 0, labels=1)
    _, probabilities = as_class_of_two(evidence)
    np.testing.assert_allclose(
        LabelLoss().score(replace(evidence, references=None, inside=None), RNG(0)),
        Loss().score(probabilities, RNG(0)),
        rtol=1e-9,
    )
    assert np.array_equal(
        rankdata(LabelLoss().score(evidence, RNG(0))),
        rankdata(Logit().score(probabilities, RNG(0))),
    )


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_one_label_ranks_by_rmia_as_a_class_of_two(mode):
    evidence, _ = scene(80, 10, 1.0, 1, labels=1)
    numbers, _ = as_class_of_two(evidence)
    # Read at the same temperature, as a measured number on the scale of a logit is
    twin = RMIA(mode, gamma=1.0, signal="boundary")
    np.testing.assert_allclose(
        RMIALabels(mode).score(evidence, RNG(0)),
        twin.score(replace(numbers, signal="boundary"), RNG(0)),
        atol=1e-9,
    )


@pytest.mark.parametrize("attack", EVERY, ids=lambda attack: attack.name)
def test_a_planted_leak_is_found_and_none_where_there_is_none(attack):
    evidence, member = scene(1500, 12, 1.0, 2)
    assert auc_value(roc(attack.score(evidence, RNG(0)), member)) > 0.7
    areas = []
    for seed in range(12):
        evidence, member = scene(500, 12, 0.0, seed)
        areas.append(auc_value(roc(attack.score(evidence, RNG(0)), member)))
    spread = np.sqrt(501 / (12 * 250 * 250)) / np.sqrt(len(areas))
    assert abs(np.mean(areas) - 0.5) < 4 * spread


def test_log_ratios_of_labels_add_up_to_the_closed_form():
    """Four independent labels tell twice as much as one."""
    for labels in (1, 4):
        evidence, member = scene(3000, 256, 0.5, 3, labels)
        found = auc_value(roc(LiRALabels().score(evidence, RNG(0)), member))
        assert found == pytest.approx(ndtr(0.5 * labels**0.5 / 2**0.5), abs=0.02)


def test_certain_labels_stay_finite_and_alike_in_both_precisions():
    evidence, _ = scene(40, 8, 1.0, 4)
    p = np.where(evidence.references > 0.5, 1.0, 0.0).astype(np.float32)
    sure = replace(evidence, target=np.where(evidence.target > 0.5, 1 - 1e-12, 0.0), references=p)
    same = replace(sure, target=np.round(sure.target))
    for attack in EVERY:
        scores = attack.score(sure, RNG(0))
        assert np.isfinite(scores).all()
        np.testing.assert_allclose(scores, attack.score(same, RNG(0)), rtol=1e-9)
