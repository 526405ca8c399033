"""Tables: every reader types a column alike, what is missing stays missing.

And what was assumed is said.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memberscope.errors import InputError
from memberscope.frames.column_kinds import (
    MISSING,
    ColumnSpec,
    find_column_kind,
    mark_missing,
    read_kinds,
)
from memberscope.frames.fitted_columns import list_target_columns
from memberscope.targets import SklearnTarget, TableLayout, read_pair, read_tables, wrap
from memberscope.targets.tables import arrow, files, find_fitted_columns, read_table
from memberscope.targets.tables.text import find_text_format
from memberscope.targets.tables.wanted import convert_column

FIELDS = {
    "whole": st.integers(-(10**6), 10**6).map(str),
    "number": st.floats(-1e6, 1e6, allow_nan=False).map(repr),
    "truth": st.sampled_from(["True", "False"]),
    "date": st.dates().filter(lambda day: 1700 < day.year < 2200).map(str),
    "time": st.datetimes(pandas.Timestamp("1971-01-01"), pandas.Timestamp("2200-01-01")).map(
        lambda t: str(t.replace(microsecond=0))
    ),
    "word": st.text("abcxyz é", min_size=1).filter(lambda word: word.strip() == word),
    "missing": st.sampled_from(sorted(MISSING)),
}


@st.composite
def columns(draw):
    """A column of one kind, or of two, with missing fields among them."""
    kinds = draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=2, unique=True))
    fields = st.one_of(*(FIELDS[kind] for kind in kinds))
    return draw(
        st.lists(
            st.one_of(fields, fields, FIELDS["missing"]) if draw(st.booleans()) else fields,
            min_size=1,
            max_size=30,
        )
    )


def write_column(path: Path, words: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["key", "value"])
        rows.writerows(enumerate(words))
    return path


def read_without(monkeypatch: pytest.MonkeyPatch, path: Path, *hidden: str) -> dict:
    found = files.find_spec
    with monkeypatch.context() as patch:
        for module in (files, arrow):
            patch.setattr(module, "find_spec", lambda name: None if name in hidden else found(name))
        return read_table(path).columns


def as_plain(column) -> list:
    """A column's values for comparison.

    What is missing as None, dates to the second, all else as Python has it.
    """
    missing = mark_missing(column)
    if find_column_kind(column) == "date":
        values = np.asarray(pandas.Series(column).astype("datetime64[s]")).astype(str).tolist()
    else:
        values = np.asarray(column).tolist()
    return [None if gone else value for value, gone in zip(values, missing, strict=True)]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(columns())
def test_all_readers_type_a_column_alike_and_as_pandas_does(tmp_path, monkeypatch, words):
    path = write_column(tmp_path / "a.csv", words)
    by_arrow = read_without(monkeypatch, path, "pandas")["value"]
    by_pandas = read_table(path).columns["value"]
    by_hand = read_without(monkeypatch, path, "pyarrow", "pandas")["value"]
    assert find_column_kind(by_arrow) == find_column_kind(by_pandas) == find_column_kind(by_hand)
    assert as_plain(by_arrow) == as_plain(by_hand)
    usual = pandas.read_csv(path)["value"]
    if find_column_kind(by_arrow) != "date":
        assert as_plain(by_pandas) == as_plain(usual) and find_column_kind(
            usual
        ) == find_column_kind(by_arrow)
    if find_column_kind(by_arrow) == "number":
        np.testing.assert_allclose(
            np.asarray(by_arrow, dtype=float), np.asarray(usual, dtype=float), rtol=1e-15
        )
        assert np.asarray(by_arrow).dtype == np.asarray(usual).dtype
    else:
        assert as_plain(by_arrow) == as_plain(by_pandas)


def test_a_column_whose_type_changes_late_is_typed_whole(tmp_path, monkeypatch):
    n = 200_000
    table = {
        "a": ["1"] * n + ["2.5"],
        "b": [""] * n + ["x"],
        "c": ["True"] * n + ["maybe"],
        "d": ["2024-01-01"] * n + ["never"],
    }
    for k in range(4):
        table[f"e{k}"] = ["7"] * n + ["word"]
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([list(table), *zip(*table.values(), strict=True)])
    for hidden in ((), ("pandas",), ("pyarrow", "pandas")):
        columns = read_without(monkeypatch, tmp_path / "a.csv", *hidden)
        assert columns["a"][n] == 2.5 and find_column_kind(columns["a"]) == "number"
        assert [find_column_kind(columns[name]) for name in "bcd"] == ["text"] * 3
        assert columns["d"][0] == "2024-01-01" and np.asarray(columns["e3"])[0] == "7"


FRAME = pandas.DataFrame(
    {
        "id": [7, 8, 9],
        "name": ["a", None, "ü"],
        "x": [1.5, np.nan, -2.25],
        "ok": [True, False, True],
    }
)


def written(path: Path, **options) -> Path:
    FRAME.to_csv(path, **{"index": False, **options})
    return path


@pytest.mark.parametrize(
    ("name", "options", "assumed"),
    [
        ("a.csv", {}, ""),
        ("a.csv", {"encoding": "utf-8-sig"}, ""),
        ("a.tsv", {"sep": "\t"}, ""),
        ("a.csv", {"sep": ";", "decimal": ","}, "separated by semicolons, decimal commas"),
        ("a.csv", {"sep": "\t"}, "separated by tabs"),
        ("a.txt", {"sep": "|"}, "separated by bars"),
        ("a.csv", {"encoding": "utf-16"}, "UTF-16"),
        ("a.csv", {"encoding": "utf-16-le"}, "UTF-16"),
        ("a.csv", {"encoding": "latin-1"}, "Windows-1252, since it is no UTF-8"),
        ("a.csv.gz", {"compression": "gzip"}, ""),
        ("a.csv.gz", {"compression": "gzip", "sep": ";"}, "separated by semicolons"),
        ("a.csv", {"quoting": csv.QUOTE_ALL}, ""),
        ("a.csv", {"lineterminator": "\r\n"}, ""),
    ],
)
@pytest.mark.parametrize("hidden", [(), ("pandas",), ("pyarrow", "pandas")])
def test_how_a_text_table_is_written_is_found_and_said(
    tmp_path, monkeypatch, name, options, assumed, hidden
):
    path = written(tmp_path / name, **options)
    columns = read_without(monkeypatch, path, *hidden)
    assert np.asarray(columns["id"]).tolist() == [7, 8, 9] and as_plain(columns["name"]) == [
        "a",
        None,
        "ü",
    ]
    assert as_plain(columns["x"]) == [1.5, None, -2.25] and np.asarray(columns["ok"]).dtype == bool
    notes = read_table(path).notes
    assert notes == ((f"Read {name} as {assumed}.",) if assumed else ())


@pytest.mark.parametrize(
    "suffix", ["csv.zst", "jsonl.zst", "jsonl.gz", "jsonl", "ndjson", "json", "feather", "parquet"]
)
def test_other_formats_hold_the_same_table(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "csv.zst":
        import pyarrow

        with pyarrow.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(FRAME.to_csv(index=False).encode())
    elif suffix == "feather":
        FRAME.to_feather(path)
    elif suffix == "parquet":
        FRAME.to_parquet(path)
    elif suffix == "json":
        path.write_text(json.dumps(json.loads(FRAME.to_json(orient="records"))))
    elif suffix == "jsonl.zst":
        import pyarrow

        with pyarrow.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(FRAME.to_json(orient="records", lines=True).encode())
    else:
        text = FRAME.to_json(orient="records", lines=True)
        path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    columns = read_table(path).columns
    assert {name: as_plain(column) for name, column in columns.items()} == {
        "id": [7, 8, 9], "name": ["a", None, "ü"], "x": [1.5, None, -2.25], "ok": [True, False, True]
    }  # fmt: skip
    assert [find_column_kind(column) for column in columns.values()] == [
        "number",
        "text",
        "number",
        "boolean",
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "got an empty file"),
        ("a.csv", b"\n\n", "got an empty file"),
        ("a.csv", b"a,b\n", "got an empty table"),
        ("a.csv", b"a,a\n1,2\n", "'a' twice"),
        ("a.csv", b",\n1,2\n", "columns without a name twice"),
        ("a.csv", b"a,b\n1,2\n3\n", "got 1 in line 3"),
        ("a.csv", b"a,b\n1,2\n3,4,5\n", "got 3 in line 3"),
        ("a.csv", bytes(range(256)) * 4, "bytes that are not text"),
        ("a.csv.gz", b"a,b\n1,2\n", "complete .gz file"),
        (
            "a.csv.gz",
            gzip.compress(b"a,b\n" + b"1,2\n" * 99, mtime=0)[:-20],
            "complete .gz file|complete text table",
        ),
        ("a.parquet", b"PAR1", "complete .parquet file"),
        ("a.feather", b"ARROW1", "complete .feather file"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', "as record 2"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "one JSON object a line"),
        ("a.json", b"[" * 100_000, "one JSON object a line"),
        ("a.jsonl", b'{"a": {"b": 1}}\n', "Flatten the records"),
        ("a.jsonl", b'{"a": [1, 2]}\n{"a": [1]}\n', "lists of numbers of one length"),
        ("a.xlsx", b"PK", r"\.parquet, \.feather or \.npz"),
        ("a.gz", gzip.compress(b"a\n1\n", mtime=0), r"\.parquet, \.feather or \.npz"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, monkeypatch, name, content, words):
    (tmp_path / name).write_bytes(content)
    for hidden in ((), ("pandas",), ("pyarrow", "pandas")):
        with pytest.raises(InputError, match=words):
            read_without(monkeypatch, tmp_path / name, *hidden)


def test_the_index_that_pandas_wrote_along_is_left_out_and_said(tmp_path):
    FRAME.to_csv(tmp_path / "a.csv")
    FRAME.iloc[[2, 0, 1]].to_parquet(tmp_path / "a.parquet")
    for name, called in (("a.csv", "without a name"), ("a.parquet", "__index_level_0__")):
        table = read_table(tmp_path / name)
        assert list(table.columns) == ["id", "name", "x", "ok"]
        assert table.notes == (
            f"Left out the column {called} of {name}, the index of a data frame that was written "
            "along.",
        )
    fitted = read_table(
        tmp_path / "a.csv", {**read_kinds(["Unnamed: 0=number"])}
    )  # a model that was fitted with it
    assert next(iter(fitted.columns)) == "Unnamed: 0"
    FRAME.set_index("id").to_parquet(tmp_path / "b.parquet")
    assert read_table(tmp_path / "b.parquet").index == ("id",)


def pair(tmp_path: Path, first: str, second: str) -> tuple[Path, Path]:
    (tmp_path / "a.csv").write_text(first)
    (tmp_path / "b.csv").write_text(second)
    return tmp_path / "a.csv", tmp_path / "b.csv"


def test_text_on_one_side_is_text_on_the_other(tmp_path):
    paths = pair(tmp_path, "code,y\n007,0\n008,1\n", "code,y\nA1,0\n009,1\n")
    first, second = (table["code"] for table in read_tables(*paths).columns)
    assert first.tolist() == ["007", "008"] and np.asarray(second).tolist() == ["A1", "009"]
    paths = pair(tmp_path, "code,y\n,0\n,1\n", "code,y\nA1,0\n,1\n")  # nothing on one side
    assert mark_missing(read_tables(*paths).columns[0]["code"]).all()


def test_declared_types_go_before_what_was_found(tmp_path):
    paths = pair(
        tmp_path,
        "zip,seen,sex,flag,n,y\n01,2024-01-01,f,yes,1,0\n02,2024-02-01,m,no,x,1\n",
        "zip,seen,sex,flag,n,y\n03,2024-03-01,f,1,2,0\n",
    )
    wanted = read_kinds(["zip=text", "seen=text", "sex=category", "flag=boolean"])
    first, second = read_tables(*paths, TableLayout(wanted=wanted)).columns
    assert first["zip"].tolist() == ["01", "02"] and first["seen"].tolist() == [
        "2024-01-01",
        "2024-02-01",
    ]
    assert first["sex"].cat.categories.tolist() == ["f", "m"] and first["flag"].tolist() == [
        True,
        False,
    ]
    assert second["flag"].tolist() == [True]
    with pytest.raises(InputError, match="got 'x' in row 2"):
        read_tables(*paths, TableLayout(wanted=read_kinds(["n=number"])))
    with pytest.raises(
        InputError,
        match="Expected --types column=kind with the kinds number, boolean, date, text, category, got 'zip=word'",
    ):
        read_kinds(["zip=word"])
    assert "as dates. Give --types seen=text" in read_tables(*paths).notes[-1]


def test_a_label_that_is_missing_is_refused_by_its_row(tmp_path):
    paths = pair(tmp_path, "x,y\n1,a\n2,\n3,\n", "x,y\n1,b\n")
    with pytest.raises(InputError, match="got none in 2 records, the first in row 2"):
        read_pair(*paths, TableLayout())


def test_categories_and_missing_words_come_from_the_model(tmp_path):
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = pandas.DataFrame(
        {
            "code": ["007", "12", "007", "12"],
            "basement": ["NA", "full", "NA", "full"],
            "gap": ["a", None, "a", None],
        },
        dtype=object,
    )
    encoders = make_column_transformer((OneHotEncoder(), ["code", "basement"]), (make_pipeline(SimpleImputer(strategy="constant", fill_value="none", missing_values=None), OneHotEncoder()), ["gap"]))  # fmt: skip
    target = SklearnTarget(make_pipeline(encoders, LogisticRegression()).fit(frame, [0, 1, 0, 1]))
    wanted = find_fitted_columns(target)
    assert wanted["code"].categories == ("007", "12")
    for name in ("a.csv", "b.csv"):
        frame.assign(y=[0, 1, 0, 1]).to_csv(tmp_path / name, index=False)
    inside, _, _ = read_pair(
        tmp_path / "a.csv",
        tmp_path / "b.csv",
        TableLayout(fitted=list_target_columns(target), wanted=wanted),
        ("0", "1"),
    )
    assert inside.x["code"].tolist() == ["007", "12", "007", "12"] and inside.x[
        "basement"
    ].tolist() == [
        "NA",
        "full",
        "NA",
        "full",
    ]
    assert inside.x["gap"].tolist() == ["a", None, "a", None]
    np.testing.assert_allclose(target.query(inside.x), target.query(frame))


def test_columns_whose_names_lightgbm_rewrites_keep_their_categories(tmp_path):
    import lightgbm

    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "the ward": pandas.Categorical(rng.choice(["7", "12", "x"], 300)),
            "age": rng.integers(18, 90, 300),
        }
    )
    y = (frame["the ward"] == "12").astype(int)
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(frame, y)
    for name, part in (("a.csv", slice(0, 200)), ("b.csv", slice(200, 300))):
        frame[part].assign(y=y[part]).to_csv(tmp_path / name, index=False)
    for target in (SklearnTarget(model), wrap(model.booster_)):
        layout = TableLayout(fitted=list_target_columns(target), wanted=find_fitted_columns(target))
        inside, outside, _ = read_pair(tmp_path / "a.csv", tmp_path / "b.csv", layout)
        np.testing.assert_allclose(target.query(inside.x), model.predict_proba(frame[:200]))
        np.testing.assert_allclose(target.query(outside.x), model.predict_proba(frame[200:]))


def test_a_name_that_is_known_decides_the_separator(tmp_path):
    (tmp_path / "a.csv").write_text("text;y\none, two, three;1\nfour, five, six;0\n")
    assert find_text_format(tmp_path / "a.csv").separator in ",;"
    assert find_text_format(tmp_path / "a.csv", {"text", "y"}).separator == ";"


def test_reading_imports_nothing_that_is_not_needed(tmp_path):
    import subprocess

    (tmp_path / "a.npz").write_bytes(b"")
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    code = "import sys; from pathlib import Path; from memberscope.targets.tables import read_table; read_table(Path(sys.argv[1]));"
    code += "print([name for name in ('pandas', 'pyarrow', 'polars') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.npz")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_table_of_lists_is_an_array(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"x": [1, 2], "y": 0}\n{"x": [3, 4], "y": 1}\n')
    assert read_table(tmp_path / "a.jsonl").columns["x"].tolist() == [[1, 2], [3, 4]]


def test_names_of_rows_that_r_writes_are_no_column(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("age,income,label\n1,30,500,0\n2,40,600,1\n3,50,700,0\n")
    for hidden in ((), ("pandas",), ("pyarrow", "pandas")):
        columns = read_without(monkeypatch, tmp_path / "a.csv", *hidden)
        assert {name: np.asarray(column).tolist() for name, column in columns.items()} == {
            "age": [30, 40, 50], "income": [500, 600, 700], "label": [0, 1, 0]
        }  # fmt: skip
    assert "Left out the column without a name" in read_table(tmp_path / "a.csv").notes[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"age,income,label\n30,500,0,9\n40,600,1\n", "got 4 in line 2"),
        (b"age,income,label\n30,500,0\n40,600,1,9\n", "got 4 in line 3"),
        (b"# made by x\na,b\n1,2\n", "got the header '# made by x' and 2 values in line 2"),
    ],
)
def test_fields_that_have_no_column_are_refused(tmp_path, monkeypatch, content, words):
    (tmp_path / "a.csv").write_bytes(content)
    for hidden in ((), ("pandas",), ("pyarrow", "pandas")):
        with pytest.raises(InputError, match=words):
            read_without(monkeypatch, tmp_path / "a.csv", *hidden)


@pytest.mark.parametrize(
    "content",
    [
        b"a,label\r1,x\r2,y\r",
        b"sep=;\r\na;label\r\n1;x\r\n2;y\r\n",
        b'sep=,\na,label\n1,"x"\n2,y\n',
    ],
)
def test_line_ends_and_hints_of_excel(tmp_path, monkeypatch, content):
    (tmp_path / "a.csv").write_bytes(content)
    for hidden in ((), ("pandas",), ("pyarrow", "pandas")):
        columns = read_without(monkeypatch, tmp_path / "a.csv", *hidden)
        assert np.asarray(columns["a"]).tolist() == [1, 2] and np.asarray(
            columns["label"]
        ).tolist() == ["x", "y"]


@pytest.mark.parametrize(
    ("categories", "written", "expected"),
    [
        (("0", "1", "False", "True"), ["True", "1", "False", "0"], ["True", "1", "False", "0"]),
        ((1.0, 2.5, 10.0), ["1.0", "2.5", "10.0", "1"], [1.0, 2.5, 10.0, 1.0]),
        ((1, 2, 7), ["1.0", "2", "7.00"], [1, 2, 7]),
        ((False, True), ["True", "false", "1"], [True, False, True]),
        (("007", "12"), ["007", "12"], ["007", "12"]),
    ],
)
def test_a_category_is_found_however_a_file_writes_it(categories, written, expected):
    found = convert_column(
        np.array(written, dtype=object), ColumnSpec("category", categories), "c", Path("a.csv")
    )
    assert found.tolist() == expected and [type(value) for value in found.tolist()] == [
        type(value) for value in expected
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_words_that_look_like_dates_stay_words_where_the_model_knows_them(tmp_path, suffix):
    from sklearn.preprocessing import OneHotEncoder

    frame = pandas.DataFrame({"v": ["2020-01-01", "2021-01-01"] * 2}, dtype=object)
    encoder = OneHotEncoder().fit(frame)
    wanted = find_fitted_columns(type("Held", (), {"estimator": encoder})())
    for name in ("a", "b"):
        table, path = frame.assign(y=[0, 1, 0, 1]), tmp_path / f"{name}.{suffix}"
        table.to_json(path, orient="records", lines=True) if suffix == "jsonl" else table.to_csv(
            path, index=False
        )
    layout = TableLayout(fitted=("v",), wanted=wanted)
    inside, _, _ = read_pair(tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}", layout)
    assert inside.x["v"].tolist() == frame["v"].tolist()


def test_values_that_the_model_was_not_fitted_with_are_said(tmp_path):
    paths = pair(tmp_path, "code,y\n1234,0\n12,1\n", "code,y\n12,0\n")
    read = read_tables(*paths, TableLayout(wanted={"code": ColumnSpec("text", ("01234", "12"))}))
    assert (
        "In 1 of 3 records code holds values that the model was not fitted with, such as '1234'"
        in read.notes[0]
    )


def test_words_of_pyarrow_alone_are_made_when_they_are_asked_for(tmp_path, monkeypatch):
    FRAME.to_parquet(tmp_path / "a.parquet")
    words = read_without(monkeypatch, tmp_path / "a.parquet", "pandas")["name"]
    assert "_values" not in vars(words)
    assert (words.shape, words.dtype, find_column_kind(words)) == ((3,), np.dtype(object), "text")
    assert "_values" not in vars(words)
    assert (
        np.asarray(words).tolist()[:1]
        == list(words)[:1]
        == words[:1].tolist()
        == words.tolist()[:1]
    )
    assert np.array(words, copy=True) is not np.asarray(words)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("late", ["7", "2.5", '"word, quoted"', "7,7"])
def test_a_large_file_read_in_parts_is_the_file_read_whole(tmp_path, monkeypatch, ending, late):
    rows = [
        f"{k},{k % 5},w{k % 7},2024-01-{1 + k % 28:02d},{'' if k % 3 else k}" for k in range(900)
    ]
    rows.append(f"900,{late},w,2024-01-01,")
    path = tmp_path / "a.csv"
    path.write_text(ending.join(["id,n,word,day,gap", *rows]), newline="")
    whole = arrow._split_at_lines(path, "utf8")
    monkeypatch.setattr(arrow, "PART", 1 << 12)
    monkeypatch.setattr(arrow.os, "cpu_count", lambda: 3)
    parts = arrow._split_at_lines(path, "utf8")
    size = path.stat().st_size
    assert whole == [(0, size)] and len(parts) == (1 if '"' in late else 3)
    assert [start for start, _ in parts[1:]] == [start + length for start, length in parts[:-1]]
    assert sum(length for _, length in parts) == size
    if late == "7,7":
        with pytest.raises(InputError, match=r"Expected 5 values in each line of .*, got 6 in l"):
            read_without(monkeypatch, path, "pandas")
        return
    read = {name: as_plain(c) for name, c in read_without(monkeypatch, path, "pandas").items()}
    assert read == {name: as_plain(c) for name, c in read_table(path).columns.items()}
