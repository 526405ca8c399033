"""One failing part is one NOT_RUN.

References that cannot be trained, measurements that cannot be made, searches that cannot move.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

import memberscope
from memberscope.auditing import Plan, load_policy
from memberscope.errors import InputError, TargetError
from memberscope.recipes import Execution
from memberscope.recipes.fleet.attempts import ENOUGH
from memberscope.targets import FunctionTarget

RNG = np.random.default_rng(0)
N = 240
X, Y = RNG.normal(size=(N, 5)), RNG.integers(0, 2, N)
SIDES = (X[: N // 2], Y[: N // 2]), (X[N // 2 :], Y[N // 2 :])
MODEL = DecisionTreeClassifier(max_depth=6, random_state=0).fit(*SIDES[0])
HERE = Execution("sequential")
PLAN = Plan(attacks=("gap", "loss", "lira"), references=8, folds=3)
POLICY = load_policy("demo")


class Failing:
    """A recipe that fails for some seeds, counted from the first that it is given."""

    def __init__(self, fails, error=None):
        self.fails, self.error, self.tried = (
            fails,
            error or ValueError("no level 'rare' in column city"),
            0,
        )

    def __call__(self, records, seed):
        self.tried += 1
        if self.fails(self.tried):
            raise self.error
        return DecisionTreeClassifier(max_depth=6, random_state=0).fit(records.x, records.y)


def reasons(result):
    return {entry.attack: entry.why for entry in result.not_run}


def ran(result):
    return {entry.attack for entry in result.estimates if entry.target == "target"} - {"strongest"}


def test_one_reference_that_cannot_be_trained_is_left_out_and_counted():
    result = memberscope.audit(
        MODEL, *SIDES, plan=PLAN, recipe=Failing(lambda k: k == 3), execution=HERE
    )
    assert "lira" in ran(result)
    assert (result.cost.models_trained, result.cost.models_failed) == (8, 1)
    assert result.threat_models[-1].references == 7
    control = result.controls["references"]
    assert (
        control.passed
        and "1 left out, which could not be trained" in control.why
        and "no level 'rare'" in control.why
    )


def test_the_first_one_may_be_the_one():
    result = memberscope.audit(
        MODEL, *SIDES, plan=PLAN, recipe=Failing(lambda k: k == 1), execution=HERE
    )
    assert "lira" in ran(result) and result.cost.models_failed == 1


def test_the_others_are_what_they_would_have_been():
    whole = memberscope.audit(
        MODEL, *SIDES, plan=PLAN, recipe=Failing(lambda k: False), execution=HERE
    )
    less = memberscope.audit(
        MODEL, *SIDES, plan=PLAN, recipe=Failing(lambda k: k == 3), execution=HERE
    )
    loss = [
        [e.value for e in r.estimates if e.attack == "loss" and e.target == "target"]
        for r in (whole, less)
    ]
    assert loss[0] == loss[1]


def test_too_few_left_are_said_with_the_first_reason():
    plan = replace(PLAN, policy=POLICY)
    result = memberscope.audit(
        MODEL, *SIDES, plan=plan, recipe=Failing(lambda k: k > 1), execution=HERE
    )
    assert result.cost.models_failed == 7
    control = result.controls["references"]
    assert control.passed is False and "7 of 8 reference models could not be trained" in control.why
    assert "lira" in ran(result) or "no level 'rare'" in reasons(result)["lira"]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no such column"),
        KeyError("city"),
        RuntimeError("CUDA out of memory"),
        MemoryError(),
    ],
)
def test_a_recipe_that_never_works_leaves_the_rest_of_the_audit(error):
    recipe = Failing(lambda k: True, error)
    result = memberscope.audit(
        MODEL, *SIDES, plan=replace(PLAN, policy=POLICY), recipe=recipe, execution=HERE
    )
    assert recipe.tried == ENOUGH  # and not one more
    assert ran(result) == {"gap", "loss"}
    why = reasons(result)["lira"]
    assert why.startswith(
        "No reference model could be trained. Expected the recipe to train a model, got "
        + type(error).__name__
    )
    assert result.cost.models_failed == 8 and result.controls["references"].passed is False
    assert result.verdict in ("FAIL", "INCONCLUSIVE")


def test_what_the_policy_requires_and_did_not_run_is_inconclusive():
    model = LogisticRegression().fit(*SIDES[0])
    policy = replace(
        POLICY,
        require=("gap", "lira"),
        max_tpr=tuple(replace(claim, tpr=0.999) for claim in POLICY.max_tpr),
    )
    recipe = Failing(lambda k: True)
    result = memberscope.audit(
        model, *SIDES, plan=replace(PLAN, policy=policy), recipe=recipe, execution=HERE
    )
    assert result.verdict == "INCONCLUSIVE"
    assert any(
        "requires the attack lira" in f.claim and "No reference model" in f.rule
        for f in result.findings
    )


def test_where_nothing_else_runs_the_sentence_ends_the_audit():
    with pytest.raises(InputError, match="No reference model could be trained"):
        memberscope.audit(
            MODEL,
            *SIDES,
            plan=replace(PLAN, attacks=("lira",)),
            recipe=Failing(lambda k: True),
            execution=HERE,
        )


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda records, seed: 42, "got int"),
        (
            lambda records, seed: LogisticRegression().fit(
                records.x, records.y + 2 * (records.x[:, 0] > 0)
            ),
            "2 classes as the target",
        ),
        (lambda records, seed: FunctionTarget(lambda x: x[:, :1] / 0, n_classes=2), "the recipe"),
    ],
)
def test_recipes_that_return_something_else(made, words):
    with np.errstate(all="ignore"):
        result = memberscope.audit(MODEL, *SIDES, plan=PLAN, recipe=made, execution=HERE)
    assert ran(result) == {"gap", "loss"} and words in reasons(result)["lira"]


def test_further_targets_that_cannot_be_trained_are_one_line():
    plan = replace(PLAN, attacks=("gap", "loss"), targets=2)
    result = memberscope.audit(
        MODEL, *SIDES, plan=plan, recipe=Failing(lambda k: True), execution=HERE
    )
    assert "No further target model could be trained" in reasons(result)["targets"] and ran(
        result
    ) == {"gap", "loss"}


def test_a_bad_recipe_is_known_before_the_searches_begin():
    order = []

    class Watched(FunctionTarget):
        def query(self, x):
            order.append("query")
            return super().query(x)

    def recipe(records, seed):
        order.append("train")
        raise ValueError("no such column")

    plan = replace(PLAN, attacks=("gap", "loss", "lira", "boundary"), search_queries=16)
    result = memberscope.audit(
        Watched(MODEL.predict_proba, n_classes=2), *SIDES, plan=plan, recipe=recipe, execution=HERE
    )
    assert "boundary" in ran(result)
    first = order.index("train")
    assert (
        first <= 3 and len(order) - first > 5
    )  # the plain queries, then the recipe, then the search


def test_a_search_that_cannot_move_a_record_is_one_line():
    plain = {row.tobytes() for row in X}

    def only_known(x):
        if not all(row.tobytes() in plain for row in np.asarray(x)):
            raise TypeError("'<' not supported between 'str' and 'float'")
        return MODEL.predict_proba(x)

    plan = replace(PLAN, attacks=("gap", "loss", "boundary"), search_queries=16)
    result = memberscope.audit(FunctionTarget(only_known, n_classes=2), *SIDES, plan=plan)
    assert ran(result) == {"gap", "loss"} and "not supported between" in reasons(result)["boundary"]


def test_the_plain_query_still_ends_the_audit():
    def broken(x):
        raise RuntimeError("no GPU")

    with pytest.raises(TargetError, match="no GPU"):
        memberscope.audit(FunctionTarget(broken, n_classes=2), *SIDES, plan=PLAN)
    with pytest.raises(InputError, match="sum to 1"):
        memberscope.audit(
            FunctionTarget(lambda x: np.full((len(x), 2), 0.4), n_classes=2), *SIDES, plan=PLAN
        )


def test_a_white_box_measurement_that_cannot_run_is_one_line(monkeypatch):
    from memberscope.types import Access, ThreatModel

    model = LogisticRegression().fit(*SIDES[0])
    plan = Plan(
        attacks=("gap", "loss", "gradient_norm"), folds=3, threat=ThreatModel(Access.WHITE_BOX)
    )
    whole = memberscope.audit(model, *SIDES, plan=plan)
    assert "gradient_norm" in ran(whole)
    from memberscope.targets.white_box import sklearn as sklearn_inside

    def hooked(self, *args, **given):
        raise AttributeError("'GradSampleModule' object has no attribute 'weight'")

    for name in [
        name
        for name, part in vars(sklearn_inside.SklearnInside).items()
        if callable(part) and not name.startswith("__")
    ]:
        monkeypatch.setattr(sklearn_inside.SklearnInside, name, hooked)
    result = memberscope.audit(model, *SIDES, plan=plan)
    assert "loss" in ran(result) and "gradient_norm" not in ran(result)
    assert "GradSampleModule" in reasons(result)["gradient_norm"]
