"""Distance to the closest record: a table made from a record may have rows close to it.

References:
    [1] D. Chen, N. Yu, Y. Zhang, M. Fritz, "GAN-Leaks: A Taxonomy of Membership Inference Attacks
        against Generative Models", CCS 2020, arXiv:1909.03935.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import keep_hidden_scores
from memberscope.attacks.tables._columns import (
    CLOSEST,
    NEEDS,
    compare_with_population,
    read_nearness,
)
from memberscope.types import Evidence, Floats, Needs


@dataclass(frozen=True)
class ClosestRecord:
    """How close the closest row of the released table is.

    With `baseline` `population` this is relative to the closest record of the population, since
    some records have near neighbours anyway.

    >>> evidence = Evidence("proximity", np.array([[[2.0, 0.0]], [[1.0, 0.0]]]), np.zeros((2, 1)),
    ...                     np.full(2, -1, dtype=np.int8))
    >>> ClosestRecord().score(evidence, np.random.default_rng(0)).tolist()
    [2.0, 1.0]
    """

    baseline: Literal["none", "population"] = "none"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`closest_record`, or `closest_record_ratio` beside a population."""
        return "closest_record" + ("_ratio" if self.baseline == "population" else "")

    @property
    def needs(self) -> Needs:
        """What the released table shows, beside a population if it is compared with one."""
        return replace(NEEDS, population=self.baseline == "population")

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give minus the logarithm of the distance, or of the ratio, (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence is not about a released table, or there is no population.
        """
        require_needs(self, evidence)
        if self.baseline == "population":
            scores = compare_with_population(evidence, CLOSEST, self.name)
        else:
            scores = read_nearness(evidence, CLOSEST)
        return keep_hidden_scores(scores, evidence.hidden)
