"""Turn records into a numeric matrix, for controls and attacks that look at the records."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.frames import (
    as_words,
    convert_objects,
    convert_to_array,
    count_rows,
    is_frame,
    is_sparse,
    list_values,
    make_object_array,
)
from memberscope.types import Floats, Ints

Keys = NDArray[np.uint64]
WIDE = 64  # features beyond which trees get principal components instead
# Different values below which a column is a category, or a number such as an age
LEAST_WORDS, LEAST_NUMBERS = (
    20,
    100,
)
FEWEST_ROWS, MOST_ROWS = 2, 50  # rows a value, by the median, of a column that looks like an id


def build_feature_matrix(x: Any) -> Floats | None:
    """Build features (n, f) of records; None if there are none.

    Arrays are flattened a record, columns of words become codes, dates seconds.

    What is missing is NaN. Texts and sequences of several lengths are one column of codes.

    Raises:
        InputError: `x` is neither an array, a list nor a data frame.

    >>> build_feature_matrix(np.zeros((3, 2, 2))).shape
    (3, 4)
    """
    if x is None:
        return None
    # Numbers need no copying column by column
    if isinstance(x, np.ndarray) and x.dtype.kind in "buif":
        return x.reshape(len(x), -1).astype(np.float64)
    if is_frame(x):
        return _stack_column_codes(list_values(x), count_rows(x))
    if is_sparse(x):
        return np.asarray(x.toarray(), dtype=np.float64)
    # Lists, tensors and the like; what numpy reads as numbers is flattened as above
    values = convert_to_array(x)
    if isinstance(values, np.ndarray) and values.dtype.kind in "buif":
        return values.reshape(len(values), -1).astype(np.float64)
    return _stack_column_codes(_split_object_columns(values), len(values))


def _split_object_columns(x: Any) -> list[NDArray[Any]]:
    """Split records that numpy does not read as numbers into columns (n,).

    There is one a key of dictionaries, one a place of sequences, else one.

    >>> [column.tolist() for column in _split_object_columns([{"a": 1}, {"a": 2, "b": "x"}])]
    [[1.0, 2.0], [None, 'x']]
    """
    if isinstance(x, np.ndarray) and x.ndim > 1:
        return [
            convert_objects(column) if column.dtype == object else column
            for column in x.reshape(len(x), -1).T
        ]
    values = make_object_array(x.to_list() if hasattr(x, "to_list") else x)
    kinds = set(map(type, values))
    if kinds == {dict}:
        # In the order of their first appearance, as columns of a table would be
        keys = dict.fromkeys(key for record in values for key in record)
        return [
            convert_objects(make_object_array([record.get(key) for record in values]))
            for key in keys
        ]
    # Sequences of one length are rows of a table; of several lengths they are values
    if kinds <= {list, tuple} and kinds and len({len(value) for value in values}) == 1:
        return [
            convert_objects(make_object_array([value[place] for value in values]))
            for place in range(len(values[0]))
        ]
    return [convert_objects(values)]


def _stack_column_codes(columns: list[NDArray[Any]], n: int) -> Floats:
    """Stack the columns (n,) as numbers side by side."""
    return (
        np.column_stack([_encode_column(column) for column in columns])
        if columns
        else np.zeros((n, 0))
    )


def _encode_column(column: NDArray[Any]) -> Floats:
    """Encode one column (n,) as numbers.

    Dates as seconds, words as the place of their sorted value, anything else by its text.

    >>> _encode_column(np.array(["2024-01-02", "NaT"], dtype="datetime64[D]")), _encode_column(np.array(["b", None, "a"]))
    (array([1.7041536e+09,           nan]), array([ 1., nan,  0.]))
    """
    values = np.asarray(column)
    if values.dtype.kind in "buif":
        return values.astype(np.float64)
    # By way of microseconds, so that all resolutions give the same seconds
    if values.dtype.kind in "mM":
        unit = "datetime64[us]" if values.dtype.kind == "M" else "timedelta64[us]"
        return np.where(np.isnat(values), np.nan, values.astype(unit).astype(np.int64) / 1e6)
    # Numbers written as text stay numbers
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        seen = np.fromiter((value is not None for value in values), dtype=bool, count=len(values))
        codes = np.full(len(values), np.nan)
        codes[seen] = np.unique(as_words(values[seen]), return_inverse=True)[1]
        return codes


def reduce_features(features: Floats, rng: np.random.Generator) -> Floats:
    """Give the features themselves, or 32 principal components (n, 32) of many.

    Constant and missing entries are centred.
    """
    if features.shape[1] <= WIDE:
        return features
    from sklearn.decomposition import PCA

    filled = np.nan_to_num(features - average_features(features))
    n_components = min(32, *filled.shape)
    seed = int(rng.integers(2**31))
    components: Floats = PCA(
        n_components, svd_solver="randomized", random_state=seed
    ).fit_transform(filled)
    return components


def average_features(features: Floats) -> Floats:
    """Average each feature (f,) over the records that have it; 0 where none has."""
    seen = ~np.isnan(features)
    total = np.where(seen, features, 0.0).sum(axis=0)
    mean: Floats = total / np.maximum(seen.sum(axis=0), 1)
    return mean


def hash_feature_rows(features: Floats, labels: Ints | None = None) -> Keys:
    """Hash each record (n,), equal where features (n, f) and label are equal.

    NaN equals NaN, -0 equals 0.

    It depends on the record alone, neither on its place nor on other records. Two different records
    share one with a probability of about 2^-64.

    >>> x = np.array([[0.0, np.nan], [1.0, 2.0], [-0.0, np.nan]])
    >>> keys = hash_feature_rows(x, np.array([0, 0, 0]))
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    n, width = features.shape
    # A salt for each column, so that equal values in other columns are told apart
    salt = mix_keys(np.arange(width + 1, dtype=np.uint64))
    found = np.zeros(n, dtype=np.uint64)
    # About 32 MB at a time
    block = max(1, 4_000_000 // max(width, 1))
    for start in range(0, n, block):
        # Adding zero makes -0 a 0; then every NaN gets the same bits
        part = features[start : start + block] + 0.0
        part[np.isnan(part)] = np.nan
        bits = np.ascontiguousarray(part).view(np.uint64)
        # A sum, as the salts already tell the columns apart
        found[start : start + block] = mix_keys(bits ^ salt[:width]).sum(axis=1, dtype=np.uint64)
    if labels is not None:
        found += mix_keys(labels.astype(np.int64).view(np.uint64) ^ salt[width])
    return mix_keys(found)


def mix_keys(values: Keys) -> Keys:
    """Mix each of `values` (n,) into a 64-bit number that looks random (SplitMix64's finaliser).

    References:
        [1] G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA
    2014.
    """
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Keys = z ^ (z >> np.uint64(31))
    return mixed
