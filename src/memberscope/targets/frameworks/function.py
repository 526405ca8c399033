"""Wrap a plain function from records to answers, for models of any other framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.frames import count_rows
from memberscope.targets.answers.real_outputs import arrange_outputs, find_task_signal
from memberscope.types import Access, Floats, Signal, Task


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


class FunctionOutputsTarget:
    """A callable that returns numbers (n,) or (n, d), or probabilities (n, k) of labels.

    `n_classes` is the number of outputs, which the first answer shows if it is not given. It has no
    digest, so that its answers are not cached.

    >>> target = FunctionOutputsTarget(lambda x: x.sum(axis=1), task="regression")
    >>> target.query(np.array([[1.0, 2.0]])).tolist(), target.n_classes
    ([[3.0]], 1)
    """

    access = Access.PREDICTION
    digest: str | None = None
    n_parameters: int | None = None

    def __init__(
        self, function: Callable[[Any], Any], *, task: Task, n_classes: int | None = None
    ) -> None:
        """Wrap `function`, a model of this `task`."""
        self.function = function
        self.task: Task = task
        self.signal: Signal = find_task_signal(task)
        self.known_classes = n_classes

    @property
    def n_classes(self) -> int:
        """Number of outputs, or of labels.

        Raises:
            InputError: It was not given, and nothing was queried yet.
        """
        if self.known_classes is None:
            raise InputError(
                "Expected the number of outputs, got none before the first query. Give n_classes, "
                "or query the target for one record."
            )
        return self.known_classes

    def query(self, x: Any) -> Floats:
        """Give the outputs (n, d).

        Raises:
            InputError: The answers are not numbers, or not one row for each record.
        """
        answer = self.function(x)
        outputs = arrange_outputs(answer, count_rows(x), self.known_classes, name="the function")
        self.known_classes = outputs.shape[1]
        return outputs
