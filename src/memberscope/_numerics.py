"""Functions of arrays that several rooms need."""

from __future__ import annotations

import numpy as np

from memberscope.types import Floats


def softmax(logits: Floats) -> Floats:
    """Probabilities (n, k) of `logits` (n, k).

    >>> softmax(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities
