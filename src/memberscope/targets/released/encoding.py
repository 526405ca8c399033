"""Place records of mixed columns in one space, in which distances between them can be taken.

A number is divided by its standard deviation in the released table. Two different words are as far
apart as two numbers that differ by one standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames import as_words, convert_objects, is_missing
from memberscope.types import Floats

MOST_WORDS = 500  # different words above which a column is free text or an identifier
HALF = np.sqrt(0.5)  # each of two words that differ adds half of a squared distance of one
ABSENT = "\x00missing"  # a missing word, which equals other missing ones

Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class _Numbers:
    """Scale of one column of numbers: its mean and standard deviation where it is present.

    `gaps` tells that some of the released table are missing.
    """

    mean: float
    spread: float
    gaps: bool = False

    def encode(self, values: NDArray[Any]) -> Floats:
        """Encode values (n,) as their scaled distance from the mean, and whether they miss."""
        missing = np.isnan(values)
        scaled: Floats = np.where(missing, 0.0, (values - self.mean) / self.spread)
        if not self.gaps:
            return scaled[:, None]
        return np.column_stack([scaled, missing * HALF, ~missing * HALF])


@dataclass(frozen=True, eq=False)
class _Words:
    """The different words of one column, sorted."""

    words: NDArray[np.str_]

    def encode(self, values: NDArray[Any]) -> Floats:
        """Encode words (n,) as one column each, the last for words that are not in the table."""
        spelt = _spell_words(values)
        place = np.searchsorted(self.words, spelt)
        known = self.words[np.minimum(place, len(self.words) - 1)] == spelt
        found = np.zeros((len(spelt), len(self.words) + 1))
        found[np.arange(len(spelt)), np.where(known, place, len(self.words))] = HALF
        return found


@dataclass(frozen=True, eq=False)
class MixedEncoding:
    """How columns become coordinates. `left_out` are columns that are too wordy to compare.

    >>> table = {"age": np.array([20.0, 40.0]), "job": np.array(["cook", "nurse"], dtype=object)}
    >>> fit_encoding(table).encode(table).shape
    (2, 4)
    """

    columns: tuple[str, ...]
    parts: tuple[_Numbers | _Words, ...]
    left_out: tuple[str, ...] = ()

    def encode(self, columns: Columns, what: str = "records") -> Floats:
        """Encode the columns (n,) of a table as coordinates (n, f).

        Raises:
            InputError: A column is missing, or holds words where the table has numbers.
        """
        missing = [name for name in self.columns if name not in columns]
        if missing:
            raise InputError(
                f"Expected {what} with the columns of the released table, got none named "
                f"{', '.join(map(repr, missing[:3]))}. Add what is missing, or drop it from the "
                "released table."
            )
        blocks = [
            part.encode(_read_as_fitted(columns[name], part, name, what))
            for name, part in zip(self.columns, self.parts, strict=True)
        ]
        return np.ascontiguousarray(np.hstack(blocks))


def fit_encoding(columns: Columns) -> MixedEncoding:
    """Fit an encoding to the columns (n,) of the released table.

    Raises:
        InputError: No column can be compared.

    >>> table = {"age": np.array([20.0, 40.0])}
    >>> fit_encoding(table).encode({"age": np.array([40.0, 60.0])})[:, 0].tolist()
    [1.0, 3.0]
    """
    names, parts, left_out = [], [], []
    for name, given in columns.items():
        part = _fit_part(_as_comparable(given))
        if part is None:
            left_out.append(name)
        else:
            names.append(name)
            parts.append(part)
    if not names:
        raise InputError(
            f"Expected a released table with columns of numbers or of at most {MOST_WORDS} words, "
            f"got {', '.join(map(repr, columns)) or 'no columns'}. Release something that records "
            "can be compared with."
        )
    return MixedEncoding(tuple(names), tuple(parts), tuple(left_out))


def _fit_part(values: NDArray[Any]) -> _Numbers | _Words | None:
    """Fit the encoding of one column (n,); None for one of free text."""
    if values.dtype.kind == "f":
        present = values[~np.isnan(values)]
        if not len(present):
            return _Numbers(0.0, 1.0, gaps=True)
        # A constant says nothing; any scale keeps it so
        spread = float(present.std()) or 1.0
        return _Numbers(float(present.mean()), spread, gaps=len(present) < len(values))
    words = np.unique(_spell_words(values))
    return None if len(words) > MOST_WORDS else _Words(words)


def _as_comparable(values: NDArray[Any]) -> NDArray[Any]:
    """Give a column (n,) as float64 (numbers, dates as days) or as objects (words, truth values)."""
    values = np.asarray(values)
    if values.dtype.kind == "O":
        values = convert_objects(values)
    if values.dtype.kind in "iuf":
        found: NDArray[Any] = values.astype(np.float64)
        # Infinite numbers are as good as missing in a distance
        return np.where(np.isfinite(found), found, np.nan)
    if values.dtype.kind in "mM":
        unit = "datetime64[us]" if values.dtype.kind == "M" else "timedelta64[us]"
        days = values.astype(unit).astype(np.int64) / 86_400e6
        return np.where(np.isnat(values), np.nan, days)
    return values.astype(object)


def _read_as_fitted(
    values: NDArray[Any], part: _Numbers | _Words, name: str, what: str
) -> NDArray[Any]:
    """Read a column (n,) as the released table's is read.

    Raises:
        InputError: It holds words where the table has numbers.
    """
    found = _as_comparable(values)
    if isinstance(part, _Words):
        return found.astype(object)
    if found.dtype.kind != "f":
        words = _spell_words(found)
        raise InputError(
            f"Expected numbers in the column {name!r} of the {what}, as the released table has, "
            f"got {str(words[0])!r}. Write both in one way."
        )
    return found


def _spell_words(values: NDArray[Any]) -> NDArray[np.str_]:
    """Spell words (n,), whole numbers without a fraction and all missing ones alike."""
    plain = np.array(
        [
            ABSENT
            if is_missing(value)
            else str(int(value))
            if isinstance(value, float) and value.is_integer()
            else value
            for value in values
        ],
        dtype=object,
    )
    return as_words(plain)
