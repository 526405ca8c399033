"""An audit of a forest behind noise: undone with a public seed, not with the audit's own key."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier

import memberscope
from memberscope.auditing import Plan
from memberscope.auditing.documents.access_levels import derive_audit_key
from memberscope.auditing.verdict.recompute import verify_arrays
from memberscope.outputs import HampOutput, MemGuard, OutputNoise
from memberscope.targets import RestrictedTarget, SklearnTarget
from memberscope.types import ThreatModel

PLAN = Plan(
    attacks=("gap", "loss", "entropy"), restrictions=(), fprs=(0.1,), assume_class_order=True
)


@pytest.fixture(scope="module")
def forest():
    """A forest of 20 trees that remembers labels at random, with members and non-members."""
    x, y = make_classification(800, 12, n_informative=6, n_classes=3, flip_y=1.0, random_state=0)
    model = RandomForestClassifier(20, random_state=0).fit(x[:400], y[:400])
    return model, (x[:400], y[:400]), (x[400:], y[400:])


def audited(forest, restriction: str | None, **changes) -> tuple:
    """An audit behind a restriction, and the loss attack's AUC at each level of probabilities."""
    threat = ThreatModel(restriction=restriction)
    result = memberscope.audit(*forest, plan=replace(PLAN, **changes), threat=threat)
    found = {
        entry.restriction: entry.value
        for entry in result.estimates
        if entry.attack == "loss" and entry.metric == "auc" and entry.access == "probabilities"
    }
    return result, found


@pytest.fixture(scope="module")
def plain(forest) -> float:
    found = audited(forest, None)[1][None]
    assert found > 0.98
    return found


def test_with_a_public_seed_the_answers_without_noise_are_attacked(forest, plain):
    result, found = audited(forest, "noise:0.5:7")
    assert found["noise:0.5:7"] < plain - 0.02
    assert found["noise:0.5:7+inverted"] == pytest.approx(plain, abs=1e-12)
    control = result.controls["inversion"]
    assert (
        control.passed is False
        and "noise:0.5:7 can be undone with the public seed 7 of 20 trees" in control.why
    )
    strongest = next(
        entry
        for entry in result.estimates
        if (entry.attack, entry.metric, entry.restriction) == ("strongest", "auc", "noise:0.5:7")
    )
    assert strongest.value >= plain - 1e-12, "the strongest attack counts"
    assert not verify_arrays(result, result.arrays)


def test_with_the_key_of_the_audit_it_is_not_undone_and_can_be_repeated(forest, plain):
    result, found = audited(forest, "noise:0.5", seed=7)
    assert set(found) == {"noise:0.5"} and found["noise:0.5"] < plain - 0.02
    control = result.controls["inversion"]
    assert control.passed is True and "tried to be undone" in control.why
    other = audited(forest, "noise:0.5", seed=8)[1]
    assert other != found and derive_audit_key(7) == derive_audit_key(7) != derive_audit_key(8)


def test_references_are_seen_through_noise_of_their_own_and_without_any_where_it_is_undone(forest):
    def recipe(records, seed):
        return SklearnTarget(
            RandomForestClassifier(20, random_state=seed).fit(records.x, records.y)
        )

    model, members, others = forest
    plan = replace(PLAN, attacks=("gap", "loss", "lira"), references=4)
    threat = ThreatModel(restriction="noise:0.5:7")
    result = memberscope.audit(model, members, others, plan=plan, threat=threat, recipe=recipe)
    ran = {
        entry.restriction: entry.value
        for entry in result.estimates
        if (entry.attack, entry.metric) == ("lira", "auc")
    }
    assert ran["noise:0.5:7+inverted"] > ran["noise:0.5:7"] > 0.6


def test_a_model_that_stands_behind_noise_already_is_tried_too(forest):
    model, members, others = forest
    behind = RestrictedTarget(SklearnTarget(model), OutputNoise(0.5, seed=3))
    control = memberscope.audit(behind, members, others, plan=PLAN).controls["inversion"]
    assert control.passed is False and control.details["levels"] == [
        "probabilities noise:0.5:3+inverted"
    ]


def test_a_chain_is_undone_too(forest, plain):
    result, found = audited(forest, "noise:0.5:7+round:2", attacks=("gap", "loss"))
    assert found["noise:0.5:7+round:2+inverted"] == pytest.approx(plain, abs=0.01)
    control = result.controls["inversion"]
    assert control.passed is False and control.details["shares"] == {
        "probabilities noise:0.5:7+round:2": 1.0
    }


def test_behind_labels_there_is_nothing_to_undo_and_it_is_said(forest):
    control = audited(forest, "noise:0.5+label", attacks=("gap",))[0].controls["inversion"]
    assert control.passed is True and "noise:0.5+label shows labels alone" in control.why


def test_what_is_not_tried_is_said_and_passes_nothing(forest):
    restriction = "noise:0.5+noise:0.1"
    control = audited(forest, restriction, attacks=("gap", "loss"))[0].controls["inversion"]
    assert control.passed is None and "it has 2 parts with draws of their own" in control.why


def test_fitted_defences_are_tried_with_what_they_are_fitted_to(forest, plain):
    model, members, others = forest
    target = SklearnTarget(model)
    known = target.query(np.concatenate([members[0], others[0]]))
    guard = MemGuard(1.0, key=bytes(32)).fit(known, np.arange(800) < 400)
    result = memberscope.audit(RestrictedTarget(target, guard), members, others, plan=PLAN)
    found = {
        entry.restriction: entry.value
        for entry in result.estimates
        if (entry.attack, entry.metric) == ("loss", "auc")
    }
    assert found["memguard:1"] < plain - 0.02
    assert found["memguard:1+inverted"] == pytest.approx(plain, abs=0.01)
    assert "by whoever has its fitted classifier" in result.controls["inversion"].why
    assert not verify_arrays(result, result.arrays)
    random = np.random.default_rng(0).dirichlet(np.ones(3), 500)
    scores = HampOutput(key=bytes(32)).fit(random, np.zeros(500, dtype=bool))
    behind = RestrictedTarget(target, scores)
    control = memberscope.audit(behind, members, others, plan=PLAN).controls["inversion"]
    assert control.passed is True and "Nothing but the order" in control.why
    # A recipe that fits a defence to each model does not name it as a restriction
    behind.restriction = None
    control = memberscope.audit(behind, members, others, plan=PLAN).controls["inversion"]
    assert control.passed is None and "It belongs to the training" in control.why


def test_without_noise_nothing_is_said(forest):
    assert "inversion" not in audited(forest, "round:2")[0].controls
