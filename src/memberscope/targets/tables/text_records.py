"""Make records of texts, of prompts with completions, or of chats.

They come from a list, or from a file of JSON lines, Parquet, Feather, CSV or plain lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames import make_object_array
from memberscope.targets.tables.columns import read_unit_names
from memberscope.targets.tables.files import find_stem
from memberscope.targets.tables.text_columns import TextTable, read_text_table
from memberscope.targets.tables.wanted import spell_value
from memberscope.texts import Chat, Completion, TextRecord, read_scored_text
from memberscope.types import Records

# Names under which columns are found that nobody named
TEXT_NAMES = ("text", "texts", "content", "document")
PAIR_NAMES = (("prompt", "completion"), ("prompt", "response"))
CHAT_NAMES = ("messages", "conversation")
ID_NAMES = ("id", "ids")
KINDS = {str: "texts", Completion: "prompts with completions", Chat: "chats"}


@dataclass(frozen=True)
class TextColumns:
    """Roles of the columns in a file of texts; those that are None are found by their usual names.

    >>> TextColumns(text="review").text
    'review'
    """

    text: str | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: str | None = None
    id: str | None = None
    groups: tuple[str, ...] = field(default=())
    unit: str | None = None


def read_text_records(
    source: str | Path | Sequence[Any],
    *,
    text: str | None = None,
    prompt: str | None = None,
    completion: str | None = None,
    messages: str | None = None,
    id: str | None = None,
    groups: Sequence[str] = (),
    unit: str | None = None,
) -> Records:
    """Read the records of a text audit from a file, or from a list of texts.

    A file is JSON lines, Parquet, Feather or CSV (text also as .gz or .zst), or a .txt of one text
    a line. Columns are found by their usual names: `text`, or `prompt` and `completion`, or
    `messages` of dicts with role and content; and `id`. Name those that are called otherwise.
    `unit` names the author, document or person of each record.

    Raises:
        InputError: The file cannot be read, a column is missing or leaves open what is meant, or a
            record is empty or of another kind than the others.

    >>> read_text_records(["One text.", "Another."]).ids.tolist()
    ['record:0', 'record:1']
    """
    layout = TextColumns(text, prompt, completion, messages, id, tuple(groups), unit)
    return _read_one(source, layout, None)


def read_text_pair(
    members: str | Path | Sequence[Any], non_members: str | Path | Sequence[Any], **columns: Any
) -> tuple[Records, Records]:
    """Read members and non-members, as `read_text_records` reads each; both are of one kind.

    Raises:
        InputError: One of them cannot be read, or they are of different kinds.

    >>> first, second = read_text_pair(["One text."], ["Another."])
    >>> first.ids.tolist(), second.ids.tolist()
    (['member:0'], ['non-member:0'])
    """
    columns["groups"] = tuple(columns.get("groups", ()))
    layout = TextColumns(**columns)
    sources = (members, non_members)
    stems = [find_stem(Path(one)) if isinstance(one, str | Path) else "" for one in sources]
    # Lists, and files of one name in two folders, must not give the same ids
    prefixes = stems if all(stems) and stems[0] != stems[1] else ["member", "non-member"]
    first, second = (
        _read_one(source, layout, prefix) for source, prefix in zip(sources, prefixes, strict=True)
    )
    kinds = [KINDS[type(side.x[0])] for side in (first, second)]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"Expected members and non-members of one kind, got {kinds[0]} and {kinds[1]}. Give "
            "both as texts, as prompts with completions, or as chats."
        )
    return first, second


def make_text_records(
    records: Iterable[Any],
    prefix: str = "record",
    *,
    ids: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[Any]] | None = None,
    unit: Sequence[Any] | None = None,
) -> Records:
    """Make the records of a text audit from texts, completions, chats or dicts.

    A dict has `text`, or `prompt` and `completion`, or `messages`; a list of dicts with role and
    content is a chat. Ids are numbers after the `prefix` if there are none.

    Raises:
        InputError: A record is empty, none of these, or of another kind than the first.

    >>> records = make_text_records([{"prompt": "2 + 2 =", "completion": " 4"}], "train")
    >>> records.x[0], records.y.tolist(), records.ids.tolist()
    (Completion(prompt='2 + 2 =', completion=' 4'), [0], ['train:0'])
    """
    if isinstance(records, str | bytes):
        raise InputError("Expected a list of texts, got one text. Put it into a list.")
    x = make_object_array(
        [_make_text_record(record, f"record {row + 1}") for row, record in enumerate(records)]
    )
    _refuse_odd_records(x, "the list")
    names = np.array([f"{prefix}:{i}" for i in range(len(x))]) if ids is None else np.array(ids)
    return Records(
        x=x,
        y=np.zeros(len(x), np.int64),
        ids=names.astype(np.str_),
        groups={name: _spell_values(values) for name, values in (groups or {}).items()},
        unit=None if unit is None else read_unit_names(np.asarray(unit), "unit", "the list"),
    )


def is_text_list(values: Any) -> bool:
    """Tell whether these are records of a text audit rather than of a classifier.

    >>> is_text_list([Completion("a", "b")]), is_text_list(["a text"]), is_text_list([[0.5]])
    (True, True, False)
    """
    if not isinstance(values, list | tuple | np.ndarray) or len(values) == 0:
        return False
    return isinstance(values[0], str | Completion | Chat)


def _read_one(
    source: str | Path | Sequence[Any], layout: TextColumns, prefix: str | None
) -> Records:
    """Read one side; without a `prefix` ids are numbers after the file's name."""
    if not isinstance(source, str | Path):
        return make_text_records(source, prefix or "record")
    path = Path(source)
    named = [name for name in vars(layout).values() if isinstance(name, str)]
    table = read_text_table(path, (*named, *layout.groups))
    return _build_text_records(table, layout, prefix or find_stem(path))


