"""Describe what a language model says about a text in a vector of fixed length.

No feature is the length of the text or follows from it: classifiers on them would otherwise learn
how long members are.
"""

from __future__ import annotations

import numpy as np

from memberscope.attacks.text._blocks import (
    average_lowest,
    compute_by_blocks,
    iterate_token_blocks,
    read_base_difference,
    read_log_probability,
    spread_over_tokens,
)
from memberscope.attacks.text._profiles import (
    centre_values,
    compute_autocorrelation,
    compute_quantiles,
    compute_shape,
    compute_slope,
)
from memberscope.attacks.text.ez import compute_error_ratio, compute_gain_ratio
from memberscope.attacks.text.min_k import compute_z_scores
from memberscope.attacks.text.wbc import compute_window_share
from memberscope.texts import TokenSignals
from memberscope.types import Floats

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
# Share of a text's tokens that count as its hard ones
HARD = 0.4
# Smoothing of ratios in nats a token: a fixed one would weigh more in short texts
EASED = 0.02


def compute_token_features(tokens: TokenSignals) -> Floats:
    """Compute features (n, d) of each record; what the signals lack has no columns.

    There are 14 from log-probabilities alone, 11 more with those of a base model, two more with the
    top tokens and two with the moments over the vocabulary.

    >>> tokens = TokenSignals(np.array([0, 2, 3]), np.array([-1.0, -3.0, -0.5]))
    >>> compute_token_features(tokens).shape
    (2, 14)
    """
    return compute_by_blocks(
        lambda block: np.column_stack(list(_compute_columns(block).values())), tokens
    )


def list_token_features(tokens: TokenSignals) -> tuple[str, ...]:
    """List the names of the features that these signals have.

    >>> list_token_features(TokenSignals(np.array([0, 1]), np.array([-1.0])))[:2]
    ('mean', 'spread')
    """
    # One record has them all
    _, first = next(iterate_token_blocks(tokens, 1))
    return tuple(_compute_columns(first))


def _compute_columns(tokens: TokenSignals) -> dict[str, Floats]:
    """Compute the features (n,) of a block by name."""
    values = read_log_probability(tokens)
    mean, centred = centre_values(values, tokens)
    spread, skewness = compute_shape(centred, tokens)
    quantiles = compute_quantiles(values, tokens, LEVELS)
    found = {"mean": mean, "spread": spread, "skewness": skewness}
    found |= {
        f"quantile_{level:g}": column for level, column in zip(LEVELS, quantiles.T, strict=True)
    }
    found["min_k"] = average_lowest(values, tokens, 0.2)
    found["slope"] = compute_slope(centred, tokens)
    found |= {
        f"autocorrelation_{lag}": compute_autocorrelation(centred, tokens, lag) for lag in (1, 2)
    }
    # Tokens that are likelier than not, and the very unlikely ones
    found["sure"] = tokens.sum_tokens(values > np.log(0.5)) / tokens.counts
    found["unlikely"] = tokens.sum_tokens(values < np.log(0.01)) / tokens.counts
    if tokens.base is not None:
        found |= _compare_with_base(tokens, values)
    if tokens.is_top is not None:
        found["top"] = tokens.sum_tokens(tokens.is_top) / tokens.counts
        if tokens.base is not None:
            found["error_ratio"] = compute_error_ratio(tokens, _ease_by_length(tokens))
    if tokens.has_part("moments"):
        z = compute_z_scores(tokens)
        found["z_mean"] = tokens.sum_tokens(z) / tokens.counts
        found["z_min_k"] = average_lowest(z, tokens, 0.2)
    return found


def _compare_with_base(tokens: TokenSignals, values: Floats) -> dict[str, Floats]:
    """Compute the features (n,) of the differences to the base model by name."""
    difference = read_base_difference(tokens)
    mean, centred = centre_values(difference, tokens)
    spread, skewness = compute_shape(centred, tokens)
    quantiles = compute_quantiles(difference, tokens, (0.1, 0.5, 0.9))
    # Tokens up to this quantile, equals included, so that at least one is hard
    (limit,) = compute_quantiles(values, tokens, (HARD,)).T
    everywhere = np.ones(len(values), dtype=np.bool_)
    hard = values <= spread_over_tokens(limit, tokens)
    return {
        "gain_mean": mean,
        "gain_spread": spread,
        "gain_skewness": skewness,
        "gain_quantile_0.1": quantiles[:, 0],
        "gain_quantile_0.5": quantiles[:, 1],
        "gain_quantile_0.9": quantiles[:, 2],
        "gain_share": tokens.sum_tokens(difference > 0) / tokens.counts,
        "gain_hard": tokens.sum_tokens(difference * hard) / tokens.sum_tokens(hard),
        "gain_slope": compute_slope(centred, tokens),
        "gain_windows": compute_window_share(tokens),
        "gain_ratio": compute_gain_ratio(tokens, everywhere, _ease_by_length(tokens)),
    }


def _ease_by_length(tokens: TokenSignals) -> Floats:
    """Give a smoothing (n,) that weighs the same in short and in long texts."""
    smoothing: Floats = EASED * tokens.counts.astype(np.float64)
    return smoothing
