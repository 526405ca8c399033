"""Answer with the top class and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope.outputs._bases import Stateless
from memberscope.outputs.rounding import pick_top_classes
from memberscope.types import Floats, Signal


@dataclass(frozen=True)
class LabelOnly(Stateless):
    """Answer with the number of the top class, the first of equals.

    >>> import numpy as np
    >>> LabelOnly()(np.array([[0.2, 0.7, 0.1], [0.5, 0.3, 0.2]])).tolist()
    [[1.0], [0.0]]
    """

    @property
    def name(self) -> str:
        """Name `label`."""
        return "label"

    @property
    def signal(self) -> Signal:
        """Kind of the answers: labels."""
        return "labels"

    @property
    def hides(self) -> bool:
        """Whether something is left out: all probabilities are."""
        return True

    def __call__(self, outputs: Floats) -> Floats:
        """Answer with the labels (n, 1)."""
        return pick_top_classes(outputs)[:, None].astype(float)
