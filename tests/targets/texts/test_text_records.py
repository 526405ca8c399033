"""Records of texts from lists and files of each format, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
from importlib.util import find_spec

import numpy as np
import pytest

from memberscope.errors import InputError
from memberscope.targets import (
    is_text_list,
    make_text_records,
    read_text_pair,
    read_text_records,
)
from memberscope.texts import Chat, Completion

ROWS = [
    {"id": 7, "text": "First, with a comma.\nAnd a line.", "site": "a", "author": "p1"},
    {"id": 8, "text": "NA", "site": "b", "author": "p2"},
    {"id": 9, "text": "007", "site": None, "author": "p1"},
]
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def write_rows(path, rows):
    """Write rows of plain values in the format of the suffix."""
    names = path.name.split(".", 1)[1]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if names == "jsonl":
        path.write_text(lines)
    elif names == "jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif names == "json":
        path.write_text(json.dumps(rows))
    elif names == "csv":
        with path.open("w", newline="") as stream:
            table = csv.DictWriter(stream, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    else:
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import feather, parquet

        table = arrow.Table.from_pylist(rows)
        (parquet.write_table if names == "parquet" else feather.write_feather)(table, str(path))
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "json", "csv", "parquet", "feather"])
def test_every_format_gives_the_same_records(tmp_path, suffix):
    path = write_rows(tmp_path / f"train.{suffix}", ROWS)
    records = read_text_records(path, groups=("site",), unit="author")
    assert records.x.dtype == object and records.x.tolist() == [row["text"] for row in ROWS]
    assert records.y.tolist() == [0, 0, 0] and records.y.dtype == np.int64
    assert records.ids.tolist() == ["7", "8", "9"]
    assert records.groups["site"].tolist() == ["a", "b", "missing"]
    assert records.unit.tolist() == ["p1", "p2", "p1"]
    assert is_text_list(records.x)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_prompts_and_completions_are_found_or_named(tmp_path, suffix):
    rows = [{"prompt": "2 + 2 =", "completion": " 4"}, {"prompt": "", "completion": "Yes."}]
    if suffix == "csv" and not find_spec("pandas"):
        pytest.skip("needs pandas")
    rows = rows[:1] if suffix == "csv" else rows
    path = write_rows(tmp_path / f"train.{suffix}", rows)
    records = read_text_records(path)
    assert records.x.tolist() == [Completion(**row) for row in rows]
    assert records.ids[0] == "train:0"
    renamed = [{"ask": row["prompt"], "say": row["completion"], "text": "other"} for row in rows]
    path = write_rows(tmp_path / f"other.{suffix}", renamed)
    found = read_text_records(path, prompt="ask", completion="say")
    assert found.x.tolist() == records.x.tolist()


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_messages_become_chats(tmp_path, suffix):
    path = write_rows(tmp_path / f"train.{suffix}", [{"messages": MESSAGES}])
    assert read_text_records(path).x.tolist() == [Chat((("user", "Hi"), ("assistant", "Hello")))]
    # In a CSV they are written as JSON
    path = write_rows(tmp_path / "train.csv", [{"messages": json.dumps(MESSAGES)}])
    assert read_text_records(path).x[0].messages[1] == ("assistant", "Hello")


def test_a_plain_file_has_a_text_a_line(tmp_path):
    (tmp_path / "train.txt").write_text("one, text\n\nanother\n")
    assert read_text_records(tmp_path / "train.txt").x.tolist() == ["one, text", "another"]


def test_lists_of_python_are_records():
    for given, wanted in (
        (["a b", "c d"], "c d"),
        ([Completion("a", "b")], Completion("a", "b")),
        ([{"prompt": "a", "completion": "b"}], Completion("a", "b")),
        ([{"text": "a"}], "a"),
        ([MESSAGES], Chat((("user", "Hi"), ("assistant", "Hello")))),
        ([Chat((("user", "Hi"),))], Chat((("user", "Hi"),))),
        (np.array(["a b", "c d"]), "c d"),
    ):
        assert make_text_records(given).x[-1] == wanted
    records = make_text_records(["a", "b"], "in", groups={"site": ["x", None]}, unit=[1, 2])
    assert records.ids.tolist() == ["in:0", "in:1"] and records.unit.tolist() == ["1", "2"]
    assert records.groups["site"].tolist() == ["x", "missing"]
    assert make_text_records(["a"], ids=["own"]).ids.tolist() == ["own"]


def test_files_of_one_name_have_different_ids(tmp_path):
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
        write_rows(tmp_path / folder / "train.jsonl", [{"text": "a text"}])
    first, second = read_text_pair(tmp_path / "in" / "train.jsonl", tmp_path / "out/train.jsonl")
    assert (first.ids[0], second.ids[0]) == ("member:0", "non-member:0")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"text": "a"}, {"text": " \n"}], "an empty one in 1 records, the first in record 2"),
        ([{"text": "a"}, {"text": None}], "Expected a text in record 2 of .*, got none"),
        ([{"text": "a"}, {"text": 5}], "Expected a text in record 2 of .*, got 5"),
        ([{"prompt": "a"}], "got prompt. Name the columns to read"),
        ([{"prompt": "a", "completion": None}], "Expected a text in record 1 of .*, got none"),
        ([{"prompt": "a", "completion": ""}], "an empty one in 1 records"),
        ([{"text": "a", "messages": MESSAGES}], "got messages and text. Name the columns"),
        ([{"words": "a"}], "got words. Name the columns"),
        ([{"messages": [{"role": "user"}]}], "messages with a role and a content"),
        ([{"messages": []}], "messages with a role and a content"),
        ([{"id": 1, "text": "a"}, {"id": 1, "text": "b"}], "got '1' 2 times"),
        ([{"id": 1, "text": "a"}, {"text": "b"}], "got none in row 2"),
        (["text"], "Expected one JSON object a line"),
        ([], "got an empty file"),
    ],
)
def test_what_is_no_record_is_one_sentence(tmp_path, rows, words):
    path = write_rows(tmp_path / "train.jsonl", rows)
    with pytest.raises(InputError, match=words) as caught:
        read_text_records(path)
    assert "\n" not in str(caught.value)


def test_wrong_names_formats_and_kinds_are_one_sentence(tmp_path):
    path = write_rows(tmp_path / "train.jsonl", [{"text": "a", "author": None}])
    for more, words in (
        ({"text": "body"}, "Expected the column 'body'"),
        ({"groups": ("site",)}, "Expected the column 'site'"),
        ({"unit": "author"}, "Expected the unit of each record in 'author'"),
        ({"prompt": "text"}, "got prompt. Name one of these three"),
    ):
        with pytest.raises(InputError, match=words):
            read_text_records(path, **more)
    with pytest.raises(InputError, match=r"Expected a .jsonl, .parquet"):
        read_text_records(tmp_path / "train.pkl")
    with pytest.raises(InputError, match="which is not there"):
        read_text_records(tmp_path / "none.jsonl")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 900)[:60])
    with pytest.raises(InputError, match="Expected one JSON object a line"):
        read_text_records(tmp_path / "cut.jsonl.gz")
    with pytest.raises(InputError, match=r"got one text. Put it into a list"):
        make_text_records("a text")
    with pytest.raises(InputError, match="got a prompt alone"):
        make_text_records([{"prompt": "a"}])
    with pytest.raises(InputError, match="got texts and, in record 2, prompts with completions"):
        make_text_records(["a", Completion("a", "b")])
    with pytest.raises(InputError, match="got texts and prompts with completions"):
        read_text_pair(["a"], [Completion("a", "b")])
    with pytest.raises(InputError, match="Expected texts in the list, got none"):
        make_text_records([])


def test_the_real_texts_are_read(text_folder):
    records = read_text_records(text_folder / "text_stackexchange.jsonl.gz")
    assert len(records) == 1000 and records.ids[:2].tolist() == ["0", "1"]
    assert sum(map(len, records.x)) == 2_057_606


@pytest.fixture
def text_folder():
    """The folder of real data, if it is there."""
    import os
    from pathlib import Path

    folder = Path(os.environ.get("MEMBERSCOPE_DATA", ""))
    if not (folder / "text_stackexchange.jsonl.gz").is_file():
        pytest.skip("needs the real texts; set MEMBERSCOPE_DATA to their folder")
    return folder
