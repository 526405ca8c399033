"""Answer with the likeliest classes only, and hide the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.errors import InputError
from memberscope.outputs._bases import Stateless
from memberscope.types import Floats, Signal


@dataclass(frozen=True)
class TopK(Stateless):
    """Keep the `k` largest probabilities of each answer, the first of equals; others are NaN.

    >>> TopK(1)(np.array([[0.2, 0.7, 0.1]])).tolist()
    [[nan, 0.7, nan]]
    """

    k: int = 1

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(
                f"Expected at least one class in top:k, got {self.k}. Give top:1 or more."
            )

    @property
    def name(self) -> str:
        """Name `top:k`."""
        return f"top:{self.k}"

    @property
    def signal(self) -> Signal:
        """Kind of the answers: probabilities."""
        return "probabilities"

    @property
    def hides(self) -> bool:
        """Whether something is left out: classes are."""
        return True

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, k), NaN where a class is hidden."""
        if self.k >= outputs.shape[1]:
            return outputs
        # An earlier part of a chain may have hidden some already
        hidden = np.isnan(outputs)
        known = np.where(hidden, -np.inf, outputs) if hidden.any() else outputs
        least = np.partition(known, -self.k, axis=1)[:, -self.k, None]
        kept = known >= least
        # Equals: the first of them stay
        if np.count_nonzero(kept) > self.k * len(outputs):
            more, equal = known > least, known == least
            kept = more | (
                equal & (np.cumsum(equal, axis=1) <= self.k - more.sum(axis=1, keepdims=True))
            )
        return np.where(kept, outputs, np.nan)
