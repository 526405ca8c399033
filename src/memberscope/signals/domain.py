"""Where records may lie: what values each feature takes, and numbers for records that can be moved and turned back.

A perturbed copy never leaves the domain of the records seen: whole numbers stay whole, numbers and pixels stay in their range,
and categories stay among those that occur. Distances are Euclidean in standard deviations of each feature; pixels share one,
and a changed bit or category counts one. What is missing in a record stays missing, and counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UnmetNeedError
from memberscope.targets.column_values import object_array
from memberscope.targets.frames import is_frame, is_sparse
from memberscope.targets.several_inputs import Inputs
from memberscope.types import Bools, Floats

FEW = 20  # distinct whole numbers, at most, that are read as categories
LARGEST = 2**28  # numbers that a sparse matrix may have when it is made dense
Decode = Callable[[Floats], Any]


@dataclass(frozen=True, eq=False)
class Domain:
    """Of f features: which are `discrete` (two values, or codes of categories), which `whole`; `low`, `high` and `scale` (f,).

    An entry that is missing is NaN and stays so; features with a `scale` of 0 stay too. `levels` has the values of each discrete feature as often as they were seen, sorted; `shape` is that of one record, and
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
        real = int((~self.discrete & (self.high > self.low) & (self.scale > 0)).sum())
        return 0.1 * float(np.sqrt(max(apart + 2 * real, 1e-12)))

    def inside(self, z: Floats) -> Floats:
        """Numbers (n, f) moved to the nearest of the domain: whole where they must be, and in range."""
        kept = np.where(self.whole, np.rint(z), z) if self.whole.any() else z
        return np.clip(kept, self.low, self.high)

    def placed(self, z: Floats) -> Floats:
        """Points (n, g) whose squared Euclidean distances are the sums of `differences`."""
        real = ~self.discrete & (self.scale > 0)
        parts = [z[:, real] / self.scale[real]]
        for j in np.flatnonzero(self.discrete):
            seen = self.levels[j][np.append(True, np.diff(self.levels[j]) != 0)]
            if len(seen) == 2:
                parts.append((z[:, [j]] == seen[1]).astype(np.float64))
            elif len(seen) > 2:
                parts.append((z[:, [j]] == seen) * 0.5**0.5)
            if len(seen) > 1 and (missing := np.isnan(z[:, j])).any():
                parts[-1][missing] = np.nan
        return np.hstack(parts)

    def movable(self, start: Floats, end: Floats) -> Floats:
        """The ends (n, f) of moves from `start` (n, f), which is kept where an entry is missing on either side, or stays."""
        kept = np.isnan(start) | np.isnan(end) | (self.scale == 0)
        return np.where(kept, start, end) if kept.any() else end

    def differences(self, a: Floats, b: Floats) -> Floats:
        """Squared distance (n, f), a feature, between records (n, f) and (n, f)."""
        apart = (a - b) / np.where(self.scale > 0, self.scale, np.inf)
        squares = np.where(self.discrete, (a != b).astype(np.float64), apart * apart)
        missing = np.isnan(apart)
        return np.where(missing, 0.0, squares) if missing.any() else squares


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
    if is_frame(x):
        from memberscope.signals.frame_domain import of_frame

        return of_frame(x)
    if is_sparse(x):
        return of_sparse(x)
    if isinstance(x, Inputs):
        flat = np.asarray(x, dtype=np.float64)
        return of_columns(flat, flat.shape[1:], x.rebuilt), flat
    array = np.asarray(object_array(x) if isinstance(x, list) else x)
    if array.dtype.kind not in "buif":
        raise UnmetNeedError(
            f"Expected numbers, bits, categories or images to perturb, got {array.dtype.type.__name__} (text?). "
            f"Run attacks that need one query, or give features."
        )
    flat = array.reshape(len(array), -1).astype(np.float64)
    if not np.isfinite(flat).all() and (array.ndim > 2 or np.isinf(flat).any()):
        raise UnmetNeedError("Expected finite features to perturb, got infinite ones or missing pixels. Replace them.")

    def decode(z: Floats) -> Any:
        rounded = np.rint(z) if array.dtype.kind in "bui" else z
        return rounded.astype(array.dtype).reshape(-1, *array.shape[1:])

    if array.ndim > 2:
        return of_images(flat, array, decode), flat
    return replace(of_columns(flat, array.shape[1:], decode), real=array.dtype.kind == "f"), flat


def of_columns(
    z: Floats, shape: tuple[int, ...], decode: Decode, words: Sequence[int] = (), fixed: Sequence[int] = ()
) -> Domain:
    """The domain of columns of numbers (n, f); those in `words` are codes of categories however many there are, `fixed` ones stay.

    Raises:
        UnmetNeedError: Entries are missing or fixed, and no other feature has two values.
    """
    places, missing = np.arange(z.shape[1]), np.isnan(z)
    is_whole = not missing.any()
    seen = len(z) - missing.sum(axis=0)  # entries of each feature, which stand before the missing ones once they are sorted
    whole = (z == np.rint(z) if is_whole else (z == np.rint(z)) | missing).all(axis=0)
    ordered = np.sort(z, axis=0)
    changes = np.diff(ordered, axis=0) != 0
    distinct = 1 + (changes if is_whole else changes & ~np.isnan(ordered[1:])).sum(axis=0)
    kept = np.isin(places, fixed)
    discrete = ((distinct == 2) | (whole & (distinct <= FEW)) | np.isin(places, words)) & (seen > 0) & ~kept
    levels = tuple(ordered[: seen[j], j] if own else np.empty(0) for j, own in enumerate(discrete))
    empty = seen == 0
    low, high = np.where(empty, 0.0, ordered[0]), np.where(empty, 0.0, ordered[np.maximum(seen, 1) - 1, places])
    if (kept.any() or not is_whole) and not ((high > low) & ~kept).any():
        raise UnmetNeedError("Expected features that take several values, got missing, constant or unlike ones. Give others.")
    spread = z.std(axis=0) if is_whole else spread_of(z, missing)
    scale = np.where(kept, 0.0, np.where(spread > 0, spread, 1.0))
    return Domain(discrete, whole, low, high, scale, levels, shape or (1,), decode)


def spread_of(z: Floats, missing: Bools) -> Floats:
    """The standard deviation (f,) of each feature's entries that are not `missing` (n, f)."""
    count = np.maximum((~missing).sum(axis=0), 1)
    filled = np.where(missing, 0.0, z)
    centred = np.where(missing, 0.0, z - filled.sum(axis=0) / count)
    return np.asarray(np.sqrt((centred**2).sum(axis=0) / count))


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
