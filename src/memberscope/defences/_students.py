"""Share what recipes of students have in common.

Students are trained where, and as, the recipe of their teachers says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from memberscope.recipes import TorchRecipe
from memberscope.targets import TorchTarget
from memberscope.types import Bools, Records


@dataclass(frozen=True, eq=False)
class StudentRecipe:
    """Recipe whose teachers and students are trained as `base` says.

    Each kind of student overrides `many`.
    """

    base: TorchRecipe

    @property
    def threads(self) -> int:
        """CPU threads of one training job."""
        return self.base.threads

    @property
    def device(self) -> str:
        """Device on which models are trained."""
        return self.base.device

    @property
    def model(self) -> Any:
        """Callable that builds the module."""
        return self.base.model

    def many(self, pool: Records, inside: Bools, seeds: Sequence[int]) -> Iterator[TorchTarget]:
        """Train a student for each row of `inside` (b, n)."""
        raise TypeError("Expected a kind of student, got none. Use Selena or Distillation.")

    def __call__(self, records: Records, seed: int) -> TorchTarget:
        """Train a student of models trained on `records`."""
        return next(self.many(records, np.ones((1, len(records)), dtype=bool), [seed]))

    def chosen(self, choice: dict[str, Any]) -> Self:
        """Apply an earlier choice of engine, stack and threads."""
        return replace(self, base=self.base.chosen(choice))
