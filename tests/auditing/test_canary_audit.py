"""Canaries in one training run, from Python: what is drawn, trained, bounded and refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from memberscope.auditing import (
    Plan,
    design_canary_audit,
    is_refuted,
    make_subject,
    run_canary_audit,
)
from memberscope.auditing.defend import choose_default_canaries, choose_default_defences
from memberscope.errors import InputError
from memberscope.recipes import FunctionRecipe, SklearnRecipe
from memberscope.targets import wrap
from memberscope.types import Records

PLAN = Plan(attacks=("gap", "logit"), fprs=(0.1,), search_queries=0)


def build_subject():
    rng = np.random.default_rng(0)
    sides = []
    for name in ("member", "other"):
        x = rng.normal(size=(200, 4))
        ids = np.array([f"{name}-{i}" for i in range(200)])
        sides.append(Records(x, (x[:, 0] > 0).astype(int), ids))
    model = DecisionTreeClassifier(random_state=0).fit(sides[0].x, sides[0].y)
    return make_subject(wrap(model), *sides)


@pytest.mark.parametrize(
    ("model", "refuted"),
    [(DecisionTreeClassifier(random_state=0), True), (LogisticRegression(C=1e-4), False)],
)
def test_a_model_that_learns_canaries_by_heart_refutes_a_small_epsilon(tmp_path, model, refuted):
    design = design_canary_audit(PLAN, build_subject(), SklearnRecipe(model), 200)
    assert len(design.members) == 200 and len(design.planted) == len(design.inside) == 200
    assert design.plan.assignment == "independent_coins" and design.proof is None
    outcome = run_canary_audit(design, tmp_path)
    assert list(outcome.bounds) == ["black box (logit)"]
    assert is_refuted(outcome.list_bounds(), 0.3) == refuted
    assert not is_refuted(outcome.list_bounds(), 50.0)
    document = outcome.build_document()
    assert document["format"] == "memberscope-canaries/1" and document["proven"] is None
    assert len(document["bounds"]["black box (logit)"]) == 2
    assert (tmp_path / "plan.json").is_file()


@pytest.mark.parametrize(
    ("plan", "n", "kind", "words"),
    [
        (PLAN, 10, "natural", "at least 20 canaries and an attack among logit, boundary, gap"),
        (Plan(attacks=("loss",)), 100, "natural", "got 100 and loss"),
        (PLAN, 1000, "natural", "2 to 200 canaries"),
        (PLAN, 100, "odd", "natural or mislabelled"),
    ],
)
def test_designs_that_can_prove_nothing_are_refused(plan, n, kind, words):
    recipe = SklearnRecipe(DecisionTreeClassifier())
    with pytest.raises(InputError, match=words):
        design_canary_audit(plan, build_subject(), recipe, n, kind)


def test_the_default_sweep_fits_the_recipe_and_the_records():
    tree = SklearnRecipe(DecisionTreeClassifier())
    assert choose_default_defences(tree) == ("depth:2|4|8", "leaf_size:10|50", "top:1", "label")
    assert choose_default_defences(SklearnRecipe(LogisticRegression())) == ("top:1", "label")
    function = FunctionRecipe(lambda records, seed: None)
    assert choose_default_defences(function) == ("memguard:1", "top:1", "label")
    assert choose_default_defences(function, "forecast") == ("digits:2", "digits:1")
    assert choose_default_defences(tree, "multilabel") == (
        "depth:2|4|8",
        "leaf_size:10|50",
        "decimals:1",
        "labels:0.5",
    )
    numbers = SklearnRecipe(DecisionTreeRegressor())
    assert choose_default_defences(numbers, "regression")[-2:] == ("digits:2", "digits:1")
    assert choose_default_defences(function, "multilabel") == ("decimals:1", "labels:0.5")
    assert [choose_default_canaries(n) for n in (29, 300, 10_000)] == [0, 10, 240]
