"""What helps whoever types a command: versions, completion, misspelt names, readers that leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_socket import serve_command
from commands import COMMAND, run_command
from signal_files import write_signals

from memberscope.attacks import list_attacks
from memberscope.cli.options.choices import VALUES
from memberscope.cli.options.lookup import ROWS
from memberscope.types import list_access_words


@pytest.fixture
def installed(tmp_path):
    """A `memberscope` on the path, as an installation puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "memberscope"
    script.write_text(
        f"#!{sys.executable}\nfrom memberscope.cli.main import run\n\nrun()\n", encoding="utf-8"
    )
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(tmp_path)}


@pytest.fixture
def served(tmp_path):
    """The same of a command whose imports are made already."""
    (tmp_path / "bin").mkdir()
    with serve_command(tmp_path / "bin" / "memberscope"):
        yield {
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
        }


def complete_in_bash(typed: str, environment: dict[str, str], cwd: Path) -> list[str]:
    """What bash offers behind `typed` with the script that `--show-completion` prints."""
    words = typed.split(" ")
    script = (
        f'source "$HOME/.bash_completions/memberscope.sh"\n'
        f"COMP_WORDS=({' '.join(word or repr('') for word in words)})\n"
        f"COMP_CWORD={len(words) - 1}\n"
        # bash gives the function of `complete -F` the name of the command
        "$(complete -p memberscope | sed 's/.*-F \\([^ ]*\\).*/\\1/') memberscope\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_what_was_installed(served, tmp_path):
    done = subprocess.run(
        ["bash", "--norc", "-c", "memberscope --install-completion bash"],
        env={**served, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "bash completion installed" in done.stdout
    assert "bash_completions" in (tmp_path / ".bashrc").read_text()
    offered = {
        typed: complete_in_bash(typed, served, tmp_path)
        for typed in (
            "memberscope ex",
            "memberscope guard ",
            "memberscope audit --acc",
            "memberscope audit --access ",
            "memberscope audit --attacks rmia,lira_r",
            "memberscope audit --policy st",
            "memberscope explain hard",
            "memberscope init --harm ",
        )
    }
    assert offered == {
        "memberscope ex": ["explain"],
        "memberscope guard ": [
            *("init", "fit", "check", "run", "monitor", "prepare", "tune", "replay", "dashboard"),
            "keys",
        ],
        "memberscope audit --acc": ["--access", "--accept-limited"],
        "memberscope audit --access ": list_access_words(),
        "memberscope audit --attacks rmia,lira_r": ["rmia,lira_robust"],
        "memberscope audit --policy st": ["standard", "strict"],
        "memberscope explain hard": ["hard-labels"],
        "memberscope init --harm ": ["low", "medium", "high"],
    }


def test_the_script_of_a_shell_is_shown(installed):
    done = subprocess.run(
        ["memberscope", "--show-completion", "zsh"],
        env={**installed, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("#compdef memberscope")


def test_choices_are_those_of_the_code():
    assert ROWS["access"].list_choices() == list_access_words()
    assert ROWS["attacks"].list_choices() == list(list_attacks())
    assert ROWS["policy"].list_choices() == ["demo", "standard", "strict"]
    assert set(VALUES) <= set(ROWS)


def test_version(tmp_path):
    from importlib.metadata import version

    done = run_command("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"memberscope {version('memberscope')}\n")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("audti", "a command of `memberscope`, got 'audti'. Did you mean 'audit'?"),
        ("guard rn", "a command of `memberscope guard`, got 'rn'. Did you mean 'run'?"),
        ("guard keys rotat", "Did you mean 'rotate'?"),
        ("audit --polcy x", "an option of `memberscope audit`, got '--polcy'. Did you mean '--pol"),
        ("--verison", "an option of `memberscope`, got '--verison'. Did you mean '--version'?"),
        ("audit --signals s.csv --attacks gap,lyra", "got 'lyra'. Did you mean 'lira'?"),
        ("audit --signals s.csv --policy standrd", "Did you mean 'standard'?"),
        ("audit --signals s.csv --access probabilites", "Did you mean 'probabilities'?"),
        ("audit typo.toml", "got 'polcy'; the nearest is 'prior'"),
        ("explain blnd", "Did you mean 'blind'?"),
        ("list atacks", "Did you mean 'attacks'?"),
        ("audit --seed abc", "Expected a whole number for --seed, got 'abc'."),
        ("audit --prior=much", "Expected a number for --prior, got 'much'."),
    ],
)
def test_what_was_meant_is_named(tmp_path, typed, words):
    write_signals(tmp_path / "s.csv", 60)
    (tmp_path / "typo.toml").write_text('[threat]\npolcy = "demo"\n')
    done = run_command(*typed.split(), cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_unlike_names_get_no_suggestion(tmp_path):
    for typed in ("zzz", "audit --zzz"):
        done = run_command(*typed.split(), cwd=tmp_path)
        assert done.returncode == 2 and "Did you mean" not in done.stderr and "zzz" in done.stderr


@pytest.mark.parametrize(("shift", "code"), [(2.0, 1), (0.0, 0)])
def test_a_reader_that_leaves_changes_neither_the_folder_nor_the_verdict(tmp_path, shift, code):
    write_signals(tmp_path / "s.csv", shift=shift, base=1.0)
    lenient = "[policy]\nmax_tpr = [{ fpr = 0.05, tpr = 0.3 }]\n"
    (tmp_path / "lenient.toml").write_text(lenient)
    read, write = os.pipe()
    os.close(read)
    command = "audit --signals s.csv --features x0 --policy lenient.toml --attacks logit --out out"
    done = subprocess.run(
        [*COMMAND, *command.split()],
        cwd=tmp_path,
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (code, b"")
    verdict = json.loads((tmp_path / "out" / "result.json").read_text())["verdict"]
    assert verdict == {0: "PASS", 1: "FAIL"}[code]


def test_head_ends_a_listing_without_a_word(installed, tmp_path):
    done = subprocess.run(
        ["bash", "-c", "memberscope list attacks | head -1; echo ${PIPESTATUS[0]}"],
        cwd=tmp_path,
        env=installed,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "" and done.stdout.splitlines()[1] == "0"


def test_an_output_without_the_letters_gets_escapes(installed, tmp_path):
    done = subprocess.run(
        ["memberscope", "list", "policies"],
        cwd=tmp_path,
        env={**installed, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.isascii() and b"standard: No attack" in done.stdout


def test_signals_under_a_policy_name_the_flag_that_decides_before_anything_is_measured(tmp_path):
    write_signals(tmp_path / "s.csv", 150, base=1.0)
    base = ("--signals", "s.csv", "--attacks", "gap", "--policy", "demo")
    note = "so the verdict will be INCONCLUSIVE. Add --assume-exchangeable if they were"
    audit = run_command("audit", *base, cwd=tmp_path)
    assert audit.returncode == 3 and note in audit.stdout.splitlines()[0]
    plan = run_command("plan", *base, cwd=tmp_path)
    assert plan.returncode == 0 and note in plan.stdout.splitlines()[0]
    for more in (["--assume-exchangeable"], ["--features", "x0"]):
        decided = run_command("plan", *base, *more, cwd=tmp_path)
        assert decided.returncode == 0 and note not in decided.stdout
    assert note not in run_command("plan", *base[:4], cwd=tmp_path).stdout
