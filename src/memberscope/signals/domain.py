"""Describe the values that each feature may take, and how far records can be moved in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UnmetNeedError
from memberscope.types import Bools, Floats

FEW = 20  # distinct whole numbers, at most, that are read as categories


LARGEST = 2**28  # numbers that a sparse matrix may have when it is made dense


Decode = Callable[[Floats], Any]


@dataclass(frozen=True, eq=False)
class Domain:
    """Domain of f features.

    `discrete` features have two values or codes of categories, `whole` ones hold whole numbers;
    `low`, `high` and `scale` are (f,). A missing entry is NaN and stays so; features with a `scale`
    of 0 stay too. `levels` has the values of each discrete feature as often as they were seen,
    sorted; `shape` is that of one record. `decode` turns numbers (n, f) into what a model is asked:
    an array, a sparse matrix or a data frame. `real` is true if that takes all real numbers.
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
        """Unit of boundary distances: a tenth of the root-mean-square distance of two records."""
        shares = [
            np.bincount(_encode_values(part)) / len(part) for part in self.levels if len(part)
        ]
        # Two records differ in a category with probability 1 - sum of shares squared
        apart = sum(float((share * (1 - share)).sum()) for share in shares)
        # Each standardised number adds twice its variance of 1
        real = int((~self.discrete & (self.high > self.low) & (self.scale > 0)).sum())
        return 0.1 * float(np.sqrt(max(apart + 2 * real, 1e-12)))

    @cached_property
    def bit_sums(self) -> Floats:
        """Sum of both values of each discrete feature (f,) with exactly two; NaN for others."""
        return np.array([_add_bit_values(seen) for seen in self.levels])

    def inside(self, z: Floats) -> Floats:
        """Move numbers (n, f) to the nearest ones of the domain.

        Whole features are rounded, and all are clipped to their range.
        """
        kept = np.where(self.whole, np.rint(z), z) if self.whole.any() else z
        return np.clip(kept, self.low, self.high)

    def placed(self, z: Floats) -> Floats:
        """Place records as points (n, g) whose squared distances are the sums of `differences`."""
        real = ~self.discrete & (self.scale > 0)
        parts = [z[:, real] / self.scale[real]]
        for j in np.flatnonzero(self.discrete):
            seen = self.levels[j][np.append(True, np.diff(self.levels[j]) != 0)]
            # A bit is one column of 0 and 1
            if len(seen) == 2:
                parts.append((z[:, [j]] == seen[1]).astype(np.float64))
            elif len(seen) > 2:
                # Two records with different categories then differ by one in all
                parts.append((z[:, [j]] == seen) * 0.5**0.5)
            if len(seen) > 1 and (missing := np.isnan(z[:, j])).any():
                parts[-1][missing] = np.nan
        return np.hstack(parts)

    def movable(self, start: Floats, end: Floats) -> Floats:
        """Give the ends (n, f) of moves from `start` (n, f).

        An entry keeps its start where it is missing on either side, or where the feature is fixed.
        """
        kept = np.isnan(start) | np.isnan(end) | (self.scale == 0)
        return np.where(kept, start, end) if kept.any() else end

    def differences(self, a: Floats, b: Floats) -> Floats:
        """Compute the squared distance (n, f) by feature between records (n, f) and (n, f)."""
        apart = (a - b) / np.where(self.scale > 0, self.scale, np.inf)
        squares = np.where(self.discrete, (a != b).astype(np.float64), apart * apart)
        # An entry that is missing on either side is no distance
        missing = np.isnan(apart)
        return np.where(missing, 0.0, squares) if missing.any() else squares


def _add_bit_values(seen: Floats) -> float:
    """Give the sum of the two values in `seen` (s,), sorted; NaN if they are not two."""
    if not len(seen) or seen[0] == seen[-1] or not np.isin(seen, (seen[0], seen[-1])).all():
        return float("nan")
    return float(seen[0] + seen[-1])


def _encode_values(values: Floats) -> NDArray[np.int64]:
    """Give the positions (n,) of values among the distinct ones."""
    return np.unique(values, return_inverse=True)[1]


def build_column_domain(
    z: Floats,
    shape: tuple[int, ...],
    decode: Decode,
    words: Sequence[int] = (),
    fixed: Sequence[int] = (),
) -> Domain:
    """Infer the domain of columns of numbers (n, f).

    Columns in `words` are codes of categories however many there are; `fixed` ones stay.

    Raises:
        UnmetNeedError: Entries are missing or fixed, and no other feature has two values.
    """
    places, missing = np.arange(z.shape[1]), np.isnan(z)
    is_whole = not missing.any()
    # Entries of each feature, which come before the missing ones once they are sorted
    seen = len(z) - missing.sum(axis=0)
    whole = (z == np.rint(z) if is_whole else (z == np.rint(z)) | missing).all(axis=0)
    ordered = np.sort(z, axis=0)
    changes = np.diff(ordered, axis=0) != 0
    distinct = 1 + (changes if is_whole else changes & ~np.isnan(ordered[1:])).sum(axis=0)
    kept = np.isin(places, fixed)
    # Two values are a bit, few whole ones categories; all others are numbers
    discrete = (
        ((distinct == 2) | (whole & (distinct <= FEW)) | np.isin(places, words))
        & (seen > 0)
        & ~kept
    )
    levels = tuple(ordered[: seen[j], j] if own else np.empty(0) for j, own in enumerate(discrete))
    empty = seen == 0
    low, high = (
        np.where(empty, 0.0, ordered[0]),
        np.where(empty, 0.0, ordered[np.maximum(seen, 1) - 1, places]),
    )
    if (kept.any() or not is_whole) and not ((high > low) & ~kept).any():
        raise UnmetNeedError(
            "Expected features that take several values, got missing, constant or unlike ones. "
            "Give other columns, or run attacks that need one query."
        )
    spread = z.std(axis=0) if is_whole else _compute_spread(z, missing)
    # A scale of 0 keeps a column fixed, a constant one counts as of scale 1
    scale = np.where(kept, 0.0, np.where(spread > 0, spread, 1.0))
    return Domain(discrete, whole, low, high, scale, levels, shape or (1,), decode)


def _compute_spread(z: Floats, missing: Bools) -> Floats:
    """Compute the standard deviation (f,) of each feature's entries that are not `missing`."""
    count = np.maximum((~missing).sum(axis=0), 1)
    filled = np.where(missing, 0.0, z)
    centred = np.where(missing, 0.0, z - filled.sum(axis=0) / count)
    return np.asarray(np.sqrt((centred**2).sum(axis=0) / count))
