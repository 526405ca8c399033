"""Find one type for a column that two sides hold differently, without changing any value."""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.frames.column_values import read_column_values

Pair = tuple[Any, Any]
NOTHING, ANYTHING = "nothing", "values of several kinds"
# In words for a message, by numpy's letters of types
KINDS = {
    "b": "numbers",
    "u": "numbers",
    "i": "numbers",
    "f": "numbers",
    "M": "dates",
    "m": "durations",
}


def unify_columns(
    first: Any, second: Any, name: Any, sides: tuple[str, str] = ("members", "non-members")
) -> Pair:
    """Give two narwhals columns one type.

    It is the first's where that holds all values of both, or else the second's, or a wider one.
    Categories are united: the first's, then those that the second uses in addition.

    Raises:
        InputError: One holds numbers and the other text or dates, or dates with and without a time
            zone.

    >>> import narwhals as nw
    >>> a, b = (nw.new_series("age", values, backend="polars") for values in ([30, 40], [30.0, 40.0]))
    >>> [str(column.dtype) for column in unify_columns(a, b, "age")]
    ['Int64', 'Int64']
    """
    # The usual case: nothing is converted
    if _is_same(first, second):
        return first, second
    if _has_categories(first) or _has_categories(second):
        united = _unite_categories(first, second)
    else:
        kinds = _describe_column_kind(first), _describe_column_kind(second)
        # A column with nothing in it fits any kind
        if kinds[0] != kinds[1] and not {NOTHING, ANYTHING} & set(kinds):
            raise InputError(
                f"Expected values of one kind in the column {name!r}, got {kinds[0]} in the "
                f"{sides[0]} and {kinds[1]} in the {sides[1]}. Read both in the same way."
            )
        united = _unite_types(first, second, kinds)
    if united is None:
        types = [str(_native_type(column)) for column in (first, second)]
        raise InputError(
            f"Expected values of one kind in the column {name!r}, got {types[0]} in the {sides[0]} "
            f"and {types[1]} in the {sides[1]}. Convert one of them."
        )
    return united


def _native_type(column: Any) -> Any:
    # The library's own type, as narwhals has one name for several of them
    native = column.to_native()
    return native.type if hasattr(native, "type") else native.dtype


def _is_same(first: Any, second: Any) -> bool:
    """Check whether two columns have one type, and categories in one order."""
    ours, theirs = _native_type(first), _native_type(second)
    if (
        hasattr(ours, "categories")
        and hasattr(theirs, "categories")
        and list(ours.categories) != list(theirs.categories)
    ):
        return False
    return bool(ours == theirs)


def _has_categories(column: Any) -> bool:
    import narwhals as nw

    return isinstance(column.dtype, nw.Categorical | nw.Enum)


def _describe_column_kind(column: Any) -> str:
    """Describe what a column holds, in words for a message."""
    import narwhals as nw

    if column.is_null().all():
        return NOTHING
    if isinstance(column.dtype, nw.String):
        return "text"
    # numpy's dates have no time zone, so that it would be lost
    if getattr(column.dtype, "time_zone", None):
        return "dates with a time zone"
    values = read_column_values(column)
    if values.dtype.kind == "f" and np.isnan(values).all():
        return NOTHING
    if values.dtype.kind == "O" and all(
        value is None or isinstance(value, str) for value in values
    ):
        return "text"
    return KINDS.get(values.dtype.kind, ANYTHING)


def _unite_types(first: Any, second: Any, kinds: tuple[str, str]) -> Pair | None:
    """Give both columns the type of one of them, or a wider one that their library has."""
    import narwhals as nw

    like = [first, second]
    loose = [str(_native_type(column)) in ("object", "Object") for column in like]
    # An empty side has a type by accident: the other side's comes first
    if kinds[0] == NOTHING:
        like.reverse()
        loose.reverse()
    # A column of objects says nothing about its type: prefer the other side's
    strict = [
        _native_type(column) for column, is_loose in zip(like, loose, strict=True) if not is_loose
    ]
    wide: list[Any] = (
        [nw.Float64()] if "numbers" in kinds else [nw.String()] if "text" in kinds else []
    )
    objects = [np.dtype(object)] if first.implementation.is_pandas_like() else []
    types = (
        [*objects, *strict]
        if ANYTHING in kinds
        else [*strict, *wide, *map(_native_type, like), *objects]
    )
    # The first type that holds all values of both sides
    for dtype in types:
        pair = _convert_exactly(first, dtype, like), _convert_exactly(second, dtype, like)
        if pair[0] is not None and pair[1] is not None:
            return pair
    return None


