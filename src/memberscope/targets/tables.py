"""A user's own records from files: features for the model, labels as 0-based classes, ids and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.columns import MOST_CLASSES, Columns, as_numbers, is_number, is_numeric, read_columns, unit_words
from memberscope.targets.identifiers import IdLike, find_id_like_columns
from memberscope.targets.tasks import refuse_continuous_labels
from memberscope.types import Ints, Records

FEW_CLASSES = 20  # different numbers with decimals that may still be names of classes


@dataclass(frozen=True)
class Layout:
    """Which columns are what: the label, an optional id, groups (which stay features) and columns to drop.

    With `features` the model gets these columns only, such as the one that holds the text of each record. `fitted` names the columns
    that the model was fitted with, in its order; with them nothing else is a feature. `unit` names the person or document of each
    record; the model gets it only if `features` says so.
    """

    label: str = "y"
    id_column: str | None = None
    groups: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    unit: str | None = None


@dataclass(frozen=True, eq=False)
class Tables:
    """The columns of the members' and of the non-members' file, as they were read."""

    paths: tuple[Path, Path]
    columns: tuple[Columns, Columns]

    def id_like(self, layout: Layout) -> tuple[IdLike, ...]:
        """Find columns other than the label and the ids that look like people or documents with several records."""
        first, second = self.columns
        named = {layout.label, layout.id_column}
        both = [name for name in first if name in second and name not in named and first[name].ndim == second[name].ndim == 1]
        return find_id_like_columns({name: np.concatenate([first[name], second[name]]) for name in both})


def read_tables(members: str | Path, non_members: str | Path) -> Tables:
    """Read the two files.

    Raises:
        InputError: One of them cannot be read.
    """
    paths = (Path(members), Path(non_members))
    return Tables(paths, (read_columns(paths[0]), read_columns(paths[1])))


def read_pair(
    members: str | Path, non_members: str | Path, layout: Layout, classes: Sequence[str] | None = None
) -> tuple[Records, Records, tuple[str, ...]]:
    """Members and non-members from two files of the same columns, and the names of the classes.

    Labels that are words, or numbers other than 0-based ones, are looked up in `classes` (the model's), or else in the sorted
    values of both files.

    Raises:
        InputError: A file cannot be read, a column is missing, or the files do not fit together.
    """
    return pair_of(read_tables(members, non_members), layout, classes)


def pair_of(read: Tables, layout: Layout, classes: Sequence[str] | None = None) -> tuple[Records, Records, tuple[str, ...]]:
    """Members and non-members from tables that were read, as `read_pair` gives them.

    Raises:
        InputError: A column is missing, or the files do not fit together.
    """
    paths, tables = read.paths, read.columns
    names = [feature_names(table, path, layout) for table, path in zip(tables, paths, strict=True)]
    if set(names[0]) != set(names[1]):
        odd = sorted(set(names[0]) ^ set(names[1]))
        raise InputError(
            f"Expected the same columns in {paths[0]} and {paths[1]}, got {', '.join(odd[:5])} in one only. Align them."
        )
    labels = [table[layout.label] for table in tables]
    lookup = class_names(labels, classes)
    numeric = all(is_numeric(table[name]) for table in tables for name in names[0] if table[name].ndim == 1)
    prefixes = [path.stem for path in paths] if paths[0].stem != paths[1].stem else ["member", "non-member"]
    sides = []
    for table, path, column, prefix in zip(tables, paths, labels, prefixes, strict=True):
        sides.append(
            Records(
                x=inputs(table, names[0], path, numeric=numeric, named=bool(layout.fitted)),
                y=coded_labels(column, lookup, path),
                ids=table[layout.id_column].astype(np.str_) if layout.id_column else numbered(prefix, len(column)),
                groups={group: table[group].astype(np.str_) for group in layout.groups},
                unit=unit_words(table[layout.unit], layout.unit, path) if layout.unit else None,
            )
        )
    return sides[0], sides[1], lookup


def feature_names(table: Columns, path: Path, layout: Layout) -> list[str]:
    """Columns that the model gets.

    Raises:
        InputError: A named column is missing, or nothing is left.
    """
    ids = [name for name in (layout.id_column, layout.unit) if name]
    for name in (layout.label, *layout.groups, *layout.drop, *layout.features, *ids):
        if name not in table:
            raise InputError(f"Expected the column {name!r} in {path}, got {', '.join(list(table)[:8])}. Check [data].")
    apart = {layout.label, layout.id_column, *layout.drop} | ({layout.unit} - set(layout.features))
    names = [name for name in table if name not in apart]
    if path.suffix.lower() == ".npz":
        names = [name for name in names if name not in layout.groups]
    if layout.features:
        names = [name for name in layout.features if name in names]
    if not names:
        raise InputError(f"Expected feature columns in {path}, got only {', '.join(table)}. Give the model's inputs.")
    if not layout.fitted or any(table[name].ndim > 1 for name in names):
        return names
    return fitted_names(names, path, layout)


def fitted_names(names: list[str], path: Path, layout: Layout) -> list[str]:
    """The columns that the model was fitted with, in its order, so that none is taken for another.

    Raises:
        InputError: One of them is missing, or there are others, groups apart.
    """
    missing = [name for name in layout.fitted if name not in names]
    more = [name for name in names if name not in layout.fitted and name not in layout.groups]
    if missing or more:
        got = f"no {', '.join(missing[:5])}" if missing else f"{', '.join(more[:5])} too"
        raise InputError(
            f"Expected the columns that the model was fitted with ({', '.join(layout.fitted[:8])}) in {path}, got {got}. "
            f"Rename the columns, or leave some out with --drop."
        )
    return list(layout.fitted)


def inputs(table: Columns, names: list[str], path: Path, *, numeric: bool, named: bool = False) -> Any:
    """What the model is given: a data frame if it is `named` or has words, where one can be had, else an array."""
    frames = frame_library() if named or not numeric else None
    if numeric and (frames is None or any(table[name].ndim > 1 for name in names)):
        parts = [as_numbers(table[name], name, path) for name in names]
        return parts[0] if len(parts) == 1 and parts[0].ndim > 1 else np.column_stack(parts)
    data = {name: typed(table[name], name, path) for name in names}
    if frames is None and len(names) == 1:
        return data[names[0]]
    if frames is None:
        raise InputError(
            f"Expected pandas or polars for the columns of words in {path}, got neither. Install the one your model was fitted with."
        )
    return frames.DataFrame(data)


def frame_library() -> Any:
    """The module pandas or polars, whichever is installed; None if neither is."""
    from importlib import import_module
    from importlib.util import find_spec

    return next((import_module(name) for name in ("pandas", "polars") if find_spec(name)), None)


def typed(column: NDArray[Any], name: str, path: Path) -> NDArray[Any]:
    """A column as numbers if it is numeric, else as words."""
    return as_numbers(column, name, path) if is_numeric(column) else column.astype(object)


def numbered(prefix: str, n: int) -> NDArray[np.str_]:
    """Ids made of the file's name and the row.

    >>> numbered("train", 2).tolist()
    ['train:0', 'train:1']
    """
    return np.array([f"{prefix}:{i}" for i in range(n)])


def class_names(labels: Sequence[NDArray[Any]], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the classes in the order of the model's outputs.

    Raises:
        InputError: Labels are numbers too large to count classes.

    >>> class_names([np.array(["yes", "no"])], None)
    ('no', 'yes')
    """
    if classes is not None:
        return tuple(str(name) for name in classes)
    words = np.unique(np.concatenate([np.asarray(column).astype(np.str_) for column in labels]))
    if all(word.isdigit() for word in words):
        if max(int(word) for word in words) >= MOST_CLASSES:
            most = max(words, key=int)
            raise InputError(f"Expected class numbers below {MOST_CLASSES} as labels, got {most}. Check the label column.")
        return tuple(str(k) for k in range(max(int(word) for word in words) + 1))
    if len(words) > FEW_CLASSES and all(is_number(word) and word for word in words):
        refuse_continuous_labels(words.astype(np.float64))
    return tuple(str(word) for word in words)


def plainly(word: str) -> str:
    """A class's name as every program may write it: whole numbers without a point, truth values as numbers.

    >>> plainly("1.0"), plainly("True"), plainly("yes")
    ('1', '1', 'yes')
    """
    truth = {"true": "1", "false": "0"}.get(word.lower(), word)
    return truth[:-2] if truth.endswith(".0") else truth


def coded_labels(column: NDArray[Any], lookup: tuple[str, ...], path: Path) -> Ints:
    """Labels as positions in `lookup`.

    Raises:
        InputError: A label is not among the classes.
    """
    position = {name: k for k, name in enumerate(lookup)}
    if not any(is_number(name) for name in lookup) and all(str(value).isdigit() for value in column):
        position = {str(k): k for k in range(len(lookup))}  # numbers where the model has words are its 0-based classes
    plain = {plainly(name): k for name, k in position.items()}
    if len(plain) == len(position):
        position = plain | position
    codes = []
    for row, value in enumerate(column):
        word = str(value)
        if word not in position:
            word = plainly(word)
        if word not in position:
            shown = ", ".join(lookup[:6])
            raise InputError(
                f"Expected labels among {shown} in {path}, got {str(value)!r} in row {row + 1}. Check the label column."
            )
        codes.append(position[word])
    return np.array(codes, dtype=np.int64)
