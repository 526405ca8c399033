"""Defences side by side: who is in which model, what an adversary who adapts sees.

And what is undominated.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from memberscope.auditing import Plan, Policy, Training, make_subject, restore_ranking
from memberscope.auditing.defend.frontier import (
    Frontier,
    FrontierRow,
    FrontierView,
    Share,
    build_frontier,
    decide_policy_outcome,
    estimate_largest_tpr,
    find_dominating_choices,
    pick_resolvable_rate,
)
from memberscope.auditing.defend.sweep import (
    SWEPT,
    SweepOptions,
    SweepSetting,
    build_sweep_setting,
    list_sweep_attacks,
    sweep_defences,
    train_and_audit,
)
from memberscope.auditing.documents.policy import AucClaim, Claim, EpsilonClaim
from memberscope.auditing.verdict.full_attack_set import AttackCoverage, build_adversary_view
from memberscope.auditing.verify_document import verify_frontier
from memberscope.errors import InputError
from memberscope.recipes import SGD, Execution, SklearnRecipe, TorchRecipe
from memberscope.recipes.worst_case_canaries import COPY, GROUP, NATURAL, plant_canaries
from memberscope.reports.frontier import format_frontier_cells, render_frontier
from memberscope.signals import Store
from memberscope.types import Access, Estimate, Records, ThreatModel

HERE = Execution("sequential")
PLAN = Plan(attacks=SWEPT, references=6, search_queries=16)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 3))


RECIPE = TorchRecipe(network, SGD(0.05), epochs=150, batch_size=16, stack=6, engine="matrices")


def pool(n: int = 800, seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 12)).astype(np.float32)
    y = (x[:, :3] + 1.5 * rng.normal(size=(n, 3))).argmax(axis=1)
    return Records(x, y, np.arange(n).astype(str))


def subject(n: int = 800):
    records, half = pool(n), n // 2
    sides = [
        Records(records.x[part], records.y[part], records.ids[part])
        for part in (slice(0, half), slice(half, n))
    ]
    return make_subject(RECIPE(sides[0], 0), *sides)


@pytest.fixture(scope="module")
def scene() -> SweepSetting:
    return build_sweep_setting(PLAN, subject(), 60)


def test_natural_records_stay_where_they_were_and_coins_decide_about_canaries(scene):
    kinds = np.asarray(scene.records.groups[GROUP])
    assert {name: int((kinds == name).sum()) for name in set(kinds.tolist())} == {
        **{"mislabelled": 60, "out_of_distribution": 60, "near_duplicate": 60, COPY: 60},
        NATURAL: 620,
    }
    natural = kinds == NATURAL
    assert (scene.member[natural] == (scene.records.ids[natural].astype(int) < 400)).all()
    inside = scene.member[~natural & (kinds != COPY)]
    assert 0.35 < inside.mean() < 0.65 and not np.array_equal(
        inside, scene.records.ids[~natural & (kinds != COPY)].astype(int) < 400
    )
    assert (np.diff(scene.member.astype(int)) <= 0).all(), "members come first"


def test_pairs_move_together_and_every_reference_model_has_the_same_size(scene):
    kinds, ids = np.asarray(scene.records.groups[GROUP]), scene.records.ids.astype(str)
    where = {name: place for place, name in enumerate(ids.tolist())}
    for place in np.flatnonzero(kinds == "near_duplicate"):
        other = where[f"{ids[place]} (copy)"]
        assert (
            scene.member[place] == scene.member[other]
            and scene.records.y[place] == scene.records.y[other]
        )
        assert (scene.design[:, place] == scene.design[:, other]).all()
        same = (scene.records.x[place] == scene.records.x[other]).mean()
        assert same > 0.5
    assert len(set(scene.design.sum(axis=1).tolist())) == 1
    assert set(scene.design[:, kinds != COPY].sum(axis=0).tolist()) <= {2, 3, 4}


def test_canaries_are_wrong_in_the_way_they_are_named():
    before = pool(600)
    found = plant_canaries(before, 50, 1, 3)
    kinds, y = found.kinds[:600], found.records.y[:600]
    assert (y[kinds == "mislabelled"] != before.y[kinds == "mislabelled"]).all()
    assert (y[kinds == "near_duplicate"] != before.y[kinds == "near_duplicate"]).all()
    assert (y[kinds == NATURAL] == before.y[kinds == NATURAL]).all()
    moved = (found.records.x[:600] != before.x).any(axis=1)
    assert (
        moved[kinds == "out_of_distribution"].all()
        and not moved[kinds != "out_of_distribution"].any()
    )
    assert set(found.records.x[:600][moved].ravel().tolist()) <= set(before.x.ravel().tolist())
    with pytest.raises(
        InputError, match="Expected 2 to 100 canaries of each kind from 600 records, got 101"
    ):
        plant_canaries(before, 101, 1, 3)


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Frontier:
    store = Store(tmp_path_factory.mktemp("store"))
    plan = replace(PLAN, policy=Policy("mild", (Claim(0.05, 0.4),)), folds=3)
    wish = SweepOptions(("l2:0.02", "memguard:1", "top:1", "label", "selena:300:10"), canaries=60)
    return sweep_defences(plan, subject(), Training(RECIPE, HERE), wish, store=store)


def rows_of(frontier: Frontier) -> dict[str, FrontierRow]:
    return {row.name: row for row in frontier.rows}


def test_a_defence_that_stops_overfitting_buys_what_it_should(swept):
    rows = rows_of(swept)
    none, l2 = rows["none"], rows["l2:0.02"]
    assert none.train_accuracy.value > 0.95 > l2.train_accuracy.value > 0.4
    assert none.auc.low > l2.auc.high and none.worst.value > l2.worst.value
    assert none.measured and max(bound["epsilon"] for bound in none.measured) > 1
    assert max(bound["epsilon"] for bound in l2.measured) < max(
        bound["epsilon"] for bound in none.measured
    )
    assert l2.dominated_by == [] and "none" not in swept.undominated
    assert all(row.controls[name] for row in (none, l2) for name in ("null", "blind"))


def test_output_defences_share_the_model_and_leave_labels_what_they_tell(swept):
    rows = rows_of(swept)
    for name in ("top:1", "label", "memguard:1"):
        assert rows[name].accuracy == rows["none"].accuracy
    for name in ("top:1", "label"):
        assert rows[name].label_only.value == rows["none"].label_only.value
        assert rows[name].seconds == rows["none"].seconds
    assert rows["label"].average == rows["label"].label_only
    assert rows["label"].restriction == "label" and rows["memguard:1"].restriction is None


def test_the_unaware_adversary_is_told_beside_the_adaptive_one(swept):
    rows = rows_of(swept)
    assert (
        rows["none"].unaware_average == rows["none"].average
        and rows["none"].unaware_worst == rows["none"].worst
    )
    assert rows["l2:0.02"].unaware_average != rows["l2:0.02"].average
    assert rows["top:1"].unaware_average is None is rows["label"].unaware_average, (
        "no such evaluation was made"
    )


def test_a_defence_that_fails_keeps_its_row_and_the_others_go_on(swept):
    row = rows_of(swept)["selena:300:10"]
    assert row.accuracy is None and row.why_not.startswith(
        "Expected at least 600 records for SELENA with k = 300"
    )
    assert any(sentence == "Did not run: selena:300:10." for sentence in swept.advice)


def test_the_policy_is_told_for_every_choice(swept):
    rows = rows_of(swept)
    assert rows["l2:0.02"].meets == "meets", rows["l2:0.02"].controls
    assert set(row.meets for row in rows.values()) <= {
        "meets",
        "breaks",
        "undecided",
        None,
    }
    assert any("meet the policy 'mild'" in sentence for sentence in swept.advice)


def test_the_same_sweep_again_is_the_same_but_for_its_times(tmp_path):
    plan = replace(PLAN, attacks=("gap", "boundary", "loss", "lira"), references=4)
    audited, wish = subject(300), SweepOptions(("l2:0.02", "top:1"), canaries=10)
    first, second = (
        sweep_defences(plan, audited, Training(RECIPE, HERE), wish, store=Store(tmp_path))
        for _ in range(2)
    )
    assert [replace(row, seconds=0.0) for row in first.rows] == [
        replace(row, seconds=0.0) for row in second.rows
    ]


def test_what_meets_the_policy_was_attacked_with_the_full_set(swept):
    """Regularised training is attacked again.

    Undefended training with its restrictions too if one of them could meet it.
    """
    rows = rows_of(swept)
    assert rows["l2:0.02"].lacking == [] and {"quantile", "shokri", "rmia_boundary"} <= set(
        rows["l2:0.02"].attacks
    )
    for row in rows.values():
        assert row.meets != "meets" or not row.lacking
        assert row.lacking == [] or "quantile" not in row.attacks


def forest_that_leaks_by_labels():
    """On labels alone simple attacks find few members of this forest.

    And those with reference models a fifth at 10%.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    y = (x[:, 0] + x[:, 1] + 1.5 * rng.normal(size=500) > 0).astype(int)
    recipe = SklearnRecipe(RandomForestClassifier(10, min_samples_leaf=2, n_jobs=1))
    sides = [
        Records(x[part], y[part], np.arange(500)[part].astype(str))
        for part in (slice(0, 250), slice(250, 500))
    ]
    plan = replace(
        PLAN,
        references=8,
        search_queries=24,
        policy=Policy("quarter", (Claim(0.1, 0.28),)),
        folds=3,
    )
    return plan, make_subject(recipe(sides[0], 0), *sides), Training(recipe, HERE)


