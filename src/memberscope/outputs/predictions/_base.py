"""What restrictions of numbers have in common."""

from __future__ import annotations

from memberscope.types import Signal


class PartOfNumbers:
    """An output defence whose answers are numbers that leave a part of the prediction out."""

    @property
    def signal(self) -> Signal:
        """Kind of the answers: predictions, or probabilities of labels where those are given."""
        return "prediction"

    @property
    def hides(self) -> bool:
        """Whether something is left out: a part of each number is."""
        return True
