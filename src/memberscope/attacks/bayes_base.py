"""BASE: compare the log-probability of the true class with the reference models' average.

It is RMIA's ratio without a population.

References:
    [1] "BASE: Bayes-optimal membership inference", 2025, in the form that LeakPro implements;
        equivalent in ranking to online RMIA where each record is in half of the models
        (arXiv:2603.11799).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import (
    average_probabilities,
    keep_hidden_scores,
    read_target_values,
    tasks_of,
)
from memberscope.types import Access, Evidence, Floats, Needs, SignalSpec

# Weight of the average without the record, which lies below the average over both kinds of model
OFFLINE = 0.33


@dataclass(frozen=True)
class BASE:
    """log p(x | target) - log mean p(x), at a temperature.

    Offline, the second term is 0.33 times the log mean over models without it.

    >>> evidence = Evidence("log_confidence", np.log([0.9, 0.2])[:, None, None], np.zeros(2, dtype=int),
    ...                     np.full(2, -1, dtype=np.int8), references=np.log(np.full((2, 2, 1, 1), 0.4)),
    ...                     inside=np.array([[True, False], [False, True]]))
    >>> np.round(BASE().score(evidence, np.random.default_rng(0)), 3).tolist()
    [0.811, -0.693]
    """

    mode: Literal["online", "offline"] = "online"
    temperature: float = 2.0
    version: ClassVar[int] = 1
    log_ratio: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """`base` or `base_offline`, with a temperature other than 2."""
        suffix = "_offline" if self.mode == "offline" else ""
        return f"base{suffix}" + (f"_t{self.temperature:g}" if self.temperature != 2.0 else "")

    @property
    def needs(self) -> Needs:
        """One reference model on each side that is averaged."""
        return Needs(
            access=Access.PROBABILITIES,
            signals=("log_confidence",),
            spec=SignalSpec("log_confidence", parameters=(("temperature", self.temperature),)),
            references=(1, 1) if self.mode == "online" else (0, 1),
            tasks=tasks_of("logit_confidence", self.temperature),
        )

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the mean difference over views, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing or too few.
        """
        require_needs(self, evidence)
        _, without, everyone = average_probabilities(evidence)
        # Online half of the models saw the record, so that their mean stands for p(x)
        average = everyone if self.mode == "online" else without
        weight = 1.0 if self.mode == "online" else OFFLINE
        # An average can underflow to zero, whose logarithm would make every comparison infinite
        log_average = np.log(np.maximum(average, np.finfo(np.float64).tiny))
        return keep_hidden_scores(
            (read_target_values(evidence) - weight * log_average).mean(axis=1), evidence.hidden
        )
