"""Levels of access side by side.

Restrictions tried and declared, what each row may use, and what none of them can change.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import PlantedRecipe, gaussian_signals
from sklearn.neural_network import MLPClassifier

import memberscope
from memberscope.attacks import find_attacks
from memberscope.auditing import Plan, audit_signals, verify_arrays
from memberscope.auditing.documents.access_levels import Level, is_worth_running, list_audit_levels
from memberscope.auditing.verdict.recompute import restore_plan
from memberscope.errors import InputError
from memberscope.outputs.chain import parse_restriction
from memberscope.reports import format_result_json, read_arrays, read_result, write_all
from memberscope.reports.page.access_matrix import build_matrix
from memberscope.targets import FunctionTarget, RestrictedTarget, SklearnTarget
from memberscope.types import Access, Records, ThreatModel

DECLARED = Plan(assume_exchangeable=True)
QUICK = Plan(
    attacks=("gap", "boundary", "loss", "loss_per_class", "entropy", "logit"),
    search_queries=16,
    folds=3,
)


@pytest.fixture(scope="module")
def digits():
    """A network that overfits ten classes, its records, and the pairs of an audit."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 20))
    y = rng.integers(0, 10, 800)
    x = centres[y] + 1.6 * rng.normal(size=(800, 20))
    model = MLPClassifier((64,), max_iter=1000, random_state=0).fit(x[:400], y[:400])
    return model, (x[:400], y[:400]), (x[400:], y[400:])


@pytest.fixture(scope="module")
def audited(digits):
    return memberscope.audit(*digits, policy="demo", plan=QUICK)


def test_one_row_for_each_level_weakest_first(audited):
    levels = [(threat.access.word, threat.restriction) for threat in audited.threat_models]
    assert levels == [
        ("label", None),
        *[("probabilities", name) for name in ("top:1", "top:3", "round:2")],
        ("probabilities", None),
    ]
    strongest = [
        entry
        for entry in audited.estimates
        if (entry.attack, entry.metric, entry.group) == ("strongest", "auc", None)
    ]
    assert [(entry.access, entry.restriction) for entry in strongest] == levels


def test_restrictions_leave_the_label_only_rows_as_they_are(digits, audited):
    """The gap attack and every label-only search see only the top class.

    Which no restriction changes.
    """
    model, members, non_members = digits
    # No restriction is tried on top of the one in front: rows of labels come before them
    plan = replace(QUICK, restrictions=())
    for name in ("top:1", "round:1", "temperature:5", "noise:1:0", "top:2+round:1", "label"):
        behind = RestrictedTarget(SklearnTarget(model), parse_restriction(name))
        result = memberscope.audit(behind, members, non_members, policy="demo", plan=plan)
        after = {
            replace(entry, exploratory=True)
            for entry in result.estimates
            if entry.access == "label"
        }
        before = {
            replace(entry, exploratory=True)
            for entry in audited.estimates
            if entry.access == "label"
        }
        alone = {entry for entry in before if entry.attack != "strongest"}
        assert alone and alone <= after, name


def test_a_restriction_declared_is_the_same_as_one_put_in_front(digits):
    model, members, non_members = digits
    threat = ThreatModel(restriction="top:2")
    declared = memberscope.audit(
        model, members, non_members, threat=threat, policy="demo", plan=QUICK
    )
    behind = RestrictedTarget(SklearnTarget(model), parse_restriction("top:2"))
    wrapped = memberscope.audit(behind, members, non_members, policy="demo", plan=QUICK)
    assert declared.estimates == wrapped.estimates and declared.verdict == wrapped.verdict
    levels = [(threat.access.word, threat.restriction) for threat in declared.threat_models]
    assert levels[-1] == ("probabilities", "top:2")
    assert ("probabilities", "top:2+top:1") in levels and ("probabilities", None) not in levels
    assert {e.restriction for e in declared.estimates if e.group is not None} == {None, "top:2"}
    (claim,) = [f for f in declared.findings if f.estimate is not None][:1]
    assert claim.estimate.restriction == "top:2", "the verdict speaks of the level in force"


