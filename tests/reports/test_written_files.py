"""docs/files.md names everything that an audit writes."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from safetensors import safe_open

import memberscope
from memberscope.reports import format_result_json

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "files.md").read_text(encoding="utf-8")


def read_names(heading: str) -> set[str]:
    """The names in the first column of the tables below a heading."""
    part = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_each_key_of_the_result_is_on_the_page(result):
    document = json.loads(format_result_json(result))
    assert read_names("result.json") == set(document)
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| `estimates`")]
    assert set(document["estimates"][0]) <= set(re.findall(r"`(\w+)`", row))


def test_each_column_of_the_records_is_on_the_page(result, tmp_path):
    result.save(tmp_path)
    with (tmp_path / "records.csv").open(encoding="utf-8", newline="") as file:
        columns = next(csv.reader(file))
    named = read_names("records.csv")
    groups = set(result.arrays.groups) - {"class"}
    for column in columns:
        kind = column.partition(":")[0]
        assert column in named or f"{kind}:ATTACK@LEVEL" in named or column in groups


def test_each_key_of_the_arrays_is_on_the_page(result, tmp_path):
    result.save(tmp_path)
    named = read_names("arrays.safetensors")
    with safe_open(tmp_path / "arrays.safetensors", framework="numpy") as opened:
        keys, meta = list(opened.keys()), json.loads(opened.metadata()["memberscope"])
    # One name may stand for a description and for arrays: `groups` and `groups/NAME`
    kinds = {(name.partition("/")[0], name.count("/")) for name in named}
    for key in keys:
        assert (key.partition("/")[0], key.count("/")) in kinds or "script" in key
    assert set(meta) <= named
    (row,) = [line for line in PAGE.splitlines() if line.startswith("| `scored`")]
    assert set(meta["scored"][0]) <= set(re.findall(r"`(\w+)`", row))


def test_every_optional_array_is_on_the_page():
    """Keys that only some audits write are taken from the code that writes them."""
    source = Path(memberscope.reports.files.arrays_file.__file__).read_text(encoding="utf-8")
    written = set(re.findall(r'tensors\["(\w+)"\]', source))
    written |= set(re.findall(r"\{prefix\}(\w+)", source))
    assert {"overlap", "unit", "budgets", "stages"} <= written
    named = {name.partition("/")[0] for name in read_names("arrays.safetensors")}
    assert written <= named
