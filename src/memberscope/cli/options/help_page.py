"""The help of commands and groups: panels, and the nearest name where one is misspelt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typer.core import TyperCommand, TyperGroup

from memberscope._text import suggest_nearest
from memberscope.cli.options.mistakes import refuse_mistaken_option
from memberscope.cli.options.rows import COMMON, PREFIX, Row
from memberscope.errors import InputError

PRECEDENCE = (
    "Every option can also be set by an environment variable, named "
    f"{PREFIX} and the key of audit.toml in capitals (--query-budget: {PREFIX}QUERY_BUDGET); where "
    "the name differs from the flag's it is shown. A flag goes before its variable, the variable "
    "before audit.toml, audit.toml before the default."
)


@contextmanager
def _refuse_mistakes(ctx: Any, args: list[str]) -> Iterator[None]:
    """Turn the parser's error about an option into one sentence that names what was meant.

    Raises:
        InputError: There is no such option, or its value has another type.
    """
    given = tuple(args)
    try:
        yield
    except Exception as error:
        refuse_mistaken_option(error, ctx, given)
        raise


class PanelCommand(TyperCommand):
    """A command whose help groups the options by the panels of their rows."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; a mistake in an option is one sentence.

        Raises:
            InputError: There is no such option, or its value has another type.
        """
        with _refuse_mistakes(ctx, args):
            return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write each panel's options."""
        _write_options(self, ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Say where else the options of a verb with environment variables can be set."""
        if getattr(self.callback, "verb", ""):
            formatter.write_paragraph()
            formatter.write_text(PRECEDENCE)


class PanelGroup(TyperGroup):
    """A group whose help lists its commands by their panels, each with its whole first sentence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read what stands before the command; a mistake in an option is one sentence.

        Raises:
            InputError: There is no such option, or its value has another type.
        """
        with _refuse_mistakes(ctx, args):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; an unknown one is told with the nearest.

        Raises:
            InputError: There is no such command.
        """
        # While a shell completes, half a name is no mistake
        if not ctx.resilient_parsing and args[0] not in self.commands:
            raise InputError(
                f"Expected a command of `{ctx.command_path}`, got {args[0]!r}."
                f"{suggest_nearest(args[0], self.commands)} See `{ctx.command_path} --help`."
            )
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, and below them the options."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None)
            first = " ".join((command.help or "").split("\n\n")[0].split())
            panels.setdefault(str(panel or "Commands"), []).append((name, first))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)
        _write_options(self, ctx, formatter)


def _write_options(command: Any, ctx: Any, formatter: Any) -> None:
    """Write the options of a command by the panels of their rows."""
    rows: dict[str, Row] = getattr(command.callback, "rows", {})
    verb: str = getattr(command.callback, "verb", "")
    panels: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        row = rows.get(param.name or "")
        if record is None:
            continue
        if row is None:
            panel, text = COMMON, record[1]
        else:
            panel = "Arguments" if row.is_argument else row.panel
            text = " ".join([record[1], *_list_remarks(row, verb)])
        panels.setdefault(panel, []).append((record[0], text))
    for panel, records in panels.items():
        with formatter.section(panel):
            formatter.write_dl(records)


def _list_remarks(row: Row, verb: str) -> list[str]:
    """List what stands in brackets behind an option: its default, and an unexpected variable."""
    remarks = []
    default = row.describe_default(verb)
    if default and not (row.kind is bool and default == "false"):
        remarks.append(f"[default: {default}]")
    if verb and not row.is_argument and row.flag != f"--{row.name.replace('_', '-')}":
        remarks.append(f"[variable: {row.variable}]")
    return remarks
