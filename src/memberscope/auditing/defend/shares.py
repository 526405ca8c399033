"""Say how right a model is: a share with its limits, its name, and that of a constant answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from memberscope.statistics import clopper_pearson
from memberscope.types import Bools, Floats, Task

# What says how right a model is where it is not accuracy, and what counts labels
QUALITIES: dict[Task, str] = {
    "text": "token probability",
    "regression": "explained variance",
    "forecast": "explained variance",
    "multilabel": "share of labels right",
    "table": "nearness",
}
COUNTED = ("accuracy", "share of labels right")


@dataclass(frozen=True)
class Share:
    """A share of `n` with its exact limits, or a mean over `n`."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, right: Bools | Floats, confidence: float) -> Share:
        """Take the share of ones in `right` (n,), or the mean of how right a model is.

        A mean has normal limits.
        """
        if right.dtype != bool:
            mean = float(right.mean())
            reach = float(ndtri((1 + confidence) / 2) * right.std(ddof=1) / len(right) ** 0.5)
            return cls(mean, mean - reach, min(1.0, mean + reach), len(right))
        low, high = clopper_pearson(int(right.sum()), len(right), confidence)
        return cls(float(right.mean()), float(low), float(high), len(right))


def name_quality(task: Task) -> str:
    """Name what says how right a model of a task is, beside its leakage.

    Of texts it is the mean over records of the geometric-mean probability of a token, of numbers
    the explained variance, record by record, and of a table the mean over records of one over one
    plus the distance to its closest row.

    >>> name_quality("classification"), name_quality("forecast")
    ('accuracy', 'explained variance')
    """
    return QUALITIES.get(task, "accuracy")


def measure_constant_answer(y: NDArray[Any]) -> float:
    """Measure how right the best constant answer is about records with labels or true values `y`.

    Numbers are explained by it as little as by nothing.

    >>> measure_constant_answer(np.array([0, 1, 1])), measure_constant_answer(np.array([0.5, 2.0]))
    (0.6666666666666666, 0.0)
    """
    if y.dtype.kind == "f":
        return 0.0
    if y.ndim > 1:
        shares = y.mean(axis=0)
        return float(np.maximum(shares, 1 - shares).mean())
    return float(np.bincount(y).max()) / len(y)
