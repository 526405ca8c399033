"""Logit-scaled confidence: log p_y - log(1 - p_y), close to normal and unbounded where confidence saturates.

References:
    [1] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis, F. Tramer, "Membership Inference Attacks From First
        Principles", IEEE S&P 2022, arXiv:2112.03570.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks._class_thresholds import Thresholds, build_threshold_needs, name_attack, score_statistic
from memberscope.attacks._inputs import true_class_logit
from memberscope.types import Access, Evidence, Floats, Needs


@dataclass(frozen=True)
class Logit:
    """Logit-scaled confidence of the true class, the statistic of LiRA with one global threshold.

    >>> p = np.array([[[0.9, 0.1]], [[0.4, 0.6]]])
    >>> evidence = Evidence("probabilities", p, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> scores = Logit().score(evidence, np.random.default_rng(0))
    >>> bool(scores[0] > scores[1])
    True
    """

    thresholds: Thresholds = "global"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`logit`, with `_per_class` when each class has its own threshold."""
        return name_attack("logit", self.thresholds)

    @property
    def needs(self) -> Needs:
        """One query; known members and non-members only for thresholds a class."""
        return build_threshold_needs(self.thresholds, Access.PROBABILITIES, ("probabilities", "logits"))

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """The logit-scaled confidence, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal or the known records.
        """
        return score_statistic(true_class_logit, self, evidence)
