"""Compute features in which near-duplicates of a table row, an image or a text are close.

Tables: each numeric column on its own quantiles, so that units do not matter; each category a
random direction. Images: magnitudes of low frequencies, the same for mirrored images and nearly so
for shifted and noisy ones. Texts: shingles of three words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.guard.hashing.secret_key import Secret
from memberscope.guard.sketching.observations import BINS, POINT
from memberscope.wire import Batch

Numbers = NDArray[np.float32]
KNOTS = 8  # pieces of the scale of one column
FEW = 16  # distinct values up to which a column's scale is straight
FREQUENCIES = 6  # along each axis of an image, from zero
BRIGHT = 1e6  # beyond which an image's values are cut off, so that sums stay finite
# Length of a category's direction: two categories are as far apart as the ends of a column
APART = 0.7


def build_record_matrix(batch: Batch, columns: Sequence[str]) -> NDArray[Any]:
    """Build the matrix (n, d) of records: numbers, or objects where a column has words.

    Raises:
        InputError: A column is missing, or records have no values.
    """
    if batch.columns is not None:
        missing = [name for name in columns if name not in batch.columns]
        if missing:
            raise InputError(
                f"Expected the columns {', '.join(columns)}, got none called {missing[0]!r}. Check "
                "the records."
            )
        parts = [
            np.asarray(batch.columns[name]).reshape(len(batch)) for name in columns or batch.columns
        ]
        # Numbers alone stay in one array of numbers, which is read much faster than objects
        if all(part.dtype.kind in "biuf" for part in parts):
            return np.stack([_cast_features_to_float32(part) for part in parts], axis=1)
        return np.stack([part.astype(object) for part in parts], axis=1)
    array = np.asarray(batch.array)
    if array.ndim == 0 or array.dtype.kind not in "biufOUS":
        raise InputError(
            f"Expected records as an array of numbers or words, got {array.dtype} of shape "
            f"{array.shape}. Check them."
        )
    flat = array.reshape(len(array), -1)
    return flat.astype(object) if array.dtype.kind in "OUS" else _cast_features_to_float32(flat)


def _cast_features_to_float32(values: NDArray[Any]) -> Numbers:
    """Cast numbers to single precision; those beyond it become infinite."""
    with np.errstate(over="ignore"):
        found: Numbers = values.astype(np.float32)
    return found


def encode_record_rows(matrix: NDArray[Any]) -> list[bytes]:
    """Encode each record (n, d) as bytes that do not depend on how its numbers were written."""
    if matrix.dtype != object:
        # Adding zero makes -0.0 into 0.0, and one NaN stands for all: equal records, equal bytes
        rows = np.ascontiguousarray(matrix + np.float32(0))
        rows[np.isnan(rows)] = np.nan
        return [row.tobytes() for row in rows]
    # The unit separator of ASCII, which repr escapes in words, keeps cells apart
    return ["\x1f".join(_encode_cell_value(value) for value in row).encode() for row in matrix]


def _encode_cell_value(value: Any) -> str:
    """Encode a value as text; numbers in single precision.

    >>> _encode_cell_value(1), _encode_cell_value(1.0), _encode_cell_value("a"), _encode_cell_value(None), _encode_cell_value(float("nan"))
    ('1.0', '1.0', "'a'", 'None', 'None')
    """
    if _is_number_or_bool(value):
        return (
            "None"
            if value != value
            else repr(float(_cast_features_to_float32(np.array(value))) + 0.0)
        )
    return "None" if value is None else repr(str(value))


def _is_number_or_bool(value: Any) -> bool:
    """Tell whether a value is a number or a truth value."""
    return isinstance(value, bool | int | float | np.number | np.bool_)


@dataclass(frozen=True, eq=False)
class FittedTable:
    """Fitted table: `knots` (d, 9) of the `numeric` columns, the `wordy` and `ordered` ones."""

    columns: tuple[str, ...]
    numeric: tuple[int, ...]
    wordy: tuple[int, ...]
    knots: Numbers
    ordered: tuple[int, ...] = ()

    @classmethod
    def fit(cls, batch: Batch) -> FittedTable:
        """Fit a table to ordinary records."""
        columns = tuple(batch.columns or ())
        matrix = build_record_matrix(batch, columns)
        wordy = tuple(
            j
            for j in range(matrix.shape[1])
            if matrix.dtype == object and not _is_numeric_or_missing(matrix[:, j])
        )
        numeric = tuple(j for j in range(matrix.shape[1]) if j not in wordy)
        knots = fit_knots(_extract_numeric_columns(matrix, numeric))
        return cls(columns, numeric, wordy, knots, _choose_ordered_columns(knots, numeric, wordy))

    def settled(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Bring records (n, d) to this table's form: numbers alone where no column has words."""
        if self.wordy:
            return matrix if matrix.dtype == object else matrix.astype(object)
        return _extract_numeric_columns(matrix, range(matrix.shape[1]))

    def features(self, matrix: NDArray[Any]) -> Numbers:
        """Scale the numeric columns (n, d) to 0 to 1; what is missing is 0.5."""
        self.check(matrix)
        return scale_by_knots(_extract_numeric_columns(matrix, self.numeric), self.knots)

    def check(self, matrix: NDArray[Any]) -> None:
        """Refuse records (n, d) with another number of features.

        Raises:
            InputError: They have.
        """
        d = len(self.numeric) + len(self.wordy)
        if matrix.shape[1] != d:
            raise InputError(f"Expected {d} features, got {matrix.shape[1]}. Check the records.")

    def directions(self, matrix: NDArray[Any], secret: Secret) -> Numbers:
        """Sum the directions (n, 16) of each record's categories."""
        found = np.zeros((len(matrix), POINT), dtype=np.float32)
        for j in self.wordy:
            found += _draw_directions(
                secret, [f"{j}={_encode_cell_value(value)[:200]}" for value in matrix[:, j]]
            )
        return found

    def codes(self, matrix: NDArray[Any], secret: Secret) -> Numbers:
        """Take eight columns (n, 8) to look for order in; categories by a keyed code."""
        self.check(matrix)
        found = np.zeros((len(matrix), BINS), dtype=np.float32)
        if matrix.dtype != object:
            found[:, : len(self.ordered)] = matrix[:, list(self.ordered)]
            return found
        for place, j in enumerate(self.ordered):
            if j in self.wordy:
                found[:, place] = [
                    secret.hash64("word", _encode_cell_value(value)[:200].encode()) % 32
                    for value in matrix[:, j]
                ]
            else:
                found[:, place] = _extract_numeric_columns(matrix, (j,))[:, 0]
        return found


