"""The CI job that `init --ci` writes.

It parses, and its scripts are run as a runner would, for two releases in turn.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import COMMAND, run_command

ANSWERS = (
    "--title",
    "m",
    "--who",
    "w",
    "--access",
    "probabilities",
    "--queries",
    "1",
    "--prior",
    "0.1",
    "--harm",
    "low",
)
GH = """#!/bin/sh
[ "$1 $2 $3 $4" = "run download --name memberscope-last" ] && [ -n "$GH_TOKEN" ] || exit 9
[ -d "$KEPT" ] || exit 1
cp -r "$KEPT" "$6"
"""


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, cwd=cwd)


def init(
    folder: Path, system: str, *more: str, target: str = "s.csv"
) -> subprocess.CompletedProcess[str]:
    return call("init", *ANSWERS, "--target", target, "--ci", system, *more, cwd=folder)


def write_signals(path: Path, shift: float) -> None:
    rng = np.random.default_rng(0)
    member, labels = np.arange(600) < 300, rng.integers(0, 2, 600)
    logit = 2.0 + rng.standard_normal(600) + shift * member
    p = 1 / (1 + np.exp(-np.where(labels == 1, logit, -logit)))
    x = rng.standard_normal(600)
    rows = [
        f"r{i},{int(member[i])},{labels[i]},{1 - p[i]:.9f},{p[i]:.9f},{x[i]:.6f}"
        for i in range(600)
    ]
    path.write_text("\n".join(["id,member,label,p0,p1,x0", *rows]) + "\n")


def checkout(repository: Path, folder: Path, shift: float) -> Path:
    """A fresh copy of the repository, as a runner gets it, with the release's signals in it."""
    shutil.copytree(repository, folder)
    write_signals(folder / "s.csv", shift)
    return folder