def _convert_exactly(column: Any, dtype: Any, like: list[Any]) -> Any:
    """Convert a column to a type of its library, or None if some value would change."""
    if _native_type(column) == dtype:
        return column
    try:
        cast = _cast_column(column, dtype, like)
        # There and back again: a value that changed on the way does not fit the type
        back = _cast_column(cast, _native_type(column), like)
        missing, now = (part.is_null().to_numpy().astype(bool) for part in (column, cast))
        # A cast may turn NaN into a missing value, which is the only change that is allowed
        if (missing != now).any():
            nans = read_column_values(column)
            return (
                cast
                if missing.sum() == 0 and nans.dtype.kind == "f" and (np.isnan(nans) == now).all()
                else None
            )
        same = (back == column).fill_null(True).to_numpy().astype(bool)
        # NaN is not equal to itself, and is no change
        odd = ~(same | missing)
        if odd.any():
            ours, theirs = (read_column_values(part)[odd] for part in (column, back))
            return (
                cast
                if ours.dtype.kind == "f" and np.isnan(ours).all() and np.isnan(theirs).all()
                else None
            )
    # Whatever a library raises for values that do not fit
    except Exception:
        return None
    return cast


def _cast_column(column: Any, dtype: Any, like: list[Any]) -> Any:
    import narwhals as nw

    if not isinstance(dtype, nw.dtypes.DType) and column.implementation.is_pandas_like():
        return nw.from_native(column.to_native().astype(dtype), series_only=True)
    if not isinstance(dtype, nw.dtypes.DType):
        dtype = next(entry.dtype for entry in (*like, column) if _native_type(entry) == dtype)
    return column.cast(dtype)


def _unite_categories(first: Any, second: Any) -> Pair | None:
    """Give both columns the categories of both."""
    import narwhals as nw

    # The first side's categories keep their codes, on which a model may rest
    ours, theirs = _list_categories(first), _list_categories(second)
    used = set(second.drop_nulls().unique().to_list())
    known = set(ours)
    merged = [*ours, *(value for value in theirs if value in used and value not in known)]
    # The second side's order, where its categories contain the first's
    if len(merged) > len(ours) and known <= set(theirs):
        merged = [value for value in theirs if value in used or value in known]
    try:
        if first.implementation.is_pandas_like():
            types = [
                kind for kind in map(_native_type, (first, second)) if hasattr(kind, "categories")
            ]
            same = hasattr(_native_type(first), "categories") and len(merged) == len(ours)
            dtype = (
                types[0] if same or not types else type(types[0])(merged, ordered=types[0].ordered)
            )
            return tuple(
                nw.from_native(column.to_native().astype(dtype), series_only=True)
                for column in (first, second)
            )
        # Enums have their categories in the type, while a Categorical collects them from the values
        enums = any(isinstance(column.dtype, nw.Enum) for column in (first, second))
        kind: Any = nw.Enum(merged) if enums else nw.Categorical()
        return first.cast(nw.String).cast(kind), second.cast(nw.String).cast(kind)
    # Whatever a library raises for values that are no categories
    except Exception:
        return None


def _list_categories(column: Any) -> list[Any]:
    """List the categories of a column in their order, or else its distinct values."""
    kind = _native_type(column)
    if hasattr(kind, "categories"):
        return list(kind.categories)
    # A fixed order for values of several types, which cannot be compared
    return sorted(
        column.drop_nulls().unique().to_list(), key=lambda value: (str(type(value)), value)
    )
