"""The boundary attack: a record far from where the label changes is likelier a member.

Members that a model has fitted lie deeper inside their class than other records do, and labels alone show how deep.

References:
    [1] C. Choquette-Choo, F. Tramèr, N. Carlini, N. Papernot, "Label-Only Membership Inference Attacks", ICML 2021,
        arXiv:2007.14321.
    [2] Z. Li, Y. Zhang, "Membership Leakage in Label-Only Exposures", CCS 2021, arXiv:2007.15528.
    [3] J. Chen, M. Jordan, M. Wainwright, "HopSkipJumpAttack: A Query-Efficient Decision-Based Attack", IEEE S&P 2020,
        arXiv:1904.02144.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from memberscope.attacks.measured import build_measured_needs, score_measurement
from memberscope.types import Evidence, Floats, Needs


@dataclass(frozen=True)
class Boundary:
    """The log-distance to the nearest change of label that a budget of queries finds.

    `search` walks towards other records (`walk`), or follows estimated gradients along the boundary (`hopskipjump` [3]), which
    takes features that can change little by little.

    >>> values = np.array([0.4, -1.2])[:, None, None]
    >>> evidence = Evidence("boundary", values, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> Boundary().score(evidence, np.random.default_rng(0)).tolist()
    [0.4, -1.2]
    """

    search: Literal["walk", "hopskipjump"] = "walk"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`boundary`, with the search that differs from the default."""
        return "boundary" if self.search == "walk" else f"boundary_{self.search}"

    @property
    def needs(self) -> Needs:
        """Labels of moved copies, some tens a record."""
        return build_measured_needs("boundary") if self.search == "walk" else build_measured_needs("boundary", hopskipjump=1.0)

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """The log-distance (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence holds another signal.
        """
        return score_measurement(self, evidence)
