"""The arguments of an audit, quoted for the command that is suggested next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import typer

from memberscope.cli.app import app

DROPPED = {
    "--out",
    "--overwrite",
    "--no-records",
    "--show-ids",
    "--title",
    "--attacks",
    "--verbose",
}


def quote_shared_arguments(arguments: Sequence[str], verb: str) -> str:
    """Quote the arguments of an `audit` that `verb` takes too for a shell.

    Those about output are left out.

    >>> import memberscope.cli.main  # adds the commands
    >>> quote_shared_arguments(["--overwrite", "audit.toml", "--members", "my train.csv", "--out", "o", "--seed=3", "--coins"], "audit")
    "audit.toml --members 'my train.csv' --seed=3 --coins"
    >>> quote_shared_arguments(["audit.toml", "--query-budget", "9"], "defend")
    'audit.toml'
    """
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    switches, taken = _list_options(commands["audit"]), _list_options(commands[verb])
    found: list[str] = []
    at = 0
    while at < len(arguments):
        word = arguments[at]
        name, has_value = word.partition("=")[0], "=" in word
        n = 1 if not word.startswith("-") or has_value or switches.get(name, True) else 2
        if not word.startswith("-") or (name in taken and name not in DROPPED):
            found += arguments[at : at + n]
        at += n
    return shlex.join(found)


def _list_options(command: Any) -> dict[str, bool]:
    """List every option of a command, and whether it is a switch."""
    return {
        name: bool(getattr(option, "is_flag", False))
        for option in command.params
        for name in (*option.opts, *option.secondary_opts)
        if name.startswith("--")
    }
