"""Classes in another order than the labels are refused; a model that is merely bad is not."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope import audit
from memberscope.auditing import Plan
from memberscope.auditing.subject.class_order import require_order
from memberscope.errors import InputError
from memberscope.targets import FunctionTarget


@pytest.mark.parametrize("k", [2, 3, 10, 100])
@pytest.mark.parametrize("n", [2, 30, 400])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_models_that_guess_are_never_refused(k, n, share):
    rng = np.random.default_rng(0)
    for _ in range(100):
        labels, predicted = rng.integers(0, k, (2, n))
        require_order(np.where(rng.random(n) < share, labels, predicted), labels, k)


def test_models_that_know_one_class_only_are_never_refused():
    rng = np.random.default_rng(1)
    for _ in range(100):
        labels = rng.choice(3, 300, p=[0.1, 0.1, 0.8])
        require_order(rng.choice(3, 300, p=[0.8, 0.1, 0.1]), labels, 3)
        require_order(np.zeros(300, dtype=np.int64), labels, 3)


@pytest.mark.parametrize("k", [2, 3, 30])
def test_another_order_is_named(k):
    rng = np.random.default_rng(2)
    labels = rng.integers(0, k, 900)
    predicted = np.where(rng.random(900) < 0.8, (labels + 1) % k, labels)
    with pytest.raises(InputError, match=rf"if its classes were {k - 1}, 0"):
        require_order(predicted, labels, k)


def test_two_classes_of_ten_in_each_others_place_are_seen():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 10, 1000)
    guessed = np.where(rng.random(1000) < 0.7, labels, rng.integers(0, 10, 1000))
    require_order(guessed, labels, 10)
    with pytest.raises(InputError, match=r"if its classes were 0, 1, 2, 7, 4, 5, 6, 3, 8, 9"):
        require_order(np.array([0, 1, 2, 7, 4, 5, 6, 3, 8, 9])[guessed], labels, 10)


def test_a_class_that_is_taken_for_another_is_no_order():
    rng = np.random.default_rng(5)
    labels = rng.choice(3, 2000, p=[0.5, 0.1, 0.4])
    require_order(np.minimum(labels, 1), labels, 3)


def test_an_audit_refuses_columns_in_another_order():
    rng = np.random.default_rng(3)
    x, y = rng.random((400, 3)), rng.integers(0, 3, 400)
    x[np.arange(400), y] += 0.5
    model = FunctionTarget(lambda x: x / x.sum(axis=1, keepdims=True), n_classes=3)
    turned = FunctionTarget(lambda x: model.query(x)[:, [1, 2, 0]], n_classes=3)
    parts = (x[:200], y[:200]), (x[200:], y[200:])
    assert audit(model, *parts, plan=Plan(attacks=("gap",))).estimates
    with pytest.raises(InputError, match="in the order of the labels"):
        audit(turned, *parts, plan=Plan(attacks=("gap",)))
    declared = audit(turned, *parts, plan=Plan(attacks=("gap",), assume_class_order=True))
    assert declared.diagnostics.train_accuracy.value < 0.2
