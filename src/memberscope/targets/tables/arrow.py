"""Read text tables, Parquet and Feather by pyarrow, where it is installed.

Their columns are given as pandas or numpy holds them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.frames import FALSE, MISSING, TRUE, ArrowWords, make_object_array
from memberscope.targets.tables.text import COMPRESSED, TextFormat

# Bytes of a block: fewer cost a fifth more time in blocks begun, more leave the cache
BLOCK = 2 << 20
PART = 16 << 20  # bytes of a file from which another thread reads a part of its own
MOST_PARTS = 4
MOST_TRIES = 4  # columns that are read as text one by one, before all columns are


def read_text_by_arrow(path: Path, found: TextFormat, texts: Collection[str]) -> Any:
    """Read a text table; fields of the columns `texts` are kept as they are written.

    Only empty ones become missing. Types are those of the first block; where a later one does not
    fit, the column is read as text and typed as a whole.

    Raises:
        InputError: A line has too few or too many fields.
        UnicodeDecodeError: It is not in the encoding found.
    """
    import pyarrow as pa

    # Columns whose type in the first block did not hold for a later one
    untyped: set[str] = set()
    for _ in range(MOST_TRIES + 1):
        try:
            table = _read_csv(path, found, {*texts, *untyped}, keep=bool(texts))
        except pa.ArrowInvalid as error:
            # pyarrow tells the column only in the message
            column = re.match(r"In CSV column #(\d+):", str(error))
            if column is None:
                raise _explain_arrow_error(path, found, error) from error
            untyped |= (
                {found.names[int(column[1])]} if len(untyped) < MOST_TRIES - 1 else set(found.names)
            )
            continue
        # Times of day have no type in numpy: they are read as words
        times = {field.name for field in table.schema if pa.types.is_time(field.type)}
        if not times:
            return _finish_table(table, texts, untyped, found.decimal)
        untyped |= times
    return _finish_table(
        _read_csv(path, found, found.names, keep=bool(texts)),
        texts,
        set(found.names),
        found.decimal,
    )


def _read_csv(path: Path, found: TextFormat, texts: Collection[str], *, keep: bool) -> Any:
    """Read the columns; with `keep`, words for missing values are kept.

    They are handled afterwards, column by column.
    """
    import pyarrow as pa
    from pyarrow import csv

    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(texts, pa.string()),
        null_values=sorted(MISSING),
        true_values=list(TRUE),
        false_values=list(FALSE),
        # In text columns words such as NA may be values
        strings_can_be_null=not keep,
        decimal_point=found.decimal,
    )
    # pyarrow names its own UTF-8, and drops the byte order mark itself
    encoding = "utf8" if found.encoding in ("utf-8", "utf-8-sig") else found.encoding
    read = csv.ReadOptions(
        column_names=list(found.names),
        skip_rows=1 + found.skip,
        encoding=encoding,
        block_size=BLOCK,
    )
    # Fields of quoted text may hold line breaks
    parse = csv.ParseOptions(delimiter=found.separator, newlines_in_values=True)
    ranges = _split_at_lines(path, read.encoding)
    try:
        if len(ranges) > 1:
            return _read_ranges(path, ranges, read, parse, convert)
    except pa.ArrowInvalid as error:
        # Other errors are found again in the whole file, where lines are counted from the start
        if "In CSV column" in str(error):
            raise
    with pa.input_stream(str(path)) as stream:  # decompresses by the name
        # Block by block: the whole-file reader holds twice the memory.
        blocks = csv.open_csv(
            stream, read_options=read, parse_options=parse, convert_options=convert
        )
        return pa.Table.from_batches(list(blocks), blocks.schema)


def _split_at_lines(path: Path, encoding: str) -> list[tuple[int, int]]:
    """Split a large UTF-8 file without quotes into (offset, bytes) that each end with a line.

    A file that is small, compressed, quoted or otherwise encoded stays in one part: only where
    nothing is quoted is every line break known to end a record.
    """
    size = path.stat().st_size
    n = min(os.cpu_count() or 1, MOST_PARTS, size // PART)
    if n < 2 or encoding != "utf8" or path.suffix.lower() in COMPRESSED:
        return [(0, size)]
    with path.open("rb") as file:
        while chunk := file.read(BLOCK):
            if b'"' in chunk:
                return [(0, size)]
        starts = [0]
        for part in range(1, n):
            file.seek(size * part // n)
            file.readline()
            starts.append(file.tell())
    ends = [*starts[1:], size]
    return [(start, end - start) for start, end in zip(starts, ends, strict=True) if end > start]


def _read_ranges(
    path: Path, ranges: list[tuple[int, int]], read: Any, parse: Any, convert: Any
) -> Any:
    """Read ranges of a file side by side, all with the types of the first one's first block."""
    import pyarrow as pa
    from pyarrow import csv

    def open_range(place: int) -> Any:
        stream = file.get_stream(*ranges[place])
        return csv.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert)

    with pa.OSFile(str(path)) as file, ThreadPoolExecutor(len(ranges)) as pool:
        readers = [open_range(0)]
        convert.column_types = {field.name: field.type for field in readers[0].schema}
        # The header is in the first range alone
        read.skip_rows = 0
        readers += [open_range(place) for place in range(1, len(ranges))]
        parts: list[list[Any]] = list(pool.map(list, readers))
        return pa.Table.from_batches(chain.from_iterable(parts), readers[0].schema)


