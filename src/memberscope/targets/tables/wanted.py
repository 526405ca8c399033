"""Convert columns to what a user or a model wants of them, of one kind on both sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames import (
    MISSING,
    ColumnSpec,
    find_column_kind,
    make_object_array,
    mark_missing,
)

# Words for truth values, compared in lower case
TRUTH = {
    "1": True,
    "true": True,
    "yes": True,
    "y": True,
    "t": True,
    "0": False,
    "false": False,
    "no": False,
    "n": False,
    "f": False,
}


def convert_column(column: Any, want: ColumnSpec, name: str, path: Path) -> Any:
    """Convert a `column` (n,) to the kind that is wanted; what is missing stays missing.

    Raises:
        InputError: A value is not of that kind.

    >>> convert_column(np.array([7, 8]), ColumnSpec("text"), "code", Path("a.csv")).tolist()
    ['7', '8']
    """
    makers = {"number": _as_number, "boolean": _as_truth, "date": _as_dates}
    if want.kind in makers:
        return makers[want.kind](column, name, path)
    if want.kind == "text":
        return _as_text(column, want)
    return _as_categories(column, want)


def find_words(columns: tuple[Mapping[str, Any], ...]) -> tuple[set[str], ...]:
    """Find columns of each table that are text only in another table.

    They must be read as text.

    >>> find_words(({"a": np.array([1])}, {"a": np.array(["x"], dtype=object)}))
    ({'a'}, set())
    """
    kinds = [
        {name: find_column_kind(column) for name, column in table.items() if column.ndim == 1}
        for table in columns
    ]
    text = {name for table in kinds for name, kind in table.items() if kind == "text"}
    return tuple(
        {
            name
            for name, kind in table.items()
            # A column without any value has no kind of its own
            if name in text and kind != "text" and not mark_missing(columns[k][name]).all()
        }
        for k, table in enumerate(kinds)
    )


def spell_value(value: Any) -> str:
    """Write a value as a text table has it: whole numbers without a point.

    >>> spell_value(3.0), spell_value("a"), spell_value(True)
    ('3', 'a', 'True')
    """
    # NaN differs from itself, and has no whole number
    if isinstance(value, float | np.floating) and value == value and float(value).is_integer():
        return str(int(value))
    return str(value)


def _split_missing(column: Any) -> tuple[list[Any], NDArray[np.bool_]]:
    """Give the values (n,) of a column as objects, and which are missing."""
    return np.asarray(column, dtype=object).tolist(), mark_missing(column)


def _replace_values(column: Any, change: Callable[[Any], Any], empty: Any) -> list[Any]:
    """Change each value of a column (n,), each distinct one once.

    A missing one becomes `empty`.
    """
    values, missing = _split_missing(column)
    known = [None if absent else value for value, absent in zip(values, missing, strict=True)]
    # Columns have few distinct values, and to find a category takes long
    table = {value: empty if value is None else change(value) for value in set(known)}
    return [table[value] for value in known]


def _as_text(column: Any, want: ColumnSpec) -> Any:
    """Convert a column to words as they are written.

    Words for missing values become missing, unless the model has seen them as words.
    """
    find = _build_matcher(want.categories or ())
    seen = (
        None
        if want.categories is None
        else {spell_value(value) for value in want.categories if isinstance(value, str)}
    )
    # Words such as NA are missing, unless the model was fitted with them as words
    lost = set() if seen is None else MISSING - seen
    # Missing values become what the model's training had for them
    empty: Any = want.missing
    if (
        seen is not None
        and "" in seen
        and not any(value is None or value != value for value in want.categories or ())
    ):
        empty = ""

    def change(value: Any) -> Any:
        if isinstance(value, str) and value in lost:
            return empty
        known = find(value)
        return spell_value(value) if known is None else known

    return make_object_array(_replace_values(column, change, empty))


def _as_categories(column: Any, want: ColumnSpec) -> Any:
    """Convert a column to pandas categories, the model's own ones first.

    It becomes text where pandas is not installed.
    """
    # Categories already, and nothing is known of the model's own
    if hasattr(column.dtype, "categories") and want.categories is None:
        return column
    if find_spec("pandas") is None:
        return _as_text(column, want)
    import pandas

    # A missing value is no category of pandas
    own = [value for value in want.categories or () if value is not None and value == value]
    find, lost = _build_matcher(own), MISSING - {value for value in own if isinstance(value, str)}

    def change(value: Any) -> Any:
        if isinstance(value, str) and value in lost:
            return None
        known = find(value)
        return value if known is None else known

    found = _replace_values(column, change, None)
    known = {_build_exact_key(value) for value in own}
    # New values get categories of their own, so that they do not become missing
    more = sorted(
        {value for value in found if value is not None and _build_exact_key(value) not in known},
        key=str,
    )
    return pandas.Series(pandas.Categorical(found, categories=[*own, *more]))


def count_unknown(column: Any, want: ColumnSpec) -> tuple[int, Any]:
    """Count the values of a converted column (n,) that are not among the model's categories.

    Also give one of them.

    >>> count_unknown(np.array(["a", "z", None], dtype=object), ColumnSpec("text", ("a", "b")))
    (1, 'z')
    """
    if want.categories is None:
        return 0, None
    known = {_build_exact_key(value) for value in want.categories}
    values, missing = _split_missing(column)
    odd = [
        value
        for value, absent in zip(values, missing, strict=True)
        if not absent and _build_exact_key(value) not in known
    ]
    return len(odd), odd[0] if odd else None


def _build_exact_key(value: Any) -> tuple[str, Any]:
    """Give a key for a value that differs for True, 1 and "1", which Python holds for equal."""
    # True first: it is a number too in Python
    if isinstance(value, bool | np.bool_):
        return "truth", bool(value)
    return (
        ("number", float(value)) if isinstance(value, int | float | np.number) else ("other", value)
    )


def _build_matcher(categories: Sequence[Any]) -> Callable[[Any], Any]:
    """Make a function that finds the category of a value, however a file writes it.

    It gives None if the value is not a category. A category itself goes first, then its own
    spelling, then a number or truth value that is written differently.
    """
    present = [value for value in categories if value is not None and value == value]
    exact = {_build_exact_key(value): value for value in present}
    # Reversed, so that of two categories with one spelling the first wins
    spelt = {str(value): value for value in reversed(present)}
    numbers = {float(value): value for value in present if _build_exact_key(value)[0] == "number"}
    truths = {value: value for value in present if _build_exact_key(value)[0] == "truth"}

    def find(value: Any) -> Any:
        if _build_exact_key(value) in exact:
            return exact[_build_exact_key(value)]
        # As the category itself is written, then whole numbers without a point
        for spelling in (str(value), spell_value(value)):
            if spelling in spelt:
                return spelt[spelling]
        word = str(value).strip()
        # yes, true and 1 all mean True where the model has truth values
        if truths and word.lower() in TRUTH:
            return truths.get(TRUTH[word.lower()])
        try:
            # 1.0 and 1 are one number, however they are written
            return numbers.get(float(word)) if numbers else None
        except ValueError:
            return None

    return find


def _as_number(column: Any, name: str, path: Path) -> NDArray[Any]:
    from memberscope.targets.tables.columns import convert_to_numbers

    if find_column_kind(column) in ("number", "boolean"):
        return convert_to_numbers(np.asarray(column), name, path)
    values, missing = _split_missing(column)
    words = np.array(
        [
            "nan" if absent else str(value).strip()
            for value, absent in zip(values, missing, strict=True)
        ]
    )
    return convert_to_numbers(words, name, path)


def _as_truth(column: Any, name: str, path: Path) -> Any:
    if find_column_kind(column) == "boolean":
        return column
    values, missing = _split_missing(column)
    words = [
        None if absent else spell_value(value).strip().lower()
        for value, absent in zip(values, missing, strict=True)
    ]
    odd = next(
        (row for row, word in enumerate(words) if word is not None and word not in TRUTH), None
    )
    if odd is not None:
        raise InputError(
            f"Expected true or false in the column {name!r} of {path}, got {values[odd]!r} in row "
            f"{odd + 1}. Write one of these there, or change --types."
        )
    found = [np.nan if word is None else TRUTH[word] for word in words]
    return make_object_array(found) if missing.any() else np.array(found, dtype=bool)


def _as_dates(column: Any, name: str, path: Path) -> Any:
    if find_column_kind(column) == "date":
        return column
    values, missing = _split_missing(column)
    words = [
        "NaT" if absent else str(value).strip()
        for value, absent in zip(values, missing, strict=True)
    ]
    try:
        return np.array(words, dtype="datetime64[us]")
    except ValueError as error:
        raise InputError(
            f"Expected dates such as 2024-01-31 in the column {name!r} of {path}, got: {error}. "
            "Write them so, or change --types."
        ) from error
