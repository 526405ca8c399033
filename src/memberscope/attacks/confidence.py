"""The confidence attack: members get a higher probability of their true class.

References:
    [1] L. Song, P. Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning Models", USENIX Security 2021,
        arXiv:2003.10595.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks._class_thresholds import Thresholds, build_threshold_needs, name_attack, score_statistic
from memberscope.attacks._inputs import true_class_probability
from memberscope.types import Access, Evidence, Floats, Needs


@dataclass(frozen=True)
class Confidence:
    """Probability of the true class.

    >>> p = np.array([[[0.9, 0.1]], [[0.4, 0.6]]])
    >>> evidence = Evidence("probabilities", p, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> scores = Confidence().score(evidence, np.random.default_rng(0))
    >>> bool(scores[0] > scores[1])
    True
    """

    thresholds: Thresholds = "global"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`confidence`, with `_per_class` when each class has its own threshold."""
        return name_attack("confidence", self.thresholds)

    @property
    def needs(self) -> Needs:
        """One query; known members and non-members only for thresholds a class."""
        return build_threshold_needs(self.thresholds, Access.PROBABILITIES, ("probabilities", "logits"))

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Probability of the true class, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal or the known records.
        """
        return score_statistic(true_class_probability, self, evidence)