def _explain_arrow_error(path: Path, found: TextFormat, error: Exception) -> Exception:
    """Translate an error of pyarrow into one sentence."""
    text = str(error).splitlines()[0]
    # The caller reads the file again in another encoding
    if "UTF8" in text or "decode" in text:
        return UnicodeDecodeError("utf-8", b"", 0, 1, text)
    row = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", text)
    if row:
        line = f"line {row[1]}" if row[1] else "one line"
        return InputError(
            f"Expected {row[2]} values in each line of {path}, got {row[3]} in {line}. Correct the "
            "line or write the file again; it may be truncated."
        )
    return InputError(f"Expected a complete text table, got {path}: {text}. Write it again.")


def _finish_table(
    table: Any, texts: Collection[str], untyped: Collection[str], decimal: str
) -> Any:
    """Mark what is missing in columns of text, and type columns that were read as text.

    Such columns had no single type for all blocks.
    """
    import pyarrow as pa

    for place, name in enumerate(table.column_names):
        column = table.column(place)
        if pa.types.is_string(column.type):
            if texts:
                column = _without_missing(column, [""] if name in texts else sorted(MISSING))
            if name in untyped and name not in texts:
                column = _type_column(column, decimal)
        # A column without any value becomes one of NaN, as in pandas
        elif pa.types.is_null(column.type):
            column = pa.chunked_array([pa.nulls(len(column), pa.float64())])
        elif pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)))
        table = table.set_column(place, name, column)
    return table


def _without_missing(column: Any, words: list[str]) -> Any:
    """Replace the `words` that mean missing values by nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    absent = pc.is_in(column, value_set=pa.array(words, pa.string()))
    return (
        pc.if_else(absent, pa.scalar(None, pa.string()), column)
        if pc.any(absent).as_py()
        else column
    )


def _type_column(column: Any, decimal: str) -> Any:
    """Type a column of text: whole numbers, numbers, truth values, dates, or unchanged."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(column)
    # pyarrow casts only numbers with a point
    plain = trimmed if decimal == "." else pc.replace_substring(trimmed, decimal, ".")
    truth = pc.is_in(trimmed, value_set=pa.array([*TRUE, *FALSE]))
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), pa.float64())])
    if pc.all(pc.or_kleene(truth, pc.is_null(trimmed))).as_py():
        return pc.if_else(
            pc.is_null(trimmed),
            pa.scalar(None, pa.bool_()),
            pc.is_in(trimmed, value_set=pa.array(list(TRUE))),
        )
    # From the narrowest type: whole numbers would fit the others too
    for kind in (pa.int64(), pa.float64(), pa.timestamp("us")):
        try:
            return plain.cast(kind)
        except pa.ArrowInvalid:
            continue
    return column


def read_arrow_file(path: Path, *, names_only: bool = False) -> Any:
    """Read a Parquet or Feather file as a table, or list the names of its columns.

    Raises:
        InputError: It is damaged, or pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.feather as feather
        import pyarrow.parquet as pq
    except ImportError as error:
        what = "Parquet and Feather files"
        raise InputError(
            f"Expected pyarrow for {what}, got none. Run `pip install memberscope[parquet]`."
        ) from error
    is_parquet = path.suffix.lower() in (".parquet", ".pq")
    try:
        # Of Parquet the names are in the footer; Feather files are mapped anyway
        if names_only and is_parquet:
            return pq.read_schema(path).names
        table = pq.read_table(path) if is_parquet else feather.read_table(path)
        return table.column_names if names_only else table
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"Expected a complete {path.suffix} file, got {path}: {first}. Write it again."
        ) from error


def list_arrow_columns(table: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Give the columns of a table by name, as pandas holds them if it is installed.

    Also name those that pandas wrote as an index.
    """
    table, index = _with_index(table)
    if find_spec("pandas") is None:
        columns = {}
        for name in table.column_names:  # each is let go once it is converted
            columns[str(name)], table = _as_numpy(table.column(0)), table.remove_column(0)
        return columns, index
    described = table.schema.pandas_metadata
    if described:  # records are told apart by position; an index that pandas wrote stays a column
        text = json.dumps({**described, "index_columns": []})
        table = table.replace_schema_metadata({**table.schema.metadata, b"pandas": text.encode()})
    # The table gives its memory up column by column, so that both are never held at once
    frame = table.to_pandas(split_blocks=True, self_destruct=True, date_as_object=False)
    return {str(name): _as_read(frame[name]) for name in frame.columns}, index


def _with_index(table: Any) -> tuple[Any, tuple[str, ...]]:
    """Give a table with the named index of a data frame as a column.

    Also name the columns that are an index.
    """
    names = []
    for entry in (table.schema.pandas_metadata or {}).get("index_columns", []):
        if isinstance(entry, str) and entry in table.column_names:
            names.append(entry)
            # An index without a name, which pandas numbers
            if entry.startswith("__index_level_"):
                table = table.drop_columns([entry])
        # A range is only described, not stored
        elif isinstance(entry, dict) and entry.get("name"):
            steps = [int(entry[key]) for key in ("start", "stop", "step")]
            names.append(str(entry["name"]))
            table = table.append_column(names[-1], [np.arange(*steps)])
    return table, tuple(names)


def _as_read(series: Any) -> Any:
    """Give a column with NaN for what is missing, as pandas.read_csv does."""
    # Other types mark missing values already
    if series.dtype != object:
        return series
    values = series.to_numpy()
    absent = np.array([value is None for value in values], dtype=bool)
    return series.mask(absent, np.nan) if absent.any() else series


def _as_numpy(column: Any) -> Any:
    """Give a column as an array; words stay with pyarrow until they are needed."""
    import pyarrow as pa

    # Categories become their values, as without pandas nothing else holds them
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        values = column.to_numpy()
        return (
            make_object_array([np.nan if value is None else value for value in values])
            if values.dtype == object
            else values
        )
    return ArrowWords(column)
