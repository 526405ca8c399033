"""Functions of arrays that several packages need."""

from __future__ import annotations

import numpy as np

from memberscope.types import Floats


def softmax(logits: Floats) -> Floats:
    """Turn `logits` (n, k) into probabilities (n, k).

    >>> softmax(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    # Subtracting the maximum changes no probability and keeps the exponentials finite
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


# Below this a probability is read as zero; keeps logarithms finite without moving any rank
FLOOR = 1e-300


def fill_hidden_probabilities(values: Floats) -> Floats:
    """Fill each hidden class (NaN) of `values` (n, k) with a share of the remaining probability.

    All hidden classes of a record get the same share. It lies within all that is known of a hidden class: it is at least zero, at most the
    smallest visible probability of a top-k answer, and the whole sums to one. Hidden classes of one
    record tie.

    >>> fill_hidden_probabilities(np.array([[0.7, np.nan, np.nan], [0.5, 0.3, 0.2]])).round(2).tolist()
    [[0.7, 0.15, 0.15], [0.5, 0.3, 0.2]]
    """
    hidden = np.isnan(values)
    if not hidden.any():
        return values
    n_hidden = hidden.sum(axis=1)
    left = np.maximum(1.0 - np.where(hidden, 0.0, values).sum(axis=1), 0.0)
    # Several times as fast as the functions of NumPy that leave out what is missing
    smallest = np.where(hidden, np.inf, values).min(axis=1)
    # Nothing is known of a record without any visible class
    smallest[n_hidden == values.shape[1]] = np.nan
    share = np.minimum(left / np.maximum(n_hidden, 1), smallest)
    return np.where(hidden, share[:, None], values)


def logsumexp(values: Floats) -> Floats:
    """Give the row-wise log of the sum of exponentials (n,) of `values` (n, k).

    A row of -inf gives -inf.
    """
    # A finite maximum even for a row of -inf, since -inf minus -inf would be NaN
    top = np.maximum(values.max(axis=1), np.finfo(np.float64).min)
    with np.errstate(divide="ignore"):
        return np.asarray(top + np.log(np.exp(values - top[:, None]).sum(axis=1)), dtype=np.float64)


def round_to_40_bits(values: Floats) -> Floats:
    """Round values to 40 bits, so that equal probabilities summed in another order still tie."""
    mantissa, exponent = np.frexp(values)
    rounded: Floats = np.ldexp(np.round(mantissa * 2.0**40), exponent - 40)
    return rounded
