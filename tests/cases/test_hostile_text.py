"""Files that would control a terminal, block, nest without end or be read by everybody."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from commands import run_command
from rich.console import Console

from memberscope import _files
from memberscope._text import CONTROL
from memberscope.auditing import Plan, audit_signals, compare
from memberscope.auditing.documents.policy import Claim, Policy, load_policy
from memberscope.cli.guard.init import _read_answer_arrays
from memberscope.cli.options.configuration import read_audit_config
from memberscope.errors import InputError
from memberscope.guard import read_policy
from memberscope.guard.calibration.thresholds_file import read_tuned
from memberscope.guard.hashing.secret_key import Secret, read_secret, write_secrets
from memberscope.guard.replay.log_reader import Log
from memberscope.guard.sketching.observations import format_access_line, make_example_observations
from memberscope.recipes.fleet.membership_design import read_design
from memberscope.reports import print_comparison, print_summary, read_result, write_all
from memberscope.reports.frontier import read_frontier
from memberscope.reports.select import find_estimate
from memberscope.signals.store import Store
from memberscope.targets import StoredSignals
from memberscope.targets.files import archives

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202egpj.exe\u2066\x9b31m\r\x08"
DEEP = b"[" * 200_000


def make_result(title: str):
    rng = np.random.default_rng(0)
    member = np.arange(400) < 200
    labels, outputs = rng.integers(0, 3, 400), rng.normal(size=(400, 3))
    outputs[np.arange(400), labels] += 2.0 * member
    stored = StoredSignals(
        "logits",
        outputs,
        labels,
        member,
        np.arange(400).astype(str),
        {f"group {title}": np.array([f"value {title}", "other"] * 200)},
        None,
        title,
    )
    plan = Plan(
        title=title, attacks=("loss", "gap"), policy=Policy(f"p{title}", (Claim(0.1, 0.3),))
    )
    return audit_signals(stored, plan=plan)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("hostile")
    write_all(make_result(HOSTILE), out)
    return out


@pytest.mark.parametrize("verb", ["report", "check", "verify", "explain"])
def test_text_of_a_result_cannot_control_the_terminal(folder, tmp_path, verb):
    more = ["--out", tmp_path] if verb == "report" else []
    arguments = ["--result", folder] if verb == "explain" else [folder]
    done = run_command(verb, *arguments, *more, cwd=tmp_path)
    shown = done.stdout + done.stderr
    assert verb != "report" or "\\x1b[2J" in shown
    assert not CONTROL.search(shown), CONTROL.search(shown)


def test_colours_of_the_console_stay(folder):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="standard", width=120)
    result = read_result(folder)
    print_summary(result, console)
    print_summary(result, console, verbose=True)
    print_comparison(compare([result, make_result(f"{HOSTILE} again")]), console)
    shown = stream.getvalue()
    plain = re.sub("\x1b\\[[0-9;]*m", "", shown)
    assert shown.startswith("\x1b[1;33mINCONCLUSIVE") and "\\x1b]0;owned" in plain
    assert not CONTROL.search(plain)


@pytest.mark.parametrize(
    "read, name",
    [
        (read_result, "result.json"), (read_frontier, "frontier.json"), (read_secret, "guard.key"),
        (read_tuned, "tuned.json"), (load_policy, "policy.toml"),
        (read_audit_config, "audit.toml"), (read_policy, "guard.toml"),
    ],
)  # fmt: skip
def test_a_file_that_nests_without_end_or_blocks_is_one_sentence(tmp_path, monkeypatch, read, name):
    file = tmp_path / name
    file.write_bytes(b"x = " + DEEP if name.endswith("toml") else DEEP)
    file.chmod(0o600)
    with pytest.raises(InputError, match=r"nested too deeply|got something else"):
        read(file)
    file.unlink()
    # Opening a pipe that nobody writes to would wait for ever
    os.mkfifo(file, 0o600)
    with pytest.raises(
        InputError, match=r"regular file|not there|holds none|Check the path|one of"
    ):
        read(file)


def test_a_result_too_large_to_be_one_is_refused_unread(tmp_path, monkeypatch):
    with (tmp_path / "result.json").open("wb") as stream:
        stream.truncate(_files.LARGEST_JSON + 1)
    with pytest.raises(InputError, match="it has more than 64 MiB"):
        read_result(tmp_path)


@pytest.mark.parametrize("read", [read_design, _read_answer_arrays])
def test_an_archive_that_inflates_without_end_is_refused(tmp_path, monkeypatch, read):
    np.savez_compressed(tmp_path / "bomb.npz", inside=np.zeros(1 << 24), outputs=np.zeros(9))
    monkeypatch.setattr(archives, "LEAST_LIMIT", 1 << 20)
    with pytest.raises(InputError, match="Expected an archive that inflates to at most"):
        read(tmp_path / "bomb.npz")


def test_a_key_that_everybody_may_read_is_refused(tmp_path):
    file = tmp_path / "guard.key"
    write_secrets(file, [Secret.new()])
    file.chmod(0o640)
    read_secret(file)
    file.chmod(0o644)
    with pytest.raises(InputError, match=r"only its owner and group may read.*Run chmod 600"):
        read_secret(file)


def test_stored_signals_are_for_their_owner_alone(tmp_path):
    Store(tmp_path).put("a", np.zeros(3))
    assert [file.stat().st_mode & 0o777 for file in tmp_path.iterdir()] == [0o600]


@pytest.mark.parametrize("time", [-1e300, 1e300, -1.0, "NaN"])
def test_a_line_of_an_impossible_time_is_left_out(tmp_path, time):
    good = format_access_line(make_example_observations(2))
    bad = json.loads(good)
    bad["time"] = float(time) if time == "NaN" else time
    (tmp_path / "a.jsonl").write_text(f"{good}\n{json.dumps(bad)}\n{good}\n")
    log = Log([tmp_path / "a.jsonl"])
    assert sum(len(block) for block in log) == 4 and log.skipped == 1


def test_a_document_that_no_audit_wrote_is_refused(folder, tmp_path):
    document = json.loads((folder / "result.json").read_text())
    entry = document["estimates"][0]
    for key, value, words in (
        (
            "not_run",
            [{"attack": "a", "access": "label", "why": "w"}] * 10_001,
            "10000 entries of not",
        ),
        (
            "diagnostics",
            document["diagnostics"] | {"notes": ["n"] * 10_001},
            "10000 entries of notes",
        ),
        (
            "estimates",
            [entry | {"restriction": f"top:{k}"} for k in range(201)],
            "200 access levels",
        ),
    ):
        (tmp_path / "result.json").write_text(json.dumps(document | {key: value}))
        with pytest.raises(InputError, match=words):
            read_result(tmp_path)


def test_a_copy_with_other_estimates_finds_those(folder):
    result = read_result(folder)
    assert find_estimate(result, attack="loss", metric="auc") is not None
    other = result.model_copy(update={"estimates": []})
    assert find_estimate(other, attack="loss", metric="auc") is None and other != result
