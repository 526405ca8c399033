"""The entropy attack: the model is surer about members, whatever their label.

References:
    [1] A. Salem, Y. Zhang, M. Humbert, P. Berrang, M. Fritz, M. Backes, "ML-Leaks: Model and Data Independent
        Membership Inference Attacks and Defenses on Machine Learning Models", NDSS 2019, arXiv:1806.01246.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope._numerics import round_to_40_bits
from memberscope.attacks._class_thresholds import Thresholds, build_threshold_needs, name_attack, score_statistic
from memberscope.attacks._inputs import class_log_probabilities
from memberscope.types import Access, Evidence, Floats, Needs


@dataclass(frozen=True)
class Entropy:
    """Minus the entropy of the predicted distribution, in nats; it does not use the true label.

    >>> p = np.array([[[0.9, 0.1]], [[0.5, 0.5]]])
    >>> evidence = Evidence("probabilities", p, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> scores = Entropy().score(evidence, np.random.default_rng(0))
    >>> bool(scores[0] > scores[1])
    True
    """

    thresholds: Thresholds = "global"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`entropy`, with `_per_class` when each class has its own threshold."""
        return name_attack("entropy", self.thresholds)

    @property
    def needs(self) -> Needs:
        """One query; known members and non-members only for thresholds a class."""
        return build_threshold_needs(self.thresholds, Access.PROBABILITIES, ("probabilities", "logits"))

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Minus the entropy, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal or the known records.
        """
        return score_statistic(_negative_entropy, self, evidence)


def _negative_entropy(evidence: Evidence) -> Floats:
    """Sum of p log p over the classes, as (n,); zero at certainty, -log k when uniform."""
    log_p = class_log_probabilities(evidence)
    return round_to_40_bits((np.exp(log_p) * log_p).sum(axis=1))
