"""Find how a text table is written.

Its compression, encoding, separator and decimal mark are found in its first lines.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from memberscope.errors import InputError
from memberscope.frames import DATE, MISSING

# Tried in this order, with their names for messages
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
COMPRESSED = (".gz", ".zst")
SAMPLE = 1 << 18  # bytes of the file from which its format is found
MARKS = (  # byte order marks, the longest first
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
MOST_ROWS = 200  # rows of the sample that are parsed
# Numbers that can only be read with one of the two decimal marks
COMMA_NUMBER = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
SEPARATOR_HINT = re.compile(r"sep=.\r?\n")  # what Excel writes before the header
POINT_NUMBER = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class TextFormat:
    """Format of a text table.

    `encoding`, `separator`, the `decimal` mark and the `names` of its columns. `dates` are columns
    that begin with ISO 8601 dates, `skip` lines come before the header. `assumed` says in words
    what differs from UTF-8, commas and points; empty if nothing does.
    """

    encoding: str
    separator: str
    decimal: str
    names: tuple[str, ...]
    assumed: str = ""
    dates: tuple[str, ...] = ()
    skip: int = 0


def find_text_format(path: Path, known: Collection[str] = ()) -> TextFormat:
    """Find how the text table `path` is written.

    Names of columns that are `known` decide between separators.

    Raises:
        InputError: It is empty, not text, or cannot be decompressed, or a column name occurs twice.
    """
    with _open_bytes(path) as stream:
        sample = stream.read(SAMPLE)
    encoding, name = _find_encoding(sample)
    whole = len(sample) < SAMPLE
    # A character may be cut at the end of the sample
    text = sample.decode(encoding, errors="ignore").lstrip("\ufeff")
    hint = SEPARATOR_HINT.match(text)
    # The hint is skipped, not trusted: the separator is found from the rows
    text = text[hint.end() :] if hint else text
    # Text has no zero bytes; without this check a binary file would give absurd columns
    if "\0" in text:
        raise InputError(
            f"Expected a text table in {path}, got bytes that are not text. Check the path and the "
            "file's suffix."
        )
    if not text.strip():
        raise InputError(
            f"Expected a header line in {path}, got an empty file. Check how it was written."
        )
    separator = _find_separator(text, whole, known)
    rows = _parse_rows(text, separator, whole)
    if not rows:
        raise InputError(f"Expected a header line in {path}, got none. Check how it was written.")
    # Spaces after a separator belong to no name
    header = [word.strip() for word in rows[0]]
    if len(header) > 1 and len(rows) > 1 and all(len(row) == len(header) + 1 for row in rows[1:]):
        header = ["", *header]  # names of rows, which R writes without a name of their own
    # Readers may rename or drop such columns, each in its own way
    repeated = [word for word, n in Counter(header).items() if n > 1 and word]
    if repeated or header.count("") > 1:
        shown = repr(repeated[0]) if repeated else "columns without a name"
        raise InputError(
            f"Expected column names that differ in {path}, got {shown} twice. Rename one."
        )
    decimal = _find_decimal(rows[1:], separator)
    # Only what is unusual is said, so that a plain file gives no note
    said = [name] if name else []
    # The suffix before that of a compression counts too
    usual = "\t" if ".tsv" in path.suffixes or ".tab" in path.suffixes else ","
    said += [f"separated by {SEPARATORS[separator]}"] if separator != usual else []
    said += ["decimal commas"] if decimal == "," else []
    return TextFormat(
        encoding,
        separator,
        decimal,
        tuple(header),
        ", ".join(said),
        _find_dates(header, rows[1:]),
        int(bool(hint)),
    )


@contextmanager
def _open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressed if its name ends in .gz or .zst.

    Raises:
        InputError: It is damaged, or nothing that reads .zst is installed.
    """
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path) as stream:
                yield stream  # type: ignore[misc]
        elif path.suffix.lower() == ".zst":
            with _open_zst(path) as stream:
                yield stream
        else:
            with path.open("rb") as stream:
                yield stream
    # Damage of a compressed file shows only while it is read
    except (OSError, EOFError) as error:
        raise InputError(
            f"Expected a complete {path.suffix} file, got {path}: {error}. Write it again."
        ) from error


def read_words(path: Path, found: TextFormat | None = None) -> list[tuple[str, list[str]]]:
    """Read the fields (n,) of each column of a text table as they are written.

    Raises:
        InputError: A line has too few or too many fields.
    """
    found = found or find_text_format(path)
    with open_text(path, found.encoding) as stream:
        rows = csv.reader(stream, delimiter=found.separator, strict=True)
        try:
            # The header is in `found` already
            for _ in range(found.skip + 1):
                next(rows)
            # Empty lines are not records
            body = [row for row in rows if row]
        except csv.Error as error:
            raise InputError(
                f"Expected a text table in {path}, got: {error}. Write it again."
            ) from error
    # Line 1 is the header
    width = len(found.names)
    for number, row in enumerate(body, start=2):
        # Only one column was found: the separator is none of the known ones
        if len(row) != width and width == 1:
            raise InputError(
                f"Expected a header and lines split by commas, semicolons, tabs or bars in {path}, "
                f"got the header {found.names[0][:60]!r} and {len(row)} values in line {number}. "
                "Write the column names in the first line."
            )
        if len(row) != width:
            raise InputError(
                f"Expected {width} values in each line of {path}, got {len(row)} in line {number}. "
                "Correct the line or write the file again; it may be truncated."
            )
    columns: list[list[str]] = (
        # A header alone gives empty columns, which are refused elsewhere
        [list(column) for column in zip(*body, strict=True)] if body else [[] for _ in found.names]
    )
    return list(zip(found.names, columns, strict=True))


