"""Run the attacks with reference models on how near a released table comes to a record."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks.lira import LiRA
from memberscope.attacks.tables._columns import CLOSEST, DENSITY, NEEDS
from memberscope.types import Attack, Evidence, Floats, Needs, Signal

# The number that RMIA reads on the scale of a logit, in whose place nearness stands
STAND_IN = "gradient_norm"
COLUMNS = {"closest_record": CLOSEST, "density": DENSITY}


@dataclass(frozen=True)
class NearnessAttack:
    """An attack on one number a record, which reads how near the released table comes.

    References are tables that the user's generator made of other records. `number` is minus the
    logarithm of the distance to the closest row, or the logarithm of the table's density. Neither
    is close to normal over tables, so LiRA need not be the best attack.

    >>> NearnessAttack(LiRA("offline")).name
    'lira_offline_closest_record'
    """

    base: Attack = field(default_factory=LiRA)
    number: Literal["closest_record", "density"] = "closest_record"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """Name of the attack, with the number that it reads."""
        if STAND_IN in self.base.name:
            return self.base.name.replace(STAND_IN, self.number)
        return f"{self.base.name}_{self.number}"

    @property
    def needs(self) -> Needs:
        """As many references as the attack needs."""
        return replace(NEEDS, references=self.base.needs.references)

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the attack's scores (n,); NaN where a record is not hidden.

        Raises:
            UnmetNeedError: The evidence is not about a released table, or references are too few.
        """
        require_needs(self, evidence)
        signal = self.base.needs.signals[0]
        return self.base.score(_take_number(evidence, COLUMNS[self.number], signal), rng)


def _take_number(evidence: Evidence, column: int, signal: Signal) -> Evidence:
    """Take one column of the evidence, in the place of the `signal` that an attack reads."""
    references, population = evidence.references, evidence.population
    return replace(
        evidence,
        signal=signal,
        target=evidence.target[:, :, column : column + 1],
        references=None if references is None else references[..., column : column + 1],
        population=None if population is None else _take_number(population, column, signal),
    )
