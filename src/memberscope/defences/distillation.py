"""Knowledge distillation: what is served learned from public records and the answers of a model that saw the private ones.

References:
    [1] V. Shejwalkar, A. Houmansadr, "Membership Privacy for Machine Learning Models Through
        Knowledge Transfer", AAAI 2021, arXiv:1906.06589.
    [2] M. Jagielski et al., "Students Parrot Their Teachers: Membership Inference on Model
        Distillation", NeurIPS 2023, arXiv:2303.03446.
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
    """A student that saw `public` records alone.

    With a teacher's answers at `temperature` as labels [1].

    Students have been shown to leak about their teachers' members [2]: it is measured like any
    other defence.
    """

    temperature: float = 1.0
    public: Records | None = None

    def __post_init__(self) -> None:
        Distilling(self.temperature)

    @property
    def name(self) -> str:
        """`distill:temperature`."""
        return f"distill:{self.temperature:g}"

    def __call__(self, recipe: Recipe) -> DistilledRecipe:
        """The recipe of the student.

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
    """Train a teacher on the records, and on `public` records a student of it.

    Both as `base` says.
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
        """Models trained together."""
        return self.base.stack

    def many(self, pool: Records, inside: Bools, seeds: Sequence[int]) -> Iterator[TorchTarget]:
        """A student for each row of `inside` (b, n).

        Its first weights and batches are not its teacher's.
        """
        teachers = self.base.many(pool, inside, seeds)
        soft = np.stack(
            [softmax(teacher.query(self.public.x) / self.temperature) for teacher in teachers]
        )
        student = replace(self.base, loss=Distilling(self.temperature))
        others = [seed ^ 0x2545F491 for seed in seeds]
        return student.many(
            self.public, np.ones((len(seeds), len(self.public)), dtype=bool), others, soft
        )

    def tuned(
        self, pool: Records, size: int, n_models: int
    ) -> tuple[DistilledRecipe, dict[str, Any]]:
        """This recipe with the stacks of its teachers chosen by measurement."""
        base, choice = self.base.tuned(pool, size, n_models)
        return replace(self, base=base), choice
