"""Tables as named columns: CSV and NPZ with what the core has, Parquet through its extra; nothing that could run code."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError, UnsafeFileError
from memberscope.targets.archives import check_archive

Columns = dict[str, NDArray[Any]]
MOST_CLASSES = 100_000  # a label beyond this is an id or a code, not a class number


def read_columns(path: Path) -> Columns:
    """Columns of one length by name; CSV values stay words, see `as_numbers`.

    Raises:
        InputError: The file is missing, truncated, empty or of another kind, or columns differ in length.
        UnsafeFileError: An NPZ holds pickled objects.
    """
    readers = {".csv": read_csv, ".npz": read_npz, ".parquet": read_parquet}
    if path.suffix.lower() not in readers:
        raise InputError(f"Expected a .csv, .npz or .parquet file, got {str(path)!r}. Convert the table.")
    if not path.is_file():
        raise InputError(f"Expected a file, got {str(path)!r}, which is not there. Check the path.")
    columns = readers[path.suffix.lower()](path)
    single = [name for name, column in columns.items() if column.ndim == 0]
    if single:
        raise InputError(
            f"Expected one value a record in {path}, got the single value {single[0]!r}. Leave it out of the file."
        )
    lengths = {name: len(column) for name, column in columns.items()}
    if not lengths or max(lengths.values()) == 0:
        raise InputError(f"Expected records in {path}, got an empty table. Check how it was written.")
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} {n}" for name, n in list(lengths.items())[:6])
        raise InputError(f"Expected columns of one length in {path}, got {got}. Align them record by record.")
    return columns


def read_csv(path: Path) -> Columns:
    """Columns of a comma-separated file with a header, as words."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(rows, [])]
            if not header:
                raise InputError(f"Expected a header line in {path}, got an empty file. Check how it was written.")
            body = [row for row in rows if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"Expected UTF-8 comma-separated text in {path}, got: {error}. Save it as CSV again.") from error
    if len(set(header)) < len(header):
        raise InputError(f"Expected column names that differ in {path}, got a name twice. Rename one.")
    for number, row in enumerate(body, start=2):
        if len(row) != len(header):
            raise InputError(
                f"Expected {len(header)} values in each line of {path}, got {len(row)} in line {number}. "
                f"Repair the line or write the file again; it may be truncated."
            )
    return {name: np.array(values) for name, values in zip(header, zip(*body, strict=True), strict=False)} if body else {}


def read_npz(path: Path) -> Columns:
    """Arrays of an NPZ archive; pickled objects are refused."""
    check_archive(path)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "allow_pickle" in str(error) or "pickle" in str(error).lower():
            raise UnsafeFileError(
                f"Expected plain arrays in {path}, got a pickled object, which could run code. Save numbers or strings instead."
            ) from error
        raise InputError(f"Expected a readable NPZ archive, got {path}: {error}. Write it again.") from error
    except (OSError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise InputError(f"Expected a complete NPZ archive, got {path}: {error}. Write it again.") from error


def read_parquet(path: Path) -> Columns:
    """Columns of a Parquet file."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError("Expected pyarrow for Parquet files, got none. Run `pip install memberscope[parquet]`.") from error
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"Expected a complete Parquet file, got {path}: {first}. Write it again.") from error
    return {name: table.column(name).to_numpy() for name in table.column_names}


def as_numbers(column: NDArray[Any], name: str, path: str | Path) -> NDArray[Any]:
    """The column as floats; an empty CSV field becomes NaN.

    Raises:
        InputError: Some value is not a number; the sentence names its row.
    """
    if column.dtype.kind in "buif":
        return column.astype(np.float64)
    if column.dtype.kind == "c":
        raise InputError(f"Expected real numbers in the column {name!r} of {path}, got complex ones. Repair it.")
    words = np.where(column == "", "nan", column) if column.dtype.kind == "U" else column
    try:
        return words.astype(np.float64)
    except (TypeError, ValueError) as error:
        row = next(i for i, value in enumerate(column) if not is_number(value))
        raise InputError(
            f"Expected numbers in the column {name!r} of {path}, got {str(column[row])!r} in row {row + 1}. Repair it."
        ) from error


def is_number(value: Any) -> bool:
    """Whether a CSV field is a number or empty."""
    try:
        float(value or "nan")
    except (TypeError, ValueError):
        return False
    return True


def is_numeric(column: NDArray[Any]) -> bool:
    """Whether every value of a column is a number."""
    return column.dtype.kind in "buif" or all(is_number(value) for value in column)


def unit_words(column: NDArray[Any], name: str, path: str | Path) -> NDArray[np.str_]:
    """Name the person or document (n,) of each record; whole numbers lose their point, so that files of two kinds agree.

    Raises:
        InputError: Some record has none.

    >>> unit_words(np.array([3.0, 7.0]), "person", "train.csv").tolist()
    ['3', '7']
    """
    if column.ndim != 1:
        raise InputError(f"Expected one value a record in {name!r} of {path}, got shape {column.shape}. Flatten it to (n,).")
    missing = np.isnan(column) if column.dtype.kind == "f" else np.isin(column.astype(np.str_), ("", "nan", "None"))
    if missing.any():
        raise InputError(
            f"Expected the unit of each record in {name!r} of {path}, got none in row {int(np.argmax(missing)) + 1}. Fill it in."
        )
    if column.dtype.kind == "f" and (column == np.floor(column)).all():
        column = column.astype(np.int64)
    return column.astype(np.str_)
