"""`memberscope compare` as a script sees it.

Exit codes, both widths of the terminal, files, and one sentence for each mistake.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from commands import run_command

from memberscope.auditing import Plan, audit_signals
from memberscope.reports import write_all
from memberscope.targets import StoredSignals
from memberscope.types import Access, ThreatModel

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: object, cwd: Path, columns: int = 100) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, cwd=cwd, COLUMNS=str(columns))


def release(shift: float, folder: Path, access: Access = Access.PROBABILITIES) -> None:
    rng = np.random.default_rng(0)
    member, labels = np.arange(800) < 400, rng.integers(0, 2, 800)
    outputs = np.eye(2)[labels] * (rng.standard_normal(800) + shift * member)[:, None]
    signals = StoredSignals(
        "logits", outputs, labels, member, np.arange(800).astype(str), {}, None, digest=str(shift)
    )
    plan = Plan(
        title=f"<b>{shift}</b>",
        threat=ThreatModel(access=access),
        attacks=("gap", "logit", "entropy"),
    )
    write_all(audit_signals(signals, plan=plan), folder)


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("releases")
    for name, shift in (("v1", 0.2), ("v2", 1.5), ("v3", 0.4)):
        release(shift, folder / name)
    release(1.5, folder / "labels", Access.LABEL)
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("v1", "v2"), 1, "LEAKS MORE v2 leaks more than v1"),
        (("v1/result.json", "v2"), 1, "LEAKS MORE v2 leaks more than v1"),
        (("v2", "v1"), 0, "NOT MORE v1 leaks less than v2"),
        (("v1", "v2", "--margin", "0.9"), 0, "by more than the margin of 0.9"),
        (("v1", "v2", "v3"), 0, "NOT MORE v3 leaks less than v2"),
        (("v1", "v3", "v2", "--baseline", "first"), 1, "v2 leaks more than v1"),
        (("v1", "labels"), 3, "INCONCLUSIVE Not compared: The access differs"),
    ],
)
def test_the_exit_code_is_the_verdict(releases, arguments, code, words):
    done = call("compare", *arguments, cwd=releases)
    assert (done.returncode, done.stderr) == (code, "")
    assert words in " ".join(done.stdout.split())


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_is_whole_at_either_width(releases, columns):
    done = call("compare", "v1", "v2", "v3", cwd=releases, columns=columns)
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= columns and "…" not in done.stdout
    for words in (
        "probabilities",
        "found at 1% *",
        "AUC *",
        "train accuracy",
        "Over the releases",
        "decides the verdict",
    ):
        assert words in done.stdout
    assert ("by the attack" in done.stdout.split("Over the releases")[0]) is (columns == 120)


def test_the_page_and_the_document(releases, tmp_path):
    done = call(
        "compare",
        "v1",
        "v2",
        "--out",
        tmp_path / "c.html",
        "--json",
        tmp_path / "c.json",
        cwd=releases,
    )
    assert done.returncode == 1 and "Written to" in done.stdout
    document = json.loads((tmp_path / "c.json").read_text())
    jsonschema.Draft202012Validator(
        json.loads((ROOT / "schema" / "comparison.schema.json").read_text())
    ).validate(document)
    assert document["verdict"] == "LEAKS_MORE" and [
        entry["name"] for entry in document["releases"]
    ] == ["v1", "v2"]
    page = (tmp_path / "c.html").read_text()
    assert (
        "default-src 'none'; script-src 'none'" in page
        and "<script" not in page
        and 'style="' not in page
    )
    assert "&lt;b&gt;1.5&lt;/b&gt;" in page and "<b>" not in page
    assert call("compare", "v1", "v2", "--out", tmp_path / "folder", cwd=releases).returncode == 1
    assert (tmp_path / "folder" / "comparison.html").read_text() == page


def test_without_the_scores_it_still_compares_and_says_so(releases, tmp_path):
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        shutil.copy(releases / name / "result.json", tmp_path / name)
    done = call("compare", "v1", "v2", cwd=tmp_path)
    assert done.returncode == 1 and "The scores of both audits are missing" in " ".join(
        done.stdout.split()
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("v1",), "Expected at least two audits to compare, got 'v1' alone"),
        (("v1", "nowhere"), "Expected a result.json, got 'nowhere'"),
        (("v1", "v1/"), "Expected different audits, got 'v1' twice"),
        (("v1", "v1/result.json"), "Expected different audits"),
        (("v1", "copy"), "got the same result twice: v1 and copy"),
        (("v1", "cut.json"), "Expected complete JSON"),
        (("v1", "other.json"), "Expected a result of this version"),
        (("v1", "mixed"), "Expected the scores that mixed was computed from"),
        (("v1", "v2", "--margin", "-1"), "Expected a margin of at least 0"),
        (("v1", "v2", "--baseline", "next"), "Expected --baseline previous or first"),
    ],
)
def test_a_mistake_is_one_sentence(releases, arguments, words):
    text = (releases / "v2" / "result.json").read_text()
    (releases / "cut.json").write_text(text[: len(text) // 2])
    (releases / "other.json").write_text('{"format": "memberscope-comparison/1"}')
    shutil.copytree(releases / "v1", releases / "copy", dirs_exist_ok=True)
    shutil.copytree(releases / "v2", releases / "mixed", dirs_exist_ok=True)
    shutil.copy(releases / "v3" / "arrays.safetensors", releases / "mixed")
    done = call("compare", *arguments, cwd=releases)
    assert done.returncode == 2 and words in done.stderr
    assert done.stderr.startswith("memberscope: ") and done.stderr.count("\n") == 1
