"""The transfer attack: train a model on what the target calls other records, and look at its confidence instead.

A target that tells labels alone still teaches a model like it, whose confidence about a record tells of the target's.
The record itself is never asked about.

References:
    [1] Z. Li, Y. Zhang, "Membership Leakage in Label-Only Exposures", CCS 2021, arXiv:2007.15528.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks.measured import build_measured_needs, score_measurement
from memberscope.types import Evidence, Floats, Needs


@dataclass(frozen=True)
class Transfer:
    """The logit-scaled confidence in the true class of models trained on records that the target labelled.

    >>> values = np.array([0.4, -1.2])[:, None, None]
    >>> evidence = Evidence("transfer", values, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> Transfer().score(evidence, np.random.default_rng(0)).tolist()
    [0.4, -1.2]
    """

    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`transfer`."""
        return "transfer"

    @property
    def needs(self) -> Needs:
        """Models trained on a population that the target labelled, one query a record of it."""
        return build_measured_needs("transfer")

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """The mean logit over those models (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence holds another signal.
        """
        return score_measurement(self, evidence)