def refuse_cut_lines(path: Path, found: TextFormat) -> None:
    """Refuse a text table with a line of too few or too many fields.

    Raises:
        InputError: It has such a line.
    """
    # Without quotes counting separators is enough, and far faster than parsing
    quote, separators = '"', len(found.names) - 1
    with open_text(path, found.encoding) as stream:
        for _ in range(found.skip + 1):
            next(stream, None)
        if all(
            quote not in line and line.count(found.separator) == separators
            for line in stream
            if line.strip()
        ):
            return
    read_words(path, found)  # parses quotes, and says which line it is


def open_text(path: Path, encoding: str) -> io.TextIOWrapper:
    """Open a text table for csv.reader; the caller closes it."""
    return io.TextIOWrapper(_open_whole(path), encoding=encoding, newline="")


def _open_whole(path: Path) -> Any:
    if path.suffix.lower() == ".gz":
        return gzip.open(path)
    return _open_zst(path) if path.suffix.lower() == ".zst" else path.open("rb")


def _open_zst(path: Path) -> Any:
    if find_spec("pyarrow"):
        import pyarrow

        return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"))
    if find_spec("zstandard"):
        import zstandard

        return io.BufferedReader(zstandard.open(path, "rb"))
    raise InputError(
        f"Expected pyarrow or zstandard to read {path}, got neither. Run `pip install "
        "memberscope[parquet]`."
    )


def _find_encoding(sample: bytes) -> tuple[str, str]:
    """Find the encoding of a text's first bytes, and words that say so if it is not UTF-8."""
    # UTF-32's mark begins with that of UTF-16, so that longer ones are tried first
    for mark, encoding in MARKS:
        if sample.startswith(mark):
            return encoding, "" if encoding == "utf-8-sig" else encoding.upper()
    # UTF-16 without a mark: every second byte of Latin text is zero
    if len(sample) > 1 and sample[1::2].count(0) > len(sample) // 4:
        return "utf-16-le", "UTF-16"
    if sample[::2].count(0) > len(sample) // 4:
        return "utf-16-be", "UTF-16"
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character of up to four bytes may be cut at the end of the sample
        if error.start < len(sample) - 3 or len(sample) < SAMPLE:
            return "cp1252", "Windows-1252, since it is no UTF-8"
    return "utf-8", ""


def _parse_rows(text: str, separator: str, whole: bool) -> list[list[str]]:
    """Parse the first rows of a text; the last one is left out where the text goes on."""
    rows = []
    try:
        for row in csv.reader(io.StringIO(text, newline=None), delimiter=separator):
            if row:
                rows.append(row)
            # A sample of the rows is enough to tell the format
            if len(rows) > MOST_ROWS:
                break
    except csv.Error:
        pass
    return rows if whole or len(rows) < 2 or len(rows) > MOST_ROWS else rows[:-1]


def _find_separator(text: str, whole: bool, known: Collection[str]) -> str:
    """Find the separator of a text.

    It is the one whose header holds most of the `known` names, then the one that splits all rows
    into most columns.
    """
    best, found = (-1, -1, False), ","
    for separator in SEPARATORS:
        rows = _parse_rows(text, separator, whole)
        if not rows:
            continue
        names = {word.strip() for word in rows[0]}
        even = all(len(row) == len(rows[0]) for row in rows)
        # Rows of different lengths were not split by this separator
        width = len(rows[0]) if even else 1
        # On equal terms the comma wins, the usual separator
        rank = (len(names & set(known)), width, separator == ",")
        if rank > best:
            best, found = rank, separator
    return found


def _find_dates(header: list[str], rows: list[list[str]]) -> tuple[str, ...]:
    """Find the columns whose first values are dates, apart from missing ones."""
    found = []
    for place, name in enumerate(header):
        # Rows may be too short, which is refused later with their line
        words = {row[place].strip() for row in rows if place < len(row)} - MISSING
        if words and all(DATE.fullmatch(word) for word in words):
            found.append(name)
    return tuple(found)


def _find_decimal(rows: list[list[str]], separator: str) -> str:
    """Find whether numbers are written with a decimal comma.

    They are if some fields are such numbers, and none has a point.
    """
    # A comma cannot both separate fields and mark decimals
    if separator == ",":
        return "."
    fields = [word.strip() for row in rows for word in row]
    commas = sum(COMMA_NUMBER.fullmatch(word) is not None for word in fields)
    points = sum(POINT_NUMBER.fullmatch(word) is not None for word in fields)
    # A single number with a point means that commas group thousands, or are in words
    return "," if commas and not points else "."
