"""Hash arrays by their type, shape and contents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def digest_array(array: Any) -> str:
    """Give the SHA-256 of an array's type, shape and contents; objects are hashed by their text."""
    values = np.asarray(array)
    if values.dtype.kind == "O":
        values = _format_objects(values.ravel()).reshape(values.shape)
    hasher = hashlib.sha256(f"{values.dtype}:{values.shape}".encode())
    hasher.update(np.ascontiguousarray(values).tobytes())
    return hasher.hexdigest()


def _format_objects(values: Any) -> Any:
    """Write objects (n,) as Python prints them.

    Strings stay as they are where there is nothing else. Otherwise `repr` quotes them, so that None
    and the string "None" differ.
    """
    if set(map(type, values)) <= {str}:
        return values.astype(np.str_)
    return np.array(
        [repr(value.tolist() if hasattr(value, "tolist") else value) for value in values],
        dtype=np.str_,
    )


def digest_named_arrays(arrays: Mapping[str, object]) -> str:
    """Give the SHA-256 of named arrays."""
    # Sorted, so that the digest does not depend on the order in which the caller filled the dict
    parts = [f"{name}:{digest_array(arrays[name])}" for name in sorted(arrays)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
