"""Where records may lie: what values each feature takes, and numbers for records that can be moved and turned back.

A perturbed copy never leaves the domain of the records seen: whole numbers stay whole, numbers and pixels stay in their range,
and categories stay among those that occur. Distances are Euclidean in standard deviations of each feature; pixels share one,
and a changed bit or category counts one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UnmetNeedError
from memberscope.targets.several_inputs import Inputs
from memberscope.types import Bools, Floats

FEW = 20  # distinct whole numbers, at most, that are read as categories
LARGEST = 2**28  # numbers that a sparse matrix may have when it is made dense
Decode = Callable[[Floats], Any]


@dataclass(frozen=True, eq=False)
class Domain:
    """Of f features: which are `discrete` (two values, or codes of categories), which `whole`; `low`, `high` and `scale` (f,).

    `levels` has the values of each discrete feature as often as they were seen, sorted; `shape` is that of one record, and
    `decode` makes of numbers (n, f) what a model is asked: an array, a sparse matrix or a data frame. `real` tells whether
    that takes all real numbers.
    """

    discrete: Bools
    whole: Bools
    low: Floats
    high: Floats
    scale: Floats
    levels: tuple[Floats, ...]
    shape: tuple[int, ...]
    decode: Decode
    real: bool = False

    @property
    def is_image(self) -> bool:
        """Whether a record has rows and columns of pixels."""
        return len(self.shape) > 1

    @property
    def unit(self) -> float:
        """A tenth of the root-mean-square distance between two records: the unit of boundary distances."""
        shares = [np.bincount(codes(part)) / len(part) for part in self.levels if len(part)]
        apart = sum(float((share * (1 - share)).sum()) for share in shares)
        real = int((~self.discrete & (self.high > self.low)).sum())
        return 0.1 * float(np.sqrt(max(apart + 2 * real, 1e-12)))

    def inside(self, z: Floats) -> Floats:
        """Numbers (n, f) moved to the nearest of the domain: whole where they must be, and in range."""
        kept = np.where(self.whole, np.rint(z), z) if self.whole.any() else z
        return np.clip(kept, self.low, self.high)

    def placed(self, z: Floats) -> Floats:
        """Points (n, g) whose squared Euclidean distances are the sums of `differences`."""
        parts = [z[:, ~self.discrete] / self.scale[~self.discrete]]
        for j in np.flatnonzero(self.discrete):
            seen = self.levels[j][np.append(True, np.diff(self.levels[j]) != 0)]
            if len(seen) == 2:
                parts.append((z[:, [j]] == seen[1]).astype(np.float64))
            elif len(seen) > 2:
                parts.append((z[:, [j]] == seen) * 0.5**0.5)
        return np.hstack(parts)

    def differences(self, a: Floats, b: Floats) -> Floats:
        """Squared distance (n, f), a feature, between records (n, f) and (n, f)."""
        apart = (a - b) / self.scale
        return np.where(self.discrete, (a != b).astype(np.float64), apart * apart)


def codes(values: Floats) -> NDArray[np.int64]:
    """Positions (n,) of values among the distinct ones."""
    return np.unique(values, return_inverse=True)[1]


def encoded(x: Any) -> tuple[Domain, Floats]:
    """The domain of the records `x`, inferred from all of them, and their numbers (n, f).

    A feature with two values is a bit; whole numbers with at most 20 values, words and truth values are categories; all
    else is a number. Arrays with three or more axes are images.

    Raises:
        UnmetNeedError: There are no features, or they are text, or too many to make dense.

    >>> domain, z = encoded(np.array([[0.0, 1.5], [1.0, 2.5], [1.0, 0.5]]))
    >>> domain.discrete.tolist(), z.shape, domain.decode(z).tolist() == [[0.0, 1.5], [1.0, 2.5], [1.0, 0.5]]
    ([True, False], (3, 2), True)
    """
    if x is None:
        raise UnmetNeedError(
            "Expected records with features to move, got stored signals alone. Give the records and the model."
        )
    if hasattr(x, "columns"):
        return of_frame(x)
    if hasattr(x, "toarray"):
        return of_sparse(x)
    if isinstance(x, Inputs):
        flat = np.asarray(x, dtype=np.float64)
        return of_columns(flat, flat.shape[1:], x.rebuilt), flat
    array = np.asarray(x)
    if array.dtype.kind not in "buif":
        raise UnmetNeedError(
            f"Expected numbers, bits, categories or images to perturb, got {array.dtype.type.__name__} (text?). "
            f"Run attacks that need one query, or give features."
        )
    flat = array.reshape(len(array), -1).astype(np.float64)
    if not np.isfinite(flat).all():
        raise UnmetNeedError("Expected finite features to perturb, got missing or infinite ones. Fill them in.")

    def decode(z: Floats) -> Any:
        rounded = np.rint(z) if array.dtype.kind in "bui" else z
        return rounded.astype(array.dtype).reshape(-1, *array.shape[1:])

    if array.ndim > 2:
        return of_images(flat, array, decode), flat
    return replace(of_columns(flat, array.shape[1:], decode), real=array.dtype.kind == "f"), flat


def of_columns(z: Floats, shape: tuple[int, ...], decode: Decode, words: frozenset[int] = frozenset()) -> Domain:
    """The domain of columns of numbers (n, f); those in `words` are codes of categories however many there are."""
    whole = (z == np.rint(z)).all(axis=0)
    ordered = np.sort(z, axis=0)
    distinct = 1 + (np.diff(ordered, axis=0) != 0).sum(axis=0)
    named = np.isin(np.arange(z.shape[1]), list(words))
    discrete = (distinct == 2) | (whole & (distinct <= FEW)) | named
    levels = tuple(ordered[:, j] if own else np.empty(0) for j, own in enumerate(discrete))
    spread = z.std(axis=0)
    return Domain(
        discrete, whole, ordered[0], ordered[-1], np.where(spread > 0, spread, 1.0), levels, shape or (1,), decode
    )  # fmt: skip


def of_images(z: Floats, array: NDArray[Any], decode: Decode) -> Domain:
    """The domain of images: one range and one spread for all pixels; bytes go from 0 to 255."""
    f = z.shape[1]
    low, high = (0.0, 255.0) if array.dtype == np.uint8 else (float(z.min()), float(z.max()))
    spread = float(z.std()) or 1.0
    whole = array.dtype.kind in "bui"
    every = np.ones(f)
    return Domain(
        np.zeros(f, dtype=bool), np.full(f, whole), low * every, high * every, spread * every,
        (np.empty(0),) * f, array.shape[1:], decode,
    )  # fmt: skip


def of_sparse(x: Any) -> tuple[Domain, Floats]:
    """A sparse matrix, made dense here, and sparse again for the model.

    Raises:
        UnmetNeedError: It is too large for that.
    """
    if x.shape[0] * x.shape[1] > LARGEST:
        raise UnmetNeedError(
            f"Expected at most {LARGEST} numbers to perturb, got a sparse matrix {x.shape[0]} x {x.shape[1]}. "
            f"Audit fewer records, or run attacks that need one query."
        )
    kind, dtype = type(x), x.dtype
    z = np.asarray(x.toarray(), dtype=np.float64)
    return of_columns(z, z.shape[1:], lambda dense: kind(dense.astype(dtype))), z


def of_frame(x: Any) -> tuple[Domain, Floats]:
    """A data frame: words, categories and truth values as codes, numbers as they are.

    Raises:
        UnmetNeedError: A column holds text, dates or missing numbers.
    """
    import narwhals as nw

    frame: Any = nw.from_native(x, eager_only=True)
    columns, names, words = [], [], []
    for place, name in enumerate(frame.columns):
        column = frame[name]
        if column.dtype.is_numeric():
            values = np.asarray(column.to_numpy(), dtype=np.float64)
            seen = None
        else:
            seen, values = categories(name, column.to_numpy())
            words.append(place)
        if not np.isfinite(values).all():
            raise UnmetNeedError(f"Expected numbers to perturb in the column {name!r}, got missing ones. Fill them in.")
        columns.append(values)
        names.append((name, column.dtype, seen))

    def decode(z: Floats) -> Any:
        parts = []
        for (name, dtype, seen), values in zip(names, z.T, strict=True):
            if seen is not None:  # taken from the column itself, which keeps its type and its list of categories
                parts.append(nw.maybe_reset_index(frame[name][seen[values.astype(np.int64)].tolist()]))
            else:
                whole = np.rint(values) if dtype.is_integer() else values
                parts.append(nw.new_series(name, whole.tolist(), dtype, backend=frame.implementation))
        return nw.to_native(nw.maybe_reset_index(frame[[0] * len(z)]).with_columns(*parts))

    z = np.column_stack(columns)
    return of_columns(z, z.shape[1:], decode, frozenset(words)), z


def categories(name: str, values: NDArray[Any]) -> tuple[NDArray[np.int64], Floats]:
    """For each distinct value of a column a record that has it, and each record's position (n,) among these values.

    Raises:
        UnmetNeedError: Most values occur once: this is text or an identifier.
    """
    plain = [value if value == value else None for value in values.tolist()]  # a missing value differs from itself
    first = {value: place for place, value in reversed(list(enumerate(plain)))}
    if len(first) > max(FEW, len(plain) // 2):
        raise UnmetNeedError(
            f"Expected categories in the column {name!r}, got {len(first)} different values in {len(plain)} records (text?). "
            f"Leave the column out, or run attacks that need one query."
        )
    known = {value: place for place, value in enumerate(sorted(first, key=str))}
    return np.array([first[value] for value in known]), np.array([known[value] for value in plain], dtype=np.float64)
