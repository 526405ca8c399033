"""Read one table as plain arrays by name, for stored signals and designs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.targets.tables.columns import Columns


def read_columns(path: Path) -> Columns:
    """Read the columns (n, ...) of a table by name as plain arrays.

    They are numbers, or words, which are empty where they are missing.

    Raises:
        InputError: The file is missing, truncated, empty or of another kind, or columns differ in
            length.
        UnsafeFileError: An NPZ holds pickled objects.
    """
    from memberscope.targets.tables.files import read_table

    return {name: _as_plain(column) for name, column in read_table(path).columns.items()}


def _as_plain(column: Any) -> NDArray[Any]:
    """Give a column as numpy has it, objects as words."""
    from memberscope.frames import mark_missing

    values = np.asarray(column)
    if values.dtype != object:
        return values
    missing = mark_missing(column)
    return np.array(
        [
            "" if absent else str(value)
            for value, absent in zip(values.tolist(), missing, strict=True)
        ]
    )
