"""Round probabilities; the top class stays the top class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.errors import InputError
from memberscope.outputs._bases import Stateless
from memberscope.types import Floats, Ints, Signal

WIDE = 64  # classes from which on it takes less time to look for those that are told


@dataclass(frozen=True)
class Rounding(Stateless):
    """Round probabilities to `decimals`.

    Where a tie would change the top class, it is raised by one unit.

    >>> Rounding(1)(np.array([[0.26, 0.34, 0.4], [0.33, 0.34, 0.33]])).tolist()
    [[0.3, 0.3, 0.4], [0.3, 0.4, 0.3]]
    """

    decimals: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.decimals <= 15:
            raise InputError(
                f"Expected 0 to 15 decimals in round:d, got {self.decimals}. Give round:2."
            )

    @property
    def name(self) -> str:
        """Name `round:d`."""
        return f"round:{self.decimals}"

    @property
    def signal(self) -> Signal:
        """Kind of the answers: probabilities."""
        return "probabilities"

    @property
    def hides(self) -> bool:
        """Whether something is left out: digits are."""
        return True

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, k), rounded; the sum need not be one any more."""
        hidden = np.isnan(outputs)
        if not hidden.any():
            return self._rounded(outputs)
        # Below every probability, so that a hidden class is never the top one
        known = np.where(hidden, -np.inf, outputs)
        # Of many classes, those that are hidden from all need no work
        if outputs.shape[1] > WIDE:
            told = np.flatnonzero(~hidden.all(axis=0))
            if told.size:
                known[:, told] = self._rounded(known[:, told])
        else:
            known = self._rounded(known)
        known[hidden] = np.nan
        return known

    def round_pairs(self, pairs: list[tuple[int, float]]) -> list[tuple[int, float]] | None:
        """Round one record's classes and scores, the likeliest first, as the array form does.

        None where only that can tell: what is no probability.

        >>> Rounding(1).round_pairs([(2, 0.34), (0, 0.31), (1, 0.02)])
        [(2, 0.4), (0, 0.3), (1, 0.0)]
        """
        if not 0 <= pairs[-1][1] <= pairs[0][1] <= 1:
            return None
        scale = 10.0**self.decimals
        # A zero stays as it is, as it may have a sign
        found = [
            (column, round(score * scale) / scale if score else score) for column, score in pairs
        ]
        found.sort(key=lambda pair: (-pair[1], pair[0]))
        top = pairs[0][0]
        if found[0][0] != top:
            # As in `_rounded`: a tie went to an earlier class
            raised = round((found[0][1] + 10.0**-self.decimals) * scale) / scale
            found = [(top, raised), *(pair for pair in found if pair[0] != top)]
        return found

    def _rounded(self, known: Floats) -> Floats:
        """Round answers without NaN."""
        rounded: Floats = known.round(self.decimals)
        top, now = known.argmax(axis=1), rounded.argmax(axis=1)
        if (top != now).any():
            # A tie went to an earlier class: one unit more sets the top class apart
            moved = np.flatnonzero(top != now)
            # Rounded again, as the sum of two rounded numbers can have further digits
            rounded[moved, top[moved]] = np.round(
                rounded[moved, now[moved]] + 10.0**-self.decimals, self.decimals
            )
        return rounded


def pick_top_classes(outputs: Floats) -> Ints:
    """Pick the top class (n,) of answers (n, k) that may hide some, the first of equals.

    >>> pick_top_classes(np.array([[np.nan, 0.4, 0.4]])).tolist()
    [1]
    """
    hidden = np.isnan(outputs)
    known = np.where(hidden, -np.inf, outputs) if hidden.any() else outputs
    return np.asarray(known.argmax(axis=1), dtype=np.int64)
