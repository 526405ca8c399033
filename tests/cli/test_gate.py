"""`memberscope check` as a gate: a baseline that no worse release replaces, and waivers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commands import run_command
from releases import STRICT, write_release

from memberscope.auditing.documents import AucClaim
from memberscope.reports import read_arrays
from memberscope.types import Access

WAIVER = """[[waiver]]
claim = "max_tpr"
reason = "The customers were told."
owner = "Ada Jones"
expires = 2027-01-31
"""
DAY = ("--today", "2026-11-30")


def check(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_command("check", *arguments, cwd=cwd)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What a refused command said: one line, no traceback."""
    assert done.stdout == "" and done.stderr.count("\n") == 1, (done.stdout, done.stderr)
    return done.stderr


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def audits(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audits")
    write_release(folder / "v1", 0.3)
    write_release(folder / "equal", 0.3, seed=1)
    write_release(folder / "worse", 0.8)
    write_release(folder / "better", 0.0)
    write_release(folder / "failing", 1.2, policy=STRICT)
    write_release(folder / "churn", 0.3, title="churn")
    done = check("v1", "--keep-baseline", "last", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Kept as the baseline in last." in done.stdout
    return folder


@pytest.fixture
def work(audits, tmp_path) -> Path:
    """A copy of the audits, with v1 kept as the baseline."""
    return shutil.copytree(audits, tmp_path / "work")


def test_the_baseline_is_the_audit_without_ids(work):
    kept = snapshot(work / "last")
    assert sorted(kept) == ["arrays.safetensors", "result.json"]
    assert kept["result.json"] == (work / "v1" / "result.json").read_bytes()
    assert b"secret-" in (work / "v1" / "arrays.safetensors").read_bytes()
    assert not any(b"secret-" in text for text in kept.values())
    assert read_arrays(work / "last").ids[0] == "0"
    assert run_command("verify", "last", cwd=work).returncode == 0


def test_a_worse_release_fails_and_does_not_replace_the_baseline(work):
    before = snapshot(work / "last")
    assert check("worse", cwd=work).returncode == 0
    done = check("worse", "--baseline", "last", "--junit", "j.xml", cwd=work)
    assert done.returncode == 1
    assert (
        "PASS:" in done.stdout and "Baseline: LEAKS MORE: worse leaks more than last" in done.stdout
    )
    suite = ElementTree.parse(work / "j.xml").getroot()
    assert (suite.get("failures"), suite.get("tests")) == ("1", str(len(suite.findall("testcase"))))
    case = suite.find("testcase[@classname='memberscope.baseline']")
    assert case is not None and "worse leaks more than last" in case.find("failure").get("message")
    for more in (("--keep-baseline", "last"), ("--baseline", "last", "--keep-baseline", "last")):
        done = check("worse", *more, cwd=work)
        assert done.returncode == 1 and "Not kept as the baseline" in done.stdout
        assert snapshot(work / "last") == before


def test_small_rises_do_not_add_up(work):
    """An equal release passes, and the baseline stays the one that all are compared with."""
    before = snapshot(work / "last")
    done = check("equal", "--keep-baseline", "last", cwd=work)
    assert done.returncode == 0 and "The baseline in last stays" in done.stdout
    assert "nothing in common" in done.stdout
    assert snapshot(work / "last") == before


def test_a_better_release_replaces_the_baseline(work):
    done = check("better", "--keep-baseline", "last", cwd=work)
    assert done.returncode == 0 and "Kept as the baseline in last." in done.stdout
    assert snapshot(work / "last")["result.json"] == (work / "better" / "result.json").read_bytes()
    assert check("v1", "--baseline", "last", cwd=work).returncode == 1
    assert [path.name for path in work.iterdir() if path.name.startswith(".")] == []


def test_the_same_audit_once_more_is_no_mistake(work):
    done = check("v1", "--keep-baseline", "last", cwd=work)
    assert done.returncode == 0 and "last is this very audit" in done.stdout


def test_a_release_that_fails_never_becomes_a_baseline(work):
    done = check("failing", "--keep-baseline", "new", cwd=work)
    assert done.returncode == 1 and not (work / "new").exists()
    assert "since the check did not pass" in done.stdout


def test_an_interrupted_exchange_loses_nothing(work):
    """What stands where a machine stopped between the two renames is put back."""
    before = snapshot(work / "last")
    os.replace(work / "last", work / ".last.former")
    done = check("worse", "--keep-baseline", "last", cwd=work)
    assert done.returncode == 1 and snapshot(work / "last") == before
    shutil.copytree(work / "last", work / ".last.former")
    assert check("better", "--keep-baseline", "last", cwd=work).returncode == 0
    assert snapshot(work / "last") != before and not (work / ".last.former").exists()


def test_a_full_disk_leaves_the_baseline_as_it_was(work):
    small = work / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        shutil.copytree(work / "last", small / "last")
        with (small / "fill").open("wb", buffering=0) as stream, suppress(OSError):
            while True:
                stream.write(bytes(4096))
        done = check("better", "--keep-baseline", "small/last", cwd=work)
        assert done.returncode == 2 and "full disk" in done.stderr
        assert snapshot(small / "last") == snapshot(work / "last")
        assert sorted(path.name for path in small.iterdir()) == ["fill", "last"]
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda last: shutil.rmtree(last), "For the first release, leave --baseline out"),
        (lambda last: (last / "result.json").unlink(), "which holds none"),
        (
            lambda last: (last / "result.json").write_bytes(
                (last / "result.json").read_bytes()[:900]
            ),
            "Expected complete JSON",
        ),
        (
            lambda last: (last / "result.json").write_text(
                (last / "result.json").read_text().replace("result/2", "result/3", 1)
            ),
            "Expected a result of this version",
        ),
        (
            lambda last: (last / "arrays.safetensors").write_bytes(
                (last / "arrays.safetensors").read_bytes()[:900]
            ),
            "Expected the complete arrays",
        ),
        (
            lambda last: shutil.copy(last.parent / "better" / "arrays.safetensors", last),
            "Expected the scores that last was computed from",
        ),
    ],
)
def test_a_baseline_that_cannot_be_used_stops_the_gate(work, change, words):
    change(work / "last")
    assert words in said(done := check("better", "--baseline", "last", cwd=work))
    assert done.returncode == 2
    left = snapshot(work / "last") if (work / "last").exists() else None
    if left is not None:
        assert check("better", "--keep-baseline", "last", cwd=work).returncode == 2
        assert snapshot(work / "last") == left


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("churn", "--baseline", "last"), "Expected a baseline of the model 'churn'"),
        (("v1", "--baseline", "v1"), "which is the audit that is checked"),
        (("v1", "--baseline", "v1/result.json"), "which is the audit that is checked"),
        (("v1", "--keep-baseline", "v1"), "Expected a folder of its own for the baseline"),
        (("v1", "--keep-baseline", "."), "Expected a folder of its own for the baseline"),
        (("v1", "--keep-baseline", "v1/result.json"), "got the file"),
        (("v1", "--baseline", "last", "--keep-baseline", "new"), "Expected one folder for"),
        (("v1", "--today", "tomorrow"), "Expected a date such as 2027-01-31 for --today"),
        (("v1", "--waivers", "none.toml"), "which is not there"),
    ],
)
def test_each_mistake_is_one_sentence(work, arguments, words):
    done = check(*arguments, cwd=work)
    assert words in said(done) and done.returncode == 2
    assert sorted(snapshot(work / "last")) == ["arrays.safetensors", "result.json"]


