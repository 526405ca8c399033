"""Read the true values of models that predict numbers, or several labels a record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames import mark_missing
from memberscope.targets.tables.columns import Columns, convert_to_numbers
from memberscope.types import Floats


def split_column_names(given: str, table: Sequence[str]) -> tuple[str, ...]:
    """Split names of columns at commas, unless a column of the table has the whole as its name.

    >>> split_column_names("low, high", ["low", "high"]), split_column_names("a,b", ["a,b"])
    (('low', 'high'), ('a,b',))
    """
    if given in table or "," not in given:
        return (given,)
    return tuple(name.strip() for name in given.split(",") if name.strip())


def read_number_columns(
    table: Columns, names: Sequence[str], path: str | Path, what: str = "true value"
) -> Floats:
    """Read the columns `names` as numbers: (n,) of one column, (n, d) of several or an array.

    `what` they are is said in errors: a true value of each record, or a prediction.

    Raises:
        InputError: A column is missing, holds no numbers, or has no value for some record.

    >>> read_number_columns({"a": np.array([1, 2]), "b": np.array([0.5, 3])}, ["a", "b"], "t.csv").tolist()
    [[1.0, 0.5], [2.0, 3.0]]
    """
    absent = [name for name in names if name not in table]
    if absent:
        raise InputError(
            f"Expected the column {absent[0]!r} in {path}, got {', '.join(list(table)[:8])}. Check "
            "--label."
        )
    columns = [_read_numbers(table[name], name, path, what) for name in names]
    if len(columns) == 1:
        # NPZ files often hold a single output as a column of shape (n, 1)
        return columns[0]
    return np.column_stack(columns)


def _read_numbers(column: Any, name: str, path: str | Path, what: str) -> Floats:
    """Read one column (n,), or an array (n, d), as finite numbers.

    Raises:
        InputError: It holds no numbers, or has no value for some record.
    """
    gone = mark_missing(column) if np.ndim(column) == 1 else np.zeros(len(column), np.bool_)
    values: NDArray[Any] = np.asarray(column)
    if values.ndim > 2:
        values = values.reshape(len(values), -1)
    if gone.any() and values.dtype.kind == "O":
        values = np.where(gone, np.nan, values)
    numbers = convert_to_numbers(values, name, path)
    odd = ~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)
    if odd.any():
        raise InputError(
            f"Expected a finite {what} of each record in {name!r} of {path}, got none in "
            f"{int(odd.sum())} records, the first in row {int(np.argmax(odd)) + 1}. Leave these "
            "records out."
        )
    return numbers