def test_labels_that_only_attacks_with_references_break_do_not_meet_the_policy():
    plan, audited, training = forest_that_leaks_by_labels()
    kept = {}
    found = sweep_defences(
        plan, audited, training, SweepOptions(("label",), 0, kept=kept.__setitem__)
    )
    label = rows_of(found)["label"]
    searched = {"lira_boundary", "lira_offline_boundary", "rmia_boundary"}
    assert (
        label.meets in ("undecided", "breaks")
        and label.lacking == []
        and searched <= set(label.attacks)
    )
    assert label.average.method.endswith("_boundary")
    only = replace(
        kept["none"].arrays,
        scored=tuple(e for e in kept["none"].arrays.scored if e.attack in SWEPT),
    )
    cut = kept["none"].model_copy(update={"arrays": only})
    simple = build_adversary_view("label", cut, restore_ranking(cut, only), None)
    shown = FrontierView.of_kinds(
        np.full(500, NATURAL), only.labels, only.member, plan.policy, 0.95, 2
    )
    assert (
        decide_policy_outcome(replace(simple, covered=AttackCoverage()), shown, kept["none"])
        == "meets"
    ), "the sweep's short list finds nothing"


def test_labels_that_were_not_searched_are_not_measured():
    plan, audited, training = forest_that_leaks_by_labels()
    found = sweep_defences(
        replace(plan, search_queries=0, attacks=("gap", "loss")),
        audited,
        training,
        SweepOptions(("label",), 0),
    )
    row = rows_of(found)["label"]
    assert (row.meets, row.average, row.auc, row.label_only, row.attacks) == (
        "not measured",
        None,
        None,
        None,
        [],
    )
    assert "label" not in found.undominated and "boundary" in row.lacking
    assert rows_of(found)["none"].label_only is None and rows_of(found)["none"].meets != "meets"
    page_text, lines = render_frontier(found), format_frontier_cells(row, found)
    assert (
        lines.count("not measured") == 3
        and "0%" not in "".join(lines)
        and "<span>not measured" in page_text
    )


