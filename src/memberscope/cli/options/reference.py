"""The page that documents each option and each key of a policy, made from what reads them."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

from memberscope.cli.options.lookup import ROWS, SECTIONS
from memberscope.cli.options.rows import PREFIX, Row

HEAD = f"""# Configuration

Every option of `memberscope audit`, `plan`, `defend` and `set-test`. Each can be set in three places:

1. a flag of the command line, such as `--query-budget 100`;
2. an environment variable: `{PREFIX}` and the key in capitals, such as `{PREFIX}QUERY_BUDGET=100`;
3. a key of `audit.toml`, such as `query_budget = 100` below `[threat]`.

A flag goes before the environment variable, the variable before `audit.toml`, and `audit.toml`
before the default. `plan` takes every option that `audit` takes, and so does `set-test` except for
those of canaries.

In a flag or a variable, the parts of a list are separated by commas; `--trust-type` is given once a
type. In a variable, a switch is `true` or `false` (`1`, `0`, `yes`, `no`, `on` and `off` will do).
A variable that is empty counts as not set, and one with another name is not looked at. Variables are
read by the command line alone: the Python functions do not look at them. A token is never an option:
`auth_env` names the variable that holds it.

Paths in `audit.toml` are relative to the file, those in flags and variables to the working directory.
A key, section or type that is not on this page is an error, with the nearest known key.
This page is made from the code by `make schema`.
"""
SWITCHES = f"""These stand on the command line or in the environment, and not in `audit.toml`, since they are
about one run. The variable of `--canaries` is `{PREFIX}AUDIT_CANARIES`, since `canaries` in `[defend]` is
another option."""
INTROS = {
    "target": "What is audited: one of `model`, `url` and `signals`. The keys from `protocol` to `max_queries` need `url`, all but `batch_size`.",
    "data": "The records, and which columns are what. With `signals` the table holds the records too.",
    "recipe": "How models like the target are trained. Without a recipe, attacks that need reference models are not run.",
    "defend": "For `memberscope defend` alone.",
    "set": "For `memberscope set-test` alone: what is asked about the members as a collection. `seed` is that of `[audit]`.",
    "threat": "Who the adversary is.",
    "audit": "How it is measured and reported.",
}
POLICY = f"""Either `use` with the name of a shipped policy (`memberscope list policies`) or a file, or the claims themselves. The flag `--policy` and the
variable `{PREFIX}POLICY` take a name or a file."""
NEEDS = """All claims are judged together. An unknown key is an error. The shipped policies say in their files how many records they need:
`standard` can fail with 368 non-members (666 with 20 attacks) and passes a clean model in about five of six audits with 2,000 records a
side; `strict` needs 3,688 (6,682) and about 5,000; `demo`, at 5% false positives, 72 (131) and about 300."""
NAMES = {bool: "true or false", int: "whole number", float: "number", str: "text"}


def render_configuration_page() -> str:
    """Write the page as Markdown."""
    from memberscope.auditing import Policy
    from memberscope.auditing.documents import EXAMPLES, KINDS

    parts = [HEAD]
    for section, names in SECTIONS.items():
        parts += [f"## [{section}]", "", INTROS[section], ""]
        parts += [*_format_options([ROWS[name] for name in names]), ""]
    alone = [row for row in ROWS.values() if not row.section and not row.is_argument]
    parts += ["## Options of one run", "", SWITCHES, "", *_format_options(alone), ""]
    parts += [
        "## [policy]",
        "",
        POLICY,
        "",
        *_format_table(
            [("use", "text", "", "A shipped policy, or a file with a `[policy]` table.")]
        ),
    ]
    parts += ["", *_format_table(_list_model_rows(Policy)), "", NEEDS, ""]
    for name, kind in KINDS.items():
        parts += [
            f"Each row of `{name}`, such as `{name} = {EXAMPLES[name]}`:",
            "",
            *_format_table(_list_model_rows(kind)),
            "",
        ]
    return "\n".join(parts)


def _list_model_rows(model: type[Any]) -> list[tuple[str, str, str, str]]:
    """Give name, type, default and meaning of each field of a pydantic model.

    The fields of a dataclass have no meaning.

    >>> from pydantic import BaseModel, Field
    >>> class Limit(BaseModel):
    ...     fpr: float = Field(description="A rate.")
    >>> _list_model_rows(Limit)
    [('fpr', 'number', 'required', 'A rate.')]
    """
    hints = get_type_hints(model)
    described = getattr(model, "__pydantic_fields__", None)
    if described is None:
        given = [
            (entry.name, "" if entry.default is MISSING else repr(entry.default), "")
            for entry in fields(model)
        ]
        return [
            (name, _type_name(hints[name]), default or "required", meaning)
            for name, default, meaning in given
        ]
    found = []
    for name, entry in described.items():
        default = (
            "required"
            if entry.is_required()
            else _default_name(entry.get_default(call_default_factory=True))
        )
        found.append(
            (entry.alias or name, _type_name(hints[name]), default, entry.description or "")
        )
    return found


def _format_options(rows: list[Row]) -> list[str]:
    """Write rows of options as lines of a Markdown table."""
    lines = ["| key | flag | type | default | meaning |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        flags = ", ".join(f"`{flag}`" for flags in row.flags for flag in flags.split("/"))
        cells = (f"`{row.name}`", flags, _type_name(row.kind), row.describe_default(), row.help)
        escaped = (cell.replace("|", r"\|") for cell in cells)
        lines.append(f"| {' | '.join(escaped)} |")
    return lines


def _format_table(rows: list[tuple[str, str, str, str]]) -> list[str]:
    """Write rows as lines of a Markdown table."""
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    return lines + [
        f"| `{name}` | {kind} | {default} | {meaning} |" for name, kind, default, meaning in rows
    ]


def _default_name(value: Any) -> str:
    """Write a default in words.

    >>> _default_name(()), _default_name(None), _default_name(True), _default_name(4)
    ('none', 'none', 'true', '4')
    """
    if value is None or value == () or value == []:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type_name(hint: Any) -> str:
    """Write a type in words.

    >>> _type_name(list[str]), _type_name(int | None), _type_name(tuple[float, ...])
    ('list of text', 'whole number', 'list of number')
    """
    parts = [part for part in getattr(hint, "__args__", ()) if part not in (type(None), Ellipsis)]
    origin = getattr(hint, "__origin__", None)
    if origin in (list, tuple):
        return f"list of {_type_name(parts[0])}"
    if hint in NAMES:
        return NAMES[hint]
    if origin is None and not parts:
        return (
            "table"
            if is_dataclass(hint) or hasattr(hint, "__pydantic_fields__")
            else str(getattr(hint, "__name__", hint))
        )
    if all(isinstance(part, str) for part in parts):
        return " or ".join(f'"{part}"' for part in parts)
    return " or ".join(_type_name(part) for part in parts)
