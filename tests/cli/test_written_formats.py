"""`check --write` and `report --write`: what they write, where findings point, how they exit."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commands import run_command
from signal_files import write_signals

CONFIG = """# signals = "other.csv"
[data]
features = ["x0"]

[target]
  signals = "../s.csv" # the model

[policy]
use = "demo"

[audit]
attacks = ["loss", "gap"]
"""


def call(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, cwd=cwd)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """A repository with a configuration in a folder, audited from its root."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / ".git").mkdir()
    (folder / "ml").mkdir()
    write_signals(folder / "s.csv")
    (folder / "ml" / "audit.toml").write_text(CONFIG)
    done = call("audit", "ml/audit.toml", "--out", "out", cwd=folder)
    assert done.returncode == 1, done.stderr
    return folder


def read_place(path: Path) -> tuple[str, int]:
    (run,) = json.loads(path.read_text(encoding="utf-8"))["runs"]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    return place["artifactLocation"]["uri"], place["region"]["startLine"]


def test_check_writes_every_file_and_keeps_its_exit_code(audited):
    names = ["m.sarif", "m.xml", "summary.md", "m.card.md", "m.cdx.json"]
    options = [word for name in names for word in ("--write", name)]
    done = call("check", "out", *options, cwd=audited)
    assert done.returncode == 1 and done.stderr == "" and done.stdout.startswith("FAIL: ")
    assert done.stdout.splitlines()[1:] == [f"Written to {name}" for name in names]
    assert all((audited / name).stat().st_size > 1000 for name in names)
    assert ElementTree.parse(audited / "m.xml").getroot().get("failures") == "1"
    # Labels were not searched, so a guard could not be set up from this audit
    summary = (audited / "summary.md").read_text()
    assert "memberscope audit ml/audit.toml --restrict top:1+round:2" in summary
    assert "guard init" not in summary


def test_findings_point_to_the_models_line_from_any_folder(audited, tmp_path):
    call("check", "out", "--write", "m.sarif", cwd=audited)
    assert read_place(audited / "m.sarif") == ("ml/audit.toml", 6)
    again = call("audit", "audit.toml", "--out", "../again", cwd=audited / "ml")
    assert again.returncode == 1
    call("check", "../again", "--write", "m.sarif", cwd=audited / "ml")
    assert read_place(audited / "ml" / "m.sarif") == ("ml/audit.toml", 6)


def test_a_model_of_the_command_line_has_no_line(audited):
    shutil.copy(audited / "s.csv", audited / "t.csv")
    call("audit", "ml/audit.toml", "--signals", "t.csv", "--out", "other", cwd=audited)
    call("check", "other", "--write", "o.sarif", cwd=audited)
    assert read_place(audited / "o.sarif") == ("ml/audit.toml", 1)
    flags = ("--signals", "s.csv", "--features", "x0", "--policy", "demo", "--attacks", "loss,gap")
    call("audit", *flags, "--out", "flags", cwd=audited)
    call("check", "flags", "--write", "f.sarif", cwd=audited)
    assert read_place(audited / "f.sarif") == ("flags/result.json", 1)


def test_where_the_model_is_named_changes_no_number(audited):
    documents = []
    for name in ("out", "flags"):
        document = json.loads((audited / name / "result.json").read_text())
        del document["environment"], document["cost"]
        documents.append(document)
    assert documents[0]["digests"] == documents[1]["digests"] and documents[0] == documents[1]


def test_another_policy_is_the_one_that_files_name(audited):
    (audited / "lenient.toml").write_text("[policy]\nmax_tpr = [{ fpr = 0.05, tpr = 0.99 }]\n")
    done = call("check", "out", "--policy", "lenient.toml", "--write", "l.xml", cwd=audited)
    assert done.returncode == 0
    text = (audited / "l.xml").read_text()
    assert 'name="policy" value="lenient"' in text and "rule: max_tpr/fpr=0.05" in text


def test_report_writes_what_is_named_and_says_so(audited):
    (audited / "out" / "report.html").unlink()
    done = call("report", "out", "--write", "r.md", "--write", "r.sarif", cwd=audited)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-2:] == ["Written to r.md", "Written to r.sarif"]
    assert not (audited / "out" / "report.html").exists()
    done = call("report", "out", "--write", "r.md", "--out", "page.html", cwd=audited)
    assert done.stdout.splitlines()[-2:] == ["Written to r.md", "Written to page.html"]
    done = call("report", "out", "--write", "README.md", "--format", "model-card", cwd=audited)
    assert done.returncode == 0 and "model-index" in (audited / "README.md").read_text()


@pytest.mark.parametrize("verb", ["check", "report"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--write", "x.docx"], "Expected a file that ends in .card.md"),
        (["--write", "x", "--format", "word"], "Expected the format cyclonedx, junit"),
        (["--format", "sarif"], "Expected one --write beside --format, got 0"),
        (["--write", "x.md", "--write", "y.md", "--format", "sarif"], "beside --format, got 2"),
        (["--write", "s.csv/x.md"], "Choose a folder that can be written"),
        (["--write", "ml"], "Expected a file that ends in .card.md"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_2(audited, verb, options, words):
    done = call(verb, "out", *options, cwd=audited)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
    assert not (audited / "x.md").exists() and not (audited / "y.md").exists()


@pytest.mark.parametrize("verb", ["check", "report"])
def test_a_truncated_result_writes_nothing(audited, tmp_path, verb):
    text = (audited / "out" / "result.json").read_text()
    (tmp_path / "result.json").write_text(text[: len(text) // 2])
    done = call(verb, tmp_path, "--write", tmp_path / "x.sarif", cwd=audited)
    assert done.returncode == 2 and "Expected complete JSON" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "x.sarif").exists()


def test_an_accepted_limit_is_no_finding_and_still_stands_in_the_summary(audited, tmp_path):
    policy = "[policy]\nreferences = 4\nmax_tpr = [{ fpr = 0.05, tpr = 0.99 }]\n"
    (tmp_path / "limited.toml").write_text(policy)
    files = ("--write", tmp_path / "a.sarif", "--write", tmp_path / "a.md")
    base = ("check", "out", "--policy", tmp_path / "limited.toml", *files)
    done = call(*base, cwd=audited)
    assert done.returncode == 3 and '"level": "note"' in (tmp_path / "a.sarif").read_text()
    done = call(*base, "--accept-limited", cwd=audited)
    assert done.returncode == 0
    assert json.loads((tmp_path / "a.sarif").read_text())["runs"][0]["results"] == []
    assert "PASS (limited)" in (tmp_path / "a.md").read_text()
