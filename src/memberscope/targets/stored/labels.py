"""Read the membership and the labels of a signals table.

This decides which columns they are, and what their values mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.tables.columns import MOST_CLASSES, convert_to_numbers, is_number_or_empty
from memberscope.types import Bools, Floats, Ints, Signal

Words = NDArray[np.str_]
# Usual names in other tools' tables, taken only where one of them occurs
OTHER_NAMES = {
    "member": ("is_member", "membership", "members"),
    "label": ("y_true", "target", "y", "labels", "targets", "true_label"),
    "loss": ("nll", "cross_entropy", "log_loss", "losses"),
}
# Words for membership, compared without regard to case
INSIDE = ("1", "1.0", "true", "t", "yes", "y", "in", "member", "train")
OUTSIDE = (
    "0",
    "0.0",
    "false",
    "f",
    "no",
    "n",
    "out",
    "non-member",
    "non_member",
    "nonmember",
    "test",
    "holdout",
)
FEW = 20  # different labels beside losses that may be classes, however few records each has
# With more labels than that, each must have so many records; otherwise they are values to predict
RECORDS_A_CLASS = 10
NO_CLASSES = ("all records",)


@dataclass(frozen=True, eq=False)
class Answers:
    """The model's answers `values` (n, k) from `columns`.

    `classes` are the names of their classes, if known, `first` is the number of the first class.
    """

    signal: Signal
    values: Floats
    columns: tuple[str, ...]
    classes: tuple[str, ...] | None = None
    first: int = 0
    note: str | None = None


@dataclass(frozen=True, eq=False)
class Labels:
    """Each record's class as a position (n,), or its true values (n, d), and how they were read.

    `names` are the names of the classes if they have any.
    """

    codes: NDArray[Any]
    names: tuple[str, ...] | None = None
    note: str | None = None


def list_names(columns: Mapping[str, Any]) -> str:
    """List names for a message, shortened."""
    names = [str(name) for name in columns]
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")


def find_column(
    columns: Mapping[str, Any],
    given: str | None,
    role: Literal["member", "label", "loss"],
    path: str | Path,
    *,
    optional: bool = False,
) -> tuple[str | None, str | None]:
    """Find the column of a role, and give a note if its name was a guess.

    It is found by the name that was `given`, the role's own name, or the one other usual name.

    Raises:
        InputError: There is none, or several could be meant.

    >>> find_column({"is_member": 0, "p0": 0}, None, "member", "s.csv")
    ('is_member', 'Read the column is_member as member.')
    """
    # The user's word goes first, and is never replaced by a guess
    if given is not None:
        if given in columns:
            return given, None
        raise InputError(
            f"Expected the column {given!r} in {path}, got {list_names(columns)}. Check --{role}."
        )
    if role in columns:
        return role, None
    usual = (role, *OTHER_NAMES[role])
    # A guess is used only where it is the only one
    others = [name for name in columns if name.lower() in usual]
    if len(others) == 1:
        return others[0], f"Read the column {others[0]} as {role}."
    # Several columns of losses decide nothing: other answers may be there
    if len(others) > 1 and role != "loss":
        raise InputError(
            f"Expected one column {role} in {path}, got {' and '.join(others)}. Name one with "
            f"--{role}."
        )
    if optional or role == "loss":
        return None, None
    raise InputError(
        f"Expected the columns member and label in {path}, got {list_names(columns)}. Add "
        f"{role!r}, or name the column with --{role}."
    )


def read_member(column: NDArray[Any], name: str, path: str | Path) -> Bools:
    """Read membership (n,) from 0 and 1, or words such as true and false or yes and no.

    Raises:
        InputError: There is another value.

    >>> read_member(np.array(["Yes", "no", "1.0"]), "member", "s.csv").tolist()
    [True, False, True]
    """
    # Numbers are compared as such, so that 1.0 and True count as 1
    if column.dtype.kind in "biuf":
        inside, outside = column == 1, column == 0
    else:
        words = np.char.lower(np.char.strip(_as_words(column)))
        inside, outside = np.isin(words, INSIDE), np.isin(words, OUTSIDE)
    # Nothing is guessed: one wrong membership would go unnoticed
    odd = np.flatnonzero(~(inside | outside))
    if len(odd):
        raise InputError(
            f"Expected 0 or 1 in the column {name} of {path}, or true and false or yes and no, got "
            f"{str(column[odd[0]])!r} in row {odd[0] + 1}. Write one of these there."
        )
    return np.asarray(inside, dtype=bool)


def make_single_class(n: int) -> Labels:
    """Give one class to all of `n` records, where losses need no labels."""
    return Labels(
        np.zeros(n, dtype=np.int64), NO_CLASSES, "Without labels all records count as one class."
    )


def read_labels(column: NDArray[Any], name: str, answers: Answers, path: str | Path) -> Labels:
    """Read labels (n,) as positions among the columns of the answers.

    Beside losses, labels may be anything.

    Raises:
        InputError: A label is not a class of the answers, or which one it is is open.
    """
    # Losses name no classes, so labels cannot be checked against columns
    if answers.signal == "loss":
        return _beside_losses(column, name)
    words, k = _plain_words(column), answers.values.shape[1]
    # A missing label must not become a class of its own
    empty = np.flatnonzero(np.isin(words, ("", "None", "nan", "NaN")))
    if len(empty):
        raise InputError(
            f"Expected a label for each record in the column {name} of {path}, got none in row "
            f"{empty[0] + 1}. Fill it in, or leave the record out."
        )
    # Columns that are named after the classes settle the order
    if answers.classes is not None:
        return _among_names(words, name, answers, path)
    # Words beside numbered columns: only the sorted order is left to go by
    if not all(is_number_or_empty(word) for word in np.unique(words)):
        return _sorted_words(words, name, answers, path)
    codes = _read_whole_numbers(column if column.dtype.kind in "biuf" else words, name, path)
    numbers = tuple(str(number) for number in range(1, k + 1))
    # Many tools number classes from 1
    starts_at_one = len(codes) > 0 and codes.min() >= 1
    # Columns count from 1, and some label cannot: which class it means is open
    if answers.first == 1 and not (starts_at_one and codes.max() <= k):
        row = int(np.flatnonzero((codes < 1) | (codes > k))[0])
        raise InputError(
            f"Expected labels from 1 to {k} in the column {name} of {path}, as "
            f"{answers.columns[0]} to {answers.columns[-1]} are "
            f"numbered, got {codes[row]} in row {row + 1}. Number the columns from 0, or the "
            "labels from 1."
        )
    if answers.first == 1:
        return Labels(
            codes - 1,
            numbers,
            f"Read the labels 1 to {k} as the classes of {answers.columns[0]} to "
            f"{answers.columns[-1]}.",
        )
    # A label k would lie outside 0 to k - 1, so that counting from 1 is the only reading
    if starts_at_one and codes.max() == k:
        where = (
            f"{answers.columns[0]} to {answers.columns[-1]}"
            if len(answers.columns) > 1
            else "the answers"
        )
        return Labels(
            codes - 1, numbers, f"Labels start at 1: read 1 to {k} as the classes of {where}."
        )
    return Labels(codes)


def _read_whole_numbers(column: NDArray[Any], name: str, path: str | Path) -> Ints:
    """Read whole numbers (n,).

    Raises:
        InputError: Some value is not one.
    """
    values = convert_to_numbers(column, name, path)
    odd = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)))
    if len(odd):
        raise InputError(
            f"Expected 0-based class numbers in the column {name} of {path}, got {column[odd[0]]} "
            f"in row {odd[0] + 1}. Encode the classes as numbers."
        )
    # One huge number, such as an id, would make as many classes
    if len(values) and values.max() >= MOST_CLASSES:
        raise InputError(
            f"Expected class numbers below {MOST_CLASSES} in the column {name} of {path}, got "
            f"{values.max():.0f}. Number the classes from 0."
        )
    return values.astype(np.int64)


def _as_words(column: NDArray[Any]) -> Words:
    """Convert a column of words, bytes or objects to text."""
    return (
        np.char.decode(column, "utf-8", "replace")
        if column.dtype.kind == "S"
        else column.astype(np.str_)
    )


def _plain_words(column: NDArray[Any]) -> Words:
    """Write labels as words: whole numbers without a point, truth values as 0 and 1."""
    if column.dtype.kind in "biu":
        return column.astype(np.int64).astype(np.str_)
    words = np.char.strip(_as_words(column))
    found, inverse = np.unique(words, return_inverse=True)
    truth = {"true": "1", "false": "0"}
    # Only where all labels are truth values; otherwise they are words like any other
    if set(np.char.lower(found)) <= set(truth):
        found = np.array([truth[word.lower()] for word in found])
    whole = [
        word.removesuffix(".0") if is_number_or_empty(word) else word for word in found.tolist()
    ]
    # Each distinct word is changed once; an empty column has none
    return np.array(whole, dtype=np.str_)[inverse] if len(words) else words


def _sorted_words(words: Words, name: str, answers: Answers, path: str | Path) -> Labels:
    """Read labels that are words beside numbered columns, in sorted order.

    There must be as many words as columns.

    Raises:
        InputError: There are more or fewer, or some are numbers.
    """
    found, codes = np.unique(words, return_inverse=True)
    k = answers.values.shape[1]
    # With fewer words than columns, it is open which column each word means
    if len(found) != k or any(is_number_or_empty(word) for word in found):
        row = next(i for i, word in enumerate(words) if not is_number_or_empty(word))
        raise InputError(
            f"Expected 0-based class numbers in the column {name} of {path}, or {k} different "
            f"words, got {str(words[row])!r} in row "
            f"{row + 1}. Name the columns after the classes, such as p_{words[row]}, or number the "
            "classes from 0."
        )
    names = tuple(str(word) for word in found)
    return Labels(
        codes.astype(np.int64),
        names,
        f"Read the classes {list_names(dict.fromkeys(names))} as the columns in sorted order.",
    )


def _among_names(words: Words, name: str, answers: Answers, path: str | Path) -> Labels:
    """Read labels as positions among the classes that the columns name, by name or by number.

    The case of a name does not matter where no two classes differ by it alone.

    Raises:
        InputError: A label is not a class, or numbers could mean two orders.
    """
    classes = answers.classes or ()
    found, inverse = np.unique(words, return_inverse=True)
    plain = {word.removesuffix(".0"): at for at, word in enumerate(classes)}
    folded = {word.lower(): at for at, word in enumerate(classes)}
    # Without regard to case only where no two classes differ by case alone
    by_case = len(folded) == len(classes)
    # The exact name first, then the name without regard to case
    place = [
        plain.get(word, folded.get(word.lower(), -1) if by_case else -1) for word in found.tolist()
    ]
    # Every label is the name of a column
    if min(place) >= 0:
        return Labels(np.array(place, dtype=np.int64)[inverse], classes)
    numbers = all(word.isdigit() for word in found.tolist())
    shown = list_names(dict.fromkeys(classes))
    if (
        numbers
        and list(classes) == sorted(classes)
        and max(map(int, found.tolist())) < len(classes)
    ):
        return Labels(
            found.astype(np.int64)[inverse],
            classes,
            f"Read the labels 0, 1, … as positions among {shown}.",
        )
    odd = str(found[int(np.argmin(place))])
    row = int(np.flatnonzero(words == odd)[0])
    raise InputError(
        f"Expected labels among {shown} in the column {name} of {path}, as the columns are named, "
        f"got {odd!r} in row {row + 1}. Write the classes' names in {name}."
    )


def _beside_losses(column: NDArray[Any], name: str) -> Labels:
    """Read classes (n,) where the labels beside losses look like classes.

    Otherwise all records get one class, as with values to predict.
    """
    words = _plain_words(column)
    found, codes = np.unique(words, return_inverse=True)
    # Few different labels, or many records for each, look like classes
    if len(found) <= max(FEW, len(words) // RECORDS_A_CLASS) and all(found):
        # Small numbers are kept as class numbers
        if all(word.isdigit() and int(word) < FEW for word in found.tolist()):
            return Labels(words.astype(np.int64))
        # Words or larger whole numbers name classes; numbers with decimals are values
        if not all(is_number_or_empty(word) for word in found) or all(
            word.isdigit() for word in found.tolist()
        ):
            return Labels(codes.astype(np.int64), tuple(str(word) for word in found))
    why = f"The column {name} holds values to predict, not classes: all records count as one class."
    return Labels(np.zeros(len(words), dtype=np.int64), NO_CLASSES, why)
