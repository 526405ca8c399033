"""One option as one row: a field of a dataclass, with its type, its default and its help.

`Options` in `table.py` is the table of the verbs that read `audit.toml`. A verb with options of its
own declares them as a small dataclass beside it. Commands, keys, environment variables and pages of
documentation are made from the rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Any, get_args, get_origin, get_type_hints

PREFIX = "MEMBERSCOPE_"
ALL_VERBS = ("audit", "plan", "defend")  # those that read audit.toml
COMMON = "Options"  # the panel of options that need no panel of their own
VALUES = {int: "int", float: "float"}
CONSTANT = re.compile(r"\{([\w.]+:[\w.]+)\}")


@dataclass(frozen=True)
class Row:
    """One option.

    `kind` is the type of its value: bool, int, float, str, `Path`, or a list of these. `section` is
    its place in `audit.toml`, empty for an option that only a command line has; `verbs` are the
    commands that have it as a flag, empty in the table of a single verb. `shown` says what holds
    where nothing is given, `shown_in` the same for verbs that differ: words in which
    `{module:name}` stands for that constant of the code, read when the words are shown. `choices`
    are the values that a shell completes: words, or `module:function` that lists them. `value` is
    what the help writes for the value where neither its type nor its choices say enough.
    """

    name: str
    kind: Any
    help: str
    default: Any = None
    section: str = ""
    verbs: tuple[str, ...] = ()
    panel: str = COMMON
    flags: tuple[str, ...] = ()
    shown: str = ""
    shown_in: Mapping[str, str] = field(default_factory=dict)
    is_argument: bool = False
    is_path: bool = False
    is_repeated: bool = False
    choices: tuple[str, ...] | str = ()
    value: str = ""

    @property
    def variable(self) -> str:
        """The environment variable of the option."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The flag as messages write it."""
        return self.flags[0].partition("/")[0]

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return get_origin(self.kind) is list

    def describe_value(self) -> str:
        """Write what the value of a flag is, for the help; empty for a switch.

        >>> Row("seed", int, "Seed.").describe_value(), Row("fprs", list[float], "Rates.").describe_value()
        ('<int>', '<float,...>')
        """
        if self.kind is bool:
            return ""
        item = self.kind.__args__[0] if self.is_list else self.kind
        word = "path" if self.is_path or item is Path else VALUES.get(item, "text")
        if isinstance(self.choices, tuple) and self.choices:
            word = "|".join(self.choices)
        many = ",..." if self.is_list and not self.is_repeated else ""
        return f"<{self.value or word}{many}>"

    def list_choices(self) -> list[str]:
        """List the values that a shell may complete, empty where they are not known."""
        if not isinstance(self.choices, str):
            return list(self.choices)
        return list(read_constant(self.choices)())

    def describe_default(self, verb: str = "") -> str:
        """Say what holds where nothing is given, with the constants that the code uses."""
        words = self.shown_in.get(verb, self.shown)
        if not words and self.default not in (MISSING, None, False):
            return _format_value(self.default)
        return CONSTANT.sub(lambda found: _format_value(read_constant(found[1])), words)


def add_key(
    section: str, help: str, default: str = "", *, verbs: tuple[str, ...] = ALL_VERBS, **more: Any
) -> Any:
    """Declare a key of `audit.toml`, which is a flag of `verbs` and an environment variable too.

    The field holds None where nothing was given; `default` says in words what holds then.
    """
    about = {"section": section, "help": help, "shown": default, "verbs": verbs}
    return field(default=None, metadata=about | more)


def add_option(help: str, *, default: Any = MISSING, **more: Any) -> Any:
    """Declare an option that only a command line has; without a `default` it must be given."""
    return field(default=default, metadata={"help": help, **more})


def add_argument(help: str, *, default: Any = MISSING, **more: Any) -> Any:
    """Declare a positional argument of a command."""
    return add_option(help, default=default, is_argument=True, **more)


def read_rows(table: Any) -> dict[str, Row]:
    """Read the rows of a table by name, in their order.

    >>> @dataclass(frozen=True)
    ... class Table:
    ...     most_rows: int = add_option("Rows to read.", default=10)
    >>> row = read_rows(Table)["most_rows"]
    >>> row.flag, row.kind, row.variable
    ('--most-rows', <class 'int'>, 'MEMBERSCOPE_MOST_ROWS')
    """
    hints = get_type_hints(table)
    found = {}
    for entry in fields(table):
        about = dict(entry.metadata)
        flag = about.pop("flag", f"--{entry.name.replace('_', '-')}")
        found[entry.name] = Row(
            entry.name,
            _find_kind(hints[entry.name]),
            default=entry.default,
            flags=(flag,) if isinstance(flag, str) else tuple(flag),
            **about,
        )
    return found


def read_constant(path: str) -> Any:
    """Read the constant that `module:name` or `module:class.field` names.

    >>> read_constant("memberscope.types:ThreatModel.prior")
    0.01
    """
    module, _, name = path.partition(":")
    value: Any = import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _find_kind(hint: Any) -> Any:
    """Give the type of a value by a field's annotation: None left out, a tuple as a list."""
    if get_origin(hint) is UnionType or type(None) in get_args(hint):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) in (tuple, list):
        return GenericAlias(list, (get_args(hint)[0],))
    return str if hint is Any else hint


def _format_value(value: Any) -> str:
    """Write a constant in words.

    >>> _format_value((0.1, 0.01)), _format_value(60.0), _format_value(True), _format_value("v2")
    ('0.1, 0.01', '60', 'true', 'v2')
    """
    if isinstance(value, tuple):
        return ", ".join(map(_format_value, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
