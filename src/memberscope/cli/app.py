"""The application that commands are added to."""

from __future__ import annotations

from collections.abc import Callable

import typer

from memberscope.cli.options.help_page import PanelCommand

app = typer.Typer(
    name="memberscope",
    help="Audit machine-learning models for membership inference.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def add_verb(group: typer.Typer, name: str, command: Callable[..., None]) -> None:
    """Add a command to a group, with its options in panels."""
    group.command(name, cls=PanelCommand)(command)
