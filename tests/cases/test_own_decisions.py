"""Label access shows what the model's own `predict` decides.

Not the top class of its probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import memberscope
from memberscope.auditing.subject.subject import make_subject
from memberscope.errors import InputError
from memberscope.signals import Store, collect_outputs
from memberscope.signals.label_oracle import ask_top_labels
from memberscope.targets import SklearnTarget, wrap
from memberscope.types import Access, ThreatModel

N, MEMBERS = 900, 300
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 6))
Y = ((X[:, 0] + RNG.normal(size=N)) > 0.8).astype(int)
A, B = slice(0, MEMBERS), slice(MEMBERS, N)
ASKED: list[int] = []


class Low:
    """A model of the user's own that says yes from a probability of 0.2."""

    classes_ = np.array([0, 1])

    def __init__(self) -> None:
        self.inner = LogisticRegression().fit(X[A], Y[A])

    def predict_proba(self, x):
        return self.inner.predict_proba(x)

    def predict(self, x):
        ASKED.append(len(x))
        return (self.predict_proba(x)[:, 1] > 0.2).astype(int)


def fixed() -> Any:
    return FixedThresholdClassifier(LogisticRegression(), threshold=0.2)


def catboost() -> Any:
    from catboost import CatBoostClassifier

    model = CatBoostClassifier(
        iterations=10, verbose=0, allow_writing_files=False, thread_count=1
    ).fit(X[A], Y[A])
    model.set_probability_threshold(0.2)
    return model


MODELS = {
    "catboost": catboost,
    "own": Low,
    "fixed": lambda: fixed().fit(X[A], Y[A]),
    "tuned": lambda: TunedThresholdClassifierCV(LogisticRegression(), scoring="recall").fit(
        X[A], Y[A]
    ),
    "pipeline": lambda: make_pipeline(StandardScaler(), fixed()).fit(X[A], Y[A]),
    "words": lambda: fixed().fit(X[A], np.array(["no", "yes"])[Y[A]]),
}


@pytest.mark.parametrize("name", MODELS)
def test_accuracy_and_the_gap_are_those_of_predict(name):
    model = MODELS[name]()
    y = np.array(["no", "yes"])[Y] if name == "words" else Y
    right = model.predict(X) == y
    top = model.predict_proba(X).argmax(axis=1) == Y
    assert right[B].mean() != top[B].mean()
    plan = memberscope.Plan(attacks=("gap",), threat=ThreatModel(access=Access.LABEL))
    result = memberscope.audit(model, (X[A], y[A]), (X[B], y[B]), plan=plan)
    assert result.diagnostics.train_accuracy.value == pytest.approx(right[A].mean())
    assert result.diagnostics.test_accuracy.value == pytest.approx(right[B].mean())
    auc = next(
        e.value
        for e in result.estimates
        if e.attack == "gap" and e.metric == "auc" and e.target == "target"
    )
    assert auc == pytest.approx(0.5 + (right[A].mean() - right[B].mean()) / 2)


def test_searches_for_the_boundary_ask_predict():
    model = Low()
    assert ask_top_labels(wrap(model), X).tolist() == model.predict(X).tolist()


def test_every_question_is_counted_and_kept(tmp_path):
    model, store = Low(), Store(tmp_path)
    ASKED.clear()
    subject = make_subject(wrap(model), (X[A], Y[A]), (X[B], Y[B]))
    first = collect_outputs(subject.target, subject.records, store=store)
    assert first.queries == 2 * N + 32 and sum(ASKED) == N
    again = collect_outputs(subject.target, subject.records, store=store)
    assert again.labels.tolist() == first.labels.tolist() and again.queries == first.queries
    assert sum(ASKED) == N


def test_models_whose_predict_is_the_top_class_are_asked_once():
    for model in (
        LogisticRegression(),
        RandomForestClassifier(5, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression()),
        CalibratedClassifierCV(LogisticRegression()),
    ):
        target = SklearnTarget(model.fit(X[A], Y[A]))
        assert not hasattr(target, "predict")
        assert target.query(X).argmax(axis=1).tolist() == model.predict(X).tolist()


def test_what_is_no_class_is_one_sentence():
    class Odd(Low):
        def predict(self, x):
            return self.predict_proba(x)[:, 1]

    with pytest.raises(
        InputError, match="Expected predict of Odd to give one of its classes a record"
    ):
        memberscope.audit(
            Odd(), (X[A], Y[A]), (X[B], Y[B]), plan=memberscope.Plan(attacks=("gap",))
        )