def test_a_row_that_its_audit_does_not_bear_out_is_refused():
    plan, audited, training = forest_that_leaks_by_labels()
    kept = {}
    plan = replace(
        plan,
        attacks=("gap", "boundary", "loss"),
        references=1,
        policy=Policy("tight", (Claim(0.1, 0.1),)),
    )
    found = sweep_defences(
        plan, audited, training, SweepOptions(("label", "depth:2"), 0, kept=kept.__setitem__)
    )
    verify_frontier(found, kept)
    label = rows_of(found)["label"]
    changes = {
        "outcome": {"meets": "meets"},
        "leakage": {"average": replace(label.average, high=0.01)},
        "attacks": {"lacking": []},
        "controls": {"controls": {**label.controls, "blind": None}},
    }
    for what, change in changes.items():
        for name in ("label", "depth:2"):
            rows = [replace(row, **change) if row.name == name else row for row in found.rows]
            with pytest.raises(InputError, match=f"got another {what} of '{name}'"):
                verify_frontier(found.model_copy(update={"rows": rows}), kept)
    with pytest.raises(InputError, match="another rate"):
        verify_frontier(found.model_copy(update={"fpr": 0.2}), kept)
    with pytest.raises(InputError, match="made by the sweep's plan"):
        verify_frontier(
            found.model_copy(update={"plan": found.plan.model_copy(update={"references": 5})}), kept
        )


