"""Attacks of a file on the command line and in audit.toml."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import run_command

FILE = """
from memberscope.types import Needs

class OwnClass:
    name, needs = "own_class", Needs()
    def score(self, evidence, rng):
        return evidence.target[range(len(evidence)), 0, evidence.labels]

class Broken:
    name, needs = "broken", Needs()
    def score(self, evidence, rng):
        raise KeyError("lost")
"""
CONFIG = """
[target]
signals = "signals.csv"
[audit]
attacks = ["gap", "own_class"]
attack_file = ["mine.py"]
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    rng, n = np.random.default_rng(0), 100
    member, labels = np.arange(2 * n) < n, rng.integers(0, 2, 2 * n)
    p = 1 / (1 + np.exp(-(2 * labels - 1) * (rng.standard_normal(2 * n) + 1 + member)))
    rows = [f"{int(member[i])},{labels[i]},{1 - p[i]:.6f},{p[i]:.6f}" for i in range(2 * n)]
    (tmp_path / "signals.csv").write_text("\n".join(["member,label,p0,p1", *rows]) + "\n")
    (tmp_path / "mine.py").write_text(FILE)
    (tmp_path / "audit.toml").write_text(CONFIG)
    return tmp_path


def test_attacks_of_a_file_run_and_are_verified(folder):
    flags = ("--signals", "signals.csv", "--attacks", "gap", "--attack-file", "mine.py")
    done = run_command("audit", *flags, "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    document = json.loads((folder / "out" / "result.json").read_text())
    assert document["plan"]["attacks"] == ["gap", "own_class", "broken"]
    assert [entry["name"] for entry in document["plan"]["custom"]] == ["own_class", "broken"]
    (reason,) = [entry["why"] for entry in document["not_run"] if entry["attack"] == "broken"]
    assert (
        reason == "Expected scores of the attack broken, got KeyError: 'lost'. Correct its score."
    )
    verified = run_command("verify", "out", cwd=folder, fresh=True)
    assert verified.returncode == 0 and verified.stdout.startswith("Verified")
    # Changed code makes another audit, which must not be taken for this one
    (folder / "mine.py").write_text(FILE + "\n# changed\n")
    again = run_command("audit", *flags, "--out", "out", cwd=folder)
    assert again.returncode == 2 and "another plan" in again.stderr


def test_a_file_is_named_in_audit_toml_beside_it(folder):
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    done = run_command("plan", "../audit.toml", cwd=elsewhere)
    assert done.returncode == 0 and "own_class" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / 0", "got ZeroDivisionError: division by zero. Run the file"),
        ("", "got neither. Define one at the top"),
        (FILE.replace('"own_class"', '"Own Class"'), "in lower case such as my_attack"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(folder, text, words):
    (folder / "mine.py").write_text(text)
    done = run_command("audit", "--signals", "signals.csv", "--attack-file", "mine.py", cwd=folder)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
