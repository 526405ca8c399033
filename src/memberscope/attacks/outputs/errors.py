"""Score a record by how close the prediction is to the truth.

References:
    [1] S. Yeom, I. Giacomelli, M. Fredrikson, S. Jha, "Privacy Risk in Machine Learning: Analyzing
        the Connection to Overfitting", CSF 2018, arXiv:1709.01604 (section 3.3, regression).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks.outputs._output_score import OutputScore
from memberscope.types import Evidence, Floats


@dataclass(frozen=True)
class PredictionError(OutputScore):
    """Minus the squared error [1], as a share of its mean over the records, averaged over outputs.

    So outputs in other units, or that the model predicts less well, count alike.

    >>> truth = np.array([[30.0], [40.0]])
    >>> evidence = Evidence("prediction", np.array([[[31.0]], [[43.0]]]), truth, np.full(2, -1, dtype=np.int8))
    >>> PredictionError().score(evidence, np.random.default_rng(0)).tolist()
    [-0.2, -1.8]
    """

    _base: ClassVar[str] = "prediction_error"

    def _measure(self, evidence: Evidence, outputs: Floats, truth: Floats) -> Floats:
        return -scale_squared_error(outputs, truth)


def scale_squared_error(outputs: Floats, truth: Floats) -> Floats:
    """Average the squared error of outputs (n, d), each as a share of its mean over the records.

    >>> scale_squared_error(np.array([[1.0, 10.0], [3.0, 30.0]]), np.zeros((2, 2))).tolist()
    [0.2, 1.8]
    """
    squared = (outputs - truth) ** 2
    mean = squared.mean(axis=0)
    # An output that is right about every record tells nothing about any
    return np.asarray((squared / np.where(mean > 0, mean, 1.0)).mean(axis=1), dtype=np.float64)
