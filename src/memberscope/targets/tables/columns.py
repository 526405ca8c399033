"""Read NPZ archives and convert columns to numbers.

Nothing that could run code is opened.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError, UnsafeFileError
from memberscope.targets.files.archives import check_archive

Columns = dict[str, NDArray[Any]]
MOST_CLASSES = 100_000  # a label beyond this is an id or a code, not a class number


def read_npz(path: Path) -> Columns:
    """Read the arrays of an NPZ archive; pickled objects are refused."""
    # Before numpy reads anything: a small archive can inflate to fill the memory
    check_archive(path)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "allow_pickle" in str(error) or "pickle" in str(error).lower():
            raise UnsafeFileError(
                f"Expected plain arrays in {path}, got a pickled object, which could run code. "
                "Save numbers or strings instead."
            ) from error
        raise InputError(
            f"Expected a readable NPZ archive, got {path}: {error}. Write it again."
        ) from error
    except (OSError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise InputError(
            f"Expected a complete NPZ archive, got {path}: {error}. Write it again."
        ) from error


def convert_to_numbers(column: NDArray[Any], name: str, path: str | Path) -> NDArray[Any]:
    """Convert a column to floats; an empty CSV field becomes NaN.

    Raises:
        InputError: Some value is not a number; the message names its row.
    """
    if column.dtype.kind in "buif":
        return column.astype(np.float64)
    if column.dtype.kind == "c":
        raise InputError(
            f"Expected real numbers in the column {name!r} of {path}, got complex ones. Give real "
            "and imaginary parts as two columns."
        )
    # An empty field is a missing value
    words = np.where(column == "", "nan", column) if column.dtype.kind == "U" else column
    try:
        return words.astype(np.float64)
    except (TypeError, ValueError) as error:
        row = next(i for i, value in enumerate(column) if not is_number_or_empty(value))
        raise InputError(
            f"Expected numbers in the column {name!r} of {path}, got {str(column[row])!r} in row "
            f"{row + 1}. Write a number there, or leave the field empty."
        ) from error


def is_number_or_empty(value: Any) -> bool:
    """Check whether a CSV field is a number or empty."""
    try:
        float(value or "nan")
    except (TypeError, ValueError):
        return False
    return True


def read_unit_names(column: NDArray[Any], name: str, path: str | Path) -> NDArray[np.str_]:
    """Name the person or document (n,) of each record.

    Whole numbers lose their point, so that files of two kinds agree.

    Raises:
        InputError: Some record has none.

    >>> read_unit_names(np.array([3.0, 7.0]), "person", "train.csv").tolist()
    ['3', '7']
    """
    if column.ndim != 1:
        raise InputError(
            f"Expected one value a record in {name!r} of {path}, got shape {column.shape}. Flatten "
            "it to (n,)."
        )
    missing = (
        np.isnan(column)
        if column.dtype.kind == "f"
        else np.isin(column.astype(np.str_), ("", "nan", "None", "<NA>", "NaT"))
    )
    if missing.any():
        raise InputError(
            f"Expected the unit of each record in {name!r} of {path}, got none of "
            f"{int(missing.sum())} records, first in row {int(np.argmax(missing)) + 1}. Fill the "
            "column, or leave them out."
        )
    # 3.0 in one file and 3 in another name the same person
    if column.dtype.kind == "f" and (column == np.floor(column)).all():
        column = column.astype(np.int64)
    return column.astype(np.str_)
