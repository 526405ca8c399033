"""What the documented servers serve."""

import numpy as np

WEIGHTS = np.array([[1.0, -1.0, 0.5], [0.3, 0.8, -0.6]])


def scores(rows):
    """Probabilities of three classes for rows of two numbers."""
    odds = np.exp(np.asarray(rows, dtype=np.float64) @ WEIGHTS)
    return (odds / odds.sum(axis=1, keepdims=True)).tolist()
