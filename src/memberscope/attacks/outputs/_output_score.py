"""Attacks that score a record by one number of the target's answer and the truth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import keep_hidden_scores
from memberscope.attacks.outputs._blocks import build_output_needs, read_outputs
from memberscope.types import Evidence, Floats, Needs, Signal


@dataclass(frozen=True)
class OutputScore(ABC):
    """Attack whose score is `_measure` of the target's outputs and the truth."""

    version: ClassVar[int] = 1
    _base: ClassVar[str] = ""
    _signal: ClassVar[Signal] = "prediction"

    @property
    def name(self) -> str:
        """Name of the attack."""
        return self._base

    @property
    def needs(self) -> Needs:
        """One query for each record."""
        return build_output_needs(self._signal)

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the number of each record, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the outputs.
        """
        require_needs(self, evidence)
        return keep_hidden_scores(self._measure(evidence, *read_outputs(evidence)), evidence.hidden)

    @abstractmethod
    def _measure(self, evidence: Evidence, outputs: Floats, truth: Floats) -> Floats:
        """Give the number (n,) of each record, higher for likelier members."""
