"""Attack R: rank the target's loss among reference models trained without the record.

References:
    [1] J. Ye, A. Maddi, S. K. Murakonda, V. Bindschaedler, R. Shokri, "Enhanced Membership
        Inference Attacks against Machine Learning Models", CCS 2022, arXiv:2111.09679.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import (
    iterate_reference_blocks,
    keep_hidden_scores,
    read_target_values,
)
from memberscope.types import Access, Evidence, Floats, Needs, SignalSpec


@dataclass(frozen=True)
class AttackR:
    """Share of the reference models without the record whose loss is higher than the target's.

    Ties count half.

    >>> evidence = Evidence("log_confidence", np.array([-0.1, -2.0])[:, None, None], np.zeros(2, dtype=int),
    ...                     np.full(2, -1, dtype=np.int8), references=np.full((4, 2, 1, 1), -1.0),
    ...                     inside=np.zeros((4, 2), dtype=bool))
    >>> AttackR().score(evidence, np.random.default_rng(0)).tolist()
    [1.0, 0.0]
    """

    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`attack_r`."""
        return "attack_r"

    @property
    def needs(self) -> Needs:
        """One reference model trained without each record."""
        spec = SignalSpec("log_confidence")
        return Needs(
            access=Access.PROBABILITIES,
            signals=("log_confidence",),
            spec=spec,
            references=(0, 1),
            tasks=("classification", "text"),
        )

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the mean share over views, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing or too few.
        """
        require_needs(self, evidence)
        value = read_target_values(evidence)
        scores = np.empty_like(value)
        for block in iterate_reference_blocks(evidence):
            own, weight = value[block.rows], 1.0 - block.inside[:, :, None]
            # Ties count half, or rounded answers would all rank first or last
            beaten = (block.references < own) + 0.5 * (block.references == own)
            # Models with the record have weight zero
            scores[block.rows] = (weight * beaten).sum(axis=0) / weight.sum(axis=0)
        return keep_hidden_scores(scores.mean(axis=1), evidence.hidden)