def test_what_is_left_of_the_leak_shrinks_with_the_access(audited):
    """On an overfitted network full probabilities show more than labels.

    And nothing surely shows more than they do.
    """
    rows = {
        (e.access, e.restriction): e
        for e in audited.estimates
        if (e.attack, e.metric, e.group) == ("strongest", "auc", None)
    }
    full = rows["probabilities", None]
    assert max(entry.low for entry in rows.values()) <= full.value
    assert full.value > rows["label", None].value + 0.01


def test_two_classes_hide_nothing_behind_the_top_one():
    model = FunctionTarget(lambda x: x, n_classes=2)
    assert [
        level.word
        for level in list_audit_levels(
            model, "probabilities", ThreatModel(), ("top:1", "top:3", "round:2")
        )
    ] == [
        "label",
        "probabilities round:2",
        "probabilities",
    ]


def test_attacks_that_learn_from_known_records_run_at_every_level():
    per_class, global_one, gap = find_attacks(("loss_per_class", "loss", "gap"))
    tried, declared = (
        Level(Access.PROBABILITIES, "top:1", declared=False),
        Level(Access.PROBABILITIES, "top:1"),
    )
    assert [is_worth_running(attack, tried) for attack in (per_class, global_one, gap)] == [
        True,
        True,
        False,
    ]
    assert [is_worth_running(attack, declared) for attack in (per_class, global_one, gap)] == [
        True,
        True,
        False,
    ]


def test_reference_models_are_seen_through_the_restriction_too():
    recipe = PlantedRecipe(2.0, 600)
    x = np.column_stack([np.arange(600), np.arange(600) % 2, np.zeros(600)])
    y = (np.arange(600) % 2).astype(int)
    target = recipe(Records(x[:300], y[:300], np.arange(300).astype(str)), 5)
    plan = replace(
        DECLARED, attacks=("gap", "loss", "lira", "rmia"), restrictions=("round:1",), references=8
    )
    result = memberscope.audit(
        target, (x[:300], y[:300]), (x[300:], y[300:]), plan=plan, recipe=recipe
    )
    rows = {
        (e.attack, e.restriction): e.value
        for e in result.estimates
        if e.metric == "auc" and e.group is None
    }
    assert rows["lira", None] > 0.8
    assert 0.5 < rows["lira", "round:1"] < rows["lira", None]


def test_a_null_model_stays_at_chance_at_every_level():
    outside = 0
    for seed in range(8):
        result = audit_signals(
            gaussian_signals(300, 0.0, seed, classes=5),
            plan=replace(DECLARED, attacks=("gap", "loss", "entropy"), folds=3),
        )
        rows = [
            e
            for e in result.estimates
            if (e.attack, e.metric, e.group) == ("strongest", "auc", None)
        ]
        assert len(rows) == 5
        outside += sum(not e.low <= 0.5 <= e.high for e in rows)
    assert outside <= 5, "of 40 simultaneous 95% intervals, which repeat one another's records"


def test_written_and_read_back_everything_agrees(audited, tmp_path):
    write_all(audited, tmp_path)
    again, arrays = read_result(tmp_path), read_arrays(tmp_path)
    assert verify_arrays(again, arrays) == []
    assert format_result_json(again) == format_result_json(audited)
    assert restore_plan(again).restrictions == ("top:1", "top:3", "round:2")
    columns = (tmp_path / "records.csv").read_text().splitlines()[0]
    assert "score:loss@probabilities" in columns and "top:1" not in columns


def test_the_table_says_which_levels_were_not_audited(audited):
    rows = {row.level: row for row in build_matrix(audited).rows}
    assert rows["logits"].why and rows["white_box"].why == "Not granted by the threat model."
    assert rows["probabilities top:1"].words == "the likeliest class, with its probability"
    assert rows["label"].tpr is not None and rows["label"].why is None


@pytest.mark.parametrize("name", ["blur:2", "top:0"])
def test_an_unknown_restriction_is_refused(name):
    with pytest.raises(InputError, match="Expected"):
        Plan(restrictions=(name,))
    with pytest.raises(InputError, match="Expected"):
        Plan(threat=ThreatModel(restriction=name))


