"""What output defences without anything to fit have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from memberscope.types import Bools, Floats


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
