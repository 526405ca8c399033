"""Read a user's own records from files.

Features for the model, labels as 0-based classes, ids and groups.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames import (
    ColumnSpec,
    find_column_kind,
    find_column_spec,
    mark_missing,
    place_fitted,
)
from memberscope.targets.tables.columns import (
    MOST_CLASSES,
    convert_to_numbers,
    is_number_or_empty,
    read_unit_names,
)
from memberscope.targets.tables.files import (
    JSON,
    TEXT,
    Columns,
    ReadTable,
    find_stem,
    find_suffix,
    read_table,
)
from memberscope.targets.tables.identifiers import IdLike, find_id_like_columns
from memberscope.targets.tables.true_values import read_number_columns, split_column_names
from memberscope.targets.tables.wanted import convert_column, count_unknown, find_words, spell_value
from memberscope.targets.tasks import refuse_continuous_labels
from memberscope.types import Ints, Records
from memberscope.wire import simplify_class_name

FEW_CLASSES = 20  # different numbers with decimals that may still be names of classes


@dataclass(frozen=True)
class TableLayout:
    """Roles of the columns: the label, an optional id, groups and columns to drop.

    Groups stay features. With `features` the model gets these columns only, such as the one that
    holds the text of each record. `fitted` names the columns that the model was fitted with, in its
    order; with them nothing else is a feature. `unit` names the person or document of each record;
    the model gets it only if `features` says so. `wanted` says what kind columns must become,
    `takes_text` that the model takes texts instead of a table. With `real` the true values are
    numbers, or labels as 0 and 1, in one column or in several with commas between their names.
    """

    label: str = "y"
    id_column: str | None = None
    groups: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    fitted: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    unit: str | None = None
    wanted: Mapping[str, ColumnSpec] = field(default_factory=dict)
    takes_text: bool = False
    real: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """Columns of the true values: the label, or several where the values are `real`."""
        return split_column_names(self.label, ()) if self.real else (self.label,)

    @property
    def named(self) -> tuple[str, ...]:
        """Columns that have a role, the label first."""
        ids = [name for name in (self.id_column, self.unit) if name]
        return (*self.labels, *self.groups, *self.drop, *self.features, *ids)

    @property
    def as_written(self) -> tuple[str, ...]:
        """Columns whose values are names, and so are read as they are written."""
        return tuple(
            name
            for name in ("" if self.real else self.label, self.id_column, self.unit)
            if name and name not in self.features
        )


@dataclass(frozen=True, eq=False)
class Tables:
    """Columns of the members' and the non-members' file, of one kind on both sides.

    `notes` say what was assumed.
    """

    paths: tuple[Path, Path]
    columns: tuple[Columns, Columns]
    index: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def id_like(self, layout: TableLayout) -> tuple[IdLike, ...]:
        """Find columns that look like people or documents with several records.

        The label and the ids are not among them.
        """
        first, second = self.columns
        named = {*layout.labels, layout.id_column}
        both = [
            name
            for name in first
            if name in second and name not in named and first[name].ndim == second[name].ndim == 1
        ]
        return find_id_like_columns(
            {
                name: np.concatenate([_as_plain_array(first[name]), _as_plain_array(second[name])])
                for name in both
            }
        )


def read_tables(
    members: str | Path, non_members: str | Path, layout: TableLayout | None = None
) -> Tables:
    """Read the two files, and give their columns one kind.

    Text on one side is text on the other.

    Raises:
        InputError: One of them cannot be read.
    """
    layout = layout or TableLayout()
    paths = (Path(members), Path(non_members))
    # Labels and ids are names: read as numbers, 007 and 7 would become one
    texts = layout.as_written
    tables = [read_table(path, _collect_column_specs(layout), texts) for path in paths]
    # One side may hold only values that look like numbers, where the other has words
    words = find_words((tables[0].columns, tables[1].columns))
    for k, more in enumerate(words):
        # Read again as written, since a number does not tell how it was spelt in the file
        if more and find_suffix(paths[k]) in TEXT:
            tables[k] = read_table(paths[k], _collect_column_specs(layout), (*texts, *more))
        tables[k] = replace(
            tables[k],
            columns={
                name: _convert_by_layout(name, column, layout, more, paths[k])
                for name, column in tables[k].columns.items()
            },
        )
    notes = (
        *tables[0].notes,
        *tables[1].notes,
        *_date_notes(tables, layout),
        *_unknown_notes(tables, layout),
    )
    return Tables(
        paths,
        (tables[0].columns, tables[1].columns),
        (*tables[0].index, *tables[1].index),
        tuple(dict.fromkeys(notes)),
    )


def _collect_column_specs(layout: TableLayout) -> dict[str, ColumnSpec]:
    """Give what is wanted of columns, and a plain entry for those that are only named.

    Their names help to find the separator.
    """
    return {
        **{
            name: ColumnSpec("number")
            for name in (*layout.fitted, *layout.named)
            if name not in layout.wanted
        },
        **layout.wanted,
    }


def _convert_by_layout(
    name: str, column: Any, layout: TableLayout, texts: Collection[str], path: Path
) -> Any:
    """Convert a column to what the model or the user wants of it."""
    # Rows of numbers have no kind, and names stay as they are written
    if column.ndim > 1 or name in layout.as_written:
        return column
    want = find_column_spec(layout.wanted, name)
    if want is not None:
        return convert_column(column, want, name, path)
    return convert_column(column, ColumnSpec("text"), name, path) if name in texts else column


def _unknown_notes(tables: Sequence[ReadTable], layout: TableLayout) -> list[str]:
    """Note which columns hold values that the model was not fitted with."""
    notes = []
    for name in tables[0].columns:
        want = find_column_spec(layout.wanted, name)
        if want is None or want.categories is None or name not in tables[1].columns:
            continue
        counts = [count_unknown(table.columns[name], want) for table in tables]
        odd, n = (
            sum(count for count, _ in counts),
            sum(len(table.columns[name]) for table in tables),
        )
        # A note, not an error: new categories are legitimate, but may be a difference in spelling
        if odd:
            example = next(value for count, value in counts if count)
            notes.append(
                f"In {odd} of {n} records {name} holds values that the model was not fitted with, "
                f"such as {spell_value(example)!r}. If the "
                f"file writes them in another way than the training data did, correct it."
            )
    return notes


def _date_notes(tables: Sequence[ReadTable], layout: TableLayout) -> list[str]:
    """Note which columns of text files were read as dates without a declaration."""
    found = [
        name
        for table in tables
        # Other formats store the type of a column, so that nothing was assumed
        if find_suffix(table.path) in (*TEXT, *JSON)
        for name, column in table.columns.items()
        if column.ndim == 1 and find_column_kind(column) == "date" and name not in layout.wanted
    ]
    names = list(dict.fromkeys(found))
    if not names:
        return []
    return [
        f"Read {', '.join(names[:5])} as dates. Give --types {names[0]}=text if the model takes "
        "the words."
    ]


def read_pair(
    members: str | Path,
    non_members: str | Path,
    layout: TableLayout,
    classes: Sequence[str] | None = None,
) -> tuple[Records, Records, tuple[str, ...]]:
    """Read members and non-members from two files of the same columns.

    Also give the names of the classes. Labels that are words, or numbers other than 0-based ones,
    are looked up in `classes` (the model's), or else in the sorted values of both files.

    Raises:
        InputError: A file cannot be read, a column is missing, or the files do not fit together.
    """
    return build_pair(read_tables(members, non_members, layout), layout, classes)


def build_pair(
    read: Tables, layout: TableLayout, classes: Sequence[str] | None = None
) -> tuple[Records, Records, tuple[str, ...]]:
    """Build members and non-members from tables that were read, as `read_pair` does.

    Raises:
        InputError: A column is missing, or the files do not fit together.
    """
    paths, tables = read.paths, read.columns
    names = [
        _list_feature_names(table, path, layout, read.index)
        for table, path in zip(tables, paths, strict=True)
    ]
    # The model needs the same columns on both sides
    if set(names[0]) != set(names[1]):
        odd = sorted(set(names[0]) ^ set(names[1]))
        raise InputError(
            f"Expected the same columns in {paths[0]} and {paths[1]}, got {', '.join(odd[:5])} in "
            "one only. Align them."
        )
    true, lookup = _read_labels(read, layout, classes)
    # One column of words makes both sides data frames
    numeric = all(
        is_numeric_column(table[name])
        for table in tables
        for name in names[0]
        if table[name].ndim == 1
    )
    prefixes = [find_stem(path) for path in paths]
    # Files of one name in two folders must not give the same ids
    prefixes = prefixes if prefixes[0] != prefixes[1] else ["member", "non-member"]
    sides = []
    for table, path, y, prefix in zip(tables, paths, true, prefixes, strict=True):
        sides.append(
            Records(
                # In the first file's order on both sides: models of plain arrays go by position
                x=build_model_inputs(table, names[0], path, numeric=numeric, layout=layout),
                y=y,
                ids=spell_column(table[layout.id_column])
                if layout.id_column
                else _number_ids(prefix, len(y)),
                groups={group: spell_column(table[group]) for group in layout.groups},
                unit=read_unit_names(_as_plain_array(table[layout.unit]), layout.unit, path)
                if layout.unit
                else None,
            )
        )
    return sides[0], sides[1], lookup


def _read_labels(
    read: Tables, layout: TableLayout, classes: Sequence[str] | None
) -> tuple[list[NDArray[Any]], tuple[str, ...]]:
    """Read the true values of both sides, and the names of the classes.

    These are positions among the classes, or numbers, where there are no classes.

    Raises:
        InputError: A record has none, or one that does not fit.
    """
    pairs = list(zip(read.columns, read.paths, strict=True))
    if layout.real:
        return [read_number_columns(table, layout.labels, path) for table, path in pairs], ()
    labels = [_read_label_words(table[layout.label], layout.label, path) for table, path in pairs]
    # From both sides, since one of them may lack a class
    lookup = order_class_names(labels, classes)
    codes: list[NDArray[Any]] = [
        _encode_class_words(column, lookup, path)
        for column, path in zip(labels, read.paths, strict=True)
    ]
    return codes, lookup


def _read_label_words(column: Any, name: str, path: Path) -> NDArray[np.str_]:
    """Read the label (n,) of each record as a word.

    Raises:
        InputError: Some record has none.

    >>> _read_label_words(np.array([1.0, 0.0]), "y", Path("a.csv")).tolist()
    ['1', '0']
    """
    # NPZ files often hold labels as a column of shape (n, 1)
    if column.ndim == 2 and column.shape[1] == 1:
        column = np.asarray(column)[:, 0]
    if column.ndim != 1:
        raise InputError(
            f"Expected one label a record in {name!r} of {path}, got shape {column.shape}. Give "
            "one column."
        )
    missing = mark_missing(column)
    if missing.any():
        raise InputError(
            f"Expected a label of each record in {name!r} of {path}, got none in "
            f"{int(missing.sum())} records, the first in row {int(np.argmax(missing)) + 1}. Leave "
            "these records out."
        )
    return spell_column(column)


def spell_column(column: Any) -> NDArray[np.str_]:
    """Write the values (n,) of a column as words, whole numbers without a point."""
    values = np.asarray(column)
    # Whole numbers have nothing missing and no point, so that numpy can write them at once
    if values.dtype.kind in "iub":
        return values.astype(np.str_)
    absent = mark_missing(column)
    words = [
        "missing" if gone else spell_value(value)
        for value, gone in zip(values.tolist(), absent, strict=True)
    ]
    return np.array(words, dtype=np.str_)


def _as_plain_array(column: Any) -> NDArray[Any]:
    """Give a column as a numpy array."""
    return np.asarray(column)


def _list_feature_names(
    table: Columns, path: Path, layout: TableLayout, index: Collection[str] = ()
) -> list[str]:
    """List the columns that the model gets.

    Raises:
        InputError: A named column is missing, or nothing is left.
    """
    # Every role first, so that a misspelt name is not reported as a missing feature
    for name in layout.named:
        if name not in table:
            raise InputError(
                f"Expected the column {name!r} in {path}, got {', '.join(list(table)[:8])}. Check "
                "[data]."
            )
    # Roles that are never features; the unit is one only if it was asked for
    apart = {*layout.labels, layout.id_column, *layout.drop} | (
        {layout.unit} - set(layout.features)
    )
    # The index of a data frame is a feature only where someone names it
    apart |= set(index) - {*layout.features, *layout.fitted}
    names = [name for name in table if name not in apart]
    # In an NPZ a group is an array of its own, beside the features
    if find_suffix(path) == ".npz":
        names = [name for name in names if name not in layout.groups]
    if layout.features:
        names = [name for name in layout.features if name in names]
    if not names:
        raise InputError(
            f"Expected feature columns in {path}, got only {', '.join(table)}. Give the model's "
            "inputs."
        )
    # An array of several columns a record has no names to put in order
    if not layout.fitted or any(table[name].ndim > 1 for name in names):
        return names
    return _order_fitted_names(names, path, layout)


def _order_fitted_names(names: list[str], path: Path, layout: TableLayout) -> list[str]:
    """Put the columns in the order that the model was fitted with.

    No column is then taken for another.

    Raises:
        InputError: One of them is missing, or there are others that are not groups.
    """
    places, missing, others = place_fitted(names, layout.fitted)
    # Groups may be in the file for the report alone
    more = [name for name in others if name not in layout.groups]
    if missing or more:
        got = f"no {', '.join(missing[:5])}" if missing else f"{', '.join(more[:5])} too"
        raise InputError(
            f"Expected the columns that the model was fitted with ({', '.join(layout.fitted[:8])}) "
            f"in {path}, got {got}. Rename the columns, or leave some out with --drop."
        )
    return [names[place] for place in places]


def build_model_inputs(
    table: Columns,
    names: list[str],
    path: Path,
    *,
    numeric: bool,
    layout: TableLayout | None = None,
) -> Any:
    """Build the input of the model.

    A data frame if columns have names or words, where a library for one is installed, else an
    array.

    Raises:
        InputError: The model takes texts and there are several columns, or no library of data
    frames is installed.
    """
    layout = layout or TableLayout()
    # Such a model takes a list of texts and no table, whatever else the file holds
    if layout.takes_text:
        return _read_texts(table, names, path)
    # Numbers without names need no data frame, and so no library for one
    frames = _find_frame_library() if layout.fitted or not numeric else None
    if numeric and (frames is None or any(table[name].ndim > 1 for name in names)):
        parts = [convert_to_numbers(_as_plain_array(table[name]), name, path) for name in names]
        return parts[0] if len(parts) == 1 and parts[0].ndim > 1 else np.column_stack(parts)
    data = {name: table[name] for name in names}
    # Without a library one column of words can still be given as it is
    if frames is None and len(names) == 1:
        return _as_plain_array(data[names[0]])
    if frames is None:
        raise InputError(
            f"Expected pandas or polars for the columns of words in {path}, got neither. Install "
            "the one your model was fitted with."
        )
    # polars finds a type for a list, but keeps an array of objects as opaque objects
    if frames.__name__ == "polars":
        return frames.DataFrame(
            {
                name: column.tolist() if column.dtype == object else column
                for name, column in data.items()
            }
        )
    # Declared, so that pandas does not find a type of its own for words
    kept = {
        name: frames.Series(column, dtype=object) if column.dtype == object else column
        for name, column in data.items()
    }
    return frames.DataFrame(kept, copy=False)


def _read_texts(table: Columns, names: list[str], path: Path) -> NDArray[Any]:
    """Read the texts (n,) of the one column that a model of texts takes.

    Raises:
        InputError: There are several columns, or one that is not text.
    """
    if len(names) != 1 or find_column_kind(table[names[0]]) not in ("text", "category"):
        got = ", ".join(names[:6])
        raise InputError(
            f"Expected one column of text for this model in {path}, got {got}. Name it with "
            "--features COLUMN."
        )
    return np.asarray(table[names[0]], dtype=object)


def _find_frame_library() -> Any:
    """Find pandas or polars, whichever is installed; None if neither is."""
    from importlib import import_module
    from importlib.util import find_spec

    return next((import_module(name) for name in ("pandas", "polars") if find_spec(name)), None)


def _number_ids(prefix: str, n: int) -> NDArray[np.str_]:
    """Make ids of the file's name and the row.

    >>> _number_ids("train", 2).tolist()
    ['train:0', 'train:1']
    """
    return np.array([f"{prefix}:{i}" for i in range(n)])


def order_class_names(
    labels: Sequence[NDArray[Any]], classes: Sequence[str] | None
) -> tuple[str, ...]:
    """Give the names of the classes in the order of the model's outputs.

    Raises:
        InputError: Labels are numbers too large to count classes.

    >>> order_class_names([np.array(["yes", "no"])], None)
    ('no', 'yes')
    """
    # The model's own order goes first: its columns follow it
    if classes is not None:
        return tuple(str(name) for name in classes)
    words = np.unique(np.concatenate([np.asarray(column).astype(np.str_) for column in labels]))
    # Numbers count classes from 0, also those that no record has
    if all(word.isdigit() for word in words):
        # One huge number, such as an id, would make as many classes
        if max(int(word) for word in words) >= MOST_CLASSES:
            most = max(words, key=int)
            raise InputError(
                f"Expected class numbers below {MOST_CLASSES} as labels, got {most}. Check the "
                "label column."
            )
        return tuple(str(k) for k in range(max(int(word) for word in words) + 1))
    # A few values with decimals can be names of classes; many are a regression's
    if len(words) > FEW_CLASSES and all(is_number_or_empty(word) and word for word in words):
        refuse_continuous_labels(words.astype(np.float64))
    return tuple(str(word) for word in words)


def is_numeric_column(column: Any) -> bool:
    """Check whether a column (n, ...) holds numbers or truth values.

    >>> is_numeric_column(np.array([True])), is_numeric_column(np.array(["a"]))
    (True, False)
    """
    return column.ndim > 1 or find_column_kind(column) in ("number", "boolean")


def _encode_class_words(column: NDArray[np.str_], lookup: tuple[str, ...], path: Path) -> Ints:
    """Encode labels as positions in `lookup`.

    Raises:
        InputError: A label is not among the classes.
    """
    position = {name: k for k, name in enumerate(lookup)}
    if not any(is_number_or_empty(name) for name in lookup) and all(
        str(value).isdigit() for value in column
    ):
        # Numbers where the model has words are its 0-based classes
        position = {str(k): k for k in range(len(lookup))}
    # Simplified names are used only where no two classes become one
    plain = {simplify_class_name(name): k for name, k in position.items()}
    if len(plain) == len(position):
        position = plain | position
    codes = {}
    # Each distinct word is looked up once, not each record's
    for word in np.unique(column).tolist():
        known = word if word in position else simplify_class_name(word.strip())
        if known not in position:
            shown, row = ", ".join(lookup[:6]), int(np.argmax(column == word)) + 1
            raise InputError(
                f"Expected labels among {shown} in {path}, got {word!r} in row {row}. Check the "
                "label column."
            )
        codes[word] = position[known]
    return np.array([codes[word] for word in column.tolist()], dtype=np.int64)
