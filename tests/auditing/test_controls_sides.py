"""Controls of which side is which.

Direction, fitted answers, overlap beyond chance, refusals, and forged results.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import replace

import numpy as np
import pytest
from scenes import gaussian_signals
from scipy.stats import binom

import memberscope
from memberscope.auditing import Plan, audit_signals
from memberscope.auditing.collect.collect import remove_duplicates
from memberscope.auditing.controls.direction import run_direction_control
from memberscope.auditing.controls.fitted import run_fitted_control
from memberscope.auditing.controls.overlap import describe_duplicates, run_overlap_control
from memberscope.auditing.documents.result import AttackScores, AuditArrays, Control
from memberscope.auditing.subject.duplicate_surplus import compute_twin_chance
from memberscope.auditing.subject.duplicates import find_overlap
from memberscope.auditing.subject.subject import make_subject
from memberscope.auditing.verdict.recheck_controls import recompute_controls
from memberscope.errors import InputError
from memberscope.targets import FunctionTarget

FAST = ("gap", "loss", "confidence", "logit", "entropy")


def arrays_of(scores: dict[str, np.ndarray], member: np.ndarray) -> AuditArrays:
    n = len(member)
    parts = tuple(
        AttackScores(name, "probabilities", False, values, {}) for name, values in scores.items()
    )
    ids = np.array([f"r{i}" for i in range(n)])
    return AuditArrays(ids, member, np.arange(n) % 2, np.arange(n) % 5, parts)


def test_an_inverted_loss_asks_whether_the_files_are_swapped():
    rng, member = np.random.default_rng(0), np.arange(2000) < 1000
    scores = rng.normal(size=2000) - 0.3 * member
    control = run_direction_control(arrays_of({"loss": scores}, member))
    assert (
        control.passed is False
        and "Are the two files swapped?" in control.why
        and control.high < 0.5
    )
    assert run_direction_control(arrays_of({"loss": -scores}, member)).passed is True
    assert run_direction_control(arrays_of({"entropy": scores}, member)).passed is None


def test_a_hold_out_better_than_the_training_set_asks_it_too():
    member = np.arange(800) < 400
    hits = np.where(member, np.arange(800) % 4 > 0, True)
    control = run_direction_control(arrays_of({}, member), hits)
    assert (
        control.passed is False
        and "hold-out is predicted better (100.0%) than the training set (75.0%" in control.why
    )


def test_a_blind_control_below_one_half_withholds_a_pass():
    member = np.arange(200) < 100
    blind = Control(True, "", details={"below": True, "lowest_auc": 0.28})
    control = run_direction_control(arrays_of({}, member), None, blind)
    assert control.passed is False and "AUC of the blind control 0.280" in control.why


def test_direction_seldom_alarms_on_clean_records():
    runs, alarms, member = 400, 0, np.arange(300) < 150
    rng = np.random.default_rng(1)
    for _ in range(runs):
        scores = rng.normal(size=300)
        parts = {
            "gap": (scores > -1).astype(float),
            "loss": scores,
            "confidence": scores + rng.normal(size=300),
        }
        alarms += run_direction_control(arrays_of(parts, member)).passed is False
    assert alarms <= binom.ppf(0.999, runs, 0.0025)


def classified(n: int, seed: int, skill: float, rare: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities (n, 2) of a model whose logit knows the class by `skill`.

    At a share `rare` of ones.
    """
    rng = np.random.default_rng([seed, n])
    labels = (rng.random(n) < rare).astype(np.int64)
    logit = np.log(rare / (1 - rare)) + skill * (labels - rare) + 0.5 * rng.normal(size=n)
    p = 1 / (1 + np.exp(-logit))
    return labels, np.column_stack([1 - p, p])


@pytest.mark.parametrize(
    ("skill", "rare", "passed"),
    [(2.0, 0.5, True), (2.0, 0.02, True), (0.0, 0.5, False), (0.0, 0.1, False)],
)
def test_answers_of_an_unfitted_model_are_told_from_those_of_a_fitted_one(skill, rare, passed):
    member = np.arange(1200) < 800
    labels, p = classified(1200, 0, skill, rare)
    control = run_fitted_control(p.argmax(axis=1), p, labels, member)
    assert control.passed is passed
    if not passed:
        assert "unfitted" in control.why


