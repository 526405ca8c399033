"""Make probabilities flatter or steeper.

An adversary who knows the temperature loses nothing at full precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.errors import InputError
from memberscope.outputs._bases import Stateless, WholeProbabilities
from memberscope.outputs.rounding import pick_top_classes
from memberscope.types import Floats


@dataclass(frozen=True)
class Temperature(WholeProbabilities, Stateless):
    """Raise probabilities to 1 / `temperature`, scaled to the sum that they had.

    >>> np.round(Temperature(2.0)(np.array([[0.64, 0.36]])), 4).tolist()
    [[0.5714, 0.4286]]
    """

    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not 1e-3 <= self.temperature <= 1e3:
            raise InputError(
                f"Expected a temperature from 0.001 to 1000, got {self.temperature:g}. Give "
                "temperature:2."
            )

    @property
    def name(self) -> str:
        """Name `temperature:t`."""
        return f"temperature:{self.temperature:.15g}"

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, k)."""
        with np.errstate(divide="ignore"):
            # A probability of 0 has an infinite logarithm, and stays 0
            logs = np.log(np.maximum(outputs, 0.0)) / self.temperature
        # The largest becomes 1, so that a low temperature does not underflow to zeros alone
        powered = np.exp(logs - np.nanmax(logs, axis=1, keepdims=True))
        rows, top = np.arange(len(outputs)), pick_top_classes(outputs)
        # So flat that the top class would tie
        powered[rows, top] *= np.where(pick_top_classes(powered) == top, 1.0, 1 + 1e-9)
        # Hidden classes are NaN; those that are shown keep the sum that they had
        total = np.nansum(powered, axis=1, keepdims=True)
        changed: Floats = (
            powered * np.nansum(outputs, axis=1, keepdims=True) / np.where(total > 0, total, 1.0)
        )
        return changed
