"""Some of the records, whatever holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rows(x: Any, start: int, stop: int) -> Any:
    """Records from `start` up to `stop` of an array, a sparse matrix, a list or a data frame.

    >>> rows([1, 2, 3], 0, 2)
    [1, 2]
    """
    if hasattr(x, "iloc"):
        return x.iloc[start:stop]
    return x[start:stop]


def chosen(x: Any, where: NDArray[np.int64]) -> Any:
    """The records at the positions `where` (r,) of an array, a sparse matrix, a list or a data frame.

    >>> chosen([1, 2, 3], np.array([2, 0]))
    [3, 1]
    """
    if hasattr(x, "columns"):
        import narwhals as nw

        return nw.to_native(nw.from_native(x, eager_only=True)[where.tolist()])
    return [x[int(index)] for index in where] if isinstance(x, list) else x[where]
