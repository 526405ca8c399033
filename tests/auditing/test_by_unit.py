"""Was this person in: one score a unit, its estimates, and what ignoring units would claim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import Planted, PlantedRecipe, numbers, planted_sides

import memberscope
from memberscope import Plan, ThreatModel
from memberscope.attacks import ATTACKS, LiRA, RobustLiRA, has_log_ratio
from memberscope.auditing import AttackScores, AuditArrays, EstimateSettings
from memberscope.auditing.documents.plan_document import CustomDocument, PlanDocument
from memberscope.auditing.estimates.attack_part import build_whole_part
from memberscope.auditing.estimates.by_unit import build_unit_arrays
from memberscope.auditing.estimates.ranking import build_ranking
from memberscope.auditing.verdict.recompute import estimate_by_unit, verify_arrays
from memberscope.recipes import Execution
from memberscope.reports.page.report_html import render_report
from memberscope.reports.select import describe_units
from memberscope.statistics import auc_interval, roc, simultaneous_confidence, tpr_at_fpr
from memberscope.types import Access, Needs

N = 300
SETTINGS = EstimateSettings((0.1, 0.02), (0.1,), 0.95)


def hand_arrays() -> AuditArrays:
    """Six records of four units, under a likelihood ratio, a loss, and an attack that learned."""
    unit = np.array([2, 0, 0, 1, 3, 3])
    member = np.array([True, True, True, False, False, False])
    scores = np.array([1.0, -2.0, 5.0, 0.5, -1.0, 3.0])
    scored = (
        AttackScores("lira", "probabilities", False, scores, {}),
        AttackScores("loss", "probabilities", False, scores, {}),
        AttackScores("loss_per_class", "probabilities", True, scores, {"fpr=0.1": np.zeros(2)}),
    )
    fold = np.array([0, 1, 1, 0, 1, 1])
    return AuditArrays(np.arange(6).astype(str), member, unit * 0, fold, scored, unit=unit)


def test_a_units_score_is_the_sum_of_log_ratios_and_the_mean_of_other_scores():
    found = build_unit_arrays(hand_arrays())
    lira, loss, learned = (entry.scores.tolist() for entry in found.scored)
    assert lira == [3.0, 0.5, 1.0, 2.0] and loss == learned == [1.5, 0.5, 1.0, 1.0]
    assert found.member.tolist() == [True, False, True, False] and found.fold.tolist() == [
        1,
        0,
        0,
        1,
    ]
    # Thresholds of records mean nothing for units
    assert found.scored[2].thresholds == {} and found.unit is None


def test_infinite_scores_keep_their_place_and_the_order_of_records_changes_nothing():
    arrays = hand_arrays()
    wild = np.array([1.0, np.inf, -5.0, -np.inf, -np.inf, np.inf])
    one = replace(arrays, scored=(replace(arrays.scored[0], scores=wild),))
    found = build_unit_arrays(one).scored[0].scores
    assert np.isfinite(found).all() and found[0] == found.max() and found[1] == found.min()
    rng = np.random.default_rng(0)
    scores, unit = rng.normal(size=500) * 1e8, np.sort(rng.integers(0, 40, 500))
    member = unit < 20
    many = AuditArrays(
        np.arange(500).astype(str),
        member,
        unit * 0,
        unit % 5,
        (AttackScores("lira", "probabilities", False, scores, {}),),
        unit=unit,
    )
    moved = rng.permutation(500)
    other = replace(
        many,
        member=member[moved],
        fold=many.fold[moved],
        unit=unit[moved],
        scored=(replace(many.scored[0], scores=scores[moved]),),
    )
    assert (
        build_unit_arrays(many).scored[0].scores == build_unit_arrays(other).scored[0].scores
    ).all()


def test_units_of_one_record_have_no_numbers_of_their_own():
    arrays = hand_arrays()
    assert build_unit_arrays(replace(arrays, unit=np.arange(6))) is None
    assert build_unit_arrays(replace(arrays, unit=None)) is None
    ranking = build_ranking(replace(arrays, unit=None), Access.PROBABILITIES)
    assert estimate_by_unit(replace(arrays, unit=None), ranking, SETTINGS) == []


def test_attacks_say_whether_their_scores_are_log_likelihood_ratios():
    assert {attack.name for attack in ATTACKS if has_log_ratio(attack)} == {
        "lira_boundary",
        "lira",
        "lira_robust",
        "base",
    }
    assert not has_log_ratio(LiRA("offline", sides="two")) and has_log_ratio(RobustLiRA("noise"))


class OwnRatio:
    name, needs, log_ratio = "own_ratio", Needs(), True

    def score(self, evidence, rng):
        return evidence.target[:, 0, 0].astype(float)


def test_an_attack_of_ones_own_says_that_it_adds_and_older_plans_keep_their_digest():
    from memberscope.attacks import wrap_attack

    plan = Plan(attacks=("own_ratio",), custom=(wrap_attack(OwnRatio()),))
    document = PlanDocument.model_validate_json(plan.document().model_dump_json())
    assert document.custom[0].log_ratio and Plan.restore(document).digest() == plan.digest()
    entry = AttackScores(
        "own_ratio", "probabilities", False, np.zeros(1), {}, own=document.custom[0]
    )
    assert entry.is_log_ratio

    class Silent(OwnRatio):
        log_ratio = False

    silent = Plan(attacks=("own_ratio",), custom=(wrap_attack(Silent()),)).document()
    assert "log_ratio" not in silent.model_dump(mode="json")["custom"][0]
    assert not CustomDocument.of(wrap_attack(Silent())).log_ratio


def planted_result(shift: float, rows: int, attacks=("gap", "logit", "lira"), seed: int = 0):
    members, others = planted_sides(N, seed)
    unit = np.arange(N) // rows
    return memberscope.audit(
        Planted(numbers(members), 1, shift, 2 * N),
        members,
        others,
        recipe=PlantedRecipe(shift, 2 * N),
        plan=Plan(attacks=attacks, fprs=(0.1, 0.02), references=6),
        threat=ThreatModel(Access.LOGITS),
        execution=Execution("sequential"),
        unit=(np.char.add("in", unit.astype(str)), np.char.add("out", unit.astype(str))),
    )


@pytest.fixture(scope="module")
def result():
    return planted_result(1.0, 5)


def of_units(result, **wanted):
    return [
        entry
        for entry in result.by_unit
        if all(getattr(entry, name) == value for name, value in wanted.items())
    ]


def test_a_result_holds_both_questions_with_the_numbers_of_units(result):
    found = of_units(result, of="units", attack="lira", access="logits")
    assert [(entry.metric, entry.fpr) for entry in found] == [
        ("auc", None),
        ("tpr", 0.1),
        ("tpr", 0.02),
    ]
    assert {(entry.n_members, entry.n_non_members) for entry in found} == {(60, 60)}
    assert all("the sum of its records'" in entry.method for entry in found)
    arrays = result.arrays
    scored = next(e for e in arrays.scored if e.attack == "lira" and e.access == "logits")
    total = np.bincount(arrays.unit, scored.scores)
    first = np.unique(arrays.unit, return_index=True)[1]
    expected = auc_interval(total, arrays.member[first])
    assert found[0].value == pytest.approx(expected.value)
    assert (found[0].low, found[0].high) == pytest.approx(expected[1:3])
    expected = tpr_at_fpr(roc(total, arrays.member[first]), 0.1)
    assert found[1].value == pytest.approx(expected.value)
    # Five records tell more of a person than one
    record = next(
        e
        for e in result.estimates
        if e.attack == "lira" and e.access == "logits" and e.metric == "auc" and e.group is None
    )
    assert record.of == "records" and found[0].value > record.value + 0.1
    means = of_units(result, of="units", attack="logit", access="logits")
    assert all("the mean of its records'" in entry.method for entry in means)
    assert of_units(result, of="units", attack="strongest", metric="ppv", access="logits")


def test_limits_that_ignore_units_stand_beside_with_the_same_values(result):
    found = of_units(result, of="records_ignoring_units", access="logits")
    assert found and len({entry.attack for entry in found}) == 1
    for entry in found:
        own = next(
            e
            for e in result.estimates
            if (e.attack, e.access, e.metric, e.fpr, e.group)
            == (entry.attack, entry.access, entry.metric, entry.fpr, None)
            and e.threshold == entry.threshold
        )
        assert own.value == entry.value and own.n_members == entry.n_members
        assert entry.high - entry.low <= own.high - own.low + 1e-12 or entry.metric == "auc"
    scored = next(
        e for e in result.arrays.scored if (e.attack, e.access) == (found[0].attack, "logits")
    )
    assert found[0].low == auc_interval(scored.scores, result.arrays.member).low


def test_numbers_by_unit_are_verified_and_survive_a_folder(result, tmp_path):
    assert verify_arrays(result, result.arrays) == []
    again = memberscope.load(result.save(tmp_path / "audit"))
    assert again.by_unit == result.by_unit and verify_arrays(again, again.arrays) == []
    forged = [replace(result.by_unit[0], value=0.1), *result.by_unit[1:]]
    told = verify_arrays(result.model_copy(update={"by_unit": forged}), result.arrays)
    assert told == ["the numbers by unit do not follow from the stored scores"]


def test_terminal_report_and_frame_tell_of_units(result):
    one, two = describe_units(result)
    assert one.startswith("By unit (60 units in and 60 out): ") and "false positives by" in one
    assert "limits that ignore units would say" in two
    page = render_report(result)
    assert "Was this person in? The strongest attack on 60 units that were and 60" in page
    assert "ignoring units: too narrow" in page
    frame = result.to_frame("pandas")
    counted = frame["of"].value_counts()
    assert counted["records"] == len(result.estimates)
    assert counted["units"] + counted["records_ignoring_units"] == len(result.by_unit)
    plain = result.model_copy(update={"by_unit": []})
    assert describe_units(plain) == [] and "Was this person in?" not in render_report(plain)


def test_without_leakage_every_attack_on_units_holds_one_half():
    """Simultaneously at 99% over the attacks, on units of many sizes."""
    asked = tuple(attack.name for attack in ATTACKS if attack.needs.spec.source == "answer")
    rng = np.random.default_rng(5)
    # Sizes of units do not depend on their side
    sides = [np.repeat(np.arange(N), rng.geometric(0.25, N))[:N] for _ in range(2)]
    unit = np.concatenate([sides[0], N + sides[1]])
    whole = planted_units(asked, unit)
    found = build_unit_arrays(whole)
    confidence = simultaneous_confidence(0.99, len(found.scored))
    for entry in found.scored:
        low, high = build_whole_part(entry, found).measure_auc().limits(confidence)[1:3]
        assert low <= 0.5 <= high, entry.name
    assert len(found.scored) > 30


def planted_units(attacks, unit: np.ndarray) -> AuditArrays:
    members, others = planted_sides(N, 3)
    names = unit.astype(str)
    return memberscope.audit(
        Planted(numbers(members), 1, 0.0, 2 * N),
        members,
        others,
        recipe=PlantedRecipe(0.0, 2 * N),
        plan=Plan(attacks=attacks, fprs=(0.1,), references=6),
        threat=ThreatModel(Access.LOGITS),
        execution=Execution("sequential"),
        unit=(names[:N], names[N:]),
    ).arrays


def test_sides_with_units_of_other_sizes_are_told():
    from memberscope.auditing.subject.shared_units import _describe_unequal_sizes

    def describe(sizes, others):
        codes = np.repeat(np.arange(80), [*sizes, *others])
        member = codes < 40
        return _describe_unequal_sizes(codes, member)

    rng = np.random.default_rng(0)
    same = rng.integers(1, 6, (2, 40))
    assert describe(*same) == []
    assert describe([3] * 40, [3] * 40) == []
    found = describe(same[0] + 4, same[1])
    assert len(found) == 1 and "beyond chance" in found[0]
