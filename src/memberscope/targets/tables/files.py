"""Read tables as named columns: CSV, JSON lines, Parquet, Feather and NPZ.

Columns keep their types, and nothing that could run code is opened.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.frames import ColumnSpec, find_column_spec, make_object_array, type_words
from memberscope.targets.tables.arrow import list_arrow_columns, read_arrow_file, read_text_by_arrow
from memberscope.targets.tables.by_pandas import read_text_by_pandas
from memberscope.targets.tables.columns import read_npz
from memberscope.targets.tables.text import (
    COMPRESSED,
    TextFormat,
    find_text_format,
    open_text,
    read_words,
)

TEXT, JSON = (".csv", ".tsv", ".tab", ".txt"), (".jsonl", ".ndjson", ".json")
ARROW = (".parquet", ".pq", ".feather", ".arrow")
# Names of a column that pandas wrote for its index
NAMELESS = ("", "Unnamed: 0", "__index_level_0__")
Columns = dict[str, Any]


@dataclass(frozen=True, eq=False)
class ReadTable:
    """Columns (n,) of a file by name, as numpy or pandas holds them.

    `notes` say what was assumed in reading it. `index` names columns that are features only if they
    are asked for: the index of a data frame that was written along.
    """

    path: Path
    columns: Columns
    index: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_table(
    path: Path, wanted: Mapping[str, ColumnSpec] | None = None, texts: Collection[str] = ()
) -> ReadTable:
    """Read a table.

    Fields of `texts`, and of columns that are `wanted` as text or categories, are kept as they are
    written.

    Raises:
        InputError: The file is missing, truncated, empty or of another kind, or columns differ in
            length.
        UnsafeFileError: An NPZ holds pickled objects.
    """
    wanted = wanted or {}
    kind = find_suffix(path)
    # By its name before it is opened: other formats may run code
    if kind not in (*TEXT, *JSON, *ARROW, ".npz"):
        known = ".csv, .tsv, .jsonl, .parquet, .feather or .npz"
        raise InputError(
            f"Expected a {known} file (text also as .gz or .zst), got {str(path)!r}. Convert the "
            "table."
        )
    if not path.is_file():
        raise InputError(f"Expected a file, got {str(path)!r}, which is not there. Check the path.")
    if kind in TEXT:
        table = _read_text(path, texts, wanted)
    elif kind in JSON:
        table = ReadTable(path, _read_json(path, texts, wanted))
    elif kind in ARROW:
        columns, index = list_arrow_columns(read_arrow_file(path))
        table = ReadTable(path, columns, index)
    else:
        table = ReadTable(path, read_npz(path))
    _check_lengths(table)
    # Last, once all columns are known to fit each other
    return _without_nameless(table, wanted)


def find_suffix(path: Path) -> str:
    """Find the suffix that says what a table is, before that of its compression.

    >>> find_suffix(Path("train.csv.gz")), find_suffix(Path("train.parquet"))
    ('.csv', '.parquet')
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        # Only text is read compressed; other formats compress their columns themselves
        inner = suffixes[-2] if len(suffixes) > 1 else ""
        return inner if inner in (*TEXT, *JSON) else "".join(suffixes[-2:])
    return suffixes[-1] if suffixes else ""


def find_stem(path: Path) -> str:
    """Find a file's name without the suffixes of its kind and compression.

    >>> find_stem(Path("data/train.csv.gz"))
    'train'
    """
    name = path.stem if path.suffix.lower() in COMPRESSED else path.name
    return Path(name).stem


def _read_text(path: Path, texts: Collection[str], wanted: Mapping[str, ColumnSpec]) -> ReadTable:
    """Read a text table by the fastest reader that is installed."""
    # Names that are expected help to find the separator
    found = find_text_format(path, {*texts, *wanted})
    # A model that was fitted with pandas's name for an index gets it under that name
    names = tuple(
        "Unnamed: 0" if not name and "Unnamed: 0" in wanted else name for name in found.names
    )
    found = replace(found, names=names)
    texts = _names_of_texts(names, texts, wanted)
    try:
        columns = _read_typed(path, found, texts)
    except UnicodeError:
        # The sample was UTF-8, a later byte is not: the file was written by older Windows software
        found = replace(found, encoding="cp1252", assumed="Windows-1252, since it is no UTF-8")
        columns = _read_typed(path, found, texts)
    notes = (f"Read {path.name} as {found.assumed}.",) if found.assumed else ()
    return ReadTable(path, columns, notes=notes)


def _names_of_texts(
    names: Collection[str], texts: Collection[str], wanted: Mapping[str, ColumnSpec]
) -> set[str]:
    """Find the columns whose values are kept as they are written.

    These are `texts`, and those that are wanted as text or categories.
    """
    kinds = {name: find_column_spec(wanted, name) for name in names}
    return {
        *texts,
        *(
            name
            for name, want in kinds.items()
            if want is not None and want.kind in ("text", "category")
        ),
    }