@pytest.fixture
def runner(tmp_path):
    """Runs a script as a CI runner does.

    Pip only notes what it was asked for, gh hands out what was kept.
    """
    tools = tmp_path / "tools"
    tools.mkdir()
    command = f'#!/bin/sh\necho "$@" >> {tmp_path}/commands\nexec {sys.executable} -c \'{COMMAND[2]}\' "$@"\n'
    for name, text in (
        ("memberscope", command),
        ("pip", f'#!/bin/sh\necho "$@" >> {tmp_path}/pip\n'),
        ("gh", GH),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def run(script: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        known = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "KEPT": str(tmp_path / "kept"),
            **environment,
        }
        return subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=cwd,
            env=known,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def repository(tmp_path: Path, system: str) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    done = init(folder, system)
    assert done.returncode == 0, done.stderr
    text = (
        (folder / "audit.toml")
        .read_text()
        .replace('# features = ["x0", "x1"]', 'features = ["x0"]')
    )
    (folder / "audit.toml").write_text(text)
    return folder


def written_commands(text: str) -> list[str]:
    """Every memberscope command line of a job, as a program would get its words."""
    lines = [
        line.strip().removeprefix("run: ").removeprefix("- ")
        for line in text.splitlines()
        if not line.startswith("#")
    ]
    return [
        line.removeprefix("memberscope ").split(" ||")[0]
        for line in lines
        if line.startswith("memberscope ")
    ]


def test_github_audits_judges_compares_and_keeps_each_release(tmp_path, runner):
    home = repository(tmp_path, "github")
    text = (home / ".github" / "workflows" / "memberscope.yml").read_text()
    job = yaml.safe_load(text)
    assert {"schedule", "release"} <= set(job[True]), "YAML 1.1 reads the key `on` as true"
    steps = job["jobs"]["audit"]["steps"]
    codes = {}
    for turn, shift in enumerate((0.0, 3.0)):
        folder = checkout(home, tmp_path / f"turn{turn}", shift)
        for step in steps:
            if "run" in step:
                environment = {name: "token" for name in step.get("env", {})}
                codes[turn, step["name"]] = runner(
                    step["run"], folder, GITHUB_EVENT_NAME="release", **environment
                ).returncode
            elif (
                step["uses"].startswith("actions/upload-artifact")
                and step["with"]["name"] == "memberscope-last"
            ):
                shutil.rmtree(tmp_path / "kept", ignore_errors=True)
                shutil.copytree(folder / step["with"]["path"], tmp_path / "kept")
        for name in steps[-1]["with"]["path"].split():
            assert (folder / name).is_file() or (turn == 0 and name.startswith("comparison")), name
    assert (
        [codes[turn, "Audit"] for turn in (0, 1)]
        == [codes[turn, "Judge"] for turn in (0, 1)]
        == [0, 1]
    )
    assert [codes[turn, "Compare with it"] for turn in (0, 1)] == [0, 1]
    assert (
        json.loads((tmp_path / "turn1" / "comparison.json").read_text())["verdict"] == "LEAKS_MORE"
    )
    assert {
        codes[turn, name]
        for turn, name in codes
        if name not in ("Audit", "Judge", "Compare with it")
    } == {0}
    ran = (tmp_path / "commands").read_text().splitlines()
    assert (
        set(ran) == set(written_commands(text)) and len(ran) == 5 and ran[-1].startswith("compare")
    )
    assert (tmp_path / "pip").read_text().startswith("install memberscope\n")


def test_gitlab_audits_judges_compares_and_keeps_each_release(tmp_path, runner):
    home = repository(tmp_path, "gitlab")
    text = (home / ".gitlab-ci.yml").read_text()
    job = yaml.safe_load(text)["memberscope"]
    script = "\n".join([*job["before_script"], *job["script"]])
    codes, last = [], job["cache"]["paths"][0]
    for turn, (shift, tag) in enumerate([(0.0, "v1"), (0.0, ""), (3.0, "v2")]):
        folder = checkout(home, tmp_path / f"turn{turn}", shift)
        if turn:
            shutil.copytree(tmp_path / f"turn{turn - 1}" / last, folder / last)
        done = runner(script, folder, CI_COMMIT_TAG=tag)
        assert "Expected" not in done.stderr, done.stderr
        codes.append(done.returncode)
        for name in job["artifacts"]["paths"]:
            assert (folder / name).is_file() or (turn == 0 and name.startswith("comparison")), name
        assert (folder / job["artifacts"]["reports"]["junit"]).is_file()
    assert codes == [0, 0, 1]
    assert "the model is the same" in (tmp_path / "turn1" / "comparison.html").read_text()
    kept = [(tmp_path / f"turn{turn}" / last / "result.json").read_text() for turn in range(3)]
    assert kept[0] == kept[1] != kept[2], (
        "a scheduled run compares with the last release and does not replace it"
    )
    ran = (tmp_path / "commands").read_text().splitlines()
    assert set(ran) == set(written_commands(text)) and len(ran) == 8


@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_an_audit_that_cannot_run_fails_the_job_and_keeps_nothing(tmp_path, runner, system):
    home = repository(tmp_path, system)
    if system == "gitlab":
        job = yaml.safe_load((home / ".gitlab-ci.yml").read_text())["memberscope"]
        assert runner("\n".join(job["script"]), home).returncode == 2
    else:
        steps = yaml.safe_load((home / ".github" / "workflows" / "memberscope.yml").read_text())[
            "jobs"
        ]["audit"]["steps"]
        codes = [
            runner(step["run"], home, GITHUB_EVENT_NAME="schedule", GH_TOKEN="t").returncode
            for step in steps
            if "run" in step
        ]
        assert codes[1:3] == [2, 2]
    assert not (home / "memberscope-last").exists() and not list(home.glob("memberscope-keep/*"))


def test_no_file_that_is_there_is_replaced(tmp_path):
    (tmp_path / ".gitlab-ci.yml").write_text("mine: {}\n")
    done = init(tmp_path, "gitlab")
    assert done.returncode == 0 and "include: memberscope.gitlab-ci.yml" in done.stdout
    assert (tmp_path / ".gitlab-ci.yml").read_text() == "mine: {}\n"
    assert "memberscope" in yaml.safe_load((tmp_path / "memberscope.gitlab-ci.yml").read_text())
    (tmp_path / "memberscope.gitlab-ci.yml").write_text("mine too\n")
    before = (tmp_path / "audit.toml").read_text()
    done = init(tmp_path, "gitlab", "--force", target="other.csv")
    assert done.returncode == 2 and "which is there" in done.stderr and done.stderr.count("\n") == 1
    assert (tmp_path / "memberscope.gitlab-ci.yml").read_text() == "mine too\n" and (
        tmp_path / "audit.toml"
    ).read_text() == before
    done = init(tmp_path, "jenkins", "--force")
    assert done.returncode == 2 and "Expected --ci github or gitlab, got 'jenkins'" in done.stderr


@pytest.mark.parametrize("name", ["audit.toml", "my audit.toml", "a'b: #c.toml"])
@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_any_name_of_the_configuration_reaches_the_command(tmp_path, runner, system, name):
    done = init(tmp_path, system, name)
    assert done.returncode == 0, done.stderr
    job = yaml.safe_load(
        (
            tmp_path
            / (".github/workflows/memberscope.yml" if system == "github" else ".gitlab-ci.yml")
        ).read_text()
    )
    script = (
        job["jobs"]["audit"]["steps"][3]["run"]
        if system == "github"
        else job["memberscope"]["script"][1]
    )
    stub = 'memberscope() { printf "%s" "$2"; }; '
    assert runner(stub + script, tmp_path).stdout == name


@pytest.mark.parametrize(
    ("target", "installed"),
    [
        ("model.onnx", '"memberscope[onnx]"'),
        ("https://a/b.onnx", '"memberscope[http]"'),
        ("m.skops", '"memberscope"'),
    ],
)
def test_the_extras_that_the_model_needs_are_installed(tmp_path, target, installed):
    assert init(tmp_path, "github", target=target).returncode == 0
    assert (
        f"pip install {installed}\n"
        in (tmp_path / ".github" / "workflows" / "memberscope.yml").read_text()
    )