def test_unfitted_answers_are_seldom_taken_for_fitted_ones():
    runs, taken, member = 500, 0, np.ones(300, dtype=bool)
    for seed in range(runs):
        labels, p = classified(300, seed, 0.0, 0.3)
        taken += run_fitted_control(p.argmax(axis=1), p, labels, member).passed is True
    assert taken <= binom.ppf(0.999, runs, 0.02)


def test_losses_alone_withhold_nothing():
    assert run_fitted_control(None, None, np.zeros(9, int), np.ones(9, bool)).passed is None


def test_labels_alone_suffice_and_units_count_once():
    member = np.ones(600, dtype=bool)
    labels = np.arange(600) % 3
    right = np.where(np.arange(600) % 5 < 3, labels, (labels + 1) % 3)
    assert run_fitted_control(right, None, labels, member).passed is True
    lucky = np.where(np.arange(600) < 450, labels, (labels + 1) % 3)
    assert run_fitted_control(lucky, None, labels, member, np.arange(600) // 150).passed is False


def table(n: int, values: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A table of few values, so that many records are equal by chance."""
    rng = np.random.default_rng(seed)
    return rng.zipf(1.5, size=(2 * n, 2)).clip(max=values).astype(float), np.arange(2 * n) < n


def test_equal_records_by_chance_are_no_alarm():
    alarms = 0
    for seed in range(60):
        x, member = table(300 if seed % 2 else 150, 60, seed)
        member = np.random.default_rng(seed).permutation(len(member)) < (
            len(member) // 3 if seed % 3 else len(member) // 2
        )
        found = find_overlap(x, member)
        assert len(found.exact) > 0.3 * (~member).sum()
        alarms += run_overlap_control(found, member).passed is False
    assert alarms <= binom.ppf(0.999, 60, 0.003)


@pytest.mark.parametrize(("n_members", "n_others"), [(1500, 1500), (3000, 600), (600, 3000)])
def test_planted_copies_are_counted_whatever_the_sizes(n_members, n_others):
    rng = np.random.default_rng(5)
    x = np.round(rng.normal(size=(n_members + n_others, 3)), 1)
    member = np.arange(len(x)) < n_members
    assert run_overlap_control(find_overlap(x, member), member).passed is True
    copies = n_others // 10
    x[n_members : n_members + copies] = x[rng.permutation(n_members)[:copies]]
    found = find_overlap(x, member)
    control = run_overlap_control(found, member)
    assert control.passed is False and "--drop-overlap" in control.why
    assert (
        copies <= control.details["excess"] <= 3 * copies
        and found.marked()[n_members : n_members + copies].all()
    )
    assert not found.marked()[member].any()


def test_repeating_one_side_hides_no_copies():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(900, 4))
    x[600:660] = x[:60]
    for repeated in ("members", "non-members"):
        own = np.arange(300) if repeated == "members" else np.arange(660, 900)
        again = np.vstack([x, x[own]])
        member = np.append(np.arange(900) < 600, np.full(len(own), repeated == "members"))
        found = find_overlap(again, member)
        assert run_overlap_control(found, member).passed is False and found.excess >= 50, repeated
        assert sum(found.within) >= len(own)


def test_near_copies_are_counted_and_common_near_twins_doubt_independence():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(800, 6))
    member = np.arange(800) < 400
    x[400:440] = x[:40] + 1e-5 * rng.normal(size=(40, 6))
    found = find_overlap(x, member)
    assert len(found.near) == 40 and 38 <= found.excess <= 40
    assert describe_duplicates(found, member) == []
    people = rng.normal(size=(200, 6))[np.arange(800) // 4] + 1e-3 * rng.normal(size=(800, 6))
    notes = describe_duplicates(find_overlap(people, member), member)
    assert (
        len(notes) == 1
        and "--unit" in notes[0]
        and "Intervals assume independent records" in notes[0]
    )
    assert describe_duplicates(find_overlap(people, member), member, by_unit=True) == []
    assert run_overlap_control(find_overlap(people, member), member).passed is True


def test_equal_twins_within_a_side_are_said():
    x = np.random.default_rng(0).normal(size=(100, 3))
    x[1] = x[0]
    member = np.arange(100) < 50
    assert "2 of 50 members and 0 of 50" in describe_duplicates(find_overlap(x, member), member)[0]


def test_rarefaction_against_the_hypergeometric_law():
    from scipy.stats import hypergeom

    for twins in range(6):
        assert compute_twin_chance(np.array([twins]), 20, 7)[0] == pytest.approx(
            1 - hypergeom(20, twins, 7).pmf(0)
        )


def test_seven_columns_of_adult_collide_by_chance(real_data):
    names = ["age", "workclass", "education", "marital_status", "occupation", "race", "sex"]
    path = real_data / "adult.csv.gz"
    if not path.is_file():
        pytest.skip("needs adult.csv.gz in the folder MEMBERSCOPE_DATA")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    codes = [np.unique([row[name] for row in rows], return_inverse=True)[1] for name in names]
    x = np.column_stack(codes).astype(float)[np.random.default_rng(0).permutation(len(rows))[:4000]]
    member = np.arange(4000) < 2000
    plain = find_overlap(x, member)
    assert 0.15 < len(plain.exact) / 2000 < 0.23 and plain.excess == 0
    x[2000:2200] = x[np.random.default_rng(1).permutation(2000)[:200]]
    found = find_overlap(x, member)
    estimate = next(part.value for part in found.surplus if part.kind == "exact")
    assert 140 < estimate < 280 and 200 <= found.excess < 360


def answering(n_classes: int = 2) -> FunctionTarget:
    return FunctionTarget(
        lambda x: np.tile([0.7, 0.3], (len(x), 1)), n_classes=n_classes, signal="probabilities"
    )


def test_the_same_records_on_both_sides_are_refused():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 3)), rng.integers(0, 2, 100)
    order = rng.permutation(100)
    with pytest.raises(InputError, match="the same 100 records as members and as non-members"):
        make_subject(answering(), (x, y), (x[order], y[order]))
    make_subject(answering(), (x, y), (x[order], 1 - y[order]))


def test_a_handful_of_different_records_may_agree_by_chance():
    x, y = np.repeat([[0.0], [1.0]], 50, axis=0), np.arange(100) % 2
    make_subject(answering(), (x, y), (x.copy(), y))


def test_stored_answers_of_one_file_on_both_sides_are_refused():
    signals = gaussian_signals(200, 0.0)
    outputs, labels = signals.outputs.copy(), signals.labels.copy()
    outputs[200:], labels[200:] = outputs[:200][::-1], labels[:200][::-1]
    with pytest.raises(InputError, match="same 200 records"):
        audit_signals(replace(signals, outputs=outputs, labels=labels))


def test_overlap_is_dropped_from_both_sides_with_all_copies():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(120, 3)), rng.integers(0, 2, 120)
    x[1] = x[0]
    x[60:62] = x[0]
    subject = make_subject(answering(), (x[:60], y[:60]), (x[60:], y[60:]))
    left, _ = remove_duplicates(subject, None, find_overlap(subject.features, subject.member))
    assert int(left.member.sum()) == 58 and int((~left.member).sum()) == 58
    with pytest.raises(InputError, match="got none"):
        inside = (x[:60], y[:60])
        subset = make_subject(answering(), inside, (x[:50], y[:50]))
        remove_duplicates(subset, None, find_overlap(subset.features, subset.member))


def test_controls_that_were_edited_contradict_the_stored_scores():
    signals = gaussian_signals(600, -1.0, n_features=3)
    result = audit_signals(signals, plan=Plan(attacks=FAST, fprs=(0.05,)))
    assert result.controls["direction"].passed is False
    assert recompute_controls(result, result.arrays) == []

    def forged(name: str, **changes: object) -> list[str]:
        controls = result.controls | {name: replace(result.controls[name], **changes)}
        return recompute_controls(result.model_copy(update={"controls": controls}), result.arrays)

    assert any("swapped" in found for found in forged("direction", passed=True))
    assert (
        forged("blind", passed=False)
        and forged("overlap", passed=False)
        and forged("null", passed=False)
    )
    assert forged("fitted", value=0.99) and forged("null", value=0.5)
    assert forged("overlap", passed=None)
    fewer = {name: entry for name, entry in result.controls.items() if name != "direction"}
    assert recompute_controls(result.model_copy(update={"controls": fewer}), result.arrays) == [
        "the direction control is missing"
    ]


def test_a_random_model_is_said_to_look_unfitted_before_scoring():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 3)), rng.integers(0, 2, 400)
    stages = []
    result = memberscope.audit(
        answering(),
        (x[:200], y[:200]),
        (x[200:], y[200:]),
        plan=Plan(attacks=("gap", "loss")),
        progress=lambda stage, done, total: stages.append(stage),
    )
    assert result.controls["fitted"].passed is False
    note = next(stage for stage in stages if stage.startswith("note: "))
    assert "unfitted" in note and stages.index(note) < stages.index("attack")
    assert any("unfitted" in sentence for sentence in result.diagnostics.notes)
