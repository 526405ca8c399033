"""What output defences have in common: nothing to fit, or whole probabilities as answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from memberscope.types import Bools, Floats, Signal


class Stateless(ABC):
    """An output defence that is known by its name and fits nothing."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name with its parameters, as the command line takes it."""

    @property
    def digest(self) -> str:
        """Name, as there is nothing to fit."""
        return self.name

    def fit(self, outputs: Floats, member: Bools) -> Self:
        """Return itself: there is nothing to fit."""
        return self


class WholeProbabilities:
    """An output defence whose answers are probabilities of all classes."""

    @property
    def signal(self) -> Signal:
        """Kind of the answers: probabilities."""
        return "probabilities"

    @property
    def hides(self) -> bool:
        """Whether something is left out: nothing is."""
        return False
