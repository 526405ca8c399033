"""`audit.toml` read into `Options`.

Unknown keys and wrong types are refused in a sentence that names the key and the section.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memberscope._files import name_repository_path, parse_toml, read_regular_file
from memberscope.cli.options.lookup import ALIASES, ROWS, SECTIONS
from memberscope.cli.options.table import Options
from memberscope.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

MODEL_KEYS = ("signals", "url", "model")  # the order in which they are taken
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}


def read_audit_config(path: Path) -> Options:
    """Read options from `audit.toml`; relative paths in it are relative to the file.

    Raises:
        InputError: It is missing, is no TOML, or has a section, key or type that is unknown.
    """
    if not path.is_file():
        raise InputError(
            f"Expected a configuration file, got {str(path)!r}, which is not there. Run "
            "`memberscope init`."
        )
    try:
        document = parse_toml(read_regular_file(path).decode())
    except ValueError as error:
        raise InputError(f"Expected TOML in {path}, got: {error}. Correct the file.") from error
    found: dict[str, Any] = {}
    for section, table in document.items():
        if section == "policy":
            found["policy"] = _read_policy_section(table, path)
        else:
            found |= _read_section(section, table, path)
    for name in found:
        if ROWS[name].is_path:
            value = found[name]
            # Paths of a file are read from where it is
            found[name] = (
                tuple(str(path.parent / part) for part in value)
                if ROWS[name].is_list
                else str(path.parent / value)
            )
    if "model" in found and (Path(found["model"]).suffix or ":" not in found["model"]):
        found["model"] = str(path.parent / found["model"])
    return Options(**found)


def _read_section(section: str, table: Any, path: Path) -> dict[str, Any]:
    """Read one section's keys, lists as tuples.

    Raises:
        InputError: The section or a key is unknown, or a value has another type.
    """
    from pydantic import ValidationError

    if section not in SECTIONS:
        known = [*SECTIONS, "policy"]
        if not isinstance(table, dict):
            raise InputError(
                f"Expected keys below a section of {path}, got {section} = {table!r} before the "
                f"first. {_describe_place(section)}"
            )
        raise InputError(
            f"Expected the sections {', '.join(known)} in {path}, got [{section}]; the nearest is "
            f"[{_find_nearest_name(section, known)}]. "
            f"Rename or remove it."
        )
    if not isinstance(table, dict):
        raise InputError(
            f"Expected a section [{section}] in {path}, got {section} = {table!r}. Write keys "
            f"below [{section}]."
        )
    given = {str(ALIASES.get(word, word)): value for word, value in table.items()}
    twice = [word for word in ALIASES if word in table and ALIASES[word] in table]
    if twice:
        raise InputError(
            f"Expected one of {twice[0]} and {ALIASES[twice[0]]} in [{section}] of {path}, got "
            "both. They mean the same; keep one."
        )
    try:
        _section_model(section).model_validate(given)
    except ValidationError as error:
        raise InputError(_describe_error(error.errors()[0], given, section, path)) from error
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }


def _section_model(section: str) -> type[BaseModel]:
    """Make the pydantic model of a section: its keys, all optional, in the types of TOML."""
    from pydantic import ConfigDict, create_model

    strict = ConfigDict(extra="forbid", strict=True)
    typed: dict[str, Any] = {name: (ROWS[name].kind, None) for name in SECTIONS[section]}
    return create_model(f"{section.title()}Section", __config__=strict, **typed)


def _describe_error(error: Any, given: dict[str, Any], section: str, path: Path) -> str:
    """Say what pydantic found wrong with a section."""
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        if _find_section(name) is not None:
            return f"Expected {name} in [{_find_section(name)}] of {path}, got it in [{section}]. Move it."
        nearest = _find_nearest_name(name, SECTIONS[section])
        return f"Expected a known key in [{section}] of {path}, got {name!r}; the nearest is {nearest!r}. Rename or remove it."
    wanted = ROWS[name].kind
    if not ROWS[name].is_list:
        return f"Expected {WORDS[wanted]} for {name} in [{section}] of {path}, got {given[name]!r}. Correct it."
    item = wanted.__args__[0]
    what = {str: "texts in quotes", float: "numbers"}.get(item, "texts or whole numbers")
    return f"Expected a list of {what} for {name} in [{section}] of {path}, got {given[name]!r}. Write {name} = [ … ]."


def _find_section(name: str) -> str | None:
    """Find the section that a key stands in; None for an unknown key."""
    return next(
        (section for section, names in SECTIONS.items() if ALIASES.get(name, name) in names), None
    )


def _describe_place(name: str) -> str:
    """Say where a key that stands before the first section belongs."""
    home = _find_section(name)
    if home is not None:
        return f"Write it below [{home}]."
    every = [key for names in SECTIONS.values() for key in names]
    return f"The nearest known key is {_find_nearest_name(name, every)!r}. Rename or remove it."


def _find_nearest_name(name: str, known: Any) -> str:
    """Find the known name that is spelt most like `name`.

    >>> _find_nearest_name("lable", ("label", "id"))
    'label'
    """
    return str(get_close_matches(name, [str(entry) for entry in known], n=1, cutoff=0.0)[0])


def _read_policy_section(table: Any, path: Path) -> Any:
    """Read what `[policy]` says: its own claims, or the policy that it uses.

    The path of a policy file is relative to the configuration.

    Raises:
        InputError: It is no table, or has `use` beside claims, one of which would be ignored.
    """
    from memberscope.auditing import list_bundled_policies

    if not isinstance(table, dict):
        raise InputError(
            f"Expected a section [policy] in {path}, got policy = {table!r}. Write use = … or "
            "max_tpr = [ … ] below it."
        )
    if "use" not in table:
        return table
    if len(table) > 1 or not isinstance(table["use"], str):
        raise InputError(
            f'Expected use = "demo" alone in [policy] of {path}, got {", ".join(table)}. Keep either use or the claims.'
        )
    return (
        table["use"] if table["use"] in list_bundled_policies() else str(path.parent / table["use"])
    )


def describe_model_place(options: Options) -> dict[str, str]:
    """Say where a configuration names the audited model, for a result's environment.

    `config_file` is its path in the repository, and `config_line` the line of the model, left out
    where a flag or a variable named another one. Empty without a configuration.
    """
    if options.config is None:
        return {}
    found = {"config_file": name_repository_path(options.config)}
    key = next((name for name in MODEL_KEYS if getattr(options, name)), None)
    if key is None or getattr(read_audit_config(options.config), key) != getattr(options, key):
        return found
    line = _find_model_line(options.config, key)
    return found if line is None else {**found, "config_line": str(line)}


def _find_model_line(path: Path, key: str) -> int | None:
    """Find the line, from 1, that gives `key` below [target]; None where several lines do."""
    lines = read_regular_file(path).decode().split("\n")
    for number, line in enumerate(lines, 1):
        if key not in line:
            continue
        # TOML's own reader decides, so that comments and other sections are not taken for it
        try:
            document = parse_toml("\n".join(lines[:number]))
        except ValueError:
            continue
        if key in document.get("target", {}):
            return number
    return None
