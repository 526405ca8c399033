"""Compute how the loss changes with a model's outputs.

This is the start of every gradient, kept apart from its size so that neither is lost. The gradient
of cross-entropy is linear in this error, and the error of a confident model is a number that
floating point rounds to zero. Divided by its size it is near one, and the size is known exactly as
a logarithm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, logsumexp

from memberscope.types import Floats, Ints, Signal

TINY = 1e-300  # below this a probability is read as zero
LEAST = -50.0  # lower log-probabilities make no difference to an attack


@dataclass(frozen=True, eq=False)
class OutputError:
    """Error of cross-entropy in nats at the outputs.

    `unit` (n, k) times exp(`log_size`) (n,) is its derivative in the outputs; `log_p` (n,) is minus
    its value. `log_odds` (n,) is log p_y - log(1 - p_y).
    """

    unit: Floats
    log_size: Floats
    log_p: Floats
    log_odds: Floats


def compute_output_error(outputs: Floats, labels: Ints, signal: Signal) -> OutputError:
    """Compute the error of logits or probabilities `outputs` (n, k) at the true classes (n,).

    From logits `unit` is -1 at the true class and the other classes' shares of what is left
    elsewhere.

    >>> found = compute_output_error(np.array([[800.0, 0.0]]), np.array([0]), "logits")
    >>> found.unit.tolist(), float(found.log_size[0])
    ([[-1.0, 1.0]], -800.0)
    """
    # What is not finite stays so, and is refused where the records' names are known
    with np.errstate(invalid="ignore"):
        return _compute_error_in_place(np.array(outputs, dtype=np.float64), labels, signal)


def _compute_error_in_place(others: Floats, labels: Ints, signal: Signal) -> OutputError:
    """Compute the error for an array (n, k) that may be overwritten."""
    rows = np.arange(len(others))
    if signal == "probabilities":
        others = np.log(np.maximum(others, TINY))
        log_p = others[rows, labels].copy()
    else:
        log_p = log_softmax(others, axis=1)[rows, labels]
    true = others[rows, labels].copy()
    # Takes the true class out of sums over the others
    others[rows, labels] = -np.inf
    # From the other classes directly, since 1 - p_y would round to zero
    rest = logsumexp(others, axis=1)
    if signal == "probabilities":
        unit = np.zeros_like(others)
        unit[rows, labels] = -1.0
        return OutputError(unit, -log_p, log_p, true - rest)
    unit = np.exp(others - rest[:, None])
    unit[rows, labels] = -1.0
    return OutputError(unit, rest - np.logaddexp(true, rest), log_p, true - rest)


def compute_minus_log(log_size: Floats, squares: Floats) -> Floats:
    """Compute minus the logarithm (n, d) of norms exp(log_size) sqrt(squares) (n, d).

    No norm is below 1e-8 of the error's size. A layer behind units that are all off has no gradient
    at all: it counts as small, not as infinitely small.

    >>> compute_minus_log(np.array([0.0]), np.array([[1.0, 0.0]])).round(2).tolist()
    [[-0.0, 18.42]]
    """
    found: Floats = -(log_size[:, None] + 0.5 * np.log(np.maximum(squares, 1e-16)))
    return found


def build_layer_columns(error: OutputError, squares: Floats) -> Floats:
    """Build the columns (n, 3 + 2 layers) of the layers' norms.

    Whole norm, log-probability and logit, then each layer's norm, then each layer's norm for an
    error of unit size. All norms are minus logarithms; `squares` (n, layers) are squared norms for
    an error of unit size.

    >>> build_layer_columns(compute_output_error(np.zeros((1, 2)), np.array([0]), "logits"), np.ones((1, 4))).round(2).tolist()
    [[-0.0, -0.69, 0.0, 0.69, 0.69, 0.69, 0.69, -0.0, -0.0, -0.0, -0.0]]
    """
    whole = compute_minus_log(error.log_size, squares.sum(axis=1, keepdims=True))
    layers, alone = (
        compute_minus_log(error.log_size, squares),
        compute_minus_log(np.zeros(len(squares)), squares),
    )
    return np.hstack([whole, error.log_p[:, None], error.log_odds[:, None], layers, alone])


def clip_log_probabilities(outputs: Floats, signal: Signal) -> Floats:
    """Compute log-probabilities (n, k) of logits or probabilities, none below `LEAST`.

    >>> clip_log_probabilities(np.array([[0.0, 0.0]]), "logits").round(4).tolist()
    [[-0.6931, -0.6931]]
    """
    logs = log_softmax(outputs, axis=1) if signal == "logits" else np.log(np.maximum(outputs, TINY))
    return np.asarray(np.maximum(logs, LEAST), dtype=np.float64)


def project_columns(values: Floats, width: int) -> Floats:
    """Reduce values (n, d) to `width` columns by fixed random directions, if there are more.

    >>> project_columns(np.ones((2, 100)), 8).shape, project_columns(np.ones((2, 3)), 8).shape
    ((2, 8), (2, 3))
    """
    if values.shape[1] <= width:
        return values
    # A fixed seed: the target and all records must be projected alike
    directions = np.random.default_rng([values.shape[1], width]).standard_normal(
        (values.shape[1], width)
    )
    return np.asarray(values @ (directions / np.sqrt(values.shape[1])), dtype=np.float64)
