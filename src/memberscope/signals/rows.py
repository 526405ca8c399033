"""A slice of records, whatever holds them."""

from __future__ import annotations

from typing import Any


def rows(x: Any, start: int, stop: int) -> Any:
    """Records from `start` up to `stop` of an array, a sparse matrix, a list or a data frame.

    >>> rows([1, 2, 3], 0, 2)
    [1, 2]
    """
    if hasattr(x, "iloc"):
        return x.iloc[start:stop]
    return x[start:stop]
