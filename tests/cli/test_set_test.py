"""`memberscope set-test` as a script sees it: exit codes, files, and one sentence a mistake."""

from __future__ import annotations

import html
import json
import re
import shutil

import numpy as np
import pytest
from commands import run_command

from memberscope.auditing import Plan, audit_signals
from memberscope.reports import write_all
from memberscope.targets import StoredSignals
from memberscope.types import Access, ThreatModel


def write_audit(shift, folder, *, exchangeable=True, records=True):
    rng = np.random.default_rng(0)
    member, labels = np.arange(400) < 200, rng.integers(0, 2, 400)
    outputs = np.eye(2)[labels] * (rng.standard_normal(400) + shift * member)[:, None]
    ids = np.array([f"letter-{i}" for i in range(400)])
    signals = StoredSignals("logits", outputs, labels, member, ids, {}, None, digest=str(shift))
    plan = Plan(
        title="letters",
        threat=ThreatModel(access=Access.LOGITS),
        attacks=("gap", "loss"),
        assume_exchangeable=exchangeable,
    )
    write_all(audit_signals(signals, plan=plan), folder, records=records)


@pytest.fixture(scope="module")
def audits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    write_audit(1.5, folder / "used")
    write_audit(0.0, folder / "unused")
    write_audit(1.5, folder / "undeclared", exchangeable=False)
    write_audit(1.5, folder / "anonymous", records=False)
    shutil.copytree(folder / "used", folder / "scoreless")
    (folder / "scoreless" / "arrays.safetensors").unlink()
    shutil.copytree(folder / "used", folder / "truncated")
    file = folder / "truncated" / "arrays.safetensors"
    file.write_bytes(file.read_bytes()[:300])
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("used",), 1, "Was the collection used? YES"),
        (("used/result.json", "--questions", "list"), 1, "Can any of it be named as used? YES"),
        (("unused",), 0, "Was the collection used? NOT SHOWN"),
        (("unused", "--questions", "not_used"), 3, "Was 10% or more of it used? NOT RUN"),
        (("undeclared",), 3, "Was the collection used? WITHHELD"),
        (("anonymous",), 1, "the list has row numbers, from 0, in the place of ids"),
    ],
)
def test_the_exit_code_is_the_answer(audits, arguments, code, words):
    done = run_command("set-test", *arguments, cwd=audits, COLUMNS="100")
    assert (done.returncode, done.stderr) == (code, "")
    assert words in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "Expected a result.json, got 'nowhere', which holds none."),
        (("scoreless",), "got a result without them. Give the folder that has arrays.safetensors"),
        (("truncated",), "Expected the complete arrays of an audit"),
        (("used", "--fdr", "2"), "Expected fdr strictly between 0 and 1, got 2.0."),
        (
            ("used", "--questions", "use"),
            "Expected the questions used, not_used, share, list, near, got 'use'.",
        ),
        (("used", "--model", "m.onnx"), "a finished audit alone, got 'used' with --model."),
        (("used", "--seed", "-1"), "Expected a seed of at least 0, got -1."),
    ],
)
def test_a_mistake_is_one_sentence(audits, arguments, words):
    done = run_command("set-test", *arguments, cwd=audits)
    assert done.returncode == 2 and words in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_the_files_are_beside_the_audit_and_hold_no_more_than_was_asked(audits, tmp_path):
    shutil.copytree(audits / "used", tmp_path / "a")
    run_command("set-test", "a", cwd=tmp_path)
    document = (tmp_path / "a" / "set-result.json").read_text(encoding="utf-8")
    assert "letter-" not in document and json.loads(document)["format"].startswith(
        "memberscope-set"
    )
    named = (tmp_path / "a" / "named.csv").read_text(encoding="utf-8")
    assert named.startswith("id,hash,p_value\nletter-")
    page = (tmp_path / "a" / "set-report.html").read_text(encoding="utf-8")
    assert "letter-" not in page and "named.csv" in page
    # The same command gives the same bytes
    run_command("set-test", "a", "--no-records", cwd=tmp_path)
    assert (tmp_path / "a" / "set-result.json").read_text(encoding="utf-8") == document
    assert not (tmp_path / "a" / "named.csv").exists()
    assert run_command("verify", "a", cwd=tmp_path).returncode == 0


def test_the_page_says_what_the_terminal_says(audits, tmp_path):
    """Answers with their statements and numbers; a withheld answer has no number."""
    for name, badge, question, shown in (
        ("used", "Use shown", "Was the collection used?", "<dt>p-value</dt><dd>0.001</dd>"),
        ("unused", "Use not shown", "Can any of it be named as used?", "<dt>records named</dt>"),
        ("undeclared", "Withheld", "Was the collection used?", "--assume-exchangeable"),
    ):
        shutil.copytree(audits / name, tmp_path / name)
        said = " ".join(run_command("set-test", name, cwd=tmp_path, COLUMNS="100").stdout.split())
        page = (tmp_path / name / "set-report.html").read_text(encoding="utf-8")
        document = json.loads((tmp_path / name / "set-result.json").read_text(encoding="utf-8"))
        assert f'<p class="badge">{badge}</p>' in page and question in page and shown in page
        plain = html.unescape(re.sub(r"</?span( class=\"option\")?>", "", page))
        for answer in document["answers"]:
            assert answer["statement"] in plain
            assert answer["statement"] in said
        assert ("<dt>p-value</dt>" in page) is (name != "undeclared")


def test_an_audit_is_run_first_where_none_is_finished(tmp_path):
    rng = np.random.default_rng(0)
    member = np.arange(200) < 100
    own = 1 / (1 + np.exp(-(rng.standard_normal(200) + 2 * member)))
    rows = enumerate(zip(member, own, strict=True))
    lines = [
        f"{int(m)},{i % 2},{abs(i % 2 - p):.6f},{abs(1 - i % 2 - p):.6f}" for i, (m, p) in rows
    ]
    text = "\n".join(["member,label,p0,p1", *lines])
    (tmp_path / "signals.csv").write_text(text + "\n", encoding="utf-8")
    (tmp_path / "audit.toml").write_text(
        '[target]\nsignals = "signals.csv"\n[audit]\nattacks = ["loss"]\nassume_exchangeable = true\n'
        '[set]\nquestions = ["used"]\nsignificance = 0.01\n',
        encoding="utf-8",
    )
    done = run_command("set-test", "audit.toml", "--out", "out", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    written = json.loads((tmp_path / "out" / "set-result.json").read_text(encoding="utf-8"))
    assert (tmp_path / "out" / "result.json").is_file()
    assert written["settings"]["significance"] == 0.01
    assert [entry["question"] for entry in written["answers"]] == ["used"]
    # Keys of [set] are no trouble to other commands
    assert run_command("plan", "audit.toml", cwd=tmp_path).returncode == 0
