"""Read records whatever holds them.

They may be in arrays, sparse matrices, lists, series, or data frames that narwhals reads.

Columns of a frame are found by position, since names may be numbers, pairs or repeated. Rows are
found by position too, whatever the index of a pandas frame.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames.column_values import read_column_values


def is_frame(x: Any) -> bool:
    """Tell whether `x` is a data frame, lazy ones included.

    >>> is_frame(np.zeros((3, 2)))
    False
    """
    # Looked up on the type: an instance, such as a record array, may have a field of that name
    return hasattr(type(x), "columns")


def is_series(x: Any) -> bool:
    """Tell whether `x` is one column of pandas, polars or pyarrow.

    >>> is_series(np.zeros(3))
    False
    """
    # By name, so that no library need be installed or imported
    return type(x).__name__ in ("Series", "ChunkedArray") and hasattr(x, "to_numpy")


def is_sparse(x: Any) -> bool:
    """Tell whether `x` is a sparse matrix or array of scipy.

    >>> is_sparse(np.eye(2))
    False
    """
    return hasattr(x, "tocsr") and hasattr(x, "toarray")


def _refuse_lazy(x: Any) -> None:
    """Refuse a lazy frame, whose rows have not been computed yet.

    Raises:
        InputError: It is one.
    """
    # Only frames whose rows are there know their shape
    if not hasattr(type(x), "shape"):
        raise InputError(
            f"Expected records in memory, got a {type(x).__name__}. Call collect() on it, or read "
            "it as a whole."
        )


def name_columns(x: Any) -> list[Any]:
    """Give the names of a frame's columns in their order, as its library holds them.

    >>> import pandas
    >>> name_columns(pandas.DataFrame(np.eye(2)))
    [0, 1]
    """
    _refuse_lazy(x)
    # A table of pyarrow gives its columns themselves under `columns`
    return list(x.column_names if hasattr(x, "column_names") else x.columns)


def open_frame(x: Any) -> Any:
    """Open a data frame with narwhals, its columns named by their positions: "0", "1" and so on.

    Nothing is copied.

    Raises:
        InputError: It is lazy, or of a library that narwhals does not read.

    >>> import pandas
    >>> open_frame(pandas.DataFrame({"age": [30]})).columns
    ['0']
    """
    import narwhals as nw

    _refuse_lazy(x)
    try:
        # Renamed first, as narwhals refuses names of pandas or pyarrow that repeat
        if hasattr(x, "iloc") or hasattr(x, "rename_columns"):
            return nw.from_native(
                rename_frame(x, [str(place) for place in range(x.shape[1])]), eager_only=True
            )
        frame: Any = nw.from_native(x, eager_only=True)
    except TypeError as error:
        raise InputError(
            "Expected a data frame that narwhals reads, got "
            f"{type(x).__module__}.{type(x).__name__}. Convert it to pandas or polars."
        ) from error
    return frame.rename({name: str(place) for place, name in enumerate(frame.columns)})


def rename_frame(x: Any, names: Any) -> Any:
    """Give the frame `x` other column names; the values are shared.

    Only pandas takes names that are not strings.

    >>> import pandas
    >>> list(rename_frame(pandas.DataFrame(np.eye(2)), ["a", "b"]).columns)
    ['a', 'b']
    """
    if hasattr(x, "iloc"):
        renamed = x.copy(deep=False)
        # attrs may hold arrays, which pandas cannot compare when it joins frames
        renamed.columns, renamed.attrs = names, {}
        return renamed
    if hasattr(x, "rename_columns"):
        return x.rename_columns([str(name) for name in names])
    import narwhals as nw

    frame: Any = nw.from_native(x, eager_only=True)
    return nw.to_native(frame.rename(dict(zip(frame.columns, map(str, names), strict=True))))


def pick_columns(x: Any, places: list[int]) -> Any:
    """Give the frame with only the columns at these positions, in this order.

    >>> import pandas
    >>> list(pick_columns(pandas.DataFrame({"a": [1], "b": [2]}), [1, 0]).columns)
    ['b', 'a']
    """
    if hasattr(x, "iloc"):
        return x.iloc[:, places]
    if hasattr(x, "rename_columns"):
        return x.select(places)
    import narwhals as nw

    return nw.to_native(nw.from_native(x, eager_only=True)[:, places])


def take_first_column(x: Any) -> Any:
    """Give the first column of a frame, as a series of its library.

    >>> import pandas
    >>> take_first_column(pandas.DataFrame({"note": ["a text"]})).tolist()
    ['a text']
    """
    if hasattr(x, "iloc"):
        return x.iloc[:, 0]
    return x.column(0) if hasattr(x, "rename_columns") else x.to_series(0)


def count_rows(x: Any) -> int:
    """Count the records in an array, a sparse matrix, a list or a data frame.

    Raises:
        InputError: It is lazy, and cannot be counted.

    >>> count_rows([1, 2, 3])
    3
    """
    if is_frame(x):
        _refuse_lazy(x)
    return int(x.shape[0]) if hasattr(x, "shape") else len(x)


def slice_rows(x: Any, start: int, stop: int) -> Any:
    """Give the records from `start` up to `stop`, whatever holds them.

    >>> slice_rows([1, 2, 3], 0, 2)
    [1, 2]
    """
    if hasattr(x, "iloc"):
        return x.iloc[start:stop]
    if is_frame(x) and hasattr(x, "slice"):
        # Here the second argument is a length, and must not be negative
        return x.slice(start, max(min(stop, count_rows(x)) - start, 0))
    return (x.tocsr() if is_sparse(x) else x)[start:stop]


def choose_rows(x: Any, where: NDArray[np.int64]) -> Any:
    """Give the records at the positions `where` (r,), whatever holds them.

    >>> choose_rows([1, 2, 3], np.array([2, 0]))
    [3, 1]
    """
    if isinstance(x, np.ndarray):
        return x[where]
    if hasattr(x, "iloc"):
        # A record may be chosen more than once, by which its index would repeat
        return renumber_index(x.iloc[where], x.index)
    if is_frame(x):
        import narwhals as nw

        return (
            x.take(where)
            if hasattr(x, "rename_columns")
            else nw.to_native(nw.from_native(x, eager_only=True)[where])
        )
    if is_sparse(x):
        # Not every form of sparse matrix can be read by position
        return x.tocsr()[where]
    if hasattr(x, "combine_chunks"):
        return x.take(where)
    return [x[int(place)] for place in where] if isinstance(x, list | tuple) else x[where]


def renumber_index(x: Any, *before: Any) -> Any:
    """Give a pandas object a new index where it repeats and the indexes `before` it did not.

    Indexes of dates and of several levels stay. A model that joins columns by their index would
    otherwise meet rows that it never meets alone.
    """
    index = x.index
    if (
        index.is_unique
        or index.nlevels > 1
        or index.dtype.kind in "mM"
        or not all(old.is_unique for old in before)
    ):
        return x
    return x.reset_index(drop=True)


def read_frame_columns(x: Any) -> dict[str, NDArray[Any]]:
    """Give the columns (n,) of a data frame by name, as `read_column_values` reads each.

    Raises:
        InputError: Two columns have one name.

    >>> import pandas
    >>> read_frame_columns(pandas.DataFrame({"age": [30, 40]}))
    {'age': array([30, 40])}
    """
    frame, names = open_frame(x), [str(name) for name in name_columns(x)]
    refuse_repeated_names(names)
    return {
        name: read_column_values(frame[place])
        for name, place in zip(names, frame.columns, strict=True)
    }


def list_values(x: Any) -> list[NDArray[Any]]:
    """Give the columns (n,) of a data frame in their order, as `read_column_values` reads each.

    Names may repeat.

    >>> import pandas
    >>> list_values(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
    [array([1]), array([2])]
    """
    frame = open_frame(x)
    return [read_column_values(frame[place]) for place in frame.columns]


def refuse_repeated_names(names: list[Any]) -> None:
    """Refuse columns that share a name, where columns are found by name.

    Raises:
        InputError: A name repeats.
    """
    seen: set[Hashable] = set()
    for name in names:
        if name in seen:
            raise InputError(
                f"Expected columns of different names, got {name!r} more than once. Rename one of "
                "them."
            )
        seen.add(name)
