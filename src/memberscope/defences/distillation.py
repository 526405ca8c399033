"""Distil knowledge: train the served model on public records and a teacher's answers.

Only the teacher sees the private records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memberscope._numerics import softmax
from memberscope.defences._students import StudentRecipe
from memberscope.defences.regularization import require_torch_recipe
from memberscope.errors import InputError
from memberscope.recipes import Distilling
from memberscope.signals import digest_records
from memberscope.targets import TorchTarget
from memberscope.types import Bools, Recipe, Records


@dataclass(frozen=True, eq=False)
class Distillation:
    """Train a student that sees `public` records alone.

    Its labels are a teacher's answers at `temperature` [1].

    Students have been shown to leak about their teachers' members [2]; the audit measures them like
    any other defence.
    """

    temperature: float = 1.0
    public: Records | None = None

    def __post_init__(self) -> None:
        # Checks the number now, and not when a model is trained
        Distilling(self.temperature)

    @property
    def name(self) -> str:
        """Name `distill:temperature`."""
        return f"distill:{self.temperature:g}"

    def __call__(self, recipe: Recipe) -> DistilledRecipe:
        """Wrap a recipe, so that it trains a teacher and serves a student.

        Raises:
            InputError: There are no public records.
        """
        if self.public is None:
            raise InputError(
                "Expected public records to distil on, got none. Give --population, or leave out "
                "distill."
            )
        return DistilledRecipe(
            require_torch_recipe(recipe, self.name), self.public, self.temperature
        )


@dataclass(frozen=True, eq=False)
class DistilledRecipe(StudentRecipe):
    """Train a teacher on the records, and a student of it on `public` records.

    Both are trained as `base` says.
    """

    public: Records
    temperature: float

    @property
    def digest(self) -> str | None:
        """Hash of the base's digest, the public records and the temperature."""
        inner = self.base.digest
        text = f"distilled:1:{inner}:{digest_records(self.public)}:{self.temperature!r}"
        return None if inner is None else hashlib.sha256(text.encode()).hexdigest()

    @property
    def stack(self) -> int | None:
        """Number of models trained together."""
        return self.base.stack

    def many(self, pool: Records, inside: Bools, seeds: Sequence[int]) -> Iterator[TorchTarget]:
        """Train a student for each row of `inside` (b, n).

        Its first weights and batches differ from its teacher's.
        """
        teachers = self.base.many(pool, inside, seeds)
        # All teachers first: students are trained together on their answers
        soft = np.stack(
            [softmax(teacher.query(self.public.x) / self.temperature) for teacher in teachers]
        )
        student = replace(self.base, loss=Distilling(self.temperature))
        # Any constant would do: with the teacher's own seed the student would start from its
        # weights
        others = [seed ^ 0x2545F491 for seed in seeds]
        return student.many(
            self.public, np.ones((len(seeds), len(self.public)), dtype=bool), others, soft
        )

    def tuned(
        self, pool: Records, size: int, n_models: int
    ) -> tuple[DistilledRecipe, dict[str, Any]]:
        """Choose the stacks of the teachers by measurement."""
        base, choice = self.base.tuned(pool, size, n_models)
        return replace(self, base=base), choice
