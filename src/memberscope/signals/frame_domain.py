"""Encode data frames as numbers that can be moved, and decode them.

Each column keeps its type, and takes no value that it never had.

Numbers move freely within their range. Words, truth values and categories are codes; dates and
durations are seconds. What is decoded from these is taken from the column itself, so that
categories, time zones and types of any library stay. A column of texts or lists, of which most
records have their own, stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UnmetNeedError
from memberscope.frames import as_words, list_values, name_columns, open_frame, rename_frame
from memberscope.signals.domain import FEW, Domain, build_column_domain
from memberscope.types import Bools, Floats

Column = Callable[[Floats], Any]


def encode_frame(x: Any) -> tuple[Domain, Floats]:
    """Give the domain of a data frame and its numbers (n, f), missing entries as NaN.

    Raises:
        UnmetNeedError: No column can be moved, or some number is infinite.
    """
    import narwhals as nw

    frame, names = open_frame(x), name_columns(x)
    plain = frame.implementation.is_pandas()
    numbers: list[Floats] = []
    makers: list[Column] = []
    words: list[int] = []
    fixed: list[int] = []
    for place, values in enumerate(list_values(x)):
        column = frame[str(place)]
        if values.dtype.kind in "uif" and _can_hold_numbers(column):
            z, maker = values.astype(np.float64), _build_number_column(column, plain=plain)
            # No noise could move an infinite number
            if np.isinf(z).any():
                raise UnmetNeedError(
                    f"Expected finite numbers to perturb in the column {names[place]!r}, got "
                    "infinite ones. Replace them."
                )
        else:
            # Dates and numbers have an order in which they move, words have not
            is_scale = values.dtype.kind in "mMuif" and not isinstance(
                column.dtype, nw.Categorical | nw.Enum | nw.Boolean
            )
            z, levels, maker = _encode_levels(column, values, is_scale=is_scale, plain=plain)
            if not is_scale:
                (fixed if len(levels) > max(FEW, len(values) // 2) else words).append(place)
        numbers.append(z)
        makers.append(maker)
    # A column of texts or lists, of which most records have their own, says nothing about a move
    if len(fixed) == len(numbers):
        raise UnmetNeedError(
            f"Expected categories in the column {names[0]!r}, got text: most of its values occur "
            "once. "
            f"Run attacks that need one query, or give other columns."
        )

    build = _build_pandas_frame if plain else _build_frame
    titles = x.columns if hasattr(x, "iloc") else names

    def decode(z: Floats) -> Any:
        parts = np.ascontiguousarray(z.T)
        columns = [make(part) for make, part in zip(makers, parts, strict=True)]
        return rename_frame(build(frame, columns), titles)

    z = np.column_stack(numbers)
    return build_column_domain(z, z.shape[1:], decode, words, fixed), z


def _can_hold_numbers(column: Any) -> bool:
    """Check whether a column's type holds any number.

    A type of categories, decimals or objects holds only the values that occur.
    """
    import narwhals as nw

    if column.dtype.is_float() or column.dtype.is_integer():
        return True
    return isinstance(column.dtype, nw.Unknown) and "Sparse" in str(
        getattr(column.to_native(), "dtype", "")
    )


def _build_frame(frame: Any, columns: list[Any]) -> Any:
    """Build a frame of the library of the opened `frame` from narwhals columns (r,)."""
    import narwhals as nw

    named = [part.alias(place) for part, place in zip(columns, frame.columns, strict=True)]
    if frame.implementation.is_pandas_like():
        # Columns of these libraries are matched by their index
        base = nw.maybe_reset_index(frame[np.zeros(len(columns[0]), dtype=np.int64)])
        return nw.to_native(base.with_columns(*named))
    return nw.to_native(named[0].to_frame().with_columns(*named[1:]))


def _build_pandas_frame(frame: Any, columns: list[Any]) -> Any:
    """Build a frame of pandas from arrays (r,), all at once, in a fraction of the time."""
    pandas = frame.implementation.to_native_namespace()
    index = pandas.RangeIndex(len(columns[0]))
    # The type is given, as pandas would turn objects into its own words
    parts = [pandas.Series(part, index=index, dtype=part.dtype, copy=False) for part in columns]
    return pandas.DataFrame(dict(enumerate(parts)), index=index, copy=False)


def _build_number_column(column: Any, *, plain: bool) -> Column:
    """Make a column of the same type from numbers (r,), or an array of `plain` pandas."""
    import narwhals as nw

    whole = column.dtype.is_integer()
    pandas_like = column.implementation.is_pandas_like()
    kind = getattr(column.to_native(), "dtype", None)
    nulls = bool(column.is_null().any())

    def make(z: Floats) -> Any:
        # Types of whole numbers cannot hold what lies between
        z = np.rint(z) if whole else z
        if plain and isinstance(kind, np.dtype):
            return z.astype(kind)
        # Other libraries hold None, not NaN, for what is missing
        lacking = nulls and not pandas_like and np.isnan(z).any()
        known = [None if value != value else value for value in z.tolist()] if lacking else z
        made = nw.new_series("x", known, nw.Float64(), backend=column.implementation)
        if not pandas_like:
            return made.cast(column.dtype)
        native = made.to_native().astype(kind)
        return native.array if plain else nw.from_native(native, series_only=True)

    return make


def _encode_levels(
    column: Any, values: NDArray[Any], *, is_scale: bool, plain: bool
) -> tuple[Floats, NDArray[np.int64], Column]:
    """Encode the values (n,) of a column whose decoded values are taken from the column itself.

    Words get codes; where it `is_scale`, dates and durations become seconds and numbers stay.
    Besides the numbers (n,), give a record that holds each of the sorted distinct values, and a
    function back to a column.
    """
    import narwhals as nw

    missing = _find_missing(values)
    seen = values[~missing]
    if values.dtype.kind in "mM" and len(seen):
        # Seconds since the first, as those since 1970 would lose precision
        seen = (seen - seen.min()) / np.timedelta64(1, "s")
    levels, inverse = np.unique(
        as_words(seen) if seen.dtype.kind == "O" else seen, return_inverse=True
    )
    known = levels.astype(np.float64) if is_scale else np.arange(float(len(levels)))
    z = np.full(len(values), np.nan)
    z[~missing] = known[inverse]
    holder = np.zeros(len(levels), dtype=np.int64)
    # Backwards, so that the first record with each value holds it
    holder[inverse[::-1]] = np.flatnonzero(~missing)[::-1]
    middles = (known[1:] + known[:-1]) / 2
    # One record of each value, and last one whose value is missing
    kept = np.append(holder, np.argmax(missing))
    few = column[kept].to_native().array if plain else column[kept]

    def make(moved: Floats) -> Any:
        # The nearest value that the column has; the last where there is none. Codes are their own
        # places, which takes a tenth of the time of a search
        near = np.searchsorted(middles, moved) if is_scale else np.ceil(moved - 0.5)
        near = np.clip(near, 0, len(holder) - 1)
        near = np.where(np.isnan(moved), len(holder), near).astype(np.int64)
        return few.take(near) if plain else nw.maybe_reset_index(few[near])

    return z, holder, make


def _find_missing(values: NDArray[Any]) -> Bools:
    """Check which values (n,) of a column are missing."""
    if values.dtype.kind in "mM":
        return np.asarray(np.isnat(values))
    if values.dtype.kind != "O":
        return (
            np.asarray(np.isnan(values))
            if values.dtype.kind == "f"
            else np.zeros(len(values), dtype=bool)
        )
    return np.fromiter((value is None for value in values), dtype=bool, count=len(values))
