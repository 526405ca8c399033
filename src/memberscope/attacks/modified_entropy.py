"""Modified entropy: entropy that knows the true label, so that being surely wrong counts against membership.

References:
    [1] L. Song, P. Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning Models", USENIX Security 2021,
        arXiv:2003.10595.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope._numerics import round_to_40_bits
from memberscope.attacks._class_thresholds import Thresholds, build_threshold_needs, name_attack, score_statistic
from memberscope.attacks._inputs import class_log_probabilities, mask_true_class, take_true_class
from memberscope.types import Access, Evidence, Floats, Needs


@dataclass(frozen=True)
class ModifiedEntropy:
    """Minus the modified entropy of Song and Mittal, in nats.

    >>> p = np.array([[[0.9, 0.1]], [[0.4, 0.6]]])
    >>> evidence = Evidence("probabilities", p, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> scores = ModifiedEntropy().score(evidence, np.random.default_rng(0))
    >>> bool(scores[0] > scores[1])
    True
    """

    thresholds: Thresholds = "global"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`modified_entropy`, with `_per_class` when each class has its own threshold."""
        return name_attack("modified_entropy", self.thresholds)

    @property
    def needs(self) -> Needs:
        """One query; known members and non-members only for thresholds a class."""
        return build_threshold_needs(self.thresholds, Access.PROBABILITIES, ("probabilities", "logits"))

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Minus the modified entropy, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal or the known records.
        """
        return score_statistic(_negative_modified_entropy, self, evidence)


def _log_complements(evidence: Evidence) -> Floats:
    """log(1 - p_j) as (n, k), clipped at 1e-30 as published; exact for the top class where 1 - p_j would cancel."""
    log_p = class_log_probabilities(evidence)
    p = np.exp(log_p)
    rest = 1.0 - p
    rows, top = np.arange(len(p)), p.argmax(axis=1)
    others = p.copy()
    others[rows, top] = 0.0
    rest[rows, top] = others.sum(axis=1)
    return np.log(np.maximum(rest, 1e-30))


def _negative_modified_entropy(evidence: Evidence) -> Floats:
    """(1 - p_y) log p_y + sum over other classes of p_j log(1 - p_j), as (n,); zero when surely right."""
    p = np.exp(class_log_probabilities(evidence))
    log_rest = _log_complements(evidence)
    p_true = take_true_class(p, evidence)
    wrong = mask_true_class(p, evidence, 0.0)
    score: Floats = (1.0 - p_true) * np.log(np.maximum(p_true, 1e-30)) + (wrong * log_rest).sum(axis=1)
    return round_to_40_bits(score)
