"""Hint at records that may belong to people or documents, where nobody said so."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.frames import as_words, is_frame, list_values, name_columns
from memberscope.targets.tables import IdLike, find_id_like_columns

# Columns of an array without names that may look like ids; where more do, they are measurements
UNNAMED = 2


def collect_columns(x: Any) -> dict[str, NDArray[Any]]:
    """Give the columns (n,) of a data frame, or of an array (n, f) by number.

    They are for `find_id_like_columns`; there are none of anything else.

    >>> sorted(collect_columns(np.zeros((3, 2))))
    ['column 0', 'column 1']
    """
    if is_frame(x):
        named = zip(name_columns(x), list_values(x), strict=True)
        return {
            str(name): as_words(values) if values.dtype == object else values
            for name, values in named
        }
    # Images and the like have no columns
    if not isinstance(x, np.ndarray) or x.ndim != 2:
        return {}
    columns = {f"column {j}": x[:, j] for j in range(x.shape[1])}
    return columns if len(find_id_like_columns(columns)) <= UNNAMED else {}


def describe_independence(found: tuple[IdLike, ...]) -> tuple[str, ...]:
    """Say which columns may be ids of people or documents, and what the intervals then assume.

    Nothing where there are none.

    >>> describe_independence((IdLike("person", 40, 5.0),))[0][:73]
    'The column person has 40 values with 5 records each (median), as ids of p'
    """
    if not found:
        return ()
    first = found[0]
    more = "" if len(found) == 1 else f" So may {', '.join(entry.name for entry in found[1:4])}."
    return (
        f"The column {first.name} has {first.n_values} values with {first.rows:g} records each "
        "(median), as ids of people or "
        f"documents have.{more} Intervals and controls take records as independent and are too "
        "narrow if they are not: give "
        f"--unit {first.name}, or unit= in Python, if records of one value belong together.",
    )


__all__ = ["IdLike", "collect_columns", "find_id_like_columns", "describe_independence"]
