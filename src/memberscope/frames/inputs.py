"""Convert records to what a framework takes: dense arrays, or named columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames.access import is_frame, list_values, name_columns, open_frame
from memberscope.frames.column_values import read_column_values
from memberscope.frames.stacking import place_fitted


def make_dense_array(x: Any) -> NDArray[Any]:
    """Convert records (n, ...) to one array, whatever holds them.

    >>> make_dense_array([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if is_frame(x):
        return np.column_stack(list_values(x))
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x)


def find_columns(x: Any, names: Sequence[str], what: str) -> list[int]:
    """Find the positions of the columns `names` in a data frame.

    Raises:
        InputError: A column is missing.

    >>> import pandas
    >>> find_columns(pandas.DataFrame({"a": [1], "b": [2]}), ["b"], "model")
    [1]
    """
    own = name_columns(x)
    places, missing, _ = place_fitted(own, names)
    if missing:
        got = ", ".join(str(name) for name in own[:8])
        raise InputError(
            f"Expected the column {missing[0]!r} for the {what}, got {got}. Rename the columns of "
            f"the records to the names that the {what} uses."
        )
    return places


def select_columns(x: Any, names: Sequence[str], what: str) -> list[NDArray[Any]]:
    """Select the columns (n,) `names` of a data frame, or all columns of an array.

    Raises:
        InputError: A column is missing, or an array has another number of columns.

    >>> [column.tolist() for column in select_columns(np.array([[1, 2]]), ["a", "b"], "model")]
    [[1], [2]]
    """
    if is_frame(x):
        frame = open_frame(x)
        return [read_column_values(frame[str(place)]) for place in find_columns(x, names, what)]
    values = make_dense_array(x)
    values = values.reshape(len(values), -1)
    if values.shape[1] != len(names):
        raise InputError(
            f"Expected {len(names)} features for the {what}, got {values.shape[1]}. Give the "
            "columns it was trained on."
        )
    return list(values.T)


def cast_values(values: NDArray[Any], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Cast `values` to `dtype`, if that loses nothing but precision; words stay words.

    Raises:
        InputError: They are words where numbers are expected, or numbers the type cannot hold.

    >>> cast_values(np.array([1.0, 2.0]), np.dtype("int64"), "ids").tolist()
    [1, 2]
    """
    if dtype.kind == "O":
        return np.array([str(value) for value in values.ravel()], dtype=object).reshape(
            values.shape
        )
    # numpy would give their counts of days or microseconds as numbers
    if values.dtype.kind in "mM":
        raise InputError(
            f"Expected numbers for the input {name!r}, got dates or durations. Encode them first."
        )
    try:
        numbers = values if values.dtype.kind in "buif" else values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"Expected numbers for the input {name!r}, got words ({error}). Encode them first."
        ) from error
    # A cast would cut off what is behind the point, and wrap what is too large
    if dtype.kind in "iu" and numbers.size:
        limits = np.iinfo(dtype)
        odd = (
            ~np.isfinite(numbers)
            | (numbers != np.floor(numbers))
            | (numbers < limits.min)
            | (numbers > limits.max)
        )
        if odd.any():
            raise InputError(
                f"Expected whole numbers from {limits.min} to {limits.max} for the input {name!r}, "
                f"got {numbers[odd][0]}. "
                f"Give the records as the model takes them."
            )
    return np.ascontiguousarray(numbers, dtype=dtype)


def reshape_values(values: NDArray[Any], shape: Sequence[int | None], name: str) -> NDArray[Any]:
    """Reshape `values` (n, ...) to the dimensions `shape` of a record, of which None fits any.

    Only dimensions of size one are added or removed.

    Raises:
        InputError: They do not fit.

    >>> reshape_values(np.zeros((5, 28, 28)), (1, 28, 28), "image").shape
    (5, 1, 28, 28)
    """
    own, wanted = values.shape[1:], tuple(shape)
    if _is_fitting_shape(own, wanted):
        return values
    # Dimensions of size one, such as a channel of grey images, come and go
    squeezed = tuple(size for size in own if size != 1)
    slots = [size for size in wanted if size != 1]
    if _is_fitting_shape(squeezed, slots):
        left = iter(squeezed)
        return values.reshape(len(values), *(1 if size == 1 else next(left) for size in wanted))
    # Features are counted in columns, which says more than a shape
    if len(wanted) == 1 and len(own) == 1:
        raise InputError(
            f"Expected {wanted[0]} features for the input {name!r}, got {own[0]}. Give the columns "
            "that the model was trained on."
        )
    shown = tuple("any" if size is None else size for size in wanted)
    raise InputError(
        f"Expected records of shape {shown} for the input {name!r}, got {own}. Reshape them."
    )


def _is_fitting_shape(own: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Check whether the dimensions `own` are those `wanted`, where None fits any.

    >>> _is_fitting_shape((2, 3), (None, 3)), _is_fitting_shape((2,), (3,))
    (True, False)
    """
    return len(own) == len(wanted) and all(
        b is None or a == b for a, b in zip(own, wanted, strict=True)
    )
