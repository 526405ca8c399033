"""The application that commands are added to."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="memberscope",
    help="Audit machine-learning models for membership inference.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
