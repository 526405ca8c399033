"""Put members and non-members one after the other.

Columns are matched by name and get one type each. What a model can do with each side alone it can
do with both together: categories of both sides are united, and no value changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.frames.access import (
    count_rows,
    is_frame,
    is_series,
    is_sparse,
    list_values,
    name_columns,
    open_frame,
    pick_columns,
    refuse_repeated_names,
    rename_frame,
    renumber_index,
    slice_rows,
    take_first_column,
)
from memberscope.frames.column_types import unify_columns
from memberscope.frames.column_values import convert_objects, make_object_array

Sides = tuple[str, str]
SIDES: Sides = ("members", "non-members")


def stack_sides(first: Any, second: Any, sides: Sides = SIDES) -> Any:
    """Put the records of both sides one after the other, held as the first side holds its own.

    Columns of data frames are matched by name and take the first side's order. An array beside a
    frame is read by position.

    Raises:
        InputError: A column is missing on one side, or holds another kind of values there, or
            shapes differ.

    >>> stack_sides(np.zeros((1, 2)), np.ones((1, 2))).tolist(), stack_sides(["a text"], ["another"])
    ([[0.0, 0.0], [1.0, 1.0]], ['a text', 'another'])
    """
    # Several arrays for each record join themselves
    if hasattr(first, "joined"):
        return first.joined(second)
    for side, x in zip(sides, (first, second), strict=True):
        # A sparse matrix by keys is a dict, too
        if isinstance(x, Mapping) and not is_sparse(x):
            raise InputError(
                f"Expected the {side} as an array, a list or a data frame, got a dict of columns. "
                "Make a data frame of it."
            )
    if is_frame(first):
        return _stack_frames(first, second, sides)
    # A frame beside an array is read by position, without its names
    if is_frame(second):
        second = (
            take_first_column(second)
            if second.shape[1] == 1
            else np.column_stack(list_values(second))
        )
    if is_sparse(first) or is_sparse(second):
        from scipy import sparse

        _require_width(first.shape[1:], second.shape[1:], sides)
        return sparse.vstack([first, second]).tocsr()
    return _stack_lists(first, second, sides)


def match_records(x: Any, like: Any, sides: Sides) -> Any:
    """Give records held as the frame `like` holds its own.

    They get its columns in its order, its library and its types.

    Raises:
        InputError: A column is missing, or there is one more.

    >>> import pandas
    >>> a, b = pandas.DataFrame({"x": [1], "y": [2]}), pandas.DataFrame({"y": [3], "x": [4]})
    >>> match_records(b, a, ("records", "population")).to_numpy().tolist()
    [[4, 3]]
    """
    if not is_frame(like) or x is None:
        return x
    # Stacked and cut off again, so that both have the types that stacking gives them
    whole = stack_sides(like, x, sides)
    return slice_rows(whole, count_rows(like), count_rows(whole))


def _match_columns(first: Any, second: Any, sides: Sides = SIDES) -> Any:
    """Give the frame `second` with the columns of the frame `first`.

    They are found by name, and take the first frame's order and names.

    Raises:
        InputError: A column is missing or there is one more.

    >>> import pandas
    >>> a, b = pandas.DataFrame({"x": [1], "y": [2]}), pandas.DataFrame({"y": [3], "x": [4]})
    >>> _match_columns(a, b).to_numpy().tolist()
    [[4, 3]]
    """
    ours, theirs = name_columns(first), name_columns(second)
    # The same names in the same order: repeated names need not be told apart
    if ours == theirs:
        return second
    for names in (ours, theirs):
        refuse_repeated_names(names)
    # 0 and "0", as after a file
    if set(ours) != set(theirs) and set(map(str, ours)) == set(map(str, theirs)):
        refuse_repeated_names([str(name) for name in ours])
        return rename_frame(
            pick_columns(second, _find_places([str(name) for name in theirs], map(str, ours))),
            _list_columns(first),
        )
    for side, names, others in ((sides[1], theirs, ours), (sides[0], ours, theirs)):
        missing = [name for name in others if name not in names]
        if missing:
            other = sides[0] if side == sides[1] else sides[1]
            raise InputError(
                f"Expected the same columns in the {sides[0]} and the {sides[1]}, got "
                f"{missing[0]!r} in the {other} only. Add it to the {side}, or leave it out of "
                "both."
            )
    return pick_columns(second, _find_places(theirs, ours))


def place_fitted(
    names: Sequence[Any], fitted: Sequence[str]
) -> tuple[list[int], list[str], list[Any]]:
    """Find the columns that a model was `fitted` with among `names`.

    Give their positions, those that are missing, and those that are there in addition.

    A name that the model's library wrote in another way is the same one: 0 and "0", and a space as
    an underscore.

    >>> place_fitted(["b c", "a", "id"], ["a", "b_c", "d"])
    ([1, 0], ['d'], ['id'])
    """
    known: dict[Any, int] = {}
    # The exact name first: another way of writing it counts only where no column has it
    for write in (lambda name: name, str, lambda name: "_".join(str(name).split())):
        for place, name in enumerate(names):
            known.setdefault(write(name), place)
    places = [known[name] for name in fitted if name in known]
    return (
        places,
        [name for name in fitted if name not in known],
        [name for j, name in enumerate(names) if j not in places],
    )


def take_fitted_order(x: Any, fitted: Sequence[str]) -> Any:
    """Put the columns in the order that a model was `fitted` with.

    Records with other columns are returned unchanged.

    >>> import pandas
    >>> list(take_fitted_order(pandas.DataFrame({"b": [1], "a": [2]}), ["a", "b"]).columns)
    ['a', 'b']
    """
    if not fitted or not is_frame(x):
        return x
    names = name_columns(x)
    # Other columns are another model's business, or an error that the model reports
    if len(names) != len(fitted) or names == list(fitted):
        return x
    places, missing, _ = place_fitted(names, fitted)
    return (
        x
        if missing or len(set(places)) < len(names) or places == sorted(places)
        else pick_columns(x, places)
    )


def convert_to_array(x: Any) -> Any:
    """Convert records to an array where numpy reads them as numbers.

    Otherwise give the array, the series or the list that they are.

    Raises:
        InputError: They are not records, such as one text.

    >>> convert_to_array([[1, 2], [3, 4]]).shape, convert_to_array([[1, 2], [3]])
    ((2, 2), [[1, 2], [3]])
    """
    if isinstance(x, np.ndarray) and x.ndim:
        return x
    if is_series(x):
        # A series of words keeps its type, which a model may need
        return x if not _is_numeric(x) else np.asarray(x)
    if isinstance(x, list | tuple):
        # Texts are records, though numpy would make an array of them
        if len(x) and isinstance(x[0], str | bytes | dict):
            return list(x)
        try:
            values = np.asarray(x)
        # Sequences of several lengths
        except ValueError:
            return list(x)
        return values if values.dtype.kind in "buif" else list(x)
    if isinstance(x, str | bytes) or not hasattr(x, "__len__"):
        raise InputError(
            f"Expected records as an array, a list or a data frame, got {type(x).__name__}. Give "
            "one entry for each record."
        )
    return np.asarray(x)


def _is_numeric(x: Any) -> bool:
    return is_series(x) and np.asarray(x[:0]).dtype.kind in "buif"


def _one_column(x: Any) -> Any:
    import narwhals as nw

    return nw.to_native(nw.from_native(x, series_only=True).alias("0").to_frame())


def _rename_like(column: Any, like: Any) -> Any:
    # A chunked array of pyarrow has no name
    if hasattr(column, "combine_chunks"):
        return column
    return column.rename(like.name)


def _list_columns(x: Any) -> Any:
    return x.columns if hasattr(x, "iloc") else name_columns(x)


def _find_places(names: Sequence[Any], wanted: Any) -> list[int]:
    known = {name: place for place, name in enumerate(names)}
    return [known[name] for name in wanted]


def _stack_frames(first: Any, second: Any, sides: Sides) -> Any:
    """Put two frames one after the other, as the library of the first."""
    import narwhals as nw

    # First the same columns and the same library, then one type for each column
    one = open_frame(first)
    second = (
        _match_columns(first, second, sides)
        if is_frame(second)
        else _name_array(one, second, sides)
    )
    two = _to_library(open_frame(second), one, sides)
    changed: tuple[list[Any], list[Any]] = ([], [])
    for place, name in zip(one.columns, name_columns(first), strict=True):
        before = one[place], two[place]
        for side, old, new in zip(
            changed, before, unify_columns(*before, name, sides), strict=True
        ):
            # Columns that keep their type are shared, not copied
            side += [new.alias(place)] if new is not old else []
    parts = [
        frame.with_columns(*new) if new else frame
        for frame, new in zip((one, two), changed, strict=True)
    ]
    whole = nw.to_native(nw.concat(parts))
    # Both sides often count their rows from zero, so that the index would repeat
    if hasattr(whole, "iloc"):
        whole = renumber_index(whole, *(nw.to_native(part).index for part in parts))
    return rename_frame(whole, _list_columns(first))


def _to_library(frame: Any, like: Any, sides: Sides) -> Any:
    """Convert an opened frame to the library of another."""
    import narwhals as nw

    library = like.implementation
    if frame.implementation is library:
        return frame
    try:
        if library.is_pandas_like():
            return nw.from_native(frame.to_pandas(), eager_only=True)
        return nw.from_native(
            frame.to_polars() if library.is_polars() else frame.to_arrow(), eager_only=True
        )
    # Each library has errors of its own for values that it cannot hold, or without pyarrow
    except Exception as error:
        raise InputError(
            f"Expected {sides[1]} that can be held as the {sides[0]} are, got "
            f"{frame.implementation} for {library} ({error}). Give both as frames of one library."
        ) from error


def _name_array(like: Any, x: Any, sides: Sides) -> Any:
    """Give an array (n, f) or a sparse matrix the columns of an opened frame, by position."""
    import narwhals as nw

    try:
        table = np.asarray(
            x.toarray() if is_sparse(x) else x if hasattr(x, "dtype") else np.array(x, dtype=object)
        )
    # Lists of several lengths
    except ValueError:
        table = make_object_array(x)
    table = table[:, None] if table.ndim == 1 else table
    _require_width((len(like.columns),), table.shape[1:], sides)
    columns = {
        str(j): convert_objects(column) if column.dtype == object else column
        for j, column in enumerate(table.T)
    }
    # Words as Python's own, from which each library chooses its type of text
    data = {
        name: column.tolist() if column.dtype.kind in "OUS" else column
        for name, column in columns.items()
    }
    return nw.to_native(nw.from_dict(data, backend=like.implementation))


def _require_width(ours: tuple[int, ...], theirs: tuple[int, ...], sides: Sides) -> None:
    """Refuse records of another shape.

    Raises:
        InputError: Their shapes differ.
    """
    if tuple(ours) != tuple(theirs):
        shown = [
            str(shape[0]) if len(shape) == 1 else str(tuple(shape)) for shape in (ours, theirs)
        ]
        raise InputError(
            f"Expected records of one shape, got {shown[0]} features in the {sides[0]} and "
            f"{shown[1]} in the {sides[1]}. Give both as the model takes them."
        )


def _stack_lists(first: Any, second: Any, sides: Sides) -> Any:
    """Put arrays, series or lists one after the other.

    What is not an array of numbers keeps the type of the first side.
    """
    if is_series(first) and hasattr(first, "to_frame") and not is_series(second):
        # A list beside a series becomes a series, to be united with its type
        second = type(first)(list(second))
    if is_series(first) and is_series(second) and not (_is_numeric(first) and _is_numeric(second)):
        whole = _stack_frames(_one_column(first), _one_column(second), sides)
        return _rename_like(take_first_column(whole), first)
    one, two = convert_to_array(first), convert_to_array(second)
    if isinstance(one, np.ndarray) and isinstance(two, np.ndarray):
        # One feature may be written with or without a second dimension
        if two.ndim == 1 and one.shape[1:] == (1,):
            two = two[:, None]
        _require_width(one.shape[1:], two.shape[1:], sides)
        return np.concatenate([one, two])
    if isinstance(first, np.ndarray):
        # The first side is an array, so that the whole is one too
        return make_object_array([*first, *second])
    return [*first, *(second.to_pylist() if hasattr(second, "to_pylist") else second)]
