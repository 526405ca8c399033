"""Difficulty calibration: compare the target with models trained without the record.

References:
    [1] L. Watson, C. Guo, G. Cormode, A. Sablayrolles, "On the Importance of Difficulty Calibration
        in Membership Inference Attacks", ICLR 2022, arXiv:2111.08440.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import (
    compute_moments,
    keep_hidden_scores,
    read_target_values,
)
from memberscope.types import Access, Evidence, Floats, Needs, SignalSpec


@dataclass(frozen=True)
class Calibrated:
    """The target's statistic minus its mean over reference models trained without the record.

    `statistic` is the logit-scaled confidence, or the log-probability (the paper's negative loss).

    >>> evidence = Evidence("logit_confidence", np.array([3.0, 3.0])[:, None, None], np.zeros(2, dtype=int),
    ...                     np.full(2, -1, dtype=np.int8), references=np.array([[1.0, 2.5]])[:, :, None, None],
    ...                     inside=np.zeros((1, 2), dtype=bool))
    >>> Calibrated().score(evidence, np.random.default_rng(0)).tolist()
    [2.0, 0.5]
    """

    statistic: Literal["logit_confidence", "log_confidence"] = "logit_confidence"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`calibrated`, or `calibrated_loss` for the log-probability."""
        return "calibrated" + ("_loss" if self.statistic == "log_confidence" else "")

    @property
    def needs(self) -> Needs:
        """One reference model trained without each record."""
        # One model is enough, since only a mean is taken
        spec = SignalSpec(self.statistic)
        return Needs(
            access=Access.PROBABILITIES,
            signals=(self.statistic,),
            spec=spec,
            references=(0, 1),
            tasks=("classification", "text"),
        )

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the mean difference over views, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing or too few.
        """
        require_needs(self, evidence)
        # Only models without the record show how hard it is by itself
        _, without = compute_moments(evidence)
        return keep_hidden_scores(
            (read_target_values(evidence) - without.mean).mean(axis=1), evidence.hidden
        )
