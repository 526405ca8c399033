"""Records as a numeric matrix, for the controls and attacks that look at the records themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.types import Floats, Ints

Keys = NDArray[np.uint64]
WIDE = 64  # features beyond which trees get principal components instead
LEAST_WORDS, LEAST_NUMBERS = 20, 100  # different values below which a column is a category, or a number such as an age
FEWEST_ROWS, MOST_ROWS = 2, 50  # rows a value, by the median, of a column that looks like an id


def to_matrix(x: Any) -> Floats | None:
    """Features (n, f): arrays are flattened a record, columns of words become codes; None if there are no records.

    Missing numbers stay NaN.

    Raises:
        InputError: `x` is neither an array of numbers nor a data frame.

    >>> to_matrix(np.zeros((3, 2, 2))).shape
    (3, 4)
    """
    if x is None:
        return None
    if isinstance(x, np.ndarray) and x.dtype.kind in "buif":
        return x.reshape(len(x), -1).astype(np.float64)
    if isinstance(x, np.ndarray):
        return np.column_stack([column_codes(column) for column in x.reshape(len(x), -1).T])
    try:
        import narwhals as nw

        frame: Any = nw.from_native(x, eager_only=True)
    except TypeError:
        return from_array_like(x)
    return np.column_stack([column_codes(frame[name].to_numpy()) for name in frame.columns])


def from_array_like(x: Any) -> Floats:
    """Features of anything numpy can read as numbers, such as a torch tensor or a scipy sparse matrix."""
    dense = x.toarray() if hasattr(x, "toarray") else x
    try:
        values = np.asarray(dense, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"Expected records as an array of numbers or a data frame, got {type(x).__name__}. Convert them first."
        ) from error
    return values.reshape(len(values), -1)


def column_codes(column: Any) -> Floats:
    """One column (n,) as numbers; words become the index of their sorted value."""
    values = np.asarray(column)
    if values.dtype.kind in "buif":
        return values.astype(np.float64)
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return np.unique(values.astype(str), return_inverse=True)[1].astype(np.float64)


def narrowed(features: Floats, rng: np.random.Generator) -> Floats:
    """The features themselves, or 32 principal components (n, 32) of many; constant and missing entries are centred."""
    if features.shape[1] <= WIDE:
        return features
    from sklearn.decomposition import PCA

    filled = np.nan_to_num(features - np.nanmean(features, axis=0))
    n_components = min(32, *filled.shape)
    seed = int(rng.integers(2**31))
    components: Floats = PCA(n_components, svd_solver="randomized", random_state=seed).fit_transform(filled)
    return components


def row_keys(features: Floats, labels: Ints | None = None) -> Keys:
    """A number (n,) for each record, equal where its features (n, f) and label are equal; NaN equals NaN, -0 equals 0.

    It depends on the record alone, neither on its place nor on other records. Two different records share one with a
    probability of about 2^-64.

    >>> x = np.array([[0.0, np.nan], [1.0, 2.0], [-0.0, np.nan]])
    >>> keys = row_keys(x, np.array([0, 0, 0]))
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    n, width = features.shape
    salt = mix(np.arange(width + 1, dtype=np.uint64))
    found = np.zeros(n, dtype=np.uint64)
    block = max(1, 4_000_000 // max(width, 1))
    for start in range(0, n, block):
        part = features[start : start + block] + 0.0
        part[np.isnan(part)] = np.nan
        bits = np.ascontiguousarray(part).view(np.uint64)
        found[start : start + block] = mix(bits ^ salt[:width]).sum(axis=1, dtype=np.uint64)
    if labels is not None:
        found += mix(labels.astype(np.int64).view(np.uint64) ^ salt[width])
    return mix(found)


def mix(values: Keys) -> Keys:
    """Each of `values` (n,) as another 64-bit number that looks random (the finaliser of SplitMix64).

    References:
        [1] G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Keys = z ^ (z >> np.uint64(31))
    return mixed
