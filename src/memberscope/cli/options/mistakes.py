"""What was mistyped on the command line, in one sentence with the nearest name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from memberscope._text import suggest_nearest
from memberscope.errors import InputError

EXPECTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


def find_misspelt_name(
    names: Iterable[str] | None, known: Iterable[object]
) -> tuple[str, str] | None:
    """Find the first of `names` that is unknown and like a known one, with the words about it.

    >>> find_misspelt_name(["rmia", "lyra"], ["lira", "rmia"])
    ('lyra', " Did you mean 'lira'?")
    """
    every = [str(entry) for entry in known]
    found = ((name, suggest_nearest(name, every)) for name in names or () if name not in every)
    return next(((name, words) for name, words in found if words), None)


def refuse_mistaken_option(error: Exception, ctx: Any, arguments: Sequence[str]) -> None:
    """Say in one sentence which option was meant, or what its value should have been.

    Other errors are left as they are.

    Raises:
        InputError: `error` is that there is no such option, or that its value has another type.
    """
    # By attributes, since typer of different versions raises classes of different modules
    name, param = getattr(error, "option_name", None), getattr(error, "param", None)
    if name is not None and hasattr(error, "possibilities"):
        known = [flag for entry in ctx.command.get_params(ctx) for flag in entry.opts]
        raise InputError(
            f"Expected an option of `{ctx.command_path}`, got {name!r}."
            f"{suggest_nearest(name, known)} See `{ctx.command_path} --help`."
        ) from None
    if param is None or type(error).__name__ != "BadParameter":
        return
    row = getattr(ctx.command.callback, "rows", {}).get(param.name)
    if row is not None and row.kind in EXPECTED and not row.is_argument:
        value = _find_value(row.flags, arguments)
        raise InputError(
            f"Expected {EXPECTED[row.kind]} for {row.flag}, got {value!r}. Correct it."
        ) from None


def _find_value(flags: Sequence[str], arguments: Sequence[str]) -> str:
    """Find what was typed behind one of `flags`, the last time it stands there.

    >>> _find_value(("--seed",), ["--seed=1", "--seed", "x"])
    'x'
    """
    found = ""
    for at, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if flag in flags:
            found = value if equals else "".join(arguments[at + 1 : at + 2])
    return found
