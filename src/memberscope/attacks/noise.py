"""The noise attack: a record that keeps its label under more noise is likelier a member.

It works on numbers, bits and categories alike, and asks the model for nothing but labels.

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
class Noise:
    """The log-strength of noise under which nine copies of ten keep the true label.

    >>> values = np.array([0.4, -1.2])[:, None, None]
    >>> evidence = Evidence("noise", values, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> Noise().score(evidence, np.random.default_rng(0)).tolist()
    [0.4, -1.2]
    """

    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`noise`."""
        return "noise"

    @property
    def needs(self) -> Needs:
        """Labels of noisy copies, some tens a record."""
        return build_measured_needs("noise")

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """The log-strength (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence holds another signal.
        """
        return score_measurement(self, evidence)
