"""Run the shipped attacks on a signal of one's own: a threshold, LiRA and RMIA."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from memberscope.attacks._inputs import has_log_ratio, require_needs
from memberscope.attacks.custom.signal import CustomSignal
from memberscope.attacks.lira import LiRA
from memberscope.attacks.lira_robust import RobustLiRA
from memberscope.attacks.rmia import RMIA
from memberscope.attacks.threshold import GradientNorm
from memberscope.types import OUTPUT_TASKS, Attack, Evidence, Floats, Needs, Task

# A shipped signal of one number a record, in whose place the custom one is read
STAND_IN: Literal["gradient_norm"] = "gradient_norm"


@dataclass(frozen=True)
class SignalAttack:
    """A shipped attack on one number a record, which reads another one in its place.

    >>> signal = CustomSignal("top_share", lambda target, records: records.y, higher="member")
    >>> [attack.name for attack in list_signal_attacks(signal)][:3]
    ['top_share', 'top_share_per_class', 'lira_top_share']
    """

    base: Attack
    signal: CustomSignal

    @property
    def name(self) -> str:
        """Name of the shipped attack, with the signal's."""
        return self.base.name.replace(STAND_IN, self.signal.name)

    @property
    def version(self) -> int:
        """The version of the shipped attack."""
        return self.base.version

    @property
    def log_ratio(self) -> bool:
        """Whether the shipped attack gives log likelihood ratios."""
        return has_log_ratio(self.base)

    @property
    def digest(self) -> str:
        """Hash of the code that measures the signal."""
        return self.signal.digest

    @property
    def needs(self) -> Needs:
        """What the shipped attack needs, at the signal's access."""
        return replace(
            self.base.needs,
            access=self.signal.access,
            signals=("custom",),
            spec=self.signal.spec,
            tasks=self._list_tasks(),
        )

    def _list_tasks(self) -> tuple[Task, ...]:
        """List the tasks that it attacks: the level of a signal says whether it is about texts."""
        if self.signal.access.ladder == "text":
            return ("text",)
        # Only classes have a threshold each
        by_class = self.base.name.endswith("_per_class")
        return ("classification",) if by_class else ("classification", *OUTPUT_TASKS)

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the shipped attack's scores (n,); NaN where a record is not hidden.

        Raises:
            UnmetNeedError: The evidence holds another signal, or too few reference models.
        """
        require_needs(self, evidence)
        outside = evidence.population
        renamed = None if outside is None else replace(outside, signal=STAND_IN)
        return self.base.score(replace(evidence, signal=STAND_IN, population=renamed), rng)


def list_signal_attacks(signal: CustomSignal) -> tuple[SignalAttack, ...]:
    """List the attacks on a signal: a threshold, one a class, and those with reference models.

    Signals of texts have no threshold for each class.

    >>> from memberscope.types import Access
    >>> signal = CustomSignal("surprise", lambda target, records: records.y, "member", Access.GENERATIONS)
    >>> [attack.name for attack in list_signal_attacks(signal)][:2]
    ['surprise', 'lira_surprise']
    """
    by_class = signal.access.ladder != "text"
    # What is told of texts differs by too little for the factor of two that suits classes
    gamma = 2.0 if by_class else 1.0
    shipped: tuple[Attack, ...] = (
        GradientNorm(),
        *((GradientNorm("per_class"),) if by_class else ()),
        LiRA(signal=STAND_IN),
        LiRA("offline", signal=STAND_IN),
        RobustLiRA(STAND_IN),
        RMIA(gamma=gamma, signal=STAND_IN),
        RMIA("offline", gamma, signal=STAND_IN),
    )
    return tuple(SignalAttack(attack, signal) for attack in shipped)
