"""Options from environment variables, between the flags and `audit.toml`.

Only the command line reads them; the Python functions do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memberscope.cli.options.lookup import ROWS, list_rows
from memberscope.cli.options.mistakes import EXPECTED
from memberscope.cli.options.rows import Row
from memberscope.errors import InputError

SWITCH = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def read_variables(verb: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Read the options of a verb that environment variables give, by name.

    Those are the keys of `audit.toml`, whether the verb has them as flags or not, and the verb's
    other options. A variable that is empty counts as not set.

    Raises:
        InputError: A value has not the type of its option; the sentence names the variable.

    >>> read_variables("audit", {"MEMBERSCOPE_SEED": "3", "MEMBERSCOPE_GROUPS": "sex, age"})
    {'groups': ('sex', 'age'), 'seed': 3}
    """
    return {
        name: _parse_variable(row, environment[row.variable])
        for name, row in ROWS.items()
        if environment.get(row.variable)
        and not row.is_argument
        and (row.section or name in list_rows(verb))
    }


def name_variables_in_message(message: str, names: list[str]) -> str:
    """Add to an error message which options came from the environment, by name, values left out.

    >>> name_variables_in_message("Expected a seed of at least 0, got -1.", ["MEMBERSCOPE_SEED"])
    'Expected a seed of at least 0, got -1. Set in the environment: MEMBERSCOPE_SEED.'
    """
    return f"{message} Set in the environment: {', '.join(names)}." if names else message


def _parse_variable(row: Row, text: str) -> Any:
    """Read the value of a variable in the type of its option.

    Raises:
        InputError: It has another type.
    """
    if row.is_list:
        item = row.kind.__args__[0]
        words = [word.strip() for word in text.split(",") if word.strip()]
        if item is not float:
            return tuple(words)
        return tuple(
            _parse_value(row, word, text, float, "numbers such as 0.01,0.001") for word in words
        )
    return _parse_value(row, text.strip(), text, row.kind, EXPECTED.get(row.kind, "text"))


def _parse_value(row: Row, word: str, text: str, kind: Any, expected: str) -> Any:
    """Read one value.

    Raises:
        InputError: It has another type.
    """
    try:
        return SWITCH[word.lower()] if kind is bool else kind(word)
    except (ValueError, KeyError):
        raise InputError(
            f"Expected {expected} in the environment variable {row.variable}, got {text!r}. "
            "Correct it, or unset it."
        ) from None
