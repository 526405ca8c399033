"""Find columns that look like ids of people or documents with several records each.

Even where nobody named them as units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST, MOST = 2, 50  # rows a value at the median: fewer are ids of rows, more are categories
FEWEST = 20  # values below which whole numbers and words are categories
# The commonest value has at most so many times the rows of the median: a value that is far more
# common is a category, not a person
ODD = 20
WIDE = 200  # an array of more columns is taken for pixels or counts, and not searched


@dataclass(frozen=True)
class IdLike:
    """A column of `n_values` values, each in `rows` records at the median."""

    name: str
    n_values: int
    rows: float


def find_id_like_columns(columns: Mapping[str, NDArray[Any]]) -> tuple[IdLike, ...]:
    """Find columns (n,) of whole numbers or words that look like ids of several records.

    Their values have 2 to 50 records each at the median. Measurements that are whole numbers, such
    as an age in years, look the same where records are few: what is found is a question, not a
    finding.

    >>> person = np.repeat(np.arange(40), 5)
    >>> find_id_like_columns({"person": person, "row": np.arange(200), "sex": np.arange(200) % 2, "weight": person / 3})
    (IdLike(name='person', n_values=40, rows=5.0),)
    """
    # Pixels and word counts look like ids by chance
    if len(columns) > WIDE:
        return ()
    found = ((name, _rows_of_values(np.asarray(column))) for name, column in columns.items())
    return tuple(
        IdLike(name, len(counts), float(np.median(counts)))
        for name, counts in found
        if len(counts) >= FEWEST
        and LEAST <= np.median(counts) <= MOST
        and counts.max() <= ODD * np.median(counts)
    )


def _rows_of_values(column: NDArray[Any]) -> NDArray[np.int64]:
    """Count the rows (v,) of each value of a column of whole numbers or words.

    Missing values are left out; other columns give no counts.
    """
    nothing: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
    if column.ndim != 1 or column.dtype.kind not in "iufUSOT":
        return nothing
    if column.dtype.kind == "f":
        column = column[np.isfinite(column)]
        if (column != np.floor(column)).any():
            return nothing
    elif column.dtype.kind not in "iu":
        words = column.astype(np.str_)
        words = words[~np.isin(words, ("", "nan", "None"))]
        if len(words) and _has_fractions(words):
            return nothing
        column = words
    return np.unique(column, return_counts=True)[1]


def _has_fractions(words: NDArray[np.str_]) -> bool:
    """Check whether all words are numbers, and some of them not whole."""
    try:
        values = words.astype(np.float64)
    except ValueError:
        return False
    finite = values[np.isfinite(values)]
    return bool((finite != np.floor(finite)).any())
