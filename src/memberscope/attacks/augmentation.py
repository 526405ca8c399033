"""The augmentation attack: a record that keeps its label when moved, mirrored and turned is likelier a member.

It applies to images, and finds most in models that were trained on such copies of their members.

References:
    [1] C. Choquette-Choo, F. Tramèr, N. Carlini, N. Papernot, "Label-Only Membership Inference Attacks", ICML 2021,
        arXiv:2007.14321.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks.measured import build_measured_needs, score_measurement
from memberscope.types import Evidence, Floats, Needs


@dataclass(frozen=True)
class Augmentation:
    """The logit of the share of transformed copies that keep the true label.

    >>> values = np.array([0.4, -1.2])[:, None, None]
    >>> evidence = Evidence("augmentation", values, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> Augmentation().score(evidence, np.random.default_rng(0)).tolist()
    [0.4, -1.2]
    """

    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`augmentation`."""
        return "augmentation"

    @property
    def needs(self) -> Needs:
        """Labels of transformed images, at most two dozen a record."""
        return build_measured_needs("augmentation")

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """The logit of the share (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence holds another signal.
        """
        return score_measurement(self, evidence)
