"""Small fleets of estimators, and whether two have the same bytes."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from memberscope.recipes import Execution, SklearnRecipe, TrainingJob, build_balanced_design
from memberscope.signals import SignalRequest
from memberscope.types import Access, Records, SignalSpec

HERE = Execution("sequential")
WANTED = (
    SignalRequest(Access.PROBABILITIES, SignalSpec("logit_confidence")),
    SignalRequest(
        Access.PROBABILITIES, SignalSpec("log_confidence", parameters=(("temperature", 2.0),))
    ),
    SignalRequest(Access.PROBABILITIES, SignalSpec()),
)


def records(n: int, seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5))
    y = (x[:, 0] + rng.normal(size=n) > 0).astype(int) + (x[:, 1] > 1)
    return Records(x, y, np.array([f"r{seed}-{i}" for i in range(n)]))


def order(recipe=None, m: int = 6, n: int = 120, **changes) -> TrainingJob:
    pool = records(n)
    inside = build_balanced_design(n, n // 2, m, np.random.default_rng(1), strata=pool.y)
    recipe = recipe or SklearnRecipe(LogisticRegression())
    given = {"views": ("identity", "noise:0.1"), "population": records(40, 7)} | changes
    return TrainingJob(recipe, pool, inside, tuple(range(m)), WANTED, "probabilities", 3, **given)


def same(first, second) -> bool:
    pairs = [(first.observed[w], second.observed[w]) for w in WANTED] + [
        (first.population[w], second.population[w]) for w in first.population
    ]
    pairs += [(first.predicted, second.predicted), (first.train_accuracy, second.train_accuracy)]
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
