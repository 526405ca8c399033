"""Commands made from rows: their signatures for typer, and what their functions are called with."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from memberscope.cli.options.lookup import ROWS, is_finished_audit, list_rows
from memberscope.cli.options.rows import Row, read_rows
from memberscope.cli.options.table import Options
from memberscope.cli.options.variables import name_variables_in_message, read_variables
from memberscope.errors import InputError, MemberscopeError

Table = TypeVar("Table")
NO_VALUES: Mapping[str, Any] = {}


def take_options(table: type[Table]) -> Callable[[Callable[[Table], None]], Callable[..., None]]:
    """Make a command of a function that takes one `table` of options, a dataclass of rows.

    >>> from dataclasses import dataclass
    >>> from memberscope.cli.options.rows import add_option
    >>> @dataclass(frozen=True)
    ... class GreetOptions:
    ...     name: str = add_option("Whom to greet.", default="you")
    >>> @take_options(GreetOptions)
    ... def greet(options: GreetOptions) -> None:
    ...     print("Hello", options.name)
    >>> greet(name="Ada")
    Hello Ada
    """
    rows = read_rows(table)

    def make_command(run: Callable[[Table], None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            run(table(**{name: _read_flag(rows[name], value) for name, value in given.items()}))

        return _describe_command(command, run, rows)

    return make_command


def take_audit_options(verb: str) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Make a command of a function that takes `Options`.

    They come from the flags of the verb, environment variables and `audit.toml`, in this order of
    precedence.
    """
    rows = list_rows(verb)

    def make_command(run: Callable[[Options], None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            flags = {name: _read_flag(rows[name], value) for name, value in given.items()}
            variables = read_variables(verb, os.environ)
            config = flags.pop("config")
            finished = is_finished_audit(verb, config)
            options = merge_options(None if finished else config, flags, variables)
            options = replace(options, config=config)
            names = [ROWS[name].variable for name in variables if flags.get(name) is None]
            try:
                run(options)
            except MemberscopeError as error:
                if error.exit_code == InputError.exit_code:
                    error.args = (name_variables_in_message(str(error), names),)
                raise

        return _describe_command(command, run, rows, verb)

    return make_command


def merge_options(
    config: Path | None, flags: Mapping[str, Any], variables: Mapping[str, Any] = NO_VALUES
) -> Options:
    """Read the options from a file, replaced by the environment's, replaced by the flags given.

    Raises:
        InputError: The file cannot be read, or says what no option is.
    """
    from memberscope.cli.options.configuration import read_audit_config

    base = read_audit_config(config) if config else Options()
    given = {name: value for name, value in flags.items() if value is not None}
    return replace(base, **{"config": config, **variables, **given})


def _describe_command(
    command: Callable[..., None], run: Callable[..., Any], rows: Mapping[str, Row], verb: str = ""
) -> Callable[..., None]:
    """Give a command the name, help and parameters that typer reads."""
    described: Any = command
    described.__name__, described.__doc__ = run.__name__, run.__doc__
    described.__module__ = run.__module__
    described.rows, described.verb = rows, verb
    parameters = [_make_parameter(row) for row in rows.values()]
    described.__signature__ = inspect.Signature(parameters)
    described.__annotations__ = {entry.name: entry.annotation for entry in parameters}
    return command


def _make_parameter(row: Row) -> inspect.Parameter:
    """Make the parameter of a command that stands for a row."""
    shared: Any = {
        "help": row.help.replace("`", ""),
        "show_default": False,
        "autocompletion": _make_completion(row) if row.choices else None,
    }
    if row.is_argument:
        about: Any = typer.Argument(**shared)
    else:
        # A switch has no value, and typer knows the members of an enumeration
        about = typer.Option(*row.flags, metavar=row.describe_value() or None, **shared)
    default = inspect.Parameter.empty if row.default is MISSING else row.default
    return inspect.Parameter(
        row.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[_choose_flag_type(row), about],
    )


def _make_completion(row: Row) -> Callable[[str], list[str]]:
    """Make the function by which a shell completes a value; in a list, its last part."""

    def complete(incomplete: str) -> list[str]:
        before, comma, _ = incomplete.rpartition(",") if row.is_list else ("", "", incomplete)
        return [f"{before}{comma}{choice}" for choice in row.list_choices()]

    # typer reads the types of a completion's parameters, which are text in this file
    complete.__annotations__ = {"incomplete": str, "return": list[str]}
    return complete


def _choose_flag_type(row: Row) -> Any:
    """Choose the type that typer reads a flag as: a list is one text with commas, or repeated."""
    if row.is_list:
        kind: Any = row.kind if row.is_repeated or row.is_argument else str
    else:
        kind = row.kind
    return kind | None if row.default is None else kind


def _read_flag(row: Row, value: Any) -> Any:
    """Give the value of a flag as its field has it.

    Raises:
        InputError: Some part of a list of numbers is none.
    """
    if not row.is_list or value is None:
        return value
    if row.is_repeated or row.is_argument:
        return tuple(value) or None
    if not isinstance(value, str):
        return value
    if row.kind.__args__[0] is not float:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError as error:
        raise InputError(
            f"Expected numbers such as 0.01,0.001 for {row.flag}, got {value!r}. Correct it."
        ) from error