def test_where_nothing_is_learned_nothing_is_found():
    """The null: models of one epoch at no rate; every limit must include what guessing gives."""
    idle = TorchRecipe(network, SGD(1e-9), epochs=1, batch_size=16, stack=6, engine="matrices")
    records = pool(600, seed=5)
    sides = [
        Records(records.x[part], records.y[part], records.ids[part])
        for part in (slice(0, 300), slice(300, 600))
    ]
    found = sweep_defences(
        PLAN,
        make_subject(idle(sides[0], 0), *sides),
        Training(idle, HERE),
        SweepOptions((), canaries=40),
    )
    row = found.rows[0]
    assert row.average.low <= found.fpr and row.auc.low <= 0.5 and row.worst.low <= found.canary_fpr
    assert all(bound["epsilon"] == 0 for bound in row.measured)


def with_controls(result, **passed):
    controls = {
        name: replace(result.controls["null"], passed=value) for name, value in passed.items()
    }
    return result.model_copy(update={"controls": result.controls | controls})


def test_nothing_meets_a_policy_where_a_control_failed_or_a_required_attack_did_not_run(scene):
    """One audit, judged as it is and with its controls or the policy's requirements changed."""
    policy = Policy("mild", (Claim(0.05, 0.9),))
    plan = replace(
        PLAN, attacks=("gap", "loss"), search_queries=0, assume_class_order=True, restrictions=()
    )
    tried = train_and_audit(plan, scene, RECIPE, Training(RECIPE, HERE), None, lambda *_: None)
    result = tried.result
    shown = FrontierView.of(plan, policy, scene.records, scene.member, 1)
    found = build_adversary_view(None, result, tried.ranking, None)
    seen = replace(found, covered=AttackCoverage(found.covered.ran))
    assert (
        decide_policy_outcome(seen, shown, with_controls(result, null=True, blind=True)) == "meets"
    )
    assert "quantile" in found.covered.lacking and "boundary" in found.covered.lacking
    assert (
        decide_policy_outcome(found, shown, with_controls(result, null=True, blind=True))
        == "undecided"
    )
    for failed in ({"null": False, "blind": True}, {"null": True, "blind": False}):
        assert decide_policy_outcome(seen, shown, with_controls(result, **failed)) == "undecided"
    strict = replace(shown, policy=replace(policy, require=("lira",)))
    assert (
        decide_policy_outcome(seen, strict, with_controls(result, null=True, blind=True))
        == "undecided"
    )
    impossible = replace(shown, policy=Policy("none", (Claim(0.2, 0.2),)))
    assert (
        decide_policy_outcome(seen, impossible, with_controls(result, null=True, blind=True))
        == "breaks"
    )
    good = with_controls(result, null=True, blind=True)
    kinds = {
        "meets": Policy("area", max_auc=(AucClaim(0.9),)),
        "breaks": Policy("area", max_auc=(AucClaim(0.5),)),
        "undecided": Policy("epsilon", max_epsilon=(EpsilonClaim(9.0),)),
    }
    for word, kind in kinds.items():
        assert decide_policy_outcome(seen, replace(shown, policy=kind), good) == word
    for kind in (
        replace(policy, references=7),
        Policy("group", (Claim(0.2, 0.99, "class"),)),
        Policy("unable", (Claim(0.004, 0.99),)),
    ):
        assert decide_policy_outcome(seen, replace(shown, policy=kind), good) == "undecided", kind
    assert decide_policy_outcome(seen, shown, with_controls(good, direction=False)) == "undecided"
    one, many = (
        estimate_largest_tpr(seen.parts, shown.natural, 0.05, 0.95, "none", n) for n in (1, 20)
    )
    assert many.high > one.high and many.low < one.low, "more choices make wider limits"