def _choose_ordered_columns(
    knots: Numbers, numeric: tuple[int, ...], wordy: tuple[int, ...]
) -> tuple[int, ...]:
    """Choose up to eight columns to look for order in.

    These are numeric ones with the most bent scales, which have most values, then words.
    """
    steps = np.diff(knots, axis=1)
    # Columns of few values have straight scales, and come last
    bent = steps.std(axis=1) / np.maximum(steps.mean(axis=1), 1e-30)
    chosen = [numeric[j] for j in sorted(np.argsort(-bent, kind="stable")[:BINS].tolist())]
    return (*chosen, *wordy)[:BINS]


def _is_numeric_or_missing(values: NDArray[Any]) -> bool:
    """Tell whether a column of objects holds only numbers or nothing."""
    return all(value is None or _is_number_or_bool(value) for value in values)


def _extract_numeric_columns(matrix: NDArray[Any], columns: Sequence[int]) -> Numbers:
    """Extract the columns as numbers (n, d); words and what is missing are NaN."""
    if matrix.dtype != object:
        return matrix if len(columns) == matrix.shape[1] else matrix[:, list(columns)]
    chosen = matrix[:, list(columns)]
    numbers = [
        [float(value) if _is_number_or_bool(value) else np.nan for value in row] for row in chosen
    ]
    return _cast_features_to_float32(np.array(numbers, dtype=np.float64).reshape(chosen.shape))


def fit_knots(values: Numbers) -> Numbers:
    """Fit nine rising knots for each column (d, 9).

    They are evenly spaced where values are few, else quantiles.
    """
    found = np.zeros((values.shape[1], KNOTS + 1), dtype=np.float32)
    for j in range(values.shape[1]):
        # What is missing or infinite has no place on a scale
        column = values[np.isfinite(values[:, j]), j]
        few = np.unique(column)
        if len(few) <= 1:
            # A constant column gets a scale of length 1, as one of length 0 would divide by it
            found[j] = np.linspace(0, 1, KNOTS + 1) + (few[0] if len(few) else 0)
        elif len(few) <= FEW:
            found[j] = np.linspace(few[0], few[-1], KNOTS + 1)
        else:
            # Quantiles that coincide are spread, so that knots rise
            unique = np.unique(np.quantile(column, np.linspace(0, 1, KNOTS + 1)))
            found[j] = np.interp(
                np.linspace(0, 1, KNOTS + 1), np.linspace(0, 1, len(unique)), unique
            )
    return found


def scale_by_knots(values: Numbers, knots: Numbers) -> Numbers:
    """Scale each column (n, d) by its knots.

    The scale is straight between knots, 0 below the first and 1 above the last; NaN is 0.5.
    """
    found: Numbers = np.zeros(values.shape, dtype=np.float32)
    for low, slope, most in _compute_scale_pieces(knots.tobytes(), len(knots)):
        # Each piece adds its height once a value is above it; cut off in place, to save memory
        part = (values - low) * slope
        found += np.minimum(np.maximum(part, 0, out=part), most, out=part)
    # What is missing lies in the middle of the scale
    np.copyto(found, np.float32(0.5), where=np.isnan(found))
    return found


