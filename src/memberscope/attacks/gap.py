"""The gap attack: call a record a member if and only if the model labels it correctly.

References:
    [1] S. Yeom, I. Giacomelli, M. Fredrikson, S. Jha, "Privacy Risk in Machine Learning: Analyzing the Connection to
        Overfitting", CSF 2018, arXiv:1709.01604.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks._class_thresholds import Thresholds, build_threshold_needs, name_attack, score_statistic
from memberscope.attacks._inputs import score_correctness
from memberscope.types import Access, Evidence, Floats, Needs


@dataclass(frozen=True)
class Gap:
    """Correctness as a score: its advantage is the gap between training and test accuracy.

    >>> p = np.array([[[0.9, 0.1]], [[0.4, 0.6]]])
    >>> evidence = Evidence("probabilities", p, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> scores = Gap().score(evidence, np.random.default_rng(0))
    >>> bool(scores[0] > scores[1])
    True
    """

    thresholds: Thresholds = "global"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`gap`, with `_per_class` when each class has its own threshold."""
        return name_attack("gap", self.thresholds)

    @property
    def needs(self) -> Needs:
        """One query; known members and non-members only for thresholds a class."""
        return build_threshold_needs(self.thresholds, Access.LABEL, ("labels", "probabilities", "logits"))

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """1.0 where the model is right and 0.0 where it is wrong, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal or the known records.
        """
        return score_statistic(score_correctness, self, evidence)