def test_each_restriction_is_read_at_its_own_level(scene):
    plan = replace(
        PLAN, attacks=("gap", "loss", "entropy"), search_queries=0, assume_class_order=True
    )
    for names in (("round:1+top:1", "top:1"), ("top:1", "round:1+top:1")):
        tried = train_and_audit(
            replace(plan, restrictions=names),
            scene,
            RECIPE,
            Training(RECIPE, HERE),
            None,
            lambda *_: None,
        )
        levels = {
            name: {
                part.scored.restriction
                for part in build_adversary_view(name, tried.result, tried.ranking, None).parts
            }
            for name in names
        }
        assert levels["top:1"] <= {"top:1", None} and "top:1" in levels["top:1"]
        assert (
            levels["round:1+top:1"] <= {"round:1+top:1", None}
            and "round:1+top:1" in levels["round:1+top:1"]
        )


def test_canaries_are_in_half_of_the_reference_models_whatever_the_sides_sizes():
    records = pool(800)
    sides = [
        Records(records.x[part], records.y[part], records.ids[part])
        for part in (slice(0, 700), slice(700, 800))
    ]
    uneven = build_sweep_setting(
        replace(PLAN, references=8), make_subject(RECIPE(sides[0], 0), *sides), 30
    )
    kinds = np.asarray(uneven.records.groups[GROUP])
    for kind in ("mislabelled", "out_of_distribution", "near_duplicate"):
        counts = uneven.design[:, kinds == kind].sum(axis=0)
        assert set(counts.tolist()) == {4}, kind
    assert (
        uneven.design[:, kinds == NATURAL].mean() > 0.8
        and len(set(uneven.design.sum(axis=1).tolist())) == 1
    )


def test_without_an_unaware_adversary_the_sweep_goes_on():
    for plan in (
        replace(PLAN, attacks=("gap", "boundary")),
        replace(PLAN, threat=ThreatModel(access=Access.LABEL)),
    ):
        plan = replace(plan, threat=ThreatModel(access=Access.LABEL))
        found = sweep_defences(
            plan, subject(400), Training(RECIPE, HERE), SweepOptions(("l2:0.02",), 5)
        )
        assert [row.unaware_average is None for row in found.rows] == [False, True]
        assert found.canary_fpr is None and "average leakage" in found.advice[0]
        assert (
            any("Too few" in sentence for sentence in found.advice) and found.rows[0].measured == []
        )


