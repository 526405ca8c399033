"""Environment variables: what wins, what is refused, and who reads them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import run_command

from memberscope.cli.options.commands import merge_options
from memberscope.cli.options.lookup import ROWS
from memberscope.cli.options.variables import read_variables
from memberscope.errors import InputError

WORDS = {bool: "true", int: "3", float: "0.5", str: "x"}


def call(*arguments: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, cwd=cwd, **variables)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("variables")
    rng = np.random.default_rng(0)
    lines = ["id,member,label,p0,p1,x0"]
    for i in range(240):
        p = rng.random()
        row = (f"r{i}", int(i < 120), int(rng.random() < p), f"{1 - p:.6f}", f"{p:.6f}", i % 7)
        lines.append(",".join(map(str, row)))
    (folder / "s.csv").write_text("\n".join(lines) + "\n")
    (folder / "audit.toml").write_text(
        '[target]\nsignals = "s.csv"\n[audit]\nseed = 1\nfprs = [0.1]\nattacks = ["loss"]\n'
    )
    return folder


def seed_of(folder: Path, out: str) -> int:
    return json.loads((folder / out / "result.json").read_text())["plan"]["seed"]


def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(folder):
    (folder / "none.toml").write_text(
        '[target]\nsignals = "s.csv"\n[audit]\nfprs = [0.1]\nattacks = ["loss"]\n'
    )
    for out, file, flags, variables, seed in (
        ("a", "none.toml", (), {}, 0),
        ("b", "audit.toml", (), {"MEMBERSCOPE_SEED": ""}, 1),
        ("c", "audit.toml", (), {"MEMBERSCOPE_SEED": "2"}, 2),
        ("d", "audit.toml", ("--seed", 3), {"MEMBERSCOPE_SEED": "2"}, 3),
    ):
        done = call("audit", file, "--out", out, *flags, cwd=folder, **variables)
        assert done.returncode == 0, done.stderr
        assert seed_of(folder, out) == seed


def test_variables_alone_make_an_audit(folder):
    done = call(
        "audit",
        cwd=folder,
        MEMBERSCOPE_SIGNALS="s.csv",
        MEMBERSCOPE_ATTACKS="loss, gap",
        MEMBERSCOPE_FPRS="0.1,0.05",
        MEMBERSCOPE_OUT="alone",
        MEMBERSCOPE_NO_RECORDS="true",
    )
    assert done.returncode == 0, done.stderr
    plan = json.loads((folder / "alone" / "result.json").read_text())["plan"]
    assert (plan["attacks"], plan["fprs"]) == (["loss", "gap"], [0.1, 0.05])
    assert not (folder / "alone" / "records.csv").exists()


def test_every_option_has_a_variable_that_is_read_in_its_type():
    written = {
        row.variable: WORDS.get(row.kind.__args__[0] if row.is_list else row.kind, "x")
        for row in ROWS.values()
    }
    assert len(written) == len(ROWS)
    found = read_variables("audit", written) | read_variables("plan", written)
    assert sorted(found) == sorted(name for name in ROWS if name != "config")
    for name, value in found.items():
        kind = ROWS[name].kind
        assert isinstance(value, tuple if ROWS[name].is_list else kind)
    assert merge_options(None, {"seed": 4}, found).seed == 4


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SEED", "three", "Expected a whole number in the environment variable MEMBERSCOPE_SEED"),
        ("PRIOR", "low", "Expected a number in the environment variable MEMBERSCOPE_PRIOR"),
        ("COINS", "maybe", "Expected true or false in the environment variable MEMBERSCOPE_COINS"),
        ("FPRS", "0.1,many", "numbers such as 0.01,0.001 in the environment variable"),
    ],
)
def test_another_type_is_one_sentence_that_names_the_variable(variable, value, words):
    with pytest.raises(InputError, match=words) as caught:
        read_variables("audit", {f"MEMBERSCOPE_{variable}": value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("verb", "variable", "value", "words"),
    [
        ("audit", "MEMBERSCOPE_SEED", "x", "in the environment variable MEMBERSCOPE_SEED, got 'x'"),
        ("plan", "MEMBERSCOPE_SEED", "-1", "got -1. Give another one. Set in the environment: "),
        ("audit", "MEMBERSCOPE_ACCESS", "telepathy", "got 'telepathy'"),
        ("defend", "MEMBERSCOPE_PRIOR", "2", "strictly between 0 and 1"),
    ],
)
def test_a_value_that_no_flag_may_have_is_refused(folder, verb, variable, value, words):
    more = ("--recipe", "mine:recipe") if verb == "defend" else ()
    done = call(verb, "audit.toml", *more, cwd=folder, **{variable: value})
    assert done.returncode == 2 and words in done.stderr and variable in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1


def test_a_message_shows_no_value_of_a_variable_that_may_be_secret(folder):
    url = "http://127.0.0.1:9/score?code=s3cret"
    done = call("audit", "audit.toml", cwd=folder, MEMBERSCOPE_URL=url)
    assert done.returncode == 2 and "MEMBERSCOPE_URL" in done.stderr
    assert "s3cret" not in done.stderr


def test_a_flag_in_place_of_a_variable_is_not_blamed_on_the_environment(folder):
    done = call("audit", "audit.toml", "--seed", "-1", cwd=folder, MEMBERSCOPE_SEED="2")
    assert done.returncode == 2 and "environment" not in done.stderr


def test_only_the_command_line_reads_variables(folder, monkeypatch):
    import memberscope

    monkeypatch.setenv("MEMBERSCOPE_SEED", "7")
    monkeypatch.setenv("MEMBERSCOPE_CONFIDENCE", "x")
    plan = memberscope.Plan(attacks=("loss",), fprs=(0.1,))
    assert (plan.seed, plan.confidence) == (0, 0.95)
    assert "seed" not in read_variables("audit", {})


def test_another_variable_of_the_same_prefix_is_not_looked_at(folder):
    done = call("plan", "audit.toml", cwd=folder, MEMBERSCOPE_PORT="tcp://10.0.0.1:80")
    assert done.returncode == 0, done.stderr
