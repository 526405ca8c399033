"""The terminal screens that the pages show are what the commands print."""

from __future__ import annotations

import re

import pytest
from screens import (
    AUDIT,
    COLOUR,
    FOLDER,
    PAGE,
    SCREENS,
    fill_page,
    run_in_pipe,
    run_in_terminal,
    take_screen,
)
from signal_files import write_signals

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
LINES = 24


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screens")
    write_signals(folder / "signals.csv")
    run_in_pipe(AUDIT, folder)
    return folder


@pytest.mark.parametrize("name", [name for name in SCREENS if name != "audit-pipe"])
def test_a_screen_is_what_the_command_shows(name, audited):
    kept = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert take_screen(name, audited) == kept
    assert max(map(len, kept.splitlines())) <= SCREENS[name][1]
    if name.startswith("report"):
        assert len(kept.splitlines()) <= LINES


def test_a_pipe_gets_what_a_terminal_of_80_columns_shows(tmp_path):
    write_signals(tmp_path / "signals.csv")
    kept = (FOLDER / "audit-pipe.txt").read_text(encoding="utf-8")
    assert take_screen("audit-pipe", tmp_path) == kept
    assert "\x1b" not in kept and len(kept.splitlines()) <= LINES
    # The same once more in a terminal: a bar comes and goes, and the same summary stays
    shown = run_in_terminal(AUDIT + " --overwrite", tmp_path, 80, NO_COLOR="1")
    assert "asking the model" in shown or "attacking" in shown
    plain = CONTROL.sub("", shown).replace("\r", "\n")
    named = [line for line in kept.splitlines() if line and "audits of this plan" not in line]
    lines = [line.rstrip() for line in plain.splitlines()]
    assert [line for line in named if line.rstrip() not in lines] == []


def test_colours_are_there_and_can_be_refused(audited):
    coloured = run_in_terminal("report out", audited, 80, NO_COLOR="")
    assert re.search(r"\x1b\[[0-9;]*3[0-7]", coloured)
    refused = run_in_terminal("report out", audited, 80, NO_COLOR="1")
    assert not re.search(r"\x1b\[(?:\d+;)*[349][0-7]", refused)
    assert COLOUR.sub("", coloured) == COLOUR.sub("", refused)


def test_the_page_shows_every_screen_as_it_is():
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in SCREENS if f"% screen {name}\n" not in text] == []
    assert fill_page(text) == text
    assert {path.stem for path in FOLDER.iterdir()} == set(SCREENS)
