"""The canonical form of a record, and files of another version of it."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberscope.errors import InputError
from memberscope.guard import parse_guard_policy
from memberscope.guard.asgi.compiled_policy import build_rules, log_undeclared_columns
from memberscope.guard.hashing import (
    RecordForm,
    Secret,
    UnreadableRecord,
    canonicalise_records,
    encode_canonical_records,
)
from memberscope.guard.replay import Log
from memberscope.guard.sketching.fingerprints import (
    Fingerprints,
    read_fingerprints,
    write_fingerprints,
)
from memberscope.guard.sketching.observations import format_unsketched_line
from memberscope.guard.sketching.record_forms import load_record_form
from memberscope.guard.sketching.sketcher import Sketcher, read_sketcher, write_sketcher
from memberscope.wire import Batch

SECRET = Secret("k", bytes(32))
NUMBERS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.sampled_from(["7", "-0.0", "nan"])
)
CELLS = st.one_of(NUMBERS, st.sampled_from(["cook", "smith", "", "1:1:a"]))


def encode(rows: list[list[object]], form: RecordForm) -> list[bytes]:
    array = np.empty((len(rows), len(rows[0])), dtype=object)
    array[:] = rows
    return encode_canonical_records(canonicalise_records(Batch(array), form))


def describe_value(value: object, dtype: str) -> object:
    """What a value is to the server, one value after the other."""
    try:
        number = np.float64(np.nan if value is None else value)
    except ValueError:
        return value
    with np.errstate(over="ignore"):
        cast = float(np.dtype(dtype).type(number))
    return None if cast != cast else cast + 0.0


@given(
    rows=st.lists(st.tuples(NUMBERS, CELLS, CELLS).map(list), min_size=1, max_size=6),
    dtype=st.sampled_from(["float64", "float32", "float16"]),
)
def test_records_are_equal_where_all_values_are_and_whatever_stands_beside_them(rows, dtype):
    form = RecordForm(("a", "b", "c"), 3, (0,), (dtype,), "numbers")
    plain = [tuple(describe_value(value, dtype) for value in row) for row in rows]
    found = encode(rows, form)
    for one, first in zip(found, plain, strict=True):
        for other, second in zip(found, plain, strict=True):
            assert (one == other) == (first == second)
    assert found == [encode([row], form)[0] for row in rows]
    array = np.empty((len(rows), 3), dtype=object)
    array[:] = rows
    twice = canonicalise_records(Batch(canonicalise_records(Batch(array), form).array), form)
    assert encode_canonical_records(twice) == found
    named = Batch(columns=dict(zip("cab", array.T[[2, 0, 1]], strict=True)))
    assert encode_canonical_records(canonicalise_records(named, form)) == found


@pytest.mark.parametrize(
    ("dtype", "value", "cast"),
    [
        ("int64", 2.0**53 + 2, 2.0**53 + 2),
        ("int64", -1.9, -1.0),
        ("int8", 127.9, 127.0),
        ("int8", 128, None),
        ("int64", 2.0**63, None),
        ("uint8", -1, None),
        ("int16", np.nan, None),
        ("bool", -0.5, 1.0),
        ("bool", np.nan, np.nan),
        ("float16", 1e6, np.inf),
    ],
)
def test_numbers_are_cast_as_declared_or_refused(dtype, value, cast):
    batch, form = Batch(np.array([[1.0, value]])), RecordForm(dtypes=("float32", dtype))
    if cast is None:
        with pytest.raises(UnreadableRecord, match=dtype):
            canonicalise_records(batch, form)
    else:
        np.testing.assert_array_equal(canonicalise_records(batch, form).numbers, [[1.0, cast]])


@pytest.mark.parametrize("value", ["39", "", "much", b"39"])
def test_words_in_columns_of_numbers_are_refused_unless_they_are_numbers(value):
    row = Batch(np.array([[1.0, value]], dtype=object))
    for coercion, readable in (("strict", ()), ("numbers", ("39", b"39"))):
        form = RecordForm(numeric=(1,), coercion=coercion)
        if value in readable:
            assert canonicalise_records(row, form).numbers.tolist() == [[1.0, 39.0]]
        else:
            with pytest.raises(UnreadableRecord, match="word"):
                canonicalise_records(row, form)


def test_a_policy_and_its_sketch_are_of_the_same_columns_and_types(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 2))
    named = Batch(columns={"a": x[:, 0], "b": x[:, 1]})
    policy = {"serving": {"n_classes": 3}, "monitor": {"sketch": "s"}, "home": str(tmp_path)}

    def load(**serving: object) -> RecordForm:
        return load_record_form(
            parse_guard_policy(policy | {"serving": policy["serving"] | serving})
        )

    assert load().size is None, "the monitor says that the sketch is missing"
    write_sketcher(tmp_path / "s", Sketcher.fit("tabular", Batch(x), SECRET))
    assert load(columns=["b", "a"]).columns == ("b", "a") and load().size == 2
    with pytest.raises(InputError, match="columns a in"):
        load(columns=["a"])
    write_sketcher(tmp_path / "s", Sketcher.fit("tabular", named, SECRET))
    assert load() == RecordForm(("a", "b"), 2, (0, 1))
    for serving in ({"columns": ["b", "a"]}, {"dtype": "float64"}):
        with pytest.raises(InputError, match="guard prepare"):
            load(**serving)
    with pytest.raises(InputError, match="dtype of columns"):
        load(columns=["a", "b"], dtype={"c": "int8"})


def test_what_another_version_wrote_is_refused_with_a_sentence(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 2))
    sketcher = Sketcher.fit("tabular", Batch(x), SECRET)
    write_sketcher(tmp_path / "s", sketcher)
    members = Fingerprints.of(sketcher.records(Batch(x)), np.zeros(0, np.uint64), "k")
    write_fingerprints(tmp_path / "f", members)
    for name, read in (("s", read_sketcher), ("f", read_fingerprints)):
        read(tmp_path / name, SECRET)
        data = (tmp_path / name).read_bytes()
        older = re.sub(rb"(memberscope-(sketch|fingerprints))/2", rb"\1/1", data)
        assert older != data
        (tmp_path / name).write_bytes(older)
        with pytest.raises(InputError, match=r"of this version .*/1'\. Make them anew with"):
            read(tmp_path / name, SECRET)
    line = {"format": "memberscope-access/1", "time": 1.0, "client": "0a", "record": []}
    (tmp_path / "log").write_text(json.dumps(line) + "\n")
    with (tmp_path / "log").open("a") as stream:
        stream.write(format_unsketched_line(1.0, "0a", 7, key="k") + "\n")
    log = Log([tmp_path / "log"], parse_guard_policy({"serving": {"n_classes": 3}}), sketcher)
    assert [*log] == [] and (log.lines, log.foreign, log.skipped) == (2, 1, 0)
    assert log.unreadable == 7


def test_codes_that_ordinary_clients_write_as_words_stay_words_and_are_read():
    rng = np.random.default_rng(0)
    codes = np.array([f"{code:05d}" for code in rng.integers(0, 9999, 60)], dtype=object)
    batch = Batch(columns={"pay": rng.normal(size=60), "zip": codes})
    sketcher = Sketcher.fit("tabular", batch, SECRET)
    form = replace(sketcher.form, coercion="strict")
    assert (form.numeric, sketcher.table.wordy) == ((0,), (1,))
    found = sketcher.sketch(canonicalise_records(batch.take([3, 4]), form))
    other = {"zip": np.array([int(codes[3]), 7]), "pay": batch.columns["pay"][[3, 4]]}
    again = sketcher.sketch(canonicalise_records(Batch(columns=other), form))
    assert found[0][0] == again[0][0] and found[0][1] != again[0][1]
    np.testing.assert_array_equal(found[1][0], again[1][0])
    assert np.linalg.norm(found[1][1] - again[1][1]) > sketcher.radius


def test_another_process_finds_the_same_records():
    rows = np.array([[1.0, "cook", None], ["2", "7", "smith"]], dtype=object)
    found = canonicalise_records(Batch(rows))
    again = pickle.loads(pickle.dumps(found))
    assert type(again) is Batch
    assert encode_canonical_records(canonicalise_records(again)) == encode_canonical_records(found)
    dates = np.array(["2026-01-02", "NaT"], dtype="datetime64[D]")
    assert canonicalise_records(Batch(columns={"day": dates})).array.tolist() == [
        ["2026-01-02"],
        [None],
    ]


@pytest.mark.parametrize(("columns", "n"), [((), 1), (("a", "b"), 0)])
def test_a_budget_for_records_of_any_width_is_warned_of(caplog, columns, n):
    policy = {"serving": {"n_classes": 3, "columns": columns}, "default": {"per_record": "1/d"}}
    with caplog.at_level("WARNING", "memberscope.guard"):
        log_undeclared_columns(build_rules(parse_guard_policy(policy)))
    assert sum(record.getMessage() == "columns_not_declared" for record in caplog.records) == n