def test_an_audit_at_another_access_cannot_be_compared(work):
    document = json.loads((work / "last" / "result.json").read_text())
    assert document["plan"]["threat"]["access"] == "probabilities"
    write_release(work / "labels", 0.3, access=Access.LABEL)
    done = check("labels", "--baseline", "last", cwd=work)
    assert done.returncode == 3 and "INCONCLUSIVE: Not compared: The access differs" in done.stdout


def test_a_waived_failure_passes_and_is_shown(work):
    (work / "waivers.toml").write_text(WAIVER)
    assert check("failing", cwd=work).returncode == 1
    done = check("failing", "--waivers", "waivers.toml", *DAY, "--junit", "j.xml", cwd=work)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    # The verdict stands before the reason, which does not say it again
    assert lines[0].startswith("FAIL (waived): ") and "Failed: " not in lines[0]
    assert lines[1] == (
        "WAIVED: No attack finds more than 15% of members at 5% false positives. Owner: Ada Jones. "
        "Reason: The customers were told. Until 2027-01-31."
    )
    suite = ElementTree.parse(work / "j.xml").getroot()
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")
    assert "Owner: Ada Jones" in suite.find("testcase/skipped").get("message")


def test_a_failure_of_which_one_claim_is_waived_says_so(work):
    two = replace(STRICT, max_auc=(AucClaim(0.55),))
    write_release(work / "two", 1.2, policy=two)
    (work / "waivers.toml").write_text(WAIVER)
    done = check("two", "--waivers", "waivers.toml", *DAY, cwd=work)
    assert done.returncode == 1
    assert done.stdout.startswith("FAIL (1 of 2 failed claims waived): ")
    assert "With what is waived: FAIL" in done.stdout