def _build_text_records(table: TextTable, layout: TextColumns, prefix: str) -> Records:
    """Build the records from the columns of a file."""
    path, columns = table.path, table.columns
    for name in (layout.id, layout.unit, *layout.groups):
        _check_column(name, table)
    x = make_object_array(
        [
            _make_text_record(row, f"record {k + 1} of {path}")
            for k, row in enumerate(_list_rows(table, layout))
        ]
    )
    _refuse_odd_records(x, str(path))
    called = layout.id or next((name for name in ID_NAMES if name in columns), None)
    return Records(
        x=x,
        y=np.zeros(len(x), np.int64),
        ids=np.array([f"{prefix}:{i}" for i in range(len(x))])
        if called is None
        else _read_ids(columns[called], called, path),
        groups={name: _spell_values(columns[name]) for name in layout.groups},
        unit=read_unit_names(_spell_values(columns[layout.unit], ""), layout.unit, path)
        if layout.unit
        else None,
    )


def _list_rows(table: TextTable, layout: TextColumns) -> list[dict[str, Any]]:
    """List the records as dicts of what they consist of."""
    roles = _find_roles(table, layout)
    for name in roles.values():
        _check_column(name, table)
    columns = {role: table.columns[name] for role, name in roles.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _find_roles(table: TextTable, layout: TextColumns) -> dict[str, str]:
    """Find which column is the text, or the prompt and the completion, or the messages.

    Raises:
        InputError: None is, or several kinds of record could be meant.
    """
    given = {
        role: name
        for role in ("text", "prompt", "completion", "messages")
        if (name := getattr(layout, role))
    }
    if given:
        if set(given) not in ({"text"}, {"prompt", "completion"}, {"messages"}):
            raise InputError(
                "Expected a column of texts, or of prompts and of completions, or of messages, got "
                f"{' and '.join(given)}. Name one of these three."
            )
        return given
    columns = table.columns
    found: list[dict[str, str]] = []
    for pair in PAIR_NAMES:
        if all(name in columns for name in pair):
            found.append({"prompt": pair[0], "completion": pair[1]})
    for role, names in (("messages", CHAT_NAMES), ("text", TEXT_NAMES)):
        found += [{role: name} for name in names if name in columns]
    # What is scored depends on the choice, so that it is the user's
    if len(found) != 1:
        got = " and ".join("+".join(one.values()) for one in found) or ", ".join(list(columns)[:8])
        raise InputError(
            f"Expected the column text, or prompt and completion, or messages in {table.path}, got "
            f"{got}. Name the columns to read."
        )
    return found[0]


def _check_column(name: str | None, table: TextTable) -> None:
    """Refuse a column that is named but not there.

    Raises:
        InputError: It is missing.
    """
    if name is not None and name not in table.columns:
        raise InputError(
            f"Expected the column {name!r} in {table.path}, got "
            f"{', '.join(list(table.columns)[:8])}. Check the name."
        )


def _make_text_record(value: Any, where: str) -> TextRecord:
    """Make one record of a text, a completion, a chat, a dict, or a list of messages.

    Raises:
        InputError: It is none of these.
    """
    if isinstance(value, Mapping):
        keys = set(value)
        if "messages" in keys:
            return _make_chat(value["messages"], where)
        if {"prompt", "completion"} <= keys:
            value = Completion(value["prompt"], value["completion"])
        elif "prompt" in keys:
            raise InputError(
                f"Expected a completion in {where}, got a prompt alone. Give what the model was "
                "trained to write after it."
            )
        elif "text" in keys:
            value = value["text"]
    elif isinstance(value, list | tuple):
        return _make_chat(value, where)
    parts = (value.prompt, value.completion) if isinstance(value, Completion) else (value,)
    if isinstance(value, Chat):
        return _make_chat(value.messages, where)
    for part in parts:
        if not isinstance(part, str):
            raise InputError(
                f"Expected a text in {where}, got {_describe_value(part)}. Give a string, or leave "
                "the record out."
            )
    return value if isinstance(value, Completion) else str(value)


def _make_chat(messages: Any, where: str) -> Chat:
    """Make a chat of messages as dicts, as pairs, or as JSON.

    Raises:
        InputError: They are not messages with a role and a content.
    """
    if isinstance(messages, str):
        try:
            messages = json.loads(messages)
        except ValueError:
            messages = None
    pairs = [
        (one.get("role"), one.get("content"))
        if isinstance(one, Mapping)
        else tuple(one)
        if isinstance(one, list | tuple)
        else (None, None)
        for one in (messages if isinstance(messages, list | tuple) else ())
    ]
    if not pairs or not all(
        len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs
    ):
        raise InputError(
            f"Expected messages with a role and a content that are strings in {where}, got "
            f"{_describe_value(messages)}. Write a list of {{'role': …, 'content': …}}."
        )
    return Chat(tuple((str(role), str(content)) for role, content in pairs))


def _refuse_odd_records(x: NDArray[Any], where: str) -> None:
    """Refuse no records, empty ones, and several kinds of them.

    Raises:
        InputError: There are such.
    """
    if len(x) == 0:
        raise InputError(f"Expected texts in {where}, got none. Give at least one.")
    odd = next((k for k, one in enumerate(x) if type(one) is not type(x[0])), None)
    if odd is not None:
        raise InputError(
            f"Expected records of one kind in {where}, got {KINDS[type(x[0])]} and, in record "
            f"{odd + 1}, {KINDS[type(x[odd])]}. Give one kind."
        )
    empty = [k for k, one in enumerate(x) if not read_scored_text(one).strip()]
    if empty:
        raise InputError(
            f"Expected text to score in each record of {where}, got an empty one in "
            f"{len(empty)} records, the first in record {empty[0] + 1}. Leave these records out."
        )


def _read_ids(column: Sequence[Any], name: str, path: Path) -> NDArray[np.str_]:
    """Read the ids (n,), which each name one record.

    Raises:
        InputError: One is missing, or names two records.
    """
    ids = _spell_values(column, "")
    names, first, counts = np.unique(ids, return_index=True, return_counts=True)
    if (ids == "").any():
        raise InputError(
            f"Expected an id of each record in {name!r} of {path}, got none in row "
            f"{int(np.argmax(ids == '')) + 1}. Fill it in."
        )
    if (counts > 1).any():
        twice = names[counts > 1][np.argmin(first[counts > 1])]
        raise InputError(
            f"Expected one record for each id in {name!r} of {path}, got {str(twice)!r} "
            f"{int(counts[names == twice][0])} times. Give each record an id of its own."
        )
    return ids


def _spell_values(values: Iterable[Any], absent: str = "missing") -> NDArray[np.str_]:
    """Write values (n,) as words, with a word for those that are missing."""
    return np.array(
        [absent if value is None else spell_value(value) for value in values], dtype=np.str_
    )


def _describe_value(value: Any) -> str:
    """Describe a value in a message."""
    return "none" if value is None else repr(value)[:40]
