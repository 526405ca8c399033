"""Hold a column of words as pyarrow does, where pandas is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.frames.column_values import make_object_array


class ArrowWords:
    """Column (n,) of words that looks like an array of objects.

    Python's strings are made when they are first needed. What is missing is NaN.

    >>> import pyarrow as pa
    >>> words = ArrowWords(pa.chunked_array([["a", None], ["b"]]))
    >>> len(words), words.dtype, np.asarray(words)
    (3, dtype('O'), array(['a', nan, 'b'], dtype=object))
    """

    dtype = np.dtype(object)
    ndim = 1

    def __init__(self, column: Any) -> None:
        self._column = column

    @property
    def shape(self) -> tuple[int]:
        """Shape, which is the number of words."""
        return (len(self._column),)

    @cached_property
    def _values(self) -> NDArray[Any]:
        coded = self._column.dictionary_encode().combine_chunks()
        # One object for each value, however many records have it
        words = make_object_array([*coded.dictionary.to_pylist(), np.nan])
        found: NDArray[Any] = words[
            coded.indices.fill_null(len(words) - 1).to_numpy(zero_copy_only=False)
        ]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Give the words as objects."""
        values = self._values if dtype in (None, object) else self._values.astype(dtype)
        return values.copy() if copy and values is self._values else values

    def __len__(self) -> int:
        return len(self._column)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __getitem__(self, rows: Any) -> Any:
        return self._values[rows]

    def tolist(self) -> list[Any]:
        """Give the words as a list."""
        return list(self._values)
