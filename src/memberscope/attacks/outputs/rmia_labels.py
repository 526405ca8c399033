"""RMIA on the probabilities of several labels.

The probability of the true labels, their geometric mean, takes the place of that of the true class.

References:
    [1] S. Zarifzadeh, P. Liu, R. Shokri, "Low-Cost High-Power Membership Inference Attacks", ICML
        2024, arXiv:2312.03262.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import keep_hidden_scores
from memberscope.attacks.outputs._blocks import Convert, build_output_needs
from memberscope.attacks.outputs._normal_ratio import Mode
from memberscope.attacks.outputs.labels import build_logit_reader
from memberscope.attacks.outputs.rmia_prediction import score_density_ratio
from memberscope.types import Evidence, Floats, Needs


@dataclass(frozen=True)
class RMIALabels:
    """Share of population records whose likelihood ratio the record's exceeds.

    `mode` is as for `RMIA`, and so is the `temperature` at which each label's probability is read.

    >>> inside = np.array([[True, False, True], [False, True, False]])
    >>> refs = np.where(inside, 0.9, 0.3)[:, :, None, None]
    >>> p = np.array([0.95, 0.6, 0.1])[:, None, None]
    >>> evidence = Evidence("label_probabilities", p, np.ones((3, 1)), np.full(3, -1, dtype=np.int8), refs, inside)
    >>> RMIALabels().score(evidence, np.random.default_rng(0)).round(2).tolist()
    [1.0, 0.67, 0.33]
    """

    mode: Mode = "online"
    temperature: float = 2.0
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`rmia_labels` or `rmia_labels_offline`, with the temperature if it is not 2."""
        parts = ["rmia_labels"] + (["offline"] if self.mode == "offline" else [])
        return "_".join(parts + ([f"t{self.temperature:g}"] if self.temperature != 2.0 else []))

    @property
    def needs(self) -> Needs:
        """One reference model on each side that is averaged."""
        return build_output_needs(
            "label_probabilities", (1, 1) if self.mode == "online" else (0, 1)
        )

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the share of population records with a smaller ratio, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing or too few.
        """
        require_needs(self, evidence)
        measure = partial(_measure_labels, build_logit_reader(evidence), self.temperature)
        found = score_density_ratio(evidence, measure, self.mode, rng)
        return keep_hidden_scores(found, evidence.hidden)


def _measure_labels(
    read_logits: Convert, temperature: float, outputs: Floats, truth: Floats
) -> Floats:
    """Measure the mean log-probability (..., b, 1) of the true labels at a temperature."""
    logits = read_logits(outputs, truth)
    return np.asarray(-np.logaddexp(0, -logits / temperature).mean(axis=-1, keepdims=True))
