"""Wrap a plain function from records to probabilities, for models of any other framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from memberscope.types import Access, Floats, Signal


class FunctionTarget:
    """A callable that returns probabilities or logits (n, k) for records `x`.

    It has no digest, so that its answers are not cached.

    >>> target = FunctionTarget(lambda x: np.tile([0.5, 0.5], (len(x), 1)), n_classes=2)
    >>> target.query(np.zeros((3, 1))).shape
    (3, 2)
    """

    digest: str | None = None
    n_parameters: int | None = None

    def __init__(
        self, function: Callable[[Any], Any], *, n_classes: int, signal: Signal = "probabilities"
    ) -> None:
        """Wrap `function`, which answers for `n_classes` classes."""
        self.function = function
        self.n_classes = n_classes
        self.signal: Signal = signal
        self.access = {"labels": Access.LABEL, "logits": Access.LOGITS}.get(
            signal, Access.PROBABILITIES
        )

    def query(self, x: Any) -> Floats:
        """Give the outputs (n, k)."""
        return np.asarray(self.function(x), dtype=np.float64)
