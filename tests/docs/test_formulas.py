"""The formulas on the page of attacks are those that the attacks compute.

Each is written again here, record by record and without numpy's tricks, from the page alone.
"""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from memberscope.attacks import find_attacks
from memberscope.types import Evidence

RNG = np.random.default_rng(5)
N, K, MODELS = 40, 4, 6
P = RNG.dirichlet(np.ones(K), N)
Y = RNG.integers(0, K, N)
HIDDEN = np.full(N, -1, dtype=np.int8)
INSIDE = np.array([(np.arange(N) + model) % 2 == 0 for model in range(MODELS)])
LOG_P, LOG_REF = -RNG.exponential(1.0, N), -RNG.exponential(1.0, (MODELS, N))
PHI, PHI_REF = RNG.normal(size=N), RNG.normal(size=(MODELS, N))


def others(i: int) -> list[int]:
    return [j for j in range(K) if j != Y[i]]


ONE_QUERY = {
    "gap": lambda p, y, i: 1.0 if int(np.argmax(p)) == y else 0.0,
    "loss": lambda p, y, i: log(p[y]),
    "confidence": lambda p, y, i: p[y],
    "entropy": lambda p, y, i: sum(q * log(q) for q in p),
    "modified_entropy": lambda p, y, i: (
        (1 - p[y]) * log(p[y]) + sum(p[j] * log(1 - p[j]) for j in others(i))
    ),
    "margin": lambda p, y, i: log(p[y]) - max(log(p[j]) for j in others(i)),
    "logit": lambda p, y, i: log(p[y]) - log(sum(p[j] for j in others(i))),
}


@pytest.mark.parametrize("name", ONE_QUERY)
def test_attacks_of_one_query(name):
    (attack,) = find_attacks((name,))
    scores = attack.score(Evidence("probabilities", P[:, None], Y, HIDDEN), RNG)
    expected = [ONE_QUERY[name](P[i], Y[i], i) for i in range(N)]
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)


def columns(values: np.ndarray, i: int) -> tuple[np.ndarray, np.ndarray]:
    """The models' values of record i: of those trained with it, and without it."""
    return values[INSIDE[:, i], i], values[~INSIDE[:, i], i]


def pooled_variance(side: int) -> float:
    """Mean squared distance of each model's value to its record's mean on this side."""
    found = [value for i in range(N) for value in columns(PHI_REF, i)[side]]
    means = [columns(PHI_REF, i)[side].mean() for i in range(N) for _ in columns(PHI_REF, i)[side]]
    return sum((a - b) ** 2 for a, b in zip(found, means, strict=True)) / len(found)


def normal(value: float, mean: float, variance: float) -> float:
    return -0.5 * (log(2 * np.pi * variance) + (value - mean) ** 2 / variance)


def base(i: int) -> float:
    return LOG_P[i] - log(np.mean([exp(value) for value in LOG_REF[:, i]]))


def ratio(i: int) -> float:
    inside, outside = columns(np.exp(LOG_REF), i)
    return exp(LOG_P[i]) / ((inside.mean() + outside.mean()) / 2)


WITH_REFERENCES = {
    "lira": lambda i: (
        normal(PHI[i], columns(PHI_REF, i)[0].mean(), pooled_variance(0))
        - normal(PHI[i], columns(PHI_REF, i)[1].mean(), pooled_variance(1))
    ),
    "lira_offline": lambda i: (PHI[i] - columns(PHI_REF, i)[1].mean()) / pooled_variance(1) ** 0.5,
    "lira_offline_two_sided": lambda i: (
        -normal(PHI[i], columns(PHI_REF, i)[1].mean(), pooled_variance(1))
    ),
    "calibrated": lambda i: PHI[i] - columns(PHI_REF, i)[1].mean(),
    "calibrated_loss": lambda i: LOG_P[i] - columns(LOG_REF, i)[1].mean(),
    "attack_r": lambda i: np.mean(columns(LOG_REF, i)[1] < LOG_P[i]),
    "base": base,
    "base_offline": lambda i: LOG_P[i] - 0.33 * log(np.exp(columns(LOG_REF, i)[1]).mean()),
    "rmia": lambda i: np.mean([ratio(i) / ratio(z) >= 2 for z in range(N)]),
}


@pytest.mark.parametrize("name", WITH_REFERENCES)
def test_attacks_with_reference_models(name):
    (attack,) = find_attacks((name,))
    signal = attack.needs.signals[0]
    target, models = (PHI, PHI_REF) if signal == "logit_confidence" else (LOG_P, LOG_REF)
    evidence = Evidence(
        signal,
        target[:, None, None],
        Y,
        HIDDEN,
        references=models[:, :, None, None],
        inside=INSIDE,
    )
    expected = [WITH_REFERENCES[name](i) for i in range(N)]
    np.testing.assert_allclose(attack.score(evidence, RNG), expected, rtol=1e-9)
