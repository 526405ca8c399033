"""Records of one person or document.

Kept together everywhere, refused on two sides, and noticed where nobody named them.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import Planted, PlantedRecipe, numbers, planted_sides

import memberscope
from memberscope import Plan, ThreatModel
from memberscope.auditing import make_subject
from memberscope.auditing.forecast.dry_run import forecast_audit
from memberscope.auditing.scoring.crossfit import assign_folds
from memberscope.auditing.subject.subject import take_records
from memberscope.auditing.subject.unit_hints import find_id_like_columns
from memberscope.auditing.verdict.recompute import digest_audit_arrays
from memberscope.errors import InputError
from memberscope.recipes import Execution
from memberscope.reports.files.arrays_file import read_arrays, write_arrays
from memberscope.targets import FunctionTarget, TableLayout, build_pair, read_signals, read_tables
from memberscope.types import Access, Records

N, ROWS = 100, 5


def people(side: str, n: int = N, rows: int = ROWS) -> np.ndarray:
    return np.array([f"{side}{i // rows}" for i in range(n)])


@pytest.fixture(scope="module")
def result():
    members, others = planted_sides(N)
    return memberscope.audit(
        Planted(numbers(members), 1, 1.0, 2 * N),
        members,
        others,
        recipe=PlantedRecipe(1.0, 2 * N),
        plan=Plan(attacks=("gap", "logit", "lira"), fprs=(0.1,), references=6, targets=2),
        threat=ThreatModel(Access.LOGITS),
        execution=Execution("sequential"),
        unit=(people("in"), people("out")),
    )


def whole(unit, codes) -> bool:
    """Whether all records of a unit have one code."""
    return all(len(np.unique(codes[unit == one])) == 1 for one in np.unique(unit))


def test_folds_designs_and_targets_keep_a_unit_together(result):
    arrays = result.arrays
    assert (
        arrays.unit is not None
        and whole(arrays.unit, arrays.fold)
        and whole(arrays.unit, arrays.member)
    )
    assert len(np.unique(arrays.unit)) == 2 * N // ROWS
    for other in arrays.targets.values():
        assert whole(arrays.unit, other.fold) and whole(arrays.unit, other.member)
        assert (other.unit == arrays.unit).all()
    assert result.plan.unit == "unit" and result.diagnostics.units.n_members == N // ROWS


def test_references_are_trained_on_whole_units():
    members, others = planted_sides(N)
    rows = []

    def recipe(records: Records, seed: int) -> Planted:
        rows.append(records.unit)
        return Planted(records.x[:, 0].astype(int), seed, 1.0, 2 * N)

    memberscope.audit(
        Planted(numbers(members), 1, 1.0, 2 * N),
        members,
        others,
        recipe=recipe,
        plan=Plan(attacks=("logit", "lira"), fprs=(0.1,), references=4),
        threat=ThreatModel(Access.LOGITS),
        execution=Execution("sequential"),
        unit=(people("in"), people("out")),
    )
    assert len(rows) == 4
    for seen in rows:
        assert (
            set(np.unique(seen, return_counts=True)[1].tolist()) == {ROWS}
            and len(np.unique(seen)) == N // ROWS
        )


def test_arrays_keep_units_on_disk_and_in_their_digest(result, tmp_path):
    write_arrays(result.arrays, tmp_path / "arrays.safetensors")
    again = read_arrays(tmp_path)
    assert (again.unit == result.arrays.unit).all() and digest_audit_arrays(
        again
    ) == digest_audit_arrays(result.arrays)
    assert digest_audit_arrays(replace(again, unit=again.unit[::-1].copy())) != digest_audit_arrays(
        again
    )
    assert digest_audit_arrays(replace(again, unit=None)) != digest_audit_arrays(again)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(10, 60))
def test_folds_of_units_of_any_size_are_whole_and_even(seed, n_units):
    rng = np.random.default_rng(seed)
    sizes = rng.geometric(0.3, 2 * n_units)
    unit = rng.permutation(np.repeat(np.arange(2 * n_units), sizes))
    member = unit < n_units
    fold = assign_folds(member, 5, rng, unit)
    assert whole(unit, fold)
    for side in (member, ~member):
        filled = np.bincount(fold[side], minlength=5)
        assert filled.min() > 0 and np.ptp(filled) <= sizes.max()


def test_folds_without_units_are_as_before_and_too_few_units_are_refused():
    member = np.arange(40) < 20
    plain = assign_folds(member, 5, np.random.default_rng(0))
    assert (plain == assign_folds(member, 5, np.random.default_rng(0), None)).all()
    with pytest.raises(InputError, match="Expected at least 5 units of members for 5 folds, got 4"):
        assign_folds(member, 5, np.random.default_rng(0), np.arange(40) // 5)


def torn_sides(n: int = N):
    """Units of which two stand on both sides, with 10 records of members and 7 of non-members."""
    inside, outside = people("in", n), people("out", n)
    outside[:7] = ["in3"] * 4 + ["in9"] * 3
    return inside, outside


def test_units_on_both_sides_are_refused_before_anything_is_asked():
    members, others = planted_sides(N)

    def ask(x):
        raise AssertionError("asked")

    words = (
        "all members or all non-members, got 2 on both sides with 17 records: 'in3', 'in9'. Take "
        "them out of one side, or leave them out of both with --drop-overlap"
    )
    model = FunctionTarget(ask, n_classes=2)
    with pytest.raises(InputError, match=re.escape(words)):
        memberscope.audit(model, members, others, unit=torn_sides(), plan=Plan(attacks=("gap",)))
    subject = make_subject(model, members, others, unit=torn_sides())
    with pytest.raises(InputError, match=re.escape(words)):
        forecast_audit(Plan(attacks=("gap",)), subject)
    few = np.where(np.char.startswith(people("in"), "in1"), people("in"), people("out"))
    with pytest.raises(InputError, match="at least 10 units of members, got 9"):
        memberscope.audit(
            model,
            members,
            others,
            unit=(people("in"), few),
            plan=Plan(attacks=("gap",), drop_overlap=True),
        )


def test_units_on_both_sides_are_left_out_of_both_and_counted():
    members, others = planted_sides(N)
    design = np.arange(2 * N)[None] // ROWS % 2 == np.arange(6)[:, None] % 2
    found = memberscope.audit(
        Planted(numbers(members), 1, 1.0, 2 * N),
        members,
        others,
        unit=torn_sides(),
        recipe=PlantedRecipe(1.0, 2 * N),
        design=design,
        plan=Plan(attacks=("gap", "lira"), fprs=(0.1,), drop_overlap=True),
        threat=ThreatModel(Access.LOGITS),
        execution=Execution("sequential"),
    )
    counts, arrays = found.diagnostics.units, found.arrays
    assert (counts.dropped, counts.dropped_records) == (2, 17)
    assert (counts.n_members, counts.n_non_members) == (18, 19)
    gone = {f"member:{i}" for i in (*range(15, 20), *range(45, 50))}
    assert not gone & set(arrays.ids.tolist()) and len(arrays.ids) > 170
    assert not set(arrays.unit[arrays.member]) & set(arrays.unit[~arrays.member])
    note = "2 units had records on both sides: these 17 records were left out of both."
    assert note in found.diagnostics.notes and found.plan.drop_overlap


def test_units_of_one_record_and_a_unit_with_half_of_a_side_are_told():
    members, others = planted_sides(N)
    target = Planted(numbers(members), 1, 1.0, 2 * N)
    plan = Plan(attacks=("gap", "loss"), fprs=(0.1,))

    def audit(inside, outside):
        return memberscope.audit(target, members, others, unit=(inside, outside), plan=plan)

    alone = audit(people("in", rows=1), people("out", rows=1))
    assert alone.by_unit == [] and any(
        note.startswith("Each of the 200 units has one record: units change nothing")
        for note in alone.diagnostics.notes
    )
    heavy = np.where(np.arange(N) < N // 2, "one", people("in", rows=2))
    found = audit(heavy, people("out"))
    assert [note for note in found.diagnostics.notes if "One unit" in note] == [
        "One unit has 50 of the 100 members: the 26 units there say as much as 3.8 of equal size "
        "(effective number), and intervals are as wide as that."
    ]
    # (50 + 25 * 2)² / (50² + 25 * 2²)
    assert found.diagnostics.units.effective_members == pytest.approx(10_000 / 2_600)
    assert found.diagnostics.units.effective_non_members == pytest.approx(20)


@pytest.mark.parametrize("missing", [np.nan, None, "", "nan", "<NA>"])
def test_a_missing_unit_is_refused_with_its_row_in_memory_and_in_records(missing):
    members, others = planted_sides(N)
    target = Planted(numbers(members), 1, 1.0, 2 * N)
    holes = people("in").astype(object)
    holes[[7, 20]] = missing
    words = "in 'unit' of the members, got none of 2 records, first in row 8. Fill the column"
    with pytest.raises(InputError, match=words):
        make_subject(target, members, others, unit=(holes, people("out")))
    sides = (
        Records(*members, np.arange(N).astype(str), unit=holes),
        Records(*others, np.arange(N, 2 * N).astype(str), unit=people("out")),
    )
    with pytest.raises(InputError, match=words):
        make_subject(target, *sides)


def test_stored_signals_take_units_and_refuse_holes_and_shared_ones(tmp_path):
    rng = np.random.default_rng(0)
    n, path = 200, tmp_path / "s.csv"
    p = rng.uniform(0.1, 0.9, 2 * n)

    def write(name):
        rows = [
            f"{int(i < n)},{int(p[i] < 0.5)},{p[i]:.6f},{1 - p[i]:.6f},{name(i)}"
            for i in range(2 * n)
        ]
        path.write_text("\n".join(["member,label,p0,p1,person", *rows]))
        return path

    plan = Plan(attacks=("gap", "confidence"), fprs=(0.1,))
    write(lambda i: f"{'io'[i >= n]}{i // 5}")
    found = memberscope.audit_signals(read_signals(path, unit="person"), plan=plan)
    assert {entry.of for entry in found.by_unit} == {"units", "records_ignoring_units"}
    write(lambda i: "" if i == 3 else f"{'io'[i >= n]}{i // 5}")
    with pytest.raises(InputError, match=r"'person' of .*, got none of 1 records, first in row 4"):
        read_signals(path, unit="person")
    write(lambda i: i % n // 5 if i % n < 10 else f"{'io'[i >= n]}{i // 5}")
    with pytest.raises(InputError, match="got 2 on both sides with 20 records: '0', '1'"):
        memberscope.audit_signals(read_signals(path, unit="person"), plan=plan)
    dropped = memberscope.audit_signals(
        read_signals(path, unit="person"), plan=replace(plan, drop_overlap=True)
    )
    assert dropped.diagnostics.units.dropped == 2


def test_units_missing_or_too_few_are_refused():
    members, others = planted_sides(N)
    target = Planted(numbers(members), 1, 1.0, 2 * N)
    inside, outside = people("in"), people("out")
    for pair, words in (
        ((inside, people("out", rows=20)), "at least 10 units of non-members, got 5"),
        (
            (inside, np.where(outside == "out2", "", outside)),
            "of the non-members, got none of 5 records, first in row 11",
        ),
        ((inside[:9], outside), "Expected arrays of one length"),
    ):
        with pytest.raises(InputError, match=words):
            make_subject(target, members, others, unit=pair)
    one = (
        Records(*members, np.arange(N).astype(str), unit=inside),
        Records(*others, np.arange(N, 2 * N).astype(str)),
    )
    with pytest.raises(InputError, match="got none of the non-members"):
        make_subject(target, *one)


def test_taking_records_takes_their_units():
    members, others = planted_sides(N)
    subject = make_subject(
        Planted(numbers(members), 1, 1.0, 2 * N),
        members,
        others,
        unit=(people("in"), people("out")),
    )
    some = take_records(subject, np.array([0, 7, 150]))
    assert some.records.unit.tolist() == ["in0", "in1", "out10"] and some.unit_codes.tolist() == [
        0,
        1,
        2,
    ]
    assert make_subject(subject.target, members, others).unit_codes is None


def test_columns_like_ids_of_people_are_found_and_other_columns_are_not():
    rng = np.random.default_rng(0)
    n = 2000
    columns = {
        "person": rng.permutation(np.repeat(np.arange(200), 10)),
        "document": np.array([f"d{i}" for i in rng.integers(0, 300, n)]),
        "visits": rng.permutation(np.repeat(np.arange(400), rng.geometric(0.2, 400)))[:n],
        "floats": np.repeat(np.arange(200.0), 10),
        "read as words": np.repeat(np.arange(200), 10).astype(str),
        "row": np.arange(n),
        "class": rng.integers(0, 15, n),
        "weight": rng.normal(size=n).round(1),
        "weight as words": rng.normal(size=n).round(1).astype(str),
        "city": np.where(rng.random(n) < 0.9, "x", rng.integers(0, 60, n).astype(str)),
        "yes": rng.random(n) < 0.5,
    }
    columns = {name: column for name, column in columns.items() if len(column) == n}
    found = {entry.name for entry in find_id_like_columns(columns)}
    assert found == {"person", "document", "floats", "read as words"} | ({"visits"} & set(columns))


def test_an_id_like_column_is_noted_in_the_result_and_a_named_unit_is_not(tmp_path):
    rng = np.random.default_rng(0)
    n = 200
    p = rng.uniform(0.1, 0.9, 2 * n)
    lines = ["member,label,p0,p1,person"]
    lines += [
        f"{int(i < n)},{int(p[i] < 0.5)},{p[i]:.6f},{1 - p[i]:.6f},{'io'[i >= n]}{i // 5}"
        for i in range(2 * n)
    ]
    (tmp_path / "s.csv").write_text("\n".join(lines))
    plan = Plan(attacks=("gap", "confidence"), fprs=(0.1,))
    plain = memberscope.audit_signals(read_signals(tmp_path / "s.csv"), plan=plan)
    assert any(
        "The column person has 80 values with 5 records each" in note
        for note in plain.diagnostics.notes
    )
    named = memberscope.audit_signals(read_signals(tmp_path / "s.csv", unit="person"), plan=plan)
    assert named.diagnostics.notes == [] and whole(named.arrays.unit, named.arrays.fold)
    with pytest.raises(InputError, match="Expected the column 'patient'"):
        read_signals(tmp_path / "s.csv", unit="patient")


def test_a_unit_column_is_no_feature_unless_it_is_listed(tmp_path):
    for name in ("train", "hold"):
        lines = ["a,b,person,y"] + [
            f"{i},{i % 7 + (name == 'hold')},{name[0]}{i // 4},{i % 2}" for i in range(80)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    read = read_tables(tmp_path / "train.csv", tmp_path / "hold.csv")
    inside, outside, _ = build_pair(read, TableLayout(unit="person"))
    assert (
        inside.x.shape == (80, 2)
        and inside.unit[:5].tolist() == ["t0"] * 4 + ["t1"]
        and outside.unit[0] == "h0"
    )
    assert [entry.name for entry in read.id_like(TableLayout())] == ["a", "person"]
    listed = build_pair(read, TableLayout(unit="person", features=("a", "person")))[0]
    assert list(listed.x.columns) == ["a", "person"]
    with pytest.raises(InputError, match="Expected the column 'patient'"):
        build_pair(read, TableLayout(unit="patient"))
    model = FunctionTarget(lambda x: np.tile([0.5, 0.5], (len(x), 1)), n_classes=2)
    noted = make_subject(
        model,
        build_pair(read, TableLayout())[0],
        build_pair(read, TableLayout())[1],
        id_like=read.id_like(TableLayout()),
    )
    assert "give --unit a" in noted.notes[0] and "So may person." in noted.notes[0]
    assert make_subject(model, inside, outside).notes == ()
