"""Describe how values change along the tokens of a text."""

from __future__ import annotations

import numpy as np

from memberscope.attacks.text._blocks import iterate_groups, spread_over_tokens
from memberscope.texts import TokenSignals
from memberscope.types import Floats

# A variance below this, in nats squared, is that of equal values after rounding
STILL = 1e-18


def centre_values(values: Floats, tokens: TokenSignals) -> tuple[Floats, Floats]:
    """Give the mean (n,) of each record's values (t,), and the values minus it (t,)."""
    mean = tokens.sum_tokens(values) / tokens.counts
    return mean, values - spread_over_tokens(mean, tokens)


def compute_shape(centred: Floats, tokens: TokenSignals) -> tuple[Floats, Floats]:
    """Compute the standard deviation and the skewness (n,) of centred values (t,).

    Both are zero where all values of a record are equal.
    """
    squares = centred * centred
    variance = tokens.sum_tokens(squares) / tokens.counts
    third = tokens.sum_tokens(squares * centred) / tokens.counts
    moving = variance > STILL
    skewness = np.where(moving, third / np.where(moving, variance, 1.0) ** 1.5, 0.0)
    return np.sqrt(np.where(moving, variance, 0.0)), skewness


def compute_slope(centred: Floats, tokens: TokenSignals) -> Floats:
    """Compute the slope (n,) of centred values (t,) from the first to the last token, in nats.

    >>> tokens = TokenSignals(np.array([0, 3, 4]), np.zeros(4))
    >>> compute_slope(np.array([-1.0, 0.0, 1.0, 0.0]), tokens).tolist()
    [2.0, 0.0]
    """
    counts = spread_over_tokens(tokens.counts.astype(np.float64), tokens)
    first = spread_over_tokens(tokens.offsets[:-1].astype(np.float64), tokens)
    # From -1/2 at the first token to 1/2 at the last, whatever the length
    place = (np.arange(len(centred)) - first) / np.maximum(counts - 1, 1) - 0.5
    place = np.where(counts > 1, place, 0.0)
    spread = tokens.sum_tokens(place * place)
    slope: Floats = tokens.sum_tokens(place * centred) / np.where(spread > 0, spread, 1.0)
    return slope


def compute_autocorrelation(centred: Floats, tokens: TokenSignals, lag: int) -> Floats:
    """Compute the autocorrelation (n,) of centred values (t,) at a lag, zero where they are equal.

    >>> tokens = TokenSignals(np.array([0, 4, 5]), np.zeros(5))
    >>> compute_autocorrelation(np.array([1.0, -1.0, 1.0, -1.0, 0.0]), tokens, 1).tolist()
    [-1.0, 0.0]
    """
    place = np.arange(len(centred)) - spread_over_tokens(tokens.offsets[:-1].astype(float), tokens)
    products = np.zeros_like(centred)
    products[lag:] = centred[lag:] * centred[:-lag]
    # The first tokens of a record have no earlier one of their own
    total = tokens.sum_tokens(np.where(place >= lag, products, 0.0))
    pairs = np.maximum(tokens.counts - lag, 1)
    variance = tokens.sum_tokens(centred * centred) / tokens.counts
    moving = variance > STILL
    return np.where(moving, total / pairs / np.where(moving, variance, 1.0), 0.0)


def compute_quantiles(values: Floats, tokens: TokenSignals, levels: tuple[float, ...]) -> Floats:
    """Compute quantiles (n, levels) of each record's values (t,), between neighbours by a line.

    >>> tokens = TokenSignals(np.array([0, 3, 4]), np.zeros(4))
    >>> compute_quantiles(np.array([3.0, 1.0, 2.0, 7.0]), tokens, (0.25, 0.5)).tolist()
    [[1.5, 2.0], [7.0, 7.0]]
    """
    found = np.empty((len(tokens), len(levels)))
    for group in iterate_groups(tokens):
        ordered = np.sort(group.lay_out(values, np.inf), axis=1)
        for column, level in enumerate(levels):
            place = level * (group.counts - 1)
            low = np.floor(place).astype(np.int64)
            high = np.minimum(low + 1, group.counts - 1)
            below, above = group.take_at(ordered, low), group.take_at(ordered, high)
            found[group.rows, column] = below + (place - low) * (above - below)
    return found
