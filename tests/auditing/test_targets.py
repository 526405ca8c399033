"""Further target models: the procedure's leakage is the planted one.

Their memberships are their own, everything is counted.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import Planted, PlantedRecipe, gaussian_signals, numbers, planted_sides
from scipy.special import ndtr

from memberscope.auditing import Plan, Training, audit, audit_signals, make_subject, verify_arrays
from memberscope.auditing.collect.reference_models import build_training_job
from memberscope.auditing.collect.target_models import draw_target_membership
from memberscope.auditing.scoring.score_targets import summarise_spread
from memberscope.errors import InputError
from memberscope.recipes import Execution, build_balanced_design
from memberscope.reports import read_result, write_all
from memberscope.reports.files.arrays_file import read_arrays
from memberscope.signals import SignalRequest, Store
from memberscope.types import Access, SignalSpec, ThreatModel

HERE = Execution("sequential")
LOGITS = ThreatModel(access=Access.LOGITS)
N = 400


def audited(shift: float, plan: Plan, *, n: int = N, recipe: PlantedRecipe | None = None, **given):
    members, others = planted_sides(n)
    target = Planted(numbers(members), 12345, shift, 2 * n)
    recipe = recipe or PlantedRecipe(shift, 2 * n)
    return audit(
        target, members, others, recipe=recipe, plan=plan, threat=LOGITS, execution=HERE, **given
    )


@pytest.fixture(scope="module")
def leaky():
    return audited(
        1.5,
        Plan(targets=5, references=8, attacks=("gap", "logit", "loss_per_class", "lira", "base")),
    )


def rows(result, **conditions):
    return [
        row
        for row in result.diagnostics.targets.rows
        if all(getattr(row, k) == v for k, v in conditions.items())
    ]


def test_the_mean_over_targets_is_the_planted_leak_and_agrees_with_the_single_target(leaky):
    truth = ndtr(1.5 / 2**0.5)
    (row,) = rows(leaky, attack="logit", access="logits", metric="auc")
    assert abs(row.mean - truth) < 4 * 0.013 / 5**0.5, (
        "0.013 is the standard error of an AUC of 400 and 400"
    )
    (own,) = [
        e
        for e in leaky.estimates
        if (e.attack, e.access, e.metric, e.target, e.group)
        == ("logit", "logits", "auc", "target", None)
    ]
    assert row.own == own.value and own.low < row.mean < own.high
    for attack in ("lira", "base"):
        (found,) = rows(leaky, attack=attack, access="logits", metric="auc")
        (single,) = [
            e
            for e in leaky.estimates
            if (e.attack, e.access, e.metric, e.target, e.group)
            == (attack, "logits", "auc", "target", None)
        ]
        assert single.low < found.mean < single.high
        assert 0 < found.spread < 0.05 and found.lowest < found.mean < found.highest


def test_each_target_has_every_attack_with_its_own_interval(leaky):
    ran = {(entry.attack, entry.access) for entry in leaky.estimates if entry.target == "target"}
    for k in range(1, 6):
        own = [entry for entry in leaky.estimates if entry.target == f"target {k}"]
        assert {(entry.attack, entry.access) for entry in own} == ran
        assert all(
            e.low <= e.value <= e.high and e.n_members == N and e.exploratory and e.group is None
            for e in own
        )
    memberships = [entry.member for entry in leaky.arrays.targets.values()]
    assert all(not np.array_equal(a, leaky.arrays.member) for a in memberships)
    assert leaky.cost.models_trained == 13 and leaky.cost.models_failed == 0


def test_a_target_is_scored_against_references_that_did_not_look_at_it(leaky):
    """The planted leak is found in each target, and only with its own membership."""
    first, second = list(leaky.arrays.targets.values())[:2]
    name = "lira@logits"
    inside, swapped = (
        first.comparable[name][member].mean() - first.comparable[name][~member].mean()
        for member in (first.member, second.member)
    )
    assert inside > 1 and abs(swapped) < inside / 4


def test_memberships_of_targets_are_independent_of_the_references_design():
    members, others = planted_sides(60)
    subject = make_subject(Planted(numbers(members), 0, 0.0, 120), members, others)
    training = Training(PlantedRecipe(0.0, 120), HERE)
    overlaps, decks = [], []
    for seed in range(150):
        plan = Plan(seed=seed, references=4, targets=2, attacks=("lira",))
        streams = np.random.SeedSequence(seed).spawn(2)
        inside = build_training_job(
            plan,
            subject,
            training,
            (SignalRequest(Access.LOGITS, SignalSpec("logit_confidence")),),
            streams[0],
        ).inside
        mine = draw_target_membership(plan, subject, np.random.default_rng(streams[1]))
        assert mine.sum(axis=1).tolist() == [60, 60]
        overlaps.append((mine.astype(float) @ inside.T.astype(float)).ravel())
        deck = build_balanced_design(
            120, 60, 5, np.random.default_rng(seed), strata=subject.records.y
        )
        decks.append(deck[0].astype(float) @ deck[1:].T.astype(float))
    expected, spread_of_one = 30.0, (60 * 60 * 60 * 60 / (120**2 * 119)) ** 0.5
    z = (np.array(overlaps) - expected) / spread_of_one
    assert abs(z.mean()) < 4 / z.size**0.5 and 0.85 < z.std() < 1.15
    from_one_deck = (np.array(decks) - expected) / spread_of_one
    assert from_one_deck.mean() < -8 / from_one_deck.size**0.5, (
        "this test sees a target that was dealt with the references"
    )


def test_no_leak_is_chance_in_every_target():
    result = audited(
        0.0,
        Plan(targets=25, references=8, attacks=("logit", "lira", "lira_offline", "rmia", "base")),
        n=150,
    )
    areas = [
        e
        for e in result.estimates
        if e.metric == "auc" and e.target != "target" and e.attack != "strongest"
    ]
    assert len(areas) >= 250 and np.mean([e.low <= 0.5 <= e.high for e in areas]) > 0.88
    for row in rows(result, metric="auc", access="logits"):
        if row.attack != "strongest":
            assert abs(row.mean - 0.5) < 4 * row.spread / 5 and row.n_targets == 25


def test_stored_scores_give_everything_again(leaky, tmp_path):
    assert verify_arrays(leaky, leaky.arrays) == []
    write_all(leaky, tmp_path)
    found, arrays = read_result(tmp_path), read_arrays(tmp_path)
    assert verify_arrays(found, arrays) == []
    assert list(arrays.targets) == [f"target {k}" for k in range(1, 6)]
    changed = replace(arrays, targets={**arrays.targets, "target 2": arrays.targets["target 1"]})
    assert any("estimates differ" in sentence for sentence in verify_arrays(found, changed))
    rows = found.diagnostics.targets.rows
    rows[0] = replace(rows[0], mean=rows[0].mean + 0.01)
    assert verify_arrays(found, arrays)[1:] == [
        "mean and spread between targets do not follow from their estimates"
    ]


def test_targets_are_kept_and_not_trained_twice(tmp_path):
    plan = Plan(targets=2, references=4, attacks=("logit", "lira"))
    recipe = PlantedRecipe(1.0, 300, digest="planted")
    first = audited(1.0, plan, n=150, recipe=recipe, store=Store(tmp_path))
    names = sorted(tmp_path.glob("model-*"))
    assert len(names) == 6
    written = [path.stat().st_mtime_ns for path in names]
    again = audited(1.0, plan, n=150, recipe=recipe, store=Store(tmp_path))
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("model-*"))] == written
    assert again.estimates == first.estimates and again.digests == first.digests
    without = audited(1.0, replace(plan, targets=0), n=150, recipe=recipe, store=Store(tmp_path))
    own = [entry for entry in first.estimates if entry.target == "target"]
    assert without.estimates == own, "further targets change nothing about the audited model"


def test_a_target_that_does_not_learn_is_left_out_and_counted():
    plan = Plan(targets=6, references=4, attacks=("logit", "lira"))
    recipe = PlantedRecipe(1.0, 300, diverges=lambda seed: seed % 3 == 0)
    result = audited(1.0, plan, n=150, recipe=recipe)
    found = result.diagnostics.targets
    names = {entry.target for entry in result.estimates} - {"target"}
    assert found.failed >= 1 and len(names) == 6 - found.failed == len(found.train_accuracy)
    assert result.cost.models_trained == 10 and result.cost.models_failed >= found.failed


def test_one_target_has_no_spread_and_none_no_rows():
    one = audited(1.0, Plan(targets=1, references=4, attacks=("logit",)), n=100)
    assert {row.spread for row in one.diagnostics.targets.rows} == {None}
    assert (
        summarise_spread([entry for entry in one.estimates if entry.target == "target"], (0.1,))
        == []
    )
    assert audited(1.0, Plan(references=4, attacks=("logit",)), n=100).diagnostics.targets is None


def test_targets_need_a_recipe():
    with pytest.raises(InputError, match="Expected a recipe to train 2 target models, got none"):
        audit_signals(gaussian_signals(100, 1.0), plan=Plan(targets=2))
    with pytest.raises(InputError, match="no or some target models, got -1"):
        Plan(targets=-1)
