"""Classifiers of each class against the rest.

Their probabilities are divided by their sum, and scores can be declared.
"""

import numpy as np
import pytest
from catboost import CatBoostClassifier
from lightgbm import Dataset, LGBMClassifier, train
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from memberscope import Plan, audit
from memberscope.errors import InputError
from memberscope.targets.loading.wrap import wrap

PLAN = Plan(attacks=("confidence", "gap"))
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 400)
X = RNG.normal(size=(400, 4)) + Y[:, None]


def one_vs_all(library: str):
    if library == "catboost":
        return CatBoostClassifier(
            iterations=20, loss_function="MultiClassOneVsAll", verbose=0, thread_count=1
        )
    return LGBMClassifier(n_estimators=10, objective="ova", verbose=-1, n_jobs=1)


@pytest.mark.parametrize("library", ["catboost", "lightgbm"])
def test_one_vs_all_probabilities_are_divided_by_their_sum_and_said(library):
    model = one_vs_all(library).fit(X[:200], Y[:200])
    own = model.predict_proba(X)
    assert np.abs(own.sum(axis=1) - 1).max() > 0.01
    target = wrap(model)
    np.testing.assert_allclose(target.query(X), own / own.sum(axis=1, keepdims=True))
    result = audit(model, (X[:200], Y[:200]), (X[200:], Y[200:]), plan=PLAN)
    assert any("one-vs-all" in note for note in result.diagnostics.notes)
    inside = make_pipeline(StandardScaler(), one_vs_all(library)).fit(X[:200], Y[:200])
    np.testing.assert_allclose(wrap(inside).query(X).sum(axis=1), 1)


def test_a_one_vs_all_booster_gives_what_its_classifier_gives():
    booster = train(
        {"objective": "multiclassova", "num_class": 3, "verbose": -1, "num_threads": 1},
        Dataset(X[:200], Y[:200]),
        10,
    )
    own = booster.predict(X)
    np.testing.assert_allclose(wrap(booster).query(X), own / own.sum(axis=1, keepdims=True))
    with pytest.raises(InputError, match="outputs probabilities of this LightGBM model"):
        wrap(booster, outputs="logits")


def softmax_loss(y, margins):
    odds = np.exp(margins - margins.max(axis=1, keepdims=True))
    p = odds / odds.sum(axis=1, keepdims=True)
    return p - np.eye(3)[np.asarray(y, dtype=int)], 2 * p * (1 - p)


@pytest.mark.filterwarnings("ignore:Cannot compute class probabilities")
def test_the_advice_to_declare_logits_ends_with_logits():
    model = LGBMClassifier(n_estimators=10, objective=softmax_loss, verbose=-1, n_jobs=1).fit(
        X[:200], Y[:200]
    )
    pair = (X[:200], Y[:200]), (X[200:], Y[200:])
    with pytest.raises(InputError, match=r"wrap\(model, outputs='logits'\)"):
        audit(model, *pair, plan=PLAN)
    result = audit(wrap(model, outputs="logits"), *pair, plan=PLAN)
    assert result.threat_models and wrap(model, outputs="logits").signal == "logits"
    with pytest.raises(InputError, match="returns logits, got one of probabilities"):
        wrap(one_vs_all("lightgbm").fit(X, Y), outputs="logits")


class Uneven:
    """An estimator of the user's own whose probabilities do not sum to one."""

    classes_ = np.arange(3)

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        return np.full((len(x), 3), 0.5)


def test_the_advice_to_divide_by_the_sum_works():
    pair = (X[:200], Y[:200]), (X[200:], Y[200:])
    with pytest.raises(InputError, match=r"function around it: wrap\(f, n_classes=3\)"):
        audit(Uneven(), *pair, plan=PLAN)

    def divided(x):
        p = Uneven().predict_proba(x)
        return p / p.sum(axis=1, keepdims=True)

    assert audit(wrap(divided, n_classes=3), *pair, plan=PLAN).estimates
