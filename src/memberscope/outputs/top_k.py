"""Answer with the likeliest classes only, and hide the others."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memberscope.errors import InputError
from memberscope.outputs._bases import Stateless
from memberscope.types import Floats, Signal

FEW = 64  # scores up to which sorting takes less time than making an array
SEARCHES = 8  # searches for the largest that take less time than the arrays of `__call__`


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

    def pick(self, scores: Sequence[float]) -> list[tuple[int, float]] | None:
        """Pick what one record's answer keeps, as classes and scores, the likeliest first.

        It is what the array form keeps, in less time; None where only that can tell.

        >>> TopK(2).pick([0.2, 0.5, 0.2]), TopK(3).pick([0.2, 0.5, 0.2])
        ([(1, 0.5), (0, 0.2)], None)
        """
        if self.k >= len(scores):
            return None
        if len(scores) <= FEW:
            # All other kinds, such as truth values and words, are left to the array form
            if not set(map(type, scores)) <= {float, int}:
                return None
            # Infinity and NaN are told by what they make of a sum
            if sum(scores) - sum(scores) != 0:
                return None
            order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
            return [(column, float(scores[column])) for column in order[: self.k]]
        return None if self.k > SEARCHES else self._search(scores)

    def _search(self, scores: Sequence[float]) -> list[tuple[int, float]] | None:
        """Pick from many scores; None where they are no finite numbers."""
        # Packed first, which takes a third of the time in which numpy reads a list
        try:
            values = np.frombuffer(bytearray(struct.pack(f"{len(scores)}d", *scores)))
        except (struct.error, OverflowError):
            return None
        if not np.isfinite(values).all():
            return None
        found = []
        for _ in range(self.k):
            # The first of equals
            column = int(values.argmax())
            found.append((column, float(values[column])))
            values[column] = -np.inf
        return found
