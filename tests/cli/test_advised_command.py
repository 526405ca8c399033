"""The command that a failed finding names does what it says."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from commands import run_command

MODULE = """
import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from memberscope import Records
from memberscope.recipes import SklearnRecipe

recipe = SklearnRecipe(make_pipeline(StandardScaler(), DecisionTreeClassifier(random_state=0)))

def target():
    data = np.load("members.npz")
    return recipe(Records(data["x"], data["y"], data["y"].astype(str)), 0)
"""
CONFIG = """
[target]
model = "my_training:target"
[data]
members = "members.npz"
non_members = "others.npz"
[recipe]
jobs = 1
[defend]
canaries = 0
[policy]
max_tpr = [{ fpr = 0.1, tpr = 0.1 }]
[audit]
effort = "normal"
attacks = ["gap", "loss"]
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    (folder / "my_training.py").write_text(MODULE)
    (folder / "audit.toml").write_text(CONFIG)
    rng = np.random.default_rng(0)
    for name in ("members", "others"):
        x = rng.normal(size=(600, 6))
        np.savez(folder / f"{name}.npz", x=x, y=(x[:, 0] + rng.normal(size=600) > 0).astype(int))
    return folder


def read_advised_command(folder: Path) -> list[str]:
    """Read the command at the end of a failed finding's advice."""
    document = json.loads((folder / "result.json").read_text())
    (finding,) = [entry for entry in document["findings"] if entry["verdict"] == "FAIL"]
    found = re.search(r": memberscope (.*)$", finding["advice"])
    assert found is not None, finding["advice"]
    return shlex.split(found[1])


def test_the_advised_sweep_trains_every_choice(work):
    audited = run_command("audit", "audit.toml", cwd=work)
    assert audited.returncode == 1, audited.stderr
    command = read_advised_command(work / "memberscope-out")
    assert command[:4] == ["defend", "audit.toml", "--recipe", "my_training:recipe"]
    swept = run_command(*command, cwd=work)
    assert swept.returncode in (0, 1, 3), swept.stderr
    rows = json.loads((work / "memberscope-defend" / "frontier.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [
        "none",
        "leaf_size:10",
        "leaf_size:50",
        "depth:4",
        "depth:8",
        "top:1+round:2",
    ]
    assert all(row["why_not"] is None for row in rows)
    leaks = {row["name"]: row["average"]["value"] for row in rows}
    assert leaks["leaf_size:50"] < leaks["none"], "what is advised helps"


def test_the_advised_audit_of_stored_answers_runs(tmp_path):
    rng = np.random.default_rng(0)
    member, labels = np.arange(800) < 400, rng.integers(0, 2, 800)
    score = 1 / (1 + np.exp(-(rng.normal(size=800) + 3 * member) * (2 * labels - 1)))
    lines = ["member,label,p0,p1"]
    lines += [
        f"{int(m)},{k},{1 - p:.6f},{p:.6f}" for m, k, p in zip(member, labels, score, strict=True)
    ]
    (tmp_path / "signals.csv").write_text("\n".join(lines))
    (tmp_path / "audit.toml").write_text(
        '[target]\nsignals = "signals.csv"\n[policy]\nmax_tpr = [{ fpr = 0.1, tpr = 0.2 }]\n'
        "[audit]\nassume_exchangeable = true\n"
    )
    audited = run_command("audit", "audit.toml", cwd=tmp_path)
    assert audited.returncode == 1, audited.stdout + audited.stderr
    command = read_advised_command(tmp_path / "memberscope-out")
    assert command[:3] == ["audit", "audit.toml", "--restrict"]
    again = run_command(*command, cwd=tmp_path)
    assert again.returncode in (0, 1, 3) and again.stderr == ""
    document = json.loads((tmp_path / "memberscope-restricted" / "result.json").read_text())
    assert document["plan"]["threat"]["restriction"] == "top:1+round:2"
