"""Defences and canaries of models that predict numbers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

from memberscope.auditing import Plan, make_output_subject
from memberscope.auditing.collect.reference_models import Training
from memberscope.auditing.defend import SweepOptions, choose_default_defences, sweep_defences
from memberscope.errors import InputError
from memberscope.recipes import Execution, as_recipe
from memberscope.recipes.canaries import draw_wrong_labels
from memberscope.reports.frontier import render_frontier
from memberscope.targets import wrap

N = 400


@pytest.fixture(scope="module")
def frontier():
    return run_sweep("leaf_size:20", "interval:6")


def run_sweep(*names):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * N, 5))
    y = x[:, 0] * 3 + rng.normal(size=2 * N)
    model = DecisionTreeRegressor(max_depth=9, random_state=0).fit(x[:N], y[:N])
    subject = make_output_subject(wrap(model), (x[:N], y[:N]), (x[N:], y[N:]))
    recipe = as_recipe(DecisionTreeRegressor(max_depth=9))
    plan = Plan.normal(references=4, attacks=("prediction_error", "rmia_prediction"))
    return sweep_defences(
        plan,
        subject,
        Training(recipe, Execution("sequential")),
        SweepOptions(names, canaries=20),
    )


def test_what_a_restriction_costs_is_measured_behind_it(frontier):
    rows = {row.name: row for row in frontier.rows}
    whole, coarse, pruned = (rows[name] for name in ("none", "interval:6", "leaf_size:20"))
    assert coarse.accuracy.high < whole.accuracy.value
    assert whole.accuracy.high < pruned.accuracy.value
    assert coarse.average.value < whole.average.value
    assert whole.train_accuracy.value > whole.accuracy.value


def test_a_restriction_of_classes_is_refused_before_training():
    with pytest.raises(InputError, match="a restriction for regression, got top:1"):
        run_sweep("top:1")


def test_the_page_speaks_of_explained_variance(frontier):
    page = render_frontier(frontier)
    assert "explained variance" in page and "test accuracy" not in page.lower()


def test_advice_speaks_of_explained_variance(frontier):
    said = " ".join([*frontier.advice, *(note for row in frontier.rows for note in row.notes)])
    assert "beats these in explained variance and average leakage" in said
    assert "with wrong values, which costs explained variance" in said
    assert "accuracy" not in said


def test_defaults_fit_the_task():
    recipe = as_recipe(DecisionTreeRegressor())
    assert choose_default_defences(recipe, "regression")[-1] == "digits:1"
    assert "label" not in choose_default_defences(recipe, "multilabel")


def test_wrong_true_values_are_those_of_other_records():
    y = np.random.default_rng(1).normal(size=(50, 2))
    rows = np.arange(20)
    found = draw_wrong_labels(y, rows, 2, np.random.default_rng(2))
    assert not (found == y[rows]).all(axis=1).any()
    assert {tuple(one) for one in found} <= {tuple(one) for one in y}


def test_equal_true_values_leave_nothing_to_mislabel():
    with pytest.raises(InputError, match="nearly all alike"):
        draw_wrong_labels(np.ones(30), np.arange(5), 1, np.random.default_rng(0))