def test_a_waiver_does_not_excuse_a_release_that_leaks_more(work):
    write_release(work / "leaky", 2.0, policy=STRICT)
    (work / "waivers.toml").write_text(WAIVER)
    waived = ("--waivers", "waivers.toml", *DAY)
    assert check("failing", *waived, "--keep-baseline", "new", cwd=work).returncode == 0
    assert check("leaky", *waived, cwd=work).returncode == 0
    assert check("leaky", *waived, "--keep-baseline", "new", cwd=work).returncode == 1
    assert (work / "new" / "result.json").read_bytes() == (
        work / "failing" / "result.json"
    ).read_bytes()


def test_an_expired_waiver_stops_the_gate_even_where_nothing_fails(work):
    (work / "waivers.toml").write_text(WAIVER)
    for audit in ("failing", "v1"):
        done = check(audit, "--waivers", "waivers.toml", "--today", "2027-02-01", cwd=work)
        assert done.returncode == 2 and "which expired on 2027-01-31" in said(done)


def test_a_waiver_without_an_owner_stops_the_gate(work):
    (work / "waivers.toml").write_text(WAIVER.replace('owner = "Ada Jones"\n', ""))
    done = check("v1", "--waivers", "waivers.toml", *DAY, cwd=work)
    assert done.returncode == 2 and "Expected owner as a text for waiver 1" in said(done)


def test_a_waiver_is_matched_with_the_policy_that_judges(work):
    (work / "waivers.toml").write_text(WAIVER + "fpr = 0.05\n")
    done = check("failing", "--policy", "demo", "--waivers", "waivers.toml", *DAY, cwd=work)
    assert done.returncode == 0 and "WAIVED: No attack" in done.stdout
    (work / "waivers.toml").write_text(WAIVER + "fpr = 0.01\n")
    done = check("failing", "--policy", "demo", "--waivers", "waivers.toml", *DAY, cwd=work)
    assert done.returncode == 2 and "which matches none" in said(done)


def test_without_a_day_the_clock_decides(work):
    """Waivers of any year that this may run in, and of none."""
    for year, code in (("9999", 0), ("1999", 2)):
        (work / "waivers.toml").write_text(WAIVER.replace("2027", year))
        assert check("failing", "--waivers", "waivers.toml", cwd=work).returncode == code


def test_hostile_text_of_a_waiver_is_only_shown(work):
    text = WAIVER.replace("Ada Jones", "\\u001b[2J<b>&\\nx")
    (work / "waivers.toml").write_text(text)
    done = check("failing", "--waivers", "waivers.toml", *DAY, "--junit", "j.xml", cwd=work)
    assert done.returncode == 0 and "\x1b" not in done.stdout
    assert "Owner: \\x1b[2J<b>& x." in done.stdout
    skipped = ElementTree.parse(work / "j.xml").getroot().find("testcase/skipped")
    assert "[2J<b>& x" in skipped.get("message")
