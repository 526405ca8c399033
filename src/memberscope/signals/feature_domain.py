"""Encode records as numbers that can be moved within the values they may take.

A perturbed copy never leaves the domain of the records seen: whole numbers stay whole, numbers and
pixels stay in their range, and categories stay among those that occur. Distances are Euclidean in
standard deviations of each feature; pixels share one, and a changed bit or category counts one.
What is missing in a record stays missing, and counts nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UnmetNeedError
from memberscope.frames import Inputs, is_frame, is_sparse, make_object_array
from memberscope.signals.domain import LARGEST, Decode, Domain, build_column_domain
from memberscope.types import Floats


def encode_in_domain(x: Any) -> tuple[Domain, Floats]:
    """Infer the domain of the records `x` from all of them, and encode them as numbers (n, f).

    A feature with two values is a bit; whole numbers with at most 20 values, words and truth values
    are categories; all else is a number. Arrays with three or more axes are images.

    Raises:
        UnmetNeedError: There are no features, or they are text, or too many to make dense.

    >>> domain, z = encode_in_domain(np.array([[0.0, 1.5], [1.0, 2.5], [1.0, 0.5]]))
    >>> domain.discrete.tolist(), z.shape, domain.decode(z).tolist() == [[0.0, 1.5], [1.0, 2.5], [1.0, 0.5]]
    ([True, False], (3, 2), True)
    """
    if x is None:
        raise UnmetNeedError(
            "Expected records with features to move, got stored signals alone. Give the records "
            "and the model."
        )
    if is_frame(x):
        from memberscope.signals.frame_domain import encode_frame

        return encode_frame(x)
    if is_sparse(x):
        return _encode_sparse(x)
    if isinstance(x, Inputs):
        # The parts side by side, which `rebuilt` takes apart again
        flat = np.asarray(x, dtype=np.float64)
        return build_column_domain(flat, flat.shape[1:], x.rebuilt), flat
    array = np.asarray(make_object_array(x) if isinstance(x, list) else x)
    if array.dtype.kind not in "buif":
        raise UnmetNeedError(
            "Expected numbers, bits, categories or images to perturb, got "
            f"{array.dtype.type.__name__} (text?). Run attacks that need one query, or give "
            "features."
        )
    flat = array.reshape(len(array), -1).astype(np.float64)
    if not np.isfinite(flat).all() and (array.ndim > 2 or np.isinf(flat).any()):
        raise UnmetNeedError(
            "Expected finite features to perturb, got infinite ones or missing pixels. Replace "
            "them."
        )

    def decode(z: Floats) -> Any:
        # Whole numbers: a cast alone would cut them off
        rounded = np.rint(z) if array.dtype.kind in "bui" else z
        return rounded.astype(array.dtype).reshape(-1, *array.shape[1:])

    if array.ndim > 2:
        return _build_image_domain(flat, array, decode), flat
    return replace(
        build_column_domain(flat, array.shape[1:], decode), real=array.dtype.kind == "f"
    ), flat


def _build_image_domain(z: Floats, array: NDArray[Any], decode: Decode) -> Domain:
    """Build the domain of images: one range and one spread for all pixels; bytes go to 255."""
    f = z.shape[1]
    low, high = (0.0, 255.0) if array.dtype == np.uint8 else (float(z.min()), float(z.max()))
    spread = float(z.std()) or 1.0
    whole = array.dtype.kind in "bui"
    every = np.ones(f)
    return Domain(
        np.zeros(f, dtype=bool), np.full(f, whole), low * every, high * every, spread * every,
        (np.empty(0),) * f, array.shape[1:], decode,
    )  # fmt: skip


def _encode_sparse(x: Any) -> tuple[Domain, Floats]:
    """Encode a sparse matrix, which is made dense here, and sparse again for the model.

    Raises:
        UnmetNeedError: It is too large for that.
    """
    if x.shape[0] * x.shape[1] > LARGEST:
        raise UnmetNeedError(
            f"Expected at most {LARGEST} numbers to perturb, got a sparse matrix {x.shape[0]} x "
            f"{x.shape[1]}. "
            f"Audit fewer records, or run attacks that need one query."
        )
    kind, dtype = type(x), x.dtype
    z = np.asarray(x.toarray(), dtype=np.float64)
    return build_column_domain(z, z.shape[1:], lambda dense: kind(dense.astype(dtype))), z
