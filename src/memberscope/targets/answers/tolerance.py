"""Compute how far the sum of a record's probabilities may be from one.

It depends on the precision in which they were written.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST = 1e-3  # what sums of half-precision softmax outputs over few classes need, as everywhere
MOST_BINARY = 0.05  # a larger deviation cannot be the rounding of half precision
DECIMALS = range(1, 8)
ENOUGH = 20  # numbers of which not all are multiples of 1/255 by chance
LEVELS = (255, 256)  # steps from 0 to 1 of answers quantised to eight bits
BFLOAT16, FLOAT16 = 2.0**-9, 2.0**-11  # half a unit in the last place of a number just below two
LEAST_BFLOAT16 = 2.0**-7  # what a softmax in eight bits may miss over few classes


def compute_simplex_tolerance(values: ArrayLike, decimals: int | None = None) -> float:
    """Compute how far from one the probabilities (n, k) of a record may sum.

    Half a unit of the last decimal for each class, and at least 1e-3. Without `decimals` they are
    counted. Numbers that are whole in float16 or bfloat16 were rounded to these, and get the
    precision of that type for each class, at most 0.05.

    >>> compute_simplex_tolerance([[0.3, 0.3, 0.3], [0.1, 0.6, 0.2]]), compute_simplex_tolerance(np.full((1, 1000), 0.001), decimals=4)
    (0.15, 0.05)
    >>> compute_simplex_tolerance([[1 / 3, 2 / 3]])
    0.001
    """
    outputs = np.asarray(values, dtype=np.float64)
    # Hidden classes are NaN: their records say nothing about rounding
    outputs = outputs[np.isfinite(outputs).all(axis=1)] if outputs.ndim == 2 else outputs
    k = outputs.shape[-1]
    if decimals is None:
        decimals = _written_decimals(outputs)
    written = 0.0 if decimals is None else round(0.5 * 10.0**-decimals * k, 9)
    precision = _half_precision(outputs)
    # Each class adds a rounding error of its own
    binary = max(LEAST_BFLOAT16 if precision == BFLOAT16 else 0.0, min(MOST_BINARY, precision * k))
    return float(max(LEAST, written, binary, _level_step(outputs) * 0.5 * k))


def _written_decimals(outputs: NDArray[np.float64]) -> int | None:
    """Count the decimals that all values have, 1 at least.

    Give None if they are not rounded, or are all 0 or 1.
    """
    # Zeros and ones are whole in every notation, and show nothing
    if np.isin(outputs, (0.0, 1.0)).all():
        return None
    for decimals in DECIMALS:
        scale = 10.0**decimals
        if (
            np.abs(outputs - np.round(outputs * scale) / scale) <= 6e-8 * np.abs(outputs) + 1e-12
        ).all():
            return decimals
    return None


def _level_step(outputs: NDArray[np.float64]) -> float:
    """Find the step of answers quantised to eight bits; 0 if they are not, or are all 0 or 1."""
    if outputs.size < ENOUGH or np.isin(outputs, (0.0, 1.0)).all():
        return 0.0
    return next(
        (1 / n for n in LEVELS if (np.abs(outputs * n - np.round(outputs * n)) < 1e-6 * n).all()),
        0.0,
    )


def _half_precision(outputs: NDArray[np.float64]) -> float:
    """Find the rounding error of the half precision that holds every value exactly.

    Give 0 if none does, or if all are 0 or 1.
    """
    if np.isin(outputs, (0.0, 1.0)).all() or not (np.abs(outputs) < 2).all():
        return 0.0
    bits = np.ascontiguousarray(outputs, dtype=np.float32)
    if (bits == outputs).all() and not (bits.view(np.uint32) & 0xFFFF).any():
        return BFLOAT16  # float16 holds most of these exactly, too
    return FLOAT16 if (outputs.astype(np.float16) == outputs).all() else 0.0
