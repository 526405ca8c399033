"""Print lines that may hold text of files."""

from __future__ import annotations

import sys

import typer

from memberscope._text import escape_controls


def print_line(text: str) -> None:
    """Print to standard output; control characters are shown as escapes."""
    typer.echo(escape_controls(text))


def print_error(text: str) -> None:
    """Print to standard error after the name of the program."""
    print(f"memberscope: {escape_controls(text)}", file=sys.stderr)
