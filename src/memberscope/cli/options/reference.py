"""The page that documents each key of `audit.toml` and of a policy.

Made from the types that read them.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

from memberscope.cli.options.keys import SECTIONS, Options, find_key_type

HEAD = """# Configuration

Every key of `audit.toml`. Each but `priors` is also a flag of the command line (`query_budget` is `--query-budget`, `fprs` is `--fpr`,
`trust_types` is `--trust-type`, once a type; other lists are separated by commas), and flags win. Paths are relative to the file. A key, section or type that is not on this page is an error, with the nearest known key.
This page is made from the code by `make schema`.
"""
INTROS = {
    "target": "What is audited: one of `model`, `url` and `signals`. The keys from `protocol` on need `url`.",
    "data": "The records, and which columns are what. With `signals` the table holds the records too.",
    "recipe": "How models like the target are trained. Without a recipe, attacks that need reference models are not run.",
    "defend": "For `memberscope defend` alone.",
    "threat": "Who the adversary is.",
    "audit": "How it is measured and reported.",
}
POLICY = """Either `use` with the name of a shipped policy (`memberscope list policies`) or a file, or the claims themselves."""
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
        parts += [
            f"## [{section}]",
            "",
            INTROS[section],
            "",
            *_format_table(_rows_of_keys(names)),
            "",
        ]
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
    """Give name, type, default and meaning of each field of a pydantic model, or of a dataclass.

    Whose fields have no meaning.

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


def _rows_of_keys(names: tuple[str, ...]) -> list[tuple[str, str, str, str]]:
    """Give name, type, default and meaning of each key of a section."""
    about = {entry.name: entry.metadata for entry in fields(Options)}
    return [
        (name, _type_name(find_key_type(name)), about[name]["default"], about[name]["meaning"])
        for name in names
    ]


def _format_table(rows: list[tuple[str, str, str, str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    return lines + [
        f"| `{name}` | {kind} | {default} | {meaning} |" for name, kind, default, meaning in rows
    ]


def _default_name(value: Any) -> str:
    """A default in words.

    >>> _default_name(()), _default_name(None), _default_name(True), _default_name(4)
    ('none', 'none', 'true', '4')
    """
    if value is None or value == () or value == []:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type_name(hint: Any) -> str:
    """A type in words.

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
