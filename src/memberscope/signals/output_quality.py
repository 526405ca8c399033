"""Measure how right a model with real outputs, or with several labels, is about each record."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.types import Floats, Signal


def measure_output_quality(signal: Signal, outputs: Floats, labels: NDArray[Any]) -> Floats:
    """Measure how right outputs (n, d) are about each record (n,), at most 1.

    Of numbers it is one minus the squared error as a share of the variance of the true values
    (n,) or (n, d), averaged over outputs: its mean over records is the explained variance. Of
    several labels it is the share that is right, at a probability of one half. Of a released table
    it is one over one plus the distance to its closest row.

    >>> y = np.array([0.0, 2.0])
    >>> measure_output_quality("prediction", np.array([[0.0], [1.0]]), y).tolist()
    [1.0, 0.0]
    >>> measure_output_quality("label_probabilities", np.array([[0.9, 0.2]]), np.array([[1, 1]])).tolist()
    [0.5]
    """
    truth = np.asarray(labels, dtype=np.float64).reshape(len(outputs), -1)
    if signal == "proximity":
        # The first column is minus the logarithm of the distance, and at most the table's offset
        return 1.0 / (1.0 + np.exp(-outputs[:, 0]))
    if signal == "label_probabilities":
        return np.asarray(((outputs >= 0.5) == (truth > 0.5)).mean(axis=1), dtype=np.float64)
    spread = truth.var(axis=0)
    # An output that never varies has nothing to explain: its error counts as it is
    scale = np.where(spread > 0, spread, 1.0)
    return np.asarray(1.0 - ((outputs - truth) ** 2 / scale).mean(axis=1), dtype=np.float64)
