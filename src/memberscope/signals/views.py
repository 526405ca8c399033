"""Transform records into the copies that are queried.

Views are declared, counted against the budget, and the same for every model.

A view is named by a word and its numbers: `identity`; `flip` (left and right); `shift:dx:dy` (an
image moved by whole pixels, edges repeated); `noise:s` (normal noise of s standard deviations of
each feature). Images are (n, ..., height, width), or (n, height, width, channels) where only the
last axis can be one of 1, 3 or 4 channels.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from memberscope.errors import InputError

CHANNELS = (1, 3, 4)
KINDS = {"identity": 0, "flip": 0, "shift": 2, "noise": 1}


def check_view(name: str) -> tuple[str, tuple[float, ...]]:
    """Parse the kind and the numbers of a view.

    Raises:
        InputError: It is unknown, or has another number of numbers.

    >>> check_view("shift:1:-2")
    ('shift', (1.0, -2.0))
    """
    kind, *rest = name.split(":")
    try:
        numbers = tuple(float(part) for part in rest)
    except ValueError:
        # As many numbers as no view has, so that the next check refuses the name
        numbers = (float("nan"),) * 9
    if kind not in KINDS or len(numbers) != KINDS[kind]:
        raise InputError(
            f"Expected a view identity, flip, shift:dx:dy or noise:s, got {name!r}. Write for "
            "example shift:1:0 or noise:0.1."
        )
    return kind, numbers


def transform_view(name: str, x: Any) -> Any:
    """Give the copies of the records `x` (n, ...) that the view `name` queries.

    Raises:
        InputError: The view does not apply to these records.

    >>> transform_view("flip", np.arange(6).reshape(1, 1, 2, 3))[0, 0].tolist()
    [[2, 1, 0], [5, 4, 3]]
    """
    kind, numbers = check_view(name)
    if kind == "identity":
        return x
    if not isinstance(x, np.ndarray):
        raise InputError(
            f"Expected records as one array for the view {name!r}, got {type(x).__name__}. Convert "
            "them to a NumPy array."
        )
    if kind == "noise":
        if x.dtype.kind != "f":
            raise InputError(
                f"Expected real features for the view {name!r}, got {x.dtype}. Use another view."
            )
        # Seeded by the view's own name: every model is queried with the same noise
        rng = np.random.default_rng(
            int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        )
        scale = numbers[0] * x.std(axis=0, keepdims=True)
        return (x + scale * rng.standard_normal(x.shape)).astype(x.dtype)
    if x.ndim < 3:
        raise InputError(
            f"Expected images (n, ..., height, width) for the view {name!r}, got shape {x.shape}. "
            "Use a view noise:s instead."
        )
    images = reorder_channels(x)
    moved = (
        images[..., ::-1]
        if kind == "flip"
        else shift_with_edges(images, int(numbers[0]), int(numbers[1]))
    )
    return np.ascontiguousarray(reorder_channels(moved, back=True) if images is not x else moved)


def reorder_channels(x: np.ndarray[Any, Any], *, back: bool = False) -> np.ndarray[Any, Any]:
    """Move height and width of images last; `back` undoes that where channels were last.

    >>> reorder_channels(np.zeros((5, 8, 6, 3))).shape, reorder_channels(np.zeros((5, 3, 8, 6))).shape
    ((5, 3, 8, 6), (5, 3, 8, 6))
    """
    if back:
        return np.moveaxis(x, 1, -1)
    # Both axes could be channels: then the first is taken, as torch has it
    last = x.ndim == 4 and x.shape[-1] in CHANNELS and x.shape[1] not in CHANNELS
    return np.moveaxis(x, -1, 1) if last else x


def shift_with_edges(x: np.ndarray[Any, Any], dx: int, dy: int) -> np.ndarray[Any, Any]:
    """Shift images (..., height, width) by (dx, dy) pixels; edges are repeated.

    >>> shift_with_edges(np.array([[[1, 2, 3]]]), 1, 0).tolist()
    [[[1, 1, 2]]]
    """
    rows = np.clip(np.arange(x.shape[-2]) - dy, 0, x.shape[-2] - 1)
    columns = np.clip(np.arange(x.shape[-1]) - dx, 0, x.shape[-1] - 1)
    return np.ascontiguousarray(x[..., rows[:, None], columns[None, :]])
