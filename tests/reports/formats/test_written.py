"""Files by their suffix, and what is refused in one sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from memberscope.errors import InputError
from memberscope.reports import find_format, list_formats, render_format, write_formats
from memberscope.reports.formats import written

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")

SUFFIXES = {
    "a.sarif": "sarif",
    "a.sarif.json": "sarif",
    "a.XML": "junit",
    "a.md": "markdown",
    "a.card.md": "model-card",
    "bom.cdx.json": "cyclonedx",
    "a.b.pdf": "pdf",
}


@pytest.mark.parametrize(("name", "format"), SUFFIXES.items())
def test_the_suffix_says_the_format(name, format):
    assert find_format(f"some.md/{name}") == format
    assert set(SUFFIXES.values()) == set(list_formats())


@pytest.mark.parametrize("name", ["a.json", "a", "a.html", "md", "a.sarif.gz", ""])
def test_an_unknown_suffix_is_one_sentence_and_nothing_is_written(result, tmp_path, name):
    with pytest.raises(InputError, match=r"^Expected a file that ends in \.card\.md, .* --format"):
        write_formats(result, [tmp_path / "good.sarif", tmp_path / "sub" / f"x{name}"])
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_names_the_nearest(result):
    with pytest.raises(InputError, match=r"got 'sarf'\. Did you mean 'sarif'\?"):
        find_format("a", "sarf")


def test_a_format_goes_before_the_suffix(result, tmp_path):
    (path,) = write_formats(result, [tmp_path / "README.md"], "model-card")
    assert path.read_text(encoding="utf-8").startswith("---\ntags:\n")


@pytest.mark.parametrize("names", [[], ["a.sarif", "b.sarif"]])
def test_a_format_needs_one_file(result, tmp_path, names):
    with pytest.raises(
        InputError, match=f"^Expected one --write beside --format, got {len(names)}"
    ):
        write_formats(result, [tmp_path / name for name in names], "sarif")
    assert list(tmp_path.iterdir()) == []


def test_the_same_file_twice_and_a_folder_are_one_sentence(result, tmp_path):
    with pytest.raises(InputError, match=r"^Expected another name for each --write"):
        write_formats(result, [tmp_path / "a.md", str(tmp_path / "a.md")])
    (tmp_path / "b.md").mkdir()
    with pytest.raises(InputError, match=r"^Expected a file for --write, got the folder"):
        write_formats(result, [tmp_path / "b.md"])


def test_a_folder_that_cannot_be_written_is_one_sentence(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Choose a folder that can be written"):
        result.write(tmp_path / "file" / "a.sarif")


def test_a_result_writes_itself(result, tmp_path):
    path = result.write(tmp_path / "new" / "audit.sarif")
    assert path == tmp_path / "new" / "audit.sarif"
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == "2.1.0"
    assert path.read_bytes() == render_format(result, "sarif")
    assert [entry.name for entry in path.parent.iterdir()] == ["audit.sarif"]


@pytest.mark.parametrize("format", sorted(set(list_formats()) - {"pdf"}))
def test_ids_are_in_no_file(result, format):
    assert b"secret-" not in render_format(result, format, document="out")


def test_the_page_has_every_suffix_and_format():
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `.")]
    named = {
        suffix: row[2].strip(" `") for row in rows for suffix in re.findall(r"`(\.[^`]+)`", row[1])
    }
    assert named == written.SUFFIXES
