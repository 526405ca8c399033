"""Answer of several labels only which of them apply."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.errors import InputError
from memberscope.outputs._bases import Stateless
from memberscope.types import Floats, Signal


@dataclass(frozen=True)
class LabelsOnly(Stateless):
    """Answer 1 for each label whose probability reaches `threshold`, and 0 for the others.

    >>> LabelsOnly()(np.array([[0.2, 0.5, 0.9]])).tolist()
    [[0.0, 1.0, 1.0]]
    """

    threshold: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a threshold that no probability crosses.

        Raises:
            InputError: It is not between 0 and 1.
        """
        if not 0.0 < self.threshold < 1.0:
            raise InputError(
                f"Expected a threshold between 0 and 1 in labels:t, got {self.threshold:g}. Give "
                "labels:0.5."
            )

    @property
    def name(self) -> str:
        """Name `labels:t`."""
        return f"labels:{self.threshold:.15g}"

    @property
    def signal(self) -> Signal:
        """Kind of the answers: probabilities of labels, all of them 0 or 1."""
        return "label_probabilities"

    @property
    def hides(self) -> bool:
        """Whether something is left out: all probabilities are."""
        return True

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, k) of zeros and ones."""
        return np.asarray(outputs >= self.threshold, dtype=np.float64)