def test_duplicates_across_the_sides_are_left_out_first():
    records = pool(400)
    sides = [
        Records(records.x[part].copy(), records.y[part], records.ids[part])
        for part in (slice(0, 200), slice(200, 400))
    ]
    sides[1].x[:20] = sides[0].x[:20]
    plan = replace(PLAN, drop_overlap=True, attacks=("gap", "loss"), search_queries=0)
    found = sweep_defences(
        plan, make_subject(RECIPE(sides[0], 0), *sides), Training(RECIPE, HERE), SweepOptions((), 0)
    )
    assert found.rows[0].accuracy.n == 180


def test_an_open_model_and_a_policy_bring_their_attacks_into_a_sweep():
    assert "gradient_norm" in list_sweep_attacks(
        Access.WHITE_BOX, None
    ) and "gradient_norm" not in list_sweep_attacks(Access.LOGITS, None)
    assert "quantile" in list_sweep_attacks(
        Access.LOGITS, Policy("strict", (Claim(0.1, 0.2),), ("quantile",))
    )


def estimate(value: float) -> Estimate:
    return Estimate(
        "strongest", "probabilities", "tpr", value, value, value, 0.95, "by hand", 10, 10, 1
    )


def by_hand(name: str, accuracy: float, average: float, worst: float) -> FrontierRow:
    share = Share(accuracy, accuracy - 0.01, accuracy + 0.01, 100)
    return FrontierRow(name, name, accuracy=share, average=estimate(average), worst=estimate(worst))


def test_dominated_means_at_least_as_bad_everywhere_and_worse_once():
    rows = [
        *(
            by_hand("none", 0.9, 0.3, 0.9),
            by_hand("better", 0.9, 0.2, 0.9),
            by_hand("same", 0.9, 0.2, 0.9),
        ),
        *(by_hand("safe", 0.6, 0.01, 0.05), by_hand("useless", 0.2, 0.2, 0.9)),
    ]
    assert find_dominating_choices(rows[0], rows) == ["better", "same"] and find_dominating_choices(
        rows[1], rows
    ) == [] == find_dominating_choices(rows[2], rows)
    assert find_dominating_choices(rows[3], rows) == [] and find_dominating_choices(
        rows[4], rows
    ) == ["better", "same", "safe"]
    shown = FrontierView(
        np.ones(1, dtype=bool), {}, 0.01, None, 0.95, None, chance=0.1, n_choices=5
    )
    found = build_frontier(PLAN, None, rows, shown)
    assert found.undominated == ["better", "same", "safe"]
    assert [
        row.name
        for row in found.rows
        if any("costs most of the accuracy" in note for note in row.notes)
    ] == ["useless"]


def test_the_smallest_rate_with_some_false_positives_is_taken():
    assert (
        pick_resolvable_rate(0.01, 2000) == 0.01
        and pick_resolvable_rate(0.001, 2000) == 0.01
        and pick_resolvable_rate(0.01, 99) == 0.1
        and pick_resolvable_rate(0.01, 15) is None
    )


def test_what_cannot_be_done_is_said_before_anything_is_trained():
    def never(*_):
        raise AssertionError("something was trained")

    blocked = replace(RECIPE, model=never)
    audited = subject(200)
    for names, sentence in (
        (("distill",), "Expected public records to distil on, got none"),
        (("depth:3",), "Expected an estimator for the defence depth:3"),
        (("nonsense",), "Expected a defence such as"),
    ):
        with pytest.raises(InputError, match=sentence):
            sweep_defences(PLAN, audited, Training(blocked, HERE), SweepOptions(names, 5))
    with pytest.raises(InputError, match="canaries of each kind from 200 records, got 100"):
        sweep_defences(PLAN, audited, Training(RECIPE, HERE), SweepOptions((), 100))
    with pytest.raises(InputError, match="Expected the attack gap"):
        sweep_defences(
            replace(PLAN, attacks=("loss",)), audited, Training(RECIPE, HERE), SweepOptions((), 0)
        )