def test_further_targets_are_audited_at_the_levels_that_are_tried_too():
    recipe = PlantedRecipe(2.0, 400)
    x = np.column_stack([np.arange(400), np.arange(400) % 2, np.zeros(400)])
    y = (np.arange(400) % 2).astype(int)
    target = recipe(Records(x[:200], y[:200], np.arange(200).astype(str)), 5)
    plan = replace(
        DECLARED, attacks=("gap", "loss"), restrictions=("round:1",), targets=2, search_queries=0
    )
    result = memberscope.audit(
        target, (x[:200], y[:200]), (x[200:], y[200:]), plan=plan, recipe=recipe
    )
    rows = {(row.attack, row.restriction) for row in result.diagnostics.targets.rows}
    assert ("loss", "round:1") in rows and ("loss", None) in rows


def test_a_restriction_in_front_is_not_applied_again(digits):
    """Twice the temperature would be another temperature.

    Reference models go through it once as well.
    """
    model, members, non_members = digits
    plan = replace(QUICK, attacks=("loss",), restrictions=())
    declared = memberscope.audit(
        model, members, non_members, plan=plan, threat=ThreatModel(restriction="temperature:3")
    )
    behind = memberscope.audit(
        RestrictedTarget(SklearnTarget(model), parse_restriction("temperature:3")),
        members,
        non_members,
        plan=plan,
    )
    np.testing.assert_array_equal(
        declared.arrays.scored[-1].scores, behind.arrays.scored[-1].scores
    )


@pytest.mark.parametrize("name", ["round:1", "round:2"])
def test_a_model_that_really_rounds_is_audited_although_its_sums_are_off(digits, name):
    model, members, non_members = digits
    rounded = FunctionTarget(
        lambda x: parse_restriction(name)(model.predict_proba(x)), n_classes=10
    )
    assert np.abs(rounded.query(members[0]).sum(axis=1) - 1).max() > 0.001
    plan = replace(QUICK, restrictions=())
    plain = memberscope.audit(rounded, members, non_members, plan=plan)
    declared = memberscope.audit(
        rounded, members, non_members, plan=plan, threat=ThreatModel(restriction=name)
    )
    front = RestrictedTarget(SklearnTarget(model), parse_restriction(name))
    expected = {
        e.attack: e.value
        for e in memberscope.audit(front, members, non_members, plan=plan).estimates
        if e.metric == "auc"
    }
    for result in (plain, declared):
        found = {e.attack: e.value for e in result.estimates if e.metric == "auc"}
        assert found["loss"] == expected["loss"] and found["gap"] == expected["gap"]


def test_losses_cannot_be_restricted():
    signals = gaussian_signals(100, 1.0)
    losses = replace(signals, signal="loss", outputs=np.abs(signals.outputs[:, :1]))
    with pytest.raises(
        InputError, match="Expected probabilities or logits for the restriction top:1, got losses"
    ):
        audit_signals(losses, threat=ThreatModel(restriction="top:1"), plan=DECLARED)


def test_a_verdict_says_when_no_attack_ran_at_the_declared_level(digits):
    result = memberscope.audit(*digits, plan=replace(QUICK, attacks=("gap",)), policy="demo")
    assert "It speaks of label access: no attack ran at probabilities" in result.reason


def test_levels_that_say_the_same_are_tried_once():
    model = FunctionTarget(lambda x: x, n_classes=9)
    names = ("top:1", "top:01", "round:2", "round:4")
    levels = list_audit_levels(model, "probabilities", ThreatModel(restriction="round:2"), names)
    assert [level.restriction for level in levels] == [None, "round:2+top:1", "round:2"]


def test_a_changed_restriction_is_found_out(audited, tmp_path):
    forged = audited.model_copy(
        update={
            "plan": audited.plan.model_copy(
                update={"threat": replace(audited.plan.threat, restriction="top:1")}
            )
        }
    )
    assert "the plan is not the one that this result was made by" in verify_arrays(
        forged, audited.arrays
    )
