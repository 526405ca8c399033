"""Records as a numeric matrix, for the controls and attacks that look at the records themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.types import Floats

WIDE = 64  # features beyond which trees get principal components instead


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