@lru_cache(maxsize=64)
def _compute_scale_pieces(knots: bytes, d: int) -> list[tuple[Numbers, Numbers, np.float32]]:
    """Compute where each piece of the scales begins (d,), its slope (d,) and its height.

    There is one piece where all scales are straight.
    """
    # The cache takes bytes, as arrays cannot be its keys
    table = np.frombuffer(knots, dtype=np.float32).reshape(d, KNOTS + 1)
    if np.allclose(
        np.diff(table, 2, axis=1), 0, atol=1e-6 * max(float(np.abs(table).max(initial=0)), 1e-30)
    ):
        # Straight scales need one product in the place of eight
        table = table[:, [0, KNOTS]]
    heights = np.float32(1 / (table.shape[1] - 1))
    slopes = heights / np.maximum(np.diff(table, axis=1), np.float32(1e-30))
    return [
        (np.ascontiguousarray(table[:, k]), np.ascontiguousarray(slopes[:, k]), heights)
        for k in range(slopes.shape[1])
    ]


def _draw_directions(secret: Secret, words: Sequence[str]) -> Numbers:
    """Draw the keyed directions (n, 16) of categories or shingles, from one hash each."""
    drawn = np.frombuffer(
        secret.wide("project", (word.encode(errors="replace") for word in words)), dtype="<u4"
    )
    # Even numbers between -0.5 and 0.5, then scaled to a variance of APART**2 / POINT each
    even = drawn.reshape(len(words), POINT) / np.float32(2**32) - np.float32(0.5)
    return np.asarray(even * np.float32(APART * np.sqrt(12 / POINT)), dtype=np.float32)


def compute_image_features(flat: Numbers, shape: Sequence[int]) -> Numbers:
    """Compute square roots of the low frequencies' magnitudes (n, 36 a channel) of images.

    The records (n, d) are images of `shape`.

    The magnitudes of a frequency and of its mirror image are averaged, so that mirrored images have
    the same features.

    Raises:
        InputError: Records do not have that many values.
    """
    if flat.shape[1] != int(np.prod(shape)):
        raise InputError(
            f"Expected images of shape {tuple(shape)}, got records of {flat.shape[1]} values. "
            "Correct shape under [monitor] in the policy."
        )
    images = np.clip(np.nan_to_num(flat), -BRIGHT, BRIGHT).reshape(len(flat), *shape)
    if len(shape) == 3 and shape[-1] <= 4:
        # Channels last, as a last side of at most four tells: (h, w, c) becomes (c, h, w)
        images = np.moveaxis(images, -1, 1)
    elif len(shape) == 2:
        images = images[:, None]
    # Under the window the mean brightness would leak into the low frequencies
    images = images - images.mean(axis=(2, 3), keepdims=True)
    down, across = _build_fourier_basis(images.shape[2]), _build_fourier_basis(images.shape[3])
    found = down @ images @ across.T
    k = FREQUENCIES
    # Products of cosines and sines, from which both diagonal waves of a frequency follow
    cc, cs, sc, ss = found[..., :k, :k], found[..., :k, k:], found[..., k:, :k], found[..., k:, k:]
    size = (np.hypot(cc - ss, sc + cs) + np.hypot(cc + ss, sc - cs)) / 2
    return np.asarray(np.sqrt(size).reshape(len(flat), -1), dtype=np.float32)


@lru_cache(maxsize=16)
def _build_fourier_basis(side: int) -> Numbers:
    """Build cosines, then sines, of the low frequencies (12, side).

    The window falls to zero at an image's borders, where shifted images differ most.
    """
    place = np.arange(side) + 0.5
    angles = 2 * np.pi * np.outer(np.arange(FREQUENCIES), place) / side
    # Zero at both borders and 1 in the middle
    taper = np.sin(np.pi * place / side) ** 2
    return np.asarray(np.concatenate([np.cos(angles), np.sin(angles)]) * taper, dtype=np.float32)


def _extract_shingles(text: str) -> set[str]:
    """List runs of three lower-case words of a text, or all its words where there are fewer.

    >>> sorted(_extract_shingles("The cat sat down"))
    ['cat sat down', 'the cat sat']
    """
    # No text takes longer than one of two thousand words
    words = text.lower().split()[:2000]
    return {" ".join(words[i : i + 3]) for i in range(max(len(words) - 2, 1))}


def compute_text_points(texts: Sequence[str], secret: Secret) -> Numbers:
    """Sum the shingles' directions (n, 16), each divided by the root of their number."""
    found = np.zeros((len(texts), POINT), dtype=np.float32)
    for i, text in enumerate(texts):
        runs = sorted(_extract_shingles(text))
        found[i] = _draw_directions(secret, runs).sum(axis=0) / np.sqrt(len(runs))
    return found


def compute_text_codes(texts: Sequence[str]) -> Numbers:
    """Compute eight numbers (n, 8) to look for order in: lengths, and the first letters."""
    found = np.zeros((len(texts), BINS), dtype=np.float32)
    for i, text in enumerate(texts):
        letters = [ord(letter) for letter in text[:3].lower()] + [0, 0, 0]
        found[i, :5] = (
            len(text),
            len(text.split()),
            letters[0] * 256 + letters[1],
            letters[1],
            letters[2],
        )
    return found
