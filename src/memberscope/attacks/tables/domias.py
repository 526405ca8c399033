"""DOMIAS: where the released table is denser than the population, it was made of what lies there.

References:
    [1] B. van Breugel, H. Sun, Z. Qian, M. van der Schaar, "Membership Inference Attacks against
        Synthetic Data through Overfitting Detection", AISTATS 2023, arXiv:2302.12580.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import keep_hidden_scores
from memberscope.attacks.tables._columns import DENSITY, NEEDS, compare_with_population
from memberscope.types import Evidence, Floats, Needs


@dataclass(frozen=True)
class Domias:
    """Log-ratio of the released table's density at a record and the population's.

    Both are estimated by Gaussian kernels.

    >>> target = np.array([[[0.0, -1.0, 0.0, -3.0]], [[0.0, -1.0, 0.0, -1.0]]])
    >>> evidence = Evidence("proximity", target, np.zeros((2, 1)), np.full(2, -1, dtype=np.int8))
    >>> Domias().score(evidence, np.random.default_rng(0)).tolist()
    [2.0, 0.0]
    """

    name: ClassVar[str] = "domias"
    version: ClassVar[int] = 1
    needs: ClassVar[Needs] = replace(NEEDS, population=True)

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the log-ratio (n,); NaN where a record is not hidden.

        Raises:
            UnmetNeedError: The evidence is not about a released table, or there is no population.
        """
        require_needs(self, evidence)
        scores = compare_with_population(evidence, DENSITY, self.name)
        return keep_hidden_scores(scores, evidence.hidden)
