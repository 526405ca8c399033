"""Read the values of one column of any library as numpy has them, and what is missing."""

from __future__ import annotations

import datetime
import decimal
import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATES = (datetime.date, datetime.datetime)


def read_column_values(column: Any) -> NDArray[Any]:
    """Read the values (n,) of a narwhals column.

    Numbers, truth values, dates and durations are as numpy has them, all else are objects. A
    missing number is NaN, a missing date NaT, anything else missing is None. Truth values with
    missing ones are numbers.

    >>> import narwhals as nw
    >>> read_column_values(nw.new_series("age", [30, None], backend="polars"))
    array([30., nan])
    """
    values = np.asarray(column.to_numpy())
    # Lists of one length, which numpy unpacks
    if values.ndim > 1:
        values = make_object_array(column.to_list())
    if values.dtype.kind in "buifmM":
        return values
    values = values.astype(object)
    values[np.asarray(column.is_null().to_numpy())] = None
    return convert_objects(values)


def make_object_array(values: Any) -> NDArray[Any]:
    """Make an array (n,) of objects, whatever they are; lists are not unpacked.

    >>> make_object_array([[1], [2, 3]]).shape
    (2,)
    """
    # Filled one by one, as numpy would unpack lists of one length
    found = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        found[place] = value
    return found


def convert_objects(values: NDArray[Any]) -> NDArray[Any]:
    """Convert objects (n,) to numbers or dates where all of them are.

    Otherwise they stay objects, with None for what is missing.

    >>> convert_objects(np.array([1, None, 2.5], dtype=object)), convert_objects(np.array(["a", np.nan], dtype=object))
    (array([1. , nan, 2.5]), array(['a', None], dtype=object))
    """
    # Types are few, while values are many
    kinds = set(map(type, values))
    if any(not issubclass(kind, str) for kind in kinds):
        missing = np.fromiter(
            (is_missing(value) for value in values), dtype=bool, count=len(values)
        )
        if missing.any():
            values = values.copy()
            values[missing] = None
            kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        # Nothing but missing values: numbers fit all kinds of columns best
        return np.full(len(values), np.nan)
    if kinds <= {bool, np.bool_} and not missing.any():
        return values.astype(bool)
    if all(issubclass(kind, numbers.Real | decimal.Decimal | np.bool_) for kind in kinds):
        return values.astype(np.float64)
    # numpy's dates have no time zone, so that those with one stay objects
    if all(issubclass(kind, DATES) for kind in kinds) and not any(
        getattr(value, "tzinfo", None) for value in values
    ):
        return np.array(
            [value if value is None else np.datetime64(value) for value in values],
            dtype="datetime64[us]",
        )
    return values


def is_missing(value: Any) -> bool:
    """Check whether a value of a column of objects is None, NaN, NaT or NA.

    >>> is_missing(None), is_missing(float("nan")), is_missing("nan")
    (True, True, False)
    """
    # By name, so that pandas need not be imported
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(
        value, numbers.Real | decimal.Decimal | np.datetime64 | np.timedelta64
    ) and bool(value != value)


def as_words(values: NDArray[Any]) -> NDArray[np.str_]:
    """Convert values (n,) of any kind to their text, nested ones included.

    >>> as_words(make_object_array([[1, 2], "a", None])).tolist()
    ['[1, 2]', 'a', 'None']
    """
    if values.dtype.kind != "O":
        return values.astype(np.str_)
    # Words alone, as in most tables, take a tenth of the time at once
    if set(map(type, values)) <= {str}:
        return values.astype(np.str_)
    # Arrays within cells are shortened by their own repr
    plain = (value.tolist() if hasattr(value, "tolist") else value for value in values)
    return np.array(
        [value if isinstance(value, str) else repr(value) for value in plain], dtype=np.str_
    )


def as_numpy(values: Any) -> NDArray[Any]:
    """Make a numpy array of a tensor on any device and of any precision, or of what numpy reads.

    >>> as_numpy([1, 2]).tolist()
    [1, 2]
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # NumPy does not know these types
        if "float8" in str(values.dtype) or "bfloat16" in str(values.dtype):
            values = values.float()
    return np.asarray(values)
