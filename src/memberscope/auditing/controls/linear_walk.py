"""Fit the blind control's linear model to one block after another of many columns.

Ridge regression on standardised inputs needs only their sums, products and products with the
membership, so each block is read once and added to those before it.
"""

from __future__ import annotations

import numpy as np

from memberscope.types import Bools, Floats, Ints

BLOCKS = 3  # blocks that are scored, after a first third that is only learned from
PENALTY = 10.0  # of the squared weights of standardised inputs
# A variance below this share of the mean square is rounding, so the column is constant
LEAST_VARIANCE = 1e-12


def predict_linear_by_block(inputs: Floats, member: Bools, block: Ints) -> Floats:
    """Predict log-odds (n,) of membership, each block's from a model fitted on those before it.

    `inputs` (n, f) hold no missing values and `block` (n,) counts from 0, which is only learned
    from. The model is that of a standard scaler and a ridge classifier, up to rounding.

    >>> x = np.arange(8.0)[:, None] % 4
    >>> predict_linear_by_block(x, x[:, 0] > 1, np.repeat([0, 1], 4)).round(2)
    array([  nan,   nan,   nan,   nan, -0.34, -0.11,  0.11,  0.34])
    """
    n, width = inputs.shape
    scores = np.full(n, np.nan)
    # Sums of squares lose few digits about a value near the mean
    pivot = inputs[block == 0].mean(axis=0)
    outcome = np.where(member, 1.0, -1.0)
    count, total, with_outcome = 0, np.zeros(width), np.zeros(width)
    products = np.zeros((width, width))
    for b in range(BLOCKS + 1):
        own = block == b
        part, truth = inputs[own], outcome[own]
        part -= pivot
        before = block < b
        # A classifier needs both sides to learn from; other blocks stay unscored
        if own.any() and 0 < int(member[before].sum()) < count:
            average = float(outcome[before].mean())
            weights, constant = _solve_ridge(count, total, products, with_outcome, average)
            scores[own] = part @ weights + constant
        count += len(part)
        total += part.sum(axis=0)
        with_outcome += part.T @ truth
        if b < BLOCKS:
            products += part.T @ part
    return scores


def _solve_ridge(
    count: int, total: Floats, products: Floats, with_outcome: Floats, average: float
) -> tuple[Floats, float]:
    """Solve for the weights (f,) of inputs as they are, and the constant."""
    from scipy.linalg import solve

    mean, square = total / count, np.diag(products) / count
    variance = square - mean**2
    fixed = variance <= LEAST_VARIANCE * square
    # A constant column tells nothing and gets no weight
    scale = np.where(fixed, np.inf, np.sqrt(np.where(fixed, 1.0, variance)))
    centred = (products - count * np.outer(mean, mean)) / scale[:, None] / scale
    centred[np.diag_indices(len(mean))] += PENALTY
    aim = (with_outcome - count * mean * average) / scale
    weights = solve(centred, aim, assume_a="pos", overwrite_a=True) / scale
    return weights, average - float(mean @ weights)
