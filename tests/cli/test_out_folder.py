"""The output folder is left out of git, and no command minds."""

from __future__ import annotations

import subprocess

import pytest
from commands import run_command
from signal_files import write_signals

from memberscope._files import keep_out_of_git
from memberscope.errors import InputError


def audit(folder, *more):
    return run_command(
        "audit", "--signals", "s.csv", "--out", "out", "--attacks", "loss", *more, cwd=folder
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    write_signals(folder / "s.csv")
    done = audit(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_git_sees_nothing_of_an_audit(repository):
    seen = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],
        cwd=repository,
        check=True,
        capture_output=True,
        text=True,
    )
    assert seen.stdout.split() == ["??", "s.csv"]


def test_no_command_minds_the_file(repository):
    for verb in ("verify", "report", "check"):
        done = run_command(verb, "out", cwd=repository)
        # Without a policy there is nothing to check
        assert done.returncode == (3 if verb == "check" else 0), done.stderr
    assert audit(repository).returncode == 0
    assert (repository / "out" / ".gitignore").read_text() == "*\n"


def test_a_bundle_for_others_has_none(repository):
    assert run_command("view", "--bundle", "site", cwd=repository).returncode == 0
    assert not list((repository / "site").rglob(".gitignore"))


@pytest.mark.parametrize("name", ["notes.txt", "signals.csv", "signals_model.py"])
def test_a_folder_that_was_there_keeps_its_files_to_git(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with keep_out_of_git(tmp_path):
        (tmp_path / "result.json").write_text("{}")
    assert not (tmp_path / ".gitignore").exists()


def test_what_a_stopped_run_leaves_is_ignored_and_its_error_is_told(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="stopped"), keep_out_of_git(out):
        (out / "signals").mkdir(parents=True)
        raise InputError("stopped")
    assert (out / ".gitignore").exists()
    (out / ".gitignore").unlink()
    # As after a run that was killed
    with keep_out_of_git(out):
        pass
    assert (out / ".gitignore").exists()


def test_nothing_is_made_where_nothing_was_written(tmp_path):
    with keep_out_of_git(tmp_path / "out"):
        pass
    assert not (tmp_path / "out").exists()
