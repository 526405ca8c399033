"""LiRA on each label, its log-ratios summed.

The logit of each true label's probability is compared as that of the true class is: one label gives
what a class of two gives. A mean probability over labels would hide the few labels that tell.

References:
    [1] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis, F. Tramer, "Membership Inference Attacks
        From First Principles", IEEE S&P 2022, arXiv:2112.03570.
    [2] "BaVarIA", 2026, arXiv:2603.11799 (a normal-inverse-gamma prior for LiRA with few shadow
        models).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import keep_hidden_scores
from memberscope.attacks.lira_robust import compute_robust_ratio
from memberscope.attacks.outputs._blocks import (
    Convert,
    build_output_needs,
    compute_output_moments,
    read_outputs,
)
from memberscope.attacks.outputs._correlation import Side
from memberscope.attacks.outputs._normal_ratio import Covariance, OutputLiRA
from memberscope.attacks.outputs.labels import build_logit_reader
from memberscope.types import Bools, Evidence, Floats, Needs, Signal


@dataclass(frozen=True)
class LiRALabels(OutputLiRA):
    """Sum over labels of the likelihood ratio of the normals fitted with and without the record.

    Offline it is the sum of the excesses over the normals fitted without it, in standard
    deviations. `variance` is as for `LiRA`. By default labels are taken for independent; `shrunk`
    takes in how they vary together within a record.

    >>> inside = np.array([[True, False]] * 2 + [[False, True]] * 2)
    >>> spread = np.array([[0.02], [-0.02], [0.02], [-0.02]])
    >>> refs = np.where(inside, 0.9, 0.6) + spread
    >>> evidence = Evidence("label_probabilities", np.array([[[0.9]], [[0.6]]]), np.ones((2, 1)), np.full(2, -1, dtype=np.int8),
    ...                     references=refs[:, :, None, None], inside=inside)
    >>> scores = LiRALabels().score(evidence, np.random.default_rng(0))
    >>> bool(scores[0] > 0 > scores[1])
    True
    """

    covariance: Covariance = "diagonal"
    _base: ClassVar[str] = "lira_labels"
    _signal: ClassVar[Signal] = "label_probabilities"
    _usual_covariance: ClassVar[Covariance] = "diagonal"

    def _build_converter(self, evidence: Evidence) -> Convert:
        return build_logit_reader(evidence)

    def _score_offline(self, out: Side, value: Floats, truth: Floats, hidden: Bools) -> Floats:
        # Members lie above what models without them give, so that only this side counts
        excess: Floats = ((value - out.mean) / out.deviation).sum(axis=1)
        return excess


@dataclass(frozen=True)
class RobustLiRALabels:
    """Sum over labels of the log-ratio of Student-t predictive densities [2].

    For few reference models, as `RobustLiRA` is.

    >>> rng = np.random.default_rng(0)
    >>> inside = np.array([[True] * 40, [False] * 40])
    >>> logits = rng.normal(size=40) * np.ones((3, 1)) + rng.normal(size=(3, 40)) * 0.3
    >>> logits += 2 * np.stack([*inside, np.arange(40) < 20])
    >>> p = 1 / (1 + np.exp(-logits))[:, :, None, None]
    >>> evidence = Evidence("label_probabilities", p[2], np.ones((40, 1)), np.full(40, -1, dtype=np.int8), p[:2], inside)
    >>> scores = RobustLiRALabels().score(evidence, rng)
    >>> bool(scores[:20].mean() > scores[20:].mean())
    True
    """

    version: ClassVar[int] = 1
    # Its scores are log likelihood ratios
    log_ratio: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """`lira_labels_robust`."""
        return "lira_labels_robust"

    @property
    def needs(self) -> Needs:
        """One reference model with each record and one without it."""
        return build_output_needs("label_probabilities", (1, 1))

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the summed log-ratio, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing or too few.
        """
        require_needs(self, evidence)
        convert = build_logit_reader(evidence)
        value = convert(*read_outputs(evidence))
        moments = compute_output_moments(evidence, convert, value.shape[1])
        ratio = compute_robust_ratio(value, *moments)
        return keep_hidden_scores(ratio.sum(axis=1), evidence.hidden)
