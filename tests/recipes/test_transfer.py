"""The transfer attack's models learn from what the target calls the population.

And the target is asked nothing else.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from memberscope.errors import InputError, UnmetNeedError
from memberscope.recipes.fleet.label_transfer import score_by_transfer
from memberscope.statistics import auc_value, roc
from memberscope.targets import FunctionTarget
from memberscope.types import Records


def people(n: int, seed: int) -> Records:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = rng.standard_normal((n, 5)) + 2.0 * np.eye(3, 5)[y]
    return Records(x, y, np.arange(n).astype(np.str_))


def logistic(records: Records, seed: int) -> LogisticRegression:
    return LogisticRegression(C=0.5 + seed).fit(records.x, records.y)


def test_values_are_mean_logits_of_models_of_the_targets_labels():
    population, records = people(400, 0), people(60, 1)
    asked: list[np.ndarray] = []

    def answer(x: np.ndarray) -> np.ndarray:
        asked.append(x)
        return np.eye(3)[(x[:, :3] + 0.3).argmax(axis=1)]

    found = score_by_transfer(
        logistic, FunctionTarget(answer, n_classes=3), population, records, (0, 1)
    )
    assert found.shape == (60, 1) and len(asked) == 1 and asked[0] is population.x, (
        "one query a record of the population"
    )
    called = (population.x[:, :3] + 0.3).argmax(axis=1)
    logits = []
    for c in (0.5, 1.5):
        p = (
            LogisticRegression(C=c)
            .fit(population.x, called)
            .predict_proba(records.x)[np.arange(60), records.y]
        )
        logits.append(np.log(p / (1 - p)))
    np.testing.assert_allclose(found[:, 0], np.mean(logits, axis=0), rtol=1e-4)


def test_confidence_is_carried_over_from_a_target_that_tells_labels_alone():
    """Records that an overfitted target gets right are those its copy is sure of.

    More often than not.
    """
    train, population, others = people(300, 2), people(3000, 3), people(300, 4)
    forest = RandomForestClassifier(20, random_state=0).fit(train.x, train.y)
    target = FunctionTarget(lambda x: np.eye(3)[forest.predict(x)], n_classes=3)
    found = score_by_transfer(
        lambda r, s: RandomForestClassifier(20, random_state=s).fit(r.x, r.y),
        target,
        population,
        others,
        (0, 1),
    )
    right = forest.predict(others.x) == others.y
    assert auc_value(roc(found[:, 0], right)) > 0.8


def test_what_cannot_be_learned_from_is_refused():
    population, records = people(50, 0), people(20, 1)
    constant = FunctionTarget(lambda x: np.tile([1.0, 0.0, 0.0], (len(x), 1)), n_classes=3)
    with pytest.raises(InputError, match="two classes or more, got class 0 alone"):
        score_by_transfer(logistic, constant, population, records, (0,))

    class Silent:
        """A model that tells labels alone."""

        def __init__(self, model: RidgeClassifier) -> None:
            self.classes_, self.predict = model.classes_, model.predict

    target = FunctionTarget(lambda x: np.eye(3)[x[:, :3].argmax(axis=1)], n_classes=3)
    with pytest.raises(UnmetNeedError, match="probabilities for the attack transfer, got labels"):
        score_by_transfer(
            lambda r, _: Silent(RidgeClassifier().fit(r.x, r.y)), target, population, records, (0,)
        )
