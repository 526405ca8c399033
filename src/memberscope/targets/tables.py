"""A user's own records from files: features for the model, labels as 0-based classes, ids and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.columns import Columns, as_numbers, is_numeric, read_columns
from memberscope.types import Ints, Records


@dataclass(frozen=True)
class Layout:
    """Which columns are what: the label, an optional id, groups (which stay features) and columns to drop."""

    label: str = "y"
    id_column: str | None = None
    groups: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


def read_pair(
    members: str | Path, non_members: str | Path, layout: Layout, classes: Sequence[str] | None = None
) -> tuple[Records, Records, tuple[str, ...]]:
    """Members and non-members from two files of the same columns, and the names of the classes.

    Labels that are words, or numbers other than 0-based ones, are looked up in `classes` (the model's), or else in the sorted
    values of both files.

    Raises:
        InputError: A file cannot be read, a column is missing, or the files do not fit together.
    """
    paths = (Path(members), Path(non_members))
    tables = [read_columns(path) for path in paths]
    names = [feature_names(table, path, layout) for table, path in zip(tables, paths, strict=True)]
    if names[0] != names[1]:
        odd = sorted(set(names[0]) ^ set(names[1]))
        raise InputError(
            f"Expected the same columns in {paths[0]} and {paths[1]}, got {', '.join(odd[:5])} in one only. Align them."
        )
    labels = [table[layout.label] for table in tables]
    lookup = class_names(labels, classes)
    numeric = all(is_numeric(table[name]) for table in tables for name in names[0] if table[name].ndim == 1)
    sides = []
    for table, path, column in zip(tables, paths, labels, strict=True):
        n = len(column)
        sides.append(
            Records(
                x=inputs(table, names[0], path, numeric=numeric),
                y=coded_labels(column, lookup, path),
                ids=ids_of(table, path, layout, n),
                groups={group: table[group].astype(np.str_) for group in layout.groups},
            )
        )
    return sides[0], sides[1], lookup


def feature_names(table: Columns, path: Path, layout: Layout) -> list[str]:
    """Columns that the model gets.

    Raises:
        InputError: A named column is missing, or nothing is left.
    """
    for name in (layout.label, *layout.groups, *layout.drop, *([layout.id_column] if layout.id_column else [])):
        if name not in table:
            raise InputError(f"Expected the column {name!r} in {path}, got {', '.join(list(table)[:8])}. Check [data].")
    apart = {layout.label, layout.id_column, *layout.drop}
    names = [name for name in table if name not in apart]
    if path.suffix.lower() == ".npz":
        names = [name for name in names if name not in layout.groups]
    if not names:
        raise InputError(f"Expected feature columns in {path}, got only {', '.join(table)}. Give the model's inputs.")
    return names


def inputs(table: Columns, names: list[str], path: Path, *, numeric: bool) -> Any:
    """What the model is given: an array when every feature is a number, else a data frame."""
    if numeric:
        parts = [as_numbers(table[name], name, path) for name in names]
        return parts[0] if len(parts) == 1 and parts[0].ndim > 1 else np.column_stack(parts)
    data = {name: typed(table[name], name, path) for name in names}
    for module in ("pandas", "polars"):
        try:
            frames = __import__(module)
        except ImportError:
            continue
        return frames.DataFrame(data)
    raise InputError(
        f"Expected pandas or polars for the columns of words in {path}, got neither. Install the one your model was fitted with."
    )


def typed(column: NDArray[Any], name: str, path: Path) -> NDArray[Any]:
    """A column as numbers if it is numeric, else as words."""
    return as_numbers(column, name, path) if is_numeric(column) else column.astype(object)


def ids_of(table: Columns, path: Path, layout: Layout, n: int) -> NDArray[np.str_]:
    """The id column, or ids made of the file's name and the row."""
    if layout.id_column:
        return table[layout.id_column].astype(np.str_)
    return np.array([f"{path.stem}:{i}" for i in range(n)])


def class_names(labels: Sequence[NDArray[Any]], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the classes in the order of the model's outputs.

    >>> class_names([np.array(["yes", "no"])], None)
    ('no', 'yes')
    """
    if classes is not None:
        return tuple(str(name) for name in classes)
    words = np.unique(np.concatenate([np.asarray(column).astype(np.str_) for column in labels]))
    if all(word.isdigit() for word in words):
        return tuple(str(k) for k in range(max(int(word) for word in words) + 1))
    return tuple(str(word) for word in words)


def coded_labels(column: NDArray[Any], lookup: tuple[str, ...], path: Path) -> Ints:
    """Labels as positions in `lookup`.

    Raises:
        InputError: A label is not among the classes.
    """
    position = {name: k for k, name in enumerate(lookup)}
    codes = []
    for row, value in enumerate(column):
        word = str(value)
        if word not in position and word.endswith(".0"):
            word = word[:-2]
        if word not in position:
            shown = ", ".join(lookup[:6])
            raise InputError(
                f"Expected labels among {shown} in {path}, got {str(value)!r} in row {row + 1}. Check the label column."
            )
        codes.append(position[word])
    return np.array(codes, dtype=np.int64)