def _read_typed(path: Path, found: TextFormat, texts: Collection[str]) -> Columns:
    # pandas needs another library for .zst
    if find_spec("pandas") and path.suffix.lower() != ".zst":
        return read_text_by_pandas(path, found, texts)
    if find_spec("pyarrow"):
        try:
            # Text files mark no index
            return list_arrow_columns(read_text_by_arrow(path, found, texts))[0]
        except InputError:
            read_words(path, found)  # says which line it is
            raise
    words = read_words(path, found)
    return {
        name: _as_written(column) if name in texts else type_words(column, found.decimal)
        for name, column in words
    }


def _as_written(words: list[str]) -> Any:
    # Equal words share one object, which saves memory in columns of categories
    shared = {word: word for word in set(words)}
    return make_object_array([shared[word] if word else np.nan for word in words])


def _read_json(path: Path, texts: Collection[str], wanted: Mapping[str, ColumnSpec]) -> Columns:
    """Read records that are JSON objects, one a line or in one list.

    What a record lacks is missing. Dates among `texts` stay words.

    Raises:
        InputError: A line is not an object.
    """
    # JSON is UTF-8 by its standard, though some programs write a byte order mark
    with open_text(path, "utf-8-sig") as stream:
        text = stream.read()
    try:
        # One list of records, as many programs write JSON; otherwise one record a line
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"Expected one JSON object a line in {path}, got: {error}. Write it again."
        ) from error
    odd = next((place for place, row in enumerate(rows) if not isinstance(row, dict)), None)
    if odd is not None:
        raise InputError(
            f"Expected one JSON object a line in {path}, got {str(rows[odd])[:40]!r} as record "
            f"{odd + 1}. Write it again."
        )
    # Records may lack keys; the order is that of their first occurrence
    names = list(dict.fromkeys(name for row in rows for name in row))
    plain = _names_of_texts(names, texts, wanted)
    return {
        name: _typed_json([row.get(name) for row in rows], name, path, dates=name not in plain)
        for name in names
    }


def _typed_json(values: list[Any], name: str, path: Path, *, dates: bool) -> Any:
    """Type the values (n,) of one key.

    Numbers, truth values, words, or lists of numbers of one length.
    """
    present = [value for value in values if value is not None]
    if any(isinstance(value, dict) for value in present):
        raise InputError(
            f"Expected plain values under {name!r} in {path}, got an object. Flatten the records."
        )
    # Lists of one length are arrays, such as embeddings
    if present and all(isinstance(value, list) for value in present):
        try:
            return np.array(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"Expected lists of numbers of one length under {name!r} in {path}, got lists that "
                "differ in length or hold something else. Flatten them."
            ) from error
    complete = len(present) == len(values)
    # Truth values before numbers, since Python counts them among these
    if all(isinstance(value, bool) for value in present) and present:
        return (
            np.array(values)
            if complete
            else make_object_array([np.nan if value is None else value for value in values])
        )
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        whole = (
            complete
            and present
            # Larger whole numbers do not fit int64
            and all(isinstance(value, int) and abs(value) < 2**63 for value in present)
        )
        return np.array(values, dtype=np.int64 if whole else np.float64)
    if all(isinstance(value, str) for value in present):
        # Only dates are taken from words: a number that is quoted in JSON is meant as a word
        typed = type_words(["" if value is None else value for value in values])
        return (
            typed
            if typed.dtype.kind == "M" and dates
            else make_object_array([np.nan if value is None else value for value in values])
        )
    return make_object_array([np.nan if value is None else value for value in values])


def _check_lengths(table: ReadTable) -> None:
    """Refuse a table without records, and entries that are not columns.

    Raises:
        InputError: It is empty, holds a single value, or its columns differ in length.
    """
    path, columns = table.path, table.columns
    # NPZ files may hold a single number, such as a setting
    single = [name for name, column in columns.items() if column.ndim == 0]
    if single:
        raise InputError(
            f"Expected one value a record in {path}, got the single value {single[0]!r}. Leave it "
            "out of the file."
        )
    lengths = {name: len(column) for name, column in columns.items()}
    if not lengths or max(lengths.values()) == 0:
        raise InputError(
            f"Expected records in {path}, got an empty table. Check how it was written."
        )
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} {n}" for name, n in list(lengths.items())[:6])
        raise InputError(
            f"Expected columns of one length in {path}, got {got}. Align them record by record."
        )


def _without_nameless(table: ReadTable, wanted: Mapping[str, ColumnSpec]) -> ReadTable:
    """Drop the column that pandas writes for a nameless index, and say so.

    It is kept if the model was fitted with it.
    """
    names = [
        name
        for name in dict.fromkeys((*table.columns, *table.index))
        if name in NAMELESS and name not in wanted
    ]
    # A table of nothing but an index keeps it
    if not names or set(names) >= set(table.columns):
        return table
    columns = {name: column for name, column in table.columns.items() if name not in names}
    index = tuple(name for name in table.index if name not in names)
    called = " and ".join(name if name else "without a name" for name in names)
    note = f"Left out the column {called} of {table.path.name}, the index of a data frame that was written along."
    return replace(table, columns=columns, index=index, notes=(*table.notes, note))
