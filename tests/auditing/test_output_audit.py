"""Whole audits of models that predict numbers or several labels, with reference models."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import memberscope
from memberscope.auditing import verify_result
from memberscope.errors import InputError
from memberscope.recipes import build_balanced_design
from memberscope.reports import write_all
from memberscope.types import Access, Records, ThreatModel

N = 300


def draw_numbers(seed=0, d=1, n=N):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * n, 6))
    y = x[:, :d] * 3 + rng.normal(size=(2 * n, d))
    y = y[:, 0] if d == 1 else y
    return (x[:n], y[:n]), (x[n:], y[n:])


def find_area(result, attack):
    return next(
        one for one in result.estimates
        if one.metric == "auc" and one.group is None and one.attack == attack
    )  # fmt: skip


@pytest.fixture(scope="module")
def forest():
    members, others = draw_numbers()
    model = RandomForestRegressor(20, random_state=0).fit(*members)
    return memberscope.audit(
        model, members, others, recipe=RandomForestRegressor(20), references=6, policy="demo"
    )


def test_a_forest_leaks_and_references_see_more(forest):
    error = find_area(forest, "prediction_error")
    best = find_area(forest, "lira_prediction_robust")
    assert error.low > 0.65
    assert best.low > error.high
    assert forest.verdict == "FAIL"
    advice = next(entry.advice for entry in forest.findings if entry.verdict == "FAIL")
    assert "(numbers with two significant digits)" in advice and "digits:2'" in advice


def test_the_plan_is_that_of_the_task(forest):
    assert forest.plan.task == "regression"
    assert {threat.access for threat in forest.threat_models} == {Access.PREDICTION}
    reasons = {entry.attack: entry.why for entry in forest.not_run}
    assert "this model predicts numbers" in reasons["gap"]
    assert not any(name.startswith(("label_", "lira_labels")) for name in reasons)


def test_controls_pass_and_the_fit_is_said(forest):
    assert {name: one.passed for name, one in forest.controls.items()} == {
        "null": True,
        "blind": True,
        "overlap": True,
        "direction": True,
        "determinism": True,
        "references": True,
    }
    assert any(
        "of the variance of its members' true values" in one for one in forest.diagnostics.notes
    )


def test_the_folder_verifies_and_says_no_classes(forest, tmp_path):
    write_all(forest, tmp_path / "out")
    again = memberscope.load(tmp_path / "out")
    verify_result(again, again.arrays)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "explained variance" in page and "what the model predicts" in page
    assert (
        json.loads((tmp_path / "out" / "result.json").read_text())["plan"]["task"] == "regression"
    )


def test_groups_are_quarters_of_the_true_value(forest):
    groups = {one.group for one in forest.estimates if one.group}
    assert len(groups) == 4 and all(name.startswith("value=") for name in groups)


def test_ridge_leaks_next_to_nothing():
    members, others = draw_numbers(1)
    result = memberscope.audit(Ridge().fit(*members), members, others, recipe=Ridge(), references=4)
    assert find_area(result, "lira_prediction_robust").value < 0.58
    assert result.controls["references"].passed is True


def test_references_trained_in_another_way_are_told():
    members, others = draw_numbers(2)
    model = DecisionTreeRegressor(random_state=0).fit(*members)
    result = memberscope.audit(
        model, members, others, recipe=DecisionTreeRegressor(max_depth=2), references=4, policy="demo"
    )  # fmt: skip
    assert result.controls["references"].passed is False
    assert result.verdict in ("FAIL", "INCONCLUSIVE")


def test_several_outputs():
    members, others = draw_numbers(3, d=3)
    model = DecisionTreeRegressor(max_depth=8, random_state=0).fit(*members)
    result = memberscope.audit(
        model, members, others, recipe=DecisionTreeRegressor(max_depth=8), references=4
    )
    assert find_area(result, "rmia_prediction").low > 0.7


def test_one_label_is_audited_like_a_classifier_of_two():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2 * N, 5))
    y = (x[:, 0] + rng.normal(size=2 * N) > 0).astype(int)
    tree = DecisionTreeClassifier(min_samples_leaf=3, random_state=0).fit(x[:N], y[:N])
    design = build_balanced_design(2 * N, N, 8, np.random.default_rng(5))

    def single(records, seed):
        return DecisionTreeClassifier(min_samples_leaf=3, random_state=seed).fit(
            records.x, records.y
        )

    def several(records, seed):
        model = single(Records(records.x, records.y.reshape(-1), records.ids), seed)
        return lambda x: model.predict_proba(x)[:, 1:]

    one = memberscope.audit(
        tree, (x[:N], y[:N]), (x[N:], y[N:]), recipe=single, design=design, attacks=["lira"]
    )
    many = memberscope.audit(
        lambda x: tree.predict_proba(x)[:, 1:], (x[:N], y[:N, None]), (x[N:], y[N:, None]),
        recipe=several, design=design, attacks=["lira_labels"], task="multilabel", n_classes=1,
    )  # fmt: skip
    single_scores, several_scores = (
        next(
            entry.scores
            for entry in result.arrays.scored
            if entry.attack == attack and entry.declared
        )
        for result, attack in ((one, "lira"), (many, "lira_labels"))
    )
    np.testing.assert_allclose(single_scores, several_scores, rtol=1e-4, atol=1e-4)


def test_several_labels():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(2 * N, 5))
    y = (x[:, :3] + rng.normal(size=(2 * N, 3)) > 0).astype(int)
    model = MultiOutputClassifier(DecisionTreeClassifier(max_depth=6, random_state=0))
    result = memberscope.audit(
        model.fit(x[:N], y[:N]), (x[:N], y[:N]), (x[N:], y[N:]),
        recipe=MultiOutputClassifier(DecisionTreeClassifier(max_depth=6)), references=4,
    )  # fmt: skip
    assert result.plan.task == "multilabel"
    assert find_area(result, "rmia_labels").low > 0.6


def test_a_policy_that_requires_attacks_on_classes_gets_their_counterparts():
    members, others = draw_numbers(7)
    result = memberscope.audit(
        DecisionTreeRegressor(max_depth=6, random_state=0).fit(*members), members, others,
        recipe=DecisionTreeRegressor(max_depth=6), references=4, policy="standard",
    )  # fmt: skip
    missing = {one.attack for one in result.findings if one.verdict == "NOT_RUN"}
    assert not missing & {"rmia", "lira", "lira_robust"}


def test_a_signal_of_ones_own_runs_with_references():
    members, others = draw_numbers(8)

    class Residual:
        name, higher = "residual", "non_member"

        def measure(self, target, records):
            return np.abs(target.query(records.x)[:, 0] - records.y)

    result = memberscope.audit(
        DecisionTreeRegressor(max_depth=8, random_state=0).fit(*members), members, others,
        recipe=DecisionTreeRegressor(max_depth=8), references=4, signals=[Residual()],
    )  # fmt: skip
    assert find_area(result, "residual").low > 0.6
    assert find_area(result, "rmia_residual").low > 0.6


def test_a_budget_of_one_query_is_kept():
    members, others = draw_numbers(9)
    result = memberscope.audit(
        Ridge().fit(*members), members, others, threat=ThreatModel(query_budget=1)
    )
    assert result.cost.queries == 2 * N


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"task": "classification"}, "task"),
        ({"task": "ranking"}, "Expected task"),
    ],
)
def test_a_task_that_the_model_does_not_do_is_refused(given, words):
    members, others = draw_numbers(10)
    with pytest.raises(InputError, match=words):
        memberscope.audit(Ridge().fit(*members), members, others, **given)


def test_predictions_whose_squares_overflow_are_refused():
    members, others = draw_numbers(11)
    with pytest.raises(InputError, match=r"at most 1e\+15 in size, got 1e\+200 for record"):
        memberscope.audit(
            lambda x: np.full(len(x), 1e200), members, others, task="regression", n_classes=1
        )
