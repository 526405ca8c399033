"""Find what the columns of a table are, by the rules of pandas.read_csv.

They are numbers, truth values, dates, words or categories. In addition, a column of ISO 8601 dates
is dates. A model that was fitted on a file read with pandas' defaults gets here what it was fitted
on: the words that pandas takes for missing are missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames.arrow_words import ArrowWords
from memberscope.frames.column_values import is_missing as is_missing_value
from memberscope.frames.column_values import make_object_array

Kind = Literal["number", "boolean", "date", "text", "category"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# The strings that pandas.read_csv takes for missing values by default
MISSING = frozenset(
    {
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
    }
    | {"NaN", "None", "n/a", "nan", "null"}
)
TRUE, FALSE = ("True", "TRUE", "true"), ("False", "FALSE", "false")
# ISO 8601: a day, perhaps with a time of day, without a time zone
DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)?")


@dataclass(frozen=True)
class ColumnSpec:
    """Kind that a column must become.

    Beside the `kind` it has the `categories` that a model knows, and what stands for a `missing`
    value.
    """

    kind: Kind
    categories: tuple[Any, ...] | None = None
    missing: Any = np.nan


def read_kinds(given: Sequence[str]) -> dict[str, ColumnSpec]:
    """Read what a user declares of columns, each as column=kind.

    Raises:
        InputError: A kind is not one of number, boolean, date, text and category.

    >>> read_kinds(["postcode=text"])["postcode"].kind
    'text'
    """
    found = {}
    for entry in given:
        # From the right, as a name may hold an equals sign
        name, _, word = entry.rpartition("=")
        if not name or word not in KINDS:
            raise InputError(
                f"Expected --types column=kind with the kinds {', '.join(KINDS)}, got {entry!r}. "
                "Write for example postcode=text."
            )
        found[name.strip()] = ColumnSpec(word)
    return found


def find_column_spec(wanted: Mapping[str, ColumnSpec], name: str) -> ColumnSpec | None:
    """Find what is wanted of a column; LightGBM writes the spaces of a name as underscores.

    >>> find_column_spec({"the_ward": ColumnSpec("category")}, "the ward").kind
    'category'
    """
    return wanted.get(name) or wanted.get("_".join(name.split()))


def type_words(words: Sequence[str], decimal: str = ".") -> NDArray[Any]:
    """Type the fields (n,) of a column of a text table.

    >>> type_words(["1", "", "2.5"]).tolist(), type_words(["yes", "NA"]).tolist()
    ([1.0, nan, 2.5], ['yes', nan])
    """
    numbers = _parse_numbers(words, decimal)
    if numbers is not None:
        return numbers
    # Each distinct word is looked at once, since columns of words repeat a few of them
    stripped = {word: word.strip() for word in set(words)}
    present = set(stripped.values()) - MISSING
    complete = not any(word in MISSING for word in stripped.values())
    if present <= {*TRUE, *FALSE}:
        found = {
            word: np.nan if plain in MISSING else plain in TRUE for word, plain in stripped.items()
        }
        return (
            np.array([found[word] for word in words])
            if complete
            else make_object_array([found[word] for word in words])
        )
    if all(DATE.fullmatch(word) for word in present):
        dates = {word: "NaT" if plain in MISSING else plain for word, plain in stripped.items()}
        try:
            return np.array([dates[word] for word in words], dtype="datetime64[us]")
        # Such as the 31st of February: then they are words
        except ValueError:
            pass
    # One object for each value, however many records have it
    kept = {word: np.nan if plain in MISSING else word for word, plain in stripped.items()}
    return make_object_array([kept[word] for word in words])


def find_column_kind(column: Any) -> Kind:
    """Find the kind of a column (n,) of numpy or pandas by its type.

    Objects are text unless all of them are truth values or numbers.

    >>> find_column_kind(np.array([1.5])), find_column_kind(np.array(["a"], dtype=object))
    ('number', 'text')
    """
    dtype = column.dtype
    if hasattr(dtype, "categories"):
        return "category"
    if dtype.kind == "b":
        return "boolean"
    if dtype.kind in "iufc":
        return "number"
    if dtype.kind in "Mm":
        return "date"
    # Text types of pandas look like objects, and need no look at each value
    if dtype.kind == "O" and not hasattr(dtype, "na_value") and not isinstance(column, ArrowWords):
        present = [value for value in column if value is not None and value == value]
        if present and all(isinstance(value, bool | np.bool_) for value in present):
            return "boolean"
        if present and all(isinstance(value, int | float | np.number) for value in present):
            return "number"
    return "text"


def mark_missing(values: Any) -> NDArray[np.bool_]:
    """Mark the entries (n,) of a column that are missing: None, NaN, NaT or pandas' NA.

    >>> mark_missing(np.array([1.0, np.nan])).tolist()
    [False, True]
    """
    if hasattr(values, "isna"):
        return np.asarray(values.isna(), dtype=bool)
    array = np.asarray(values)
    if array.dtype.kind in "fc":
        return np.asarray(np.isnan(array))
    if array.dtype.kind in "Mm":
        return np.asarray(np.isnat(array))
    if array.dtype.kind == "O":
        return np.array([is_missing_value(value) for value in array], dtype=bool)
    # Whole numbers, truth values and words of numpy cannot be missing
    return np.zeros(len(array), dtype=bool)


def _parse_numbers(words: Sequence[str], decimal: str) -> NDArray[Any] | None:
    """Parse the fields (n,) as whole numbers, or as numbers with NaN for what is missing.

    Give None if some field is not a number.
    """
    # With another decimal mark, a field with a point is no number
    plain = (
        words
        if decimal == "."
        else [word.replace(decimal, ".") for word in words if "." not in word]
    )
    # float() takes 1_000, which no other reader does
    if len(plain) != len(words) or "_" in "".join(plain):
        return None
    try:
        # Without a look for missing fields first, which takes longer and most columns do not need
        values = np.array(list(map(float, plain)))
    except ValueError:
        try:
            values = np.array(
                [np.nan if word.strip() in MISSING else float(word) for word in plain]
            )
        except ValueError:
            return None
    # Read anew as whole numbers: a float would lose digits of long ones
    if np.isfinite(values).all() and (values == np.floor(values)).all():
        try:
            return np.array(list(map(int, plain)), dtype=np.int64)
        except (ValueError, OverflowError):
            pass
    return values
