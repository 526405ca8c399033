"""The application that commands are added to, and the options that stand before a command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import typer

from memberscope.cli.options.commands import take_options
from memberscope.cli.options.help_page import PanelCommand, PanelGroup
from memberscope.cli.options.rows import add_option
from memberscope.cli.output import print_line

HELP = """Audit machine-learning models for membership inference.

Can an outsider find out that a record was in the training data? demo answers for two models that
come along; init asks about yours and writes what audit reads."""
COMMANDS = "Commands"  # the panel of commands that need no panel of their own


@dataclass(frozen=True)
class RootOptions:
    """The options that stand before a command."""

    version: bool = add_option("Show the version and exit.", default=False)


@take_options(RootOptions)
def show_version(options: RootOptions) -> None:
    """Show the version, if it was asked for."""
    if options.version:
        from memberscope._version import get_tool_version

        print_line(f"memberscope {get_tool_version()}")
        raise typer.Exit(0)


def build_group(help: str) -> typer.Typer:
    """Build a group of commands, whose help shows them in panels.

    Only the root has typer's options that install and show the completion of a shell.
    """
    return typer.Typer(
        cls=PanelGroup,
        help=help,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def add_verb(
    group: typer.Typer, name: str, command: Callable[..., None], panel: str = COMMANDS
) -> None:
    """Add a command to a group, with its options in panels, to be listed in a panel itself."""
    group.command(name, cls=PanelCommand, rich_help_panel=panel)(command)


app = build_group(HELP)
app.info.name = "memberscope"
app.callback(cls=PanelGroup, invoke_without_command=True, no_args_is_help=True)(show_version)
