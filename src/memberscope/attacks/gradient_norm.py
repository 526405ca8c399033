"""Gradient norm: the loss of a record that was trained on has a small gradient in the weights, since training moved them to where it has.

References:
    [1] M. Nasr, R. Shokri, A. Houmansadr, "Comprehensive Privacy Analysis of Deep Learning", IEEE S&P 2019, arXiv:1812.00910.
    [2] S. Rezaei, X. Liu, "On the Difficulty of Membership Inference Attacks", CVPR 2021, arXiv:2005.13702.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from memberscope.attacks._class_thresholds import Thresholds, build_threshold_needs, name_attack, score_statistic
from memberscope.attacks._inputs import read_first_view
from memberscope.types import Access, Evidence, Floats, Needs, SignalSpec


@dataclass(frozen=True)
class GradientNorm:
    """Minus the logarithm of the norm of the gradient of the record's loss in all trained parameters.

    >>> evidence = Evidence("gradient_norm", np.array([3.0, -1.0])[:, None, None], np.zeros(2, dtype=int),
    ...                     np.full(2, -1, dtype=np.int8))
    >>> GradientNorm().score(evidence, np.random.default_rng(0)).tolist()
    [3.0, -1.0]
    """

    thresholds: Thresholds = "global"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`gradient_norm`, with `_per_class` when each class has its own threshold."""
        return name_attack("gradient_norm", self.thresholds)

    @property
    def needs(self) -> Needs:
        """The model's parameters; known members and non-members only for thresholds a class."""
        needs = build_threshold_needs(self.thresholds, Access.WHITE_BOX, ("gradient_norm",))
        return replace(needs, spec=SignalSpec("gradient_norm"))

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Minus the log-norm, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal or the known records.
        """
        return score_statistic(lambda seen: read_first_view(seen)[:, 0], self, evidence)
