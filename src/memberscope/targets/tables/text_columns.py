"""Read files of texts as columns of plain Python values.

Unlike tables of features their fields may be lists, such as the messages of a chat.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from memberscope.errors import InputError
from memberscope.frames import mark_missing
from memberscope.targets.tables.arrow import read_arrow_file
from memberscope.targets.tables.files import ARROW, JSON, TEXT, find_suffix, read_table
from memberscope.targets.tables.text import find_text_format, open_text


@dataclass(frozen=True, eq=False)
class TextTable:
    """Columns (n,) of a file by name; what is missing is None."""

    path: Path
    columns: dict[str, list[Any]]


def read_text_table(path: Path, known: Sequence[str] = ()) -> TextTable:
    """Read the columns of a file of texts; names that are `known` help to find the separator.

    Raises:
        InputError: The file is missing, damaged, empty or of another kind.
    """
    kind = find_suffix(path)
    if kind not in (*TEXT, *JSON, *ARROW):
        raise InputError(
            f"Expected a .jsonl, .parquet, .feather, .csv, .tsv or .txt file of texts, got "
            f"{str(path)!r}. Convert the file."
        )
    if not path.is_file():
        raise InputError(f"Expected a file, got {str(path)!r}, which is not there. Check the path.")
    if kind in JSON:
        columns = _join_rows(list(read_json_rows(path)))
    elif kind in ARROW:
        columns = {
            name: column.to_pylist()
            for table in [read_arrow_file(path)]
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
    elif kind == ".txt":
        with open_text(path, "utf-8-sig") as stream:
            columns = {"text": [line.rstrip("\r\n") for line in stream if line.strip()]}
    else:
        columns = _read_words_as_written(path, known)
    if not any(columns.values()):
        raise InputError(
            f"Expected records in {path}, got an empty file. Check how it was written."
        )
    return TextTable(path, columns)


def read_json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read JSON objects, one a line or all in one list.

    Raises:
        InputError: A line is not an object.
    """
    row, number, parse = 0, 0, _choose_parser()
    try:
        # JSON is UTF-8 by its standard, though some programs write a byte order mark
        with open_text(path, "utf-8-sig") as stream:
            first = stream.read(1)
            if first == "[":
                lines: Any = json.loads(first + stream.read())
            else:
                # Line by line, since stored signals may be larger than the memory
                lines = stream
            for line in lines:
                if isinstance(line, str):
                    line, first, number = first + line, "", number + 1
                    if not line.strip():
                        continue
                    line = parse(line)
                row += 1
                if not isinstance(line, dict):
                    raise InputError(
                        f"Expected one JSON object a line in {path}, got {str(line)[:40]!r} as "
                        f"record {row}. Write it again."
                    )
                yield line
    # The parser sees one line alone, so that its own number of the line is always 1
    except json.JSONDecodeError as error:
        where = f"line {number or error.lineno}, column {error.colno}"
        raise InputError(
            f"Expected one JSON object a line in {path}, got {error.msg!r} in {where}. Write that "
            "line again."
        ) from error
    except (ValueError, RecursionError, EOFError, OSError) as error:
        raise InputError(
            f"Expected one JSON object a line in {path}, got: {error} after {row} records. Write "
            "it again."
        ) from error


def _choose_parser() -> Callable[[str], Any]:
    """Choose the fastest parser of a line that is installed."""
    if not find_spec("orjson"):
        return json.loads
    import orjson

    def parse(line: str) -> Any:
        """Parse a line; Python's own parser takes NaN and large numbers too."""
        try:
            return orjson.loads(line)
        except orjson.JSONDecodeError:
            return json.loads(line)

    return parse


def _join_rows(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Join records to columns; what a record lacks is None."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _read_words_as_written(path: Path, known: Sequence[str]) -> dict[str, list[Any]]:
    """Read the columns of a text table with every field as it is written."""
    names = find_text_format(path, known).names
    table = read_table(path, None, names)
    return {
        name: [
            None if absent else value
            for value, absent in zip(column.tolist(), mark_missing(column), strict=True)
        ]
        for name, column in table.columns.items()
    }
