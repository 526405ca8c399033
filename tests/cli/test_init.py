"""`init`: answers are checked as they are given, and none is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tomllib
from contextlib import suppress

import pytest
from commands import COMMAND, run_command
from signal_files import write_signals

from memberscope.auditing import load_policy
from memberscope.cli.commands.init import HARMS, QUESTIONS

DRAFT = "audit.toml.draft"


def read_config(folder):
    return tomllib.loads((folder / "audit.toml").read_text(encoding="utf-8"))


def test_an_answer_of_no_use_is_asked_again_at_once(tmp_path):
    write_signals(tmp_path / "s.csv", 20)
    answers = [
        *("my model", "anyone"),
        *("labl", "7", "2"),  # access: misspelt, no such number, the second
        *("many", "0", "100"),
        *("5", "often", "5%"),
        *("very", "low"),
        *("nowhere", "s.csv"),
    ]
    done = run_command("init", cwd=tmp_path, stdin="\n".join(answers) + "\n")
    assert done.returncode == 0, done.stderr
    found = read_config(tmp_path)
    assert found["threat"] == {"access": "probabilities", "query_budget": 100, "prior": 0.05}
    assert found["policy"] == {"use": "demo"} and found["target"] == {"signals": "s.csv"}
    said = done.stderr.splitlines()
    wanted = [
        *("got 'labl'. Did you mean 'label'?", "got '7'", "got 'many'", "got '0'", "got 5.0"),
        *("got 'often'", "got 'very'", "got 'nowhere'"),
    ]
    assert len(said) == len(wanted)
    assert [word for word, line in zip(wanted, said, strict=True) if word not in line] == []
    assert "  2  probabilities" in done.stdout and not (tmp_path / DRAFT).exists()


def test_an_empty_answer_is_the_default(tmp_path):
    done = run_command("init", cwd=tmp_path, stdin="\n" * len(QUESTIONS))
    assert done.returncode == 0, done.stderr
    assert read_config(tmp_path)["target"] == {"model": "model.skops"}


def interrupt_after(answers, folder):
    """Answer, wait for the next question, and press Ctrl-C."""
    started = subprocess.Popen(
        [*COMMAND, "init"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # Where tests run in the background of a shell, Ctrl-C is ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    started.stdin.write("".join(f"{answer}\n" for answer in answers).encode())
    started.stdin.flush()
    shown = b""
    while shown.count(b"]: ") <= len(answers):
        shown += os.read(started.stdout.fileno(), 4096)
    for _ in range(10):
        started.send_signal(signal.SIGINT)
        # A signal just before the process waits for input is seen at the next one, as anywhere
        with suppress(subprocess.TimeoutExpired):
            started.wait(timeout=30)  # before its input is closed, which would be another end
            break
    out, error = started.communicate(timeout=120)
    return started.returncode, (shown + out).decode(), error.decode()


def test_an_interrupted_call_keeps_the_answers_and_the_next_goes_on(tmp_path):
    code, out, error = interrupt_after(["my model", "partners", "label"], tmp_path)
    assert code == 4 and "Run the same command again" in error and "Traceback" not in error
    assert f"Kept 3 answers in {DRAFT}." in out
    kept = json.loads((tmp_path / DRAFT).read_text())
    assert kept == {"title": "my model", "who": "partners", "access": "label"}
    assert {path.name for path in tmp_path.iterdir()} == {DRAFT}

    rest = ["perhaps", "yes", "7", "0.2", "high", "m:f"]
    done = run_command("init", cwd=tmp_path, stdin="\n".join(rest) + "\n")
    assert done.returncode == 0, done.stderr
    assert "Expected yes or no, got 'perhaps'" in done.stderr and "partners" in done.stdout
    found = read_config(tmp_path)
    assert found["threat"] == {"access": "label", "query_budget": 7, "prior": 0.2}
    assert found["audit"]["title"] == "my model" and not (tmp_path / DRAFT).exists()


def test_answers_that_end_early_are_kept_as_well(tmp_path):
    done = run_command("init", cwd=tmp_path, stdin="my model\npartners\n")
    assert done.returncode == 2 and "Expected an answer to each question" in done.stderr
    assert set(json.loads((tmp_path / DRAFT).read_text())) == {"title", "who"}


@pytest.mark.parametrize("kept", ['{"access": "telepathy", "queries": [1]}', "no JSON", "[]"])
def test_a_draft_of_no_use_is_passed_over(tmp_path, kept):
    (tmp_path / DRAFT).write_text(kept)
    done = run_command("init", cwd=tmp_path, stdin="\n" * len(QUESTIONS))
    assert done.returncode == 0 and "Go on from there" not in done.stdout


def test_a_draft_is_declined_and_flags_go_before_it(tmp_path):
    (tmp_path / DRAFT).write_text('{"title": "old", "who": "old", "access": "label"}')
    stdin = "no\nnew\n" + "\n" * (len(QUESTIONS) - 2)
    done = run_command("init", "--access", "logits", cwd=tmp_path, stdin=stdin)
    assert done.returncode == 0, done.stderr
    found = read_config(tmp_path)
    assert (found["audit"]["title"], found["threat"]["access"]) == ("new", "logits")


def test_a_file_that_is_there_is_told_before_the_questions(tmp_path):
    (tmp_path / "audit.toml").touch()
    done = run_command("init", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and "--force" in done.stderr


def test_the_choices_tell_what_the_policies_ask():
    words = next(question.choices for question in QUESTIONS if question.name == "harm")
    for harm, policy in HARMS.items():
        claim = load_policy(policy).claims()[-1]
        said = words[harm]
        assert said.startswith(f"policy {policy}: at most {100 * claim.tpr:g}% ")
        assert f" at {100 * claim.fpr:g}% false positives" in said
