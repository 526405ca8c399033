"""LiRA on the prediction, for few reference models.

Student-t predictive densities under a prior learned from all records together take the place of
normals. Training on a record moves its prediction towards the truth, by a part that all records
share: the prior mean of the models trained with a record follows from those without it and from the
truth.

References:
    [1] "BaVarIA", 2026, arXiv:2603.11799 (a normal-inverse-gamma prior for LiRA with few shadow
        models).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import keep_hidden_scores
from memberscope.attacks.lira_robust import compute_robust_ratio
from memberscope.attacks.outputs._blocks import (
    build_output_needs,
    compute_output_moments,
    keep_outputs,
    read_outputs,
)
from memberscope.attacks.outputs._normal_ratio import model_sides
from memberscope.types import Evidence, Floats, Needs


@dataclass(frozen=True)
class RobustLiRAPrediction:
    """Log-ratio of the Student-t predictive densities of the prediction with and without the record.

    Several outputs are first turned into numbers that are uncorrelated within a record, and their
    log-ratios are summed.

    >>> rng = np.random.default_rng(0)
    >>> inside = np.array([[True] * 40, [False] * 40])
    >>> truth = rng.normal(size=40) + 5
    >>> refs = 0.2 * truth + rng.normal(size=(2, 40)) * 0.1 + 0.5 * truth * inside
    >>> target = 0.2 * truth + np.where(np.arange(40) < 20, 0.5 * truth, 0.0)
    >>> evidence = Evidence("prediction", target[:, None, None], truth[:, None], np.full(40, -1, dtype=np.int8),
    ...                     references=refs[:, :, None, None], inside=inside)
    >>> scores = RobustLiRAPrediction().score(evidence, rng)
    >>> bool(scores[:20].min() > scores[20:].max())
    True
    """

    version: ClassVar[int] = 1
    # Its scores are log likelihood ratios
    log_ratio: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """`lira_prediction_robust`."""
        return "lira_prediction_robust"

    @property
    def needs(self) -> Needs:
        """One reference model with each record and one without it."""
        return build_output_needs("prediction", (1, 1))

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the log-ratio summed over outputs, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing or too few.
        """
        require_needs(self, evidence)
        value, truth = read_outputs(evidence)
        width = value.shape[1]
        out = model_sides(evidence, keep_outputs, width, "fixed", "shrunk")[1]
        # The same turn for all records and models, so that only the axes change
        turn = np.linalg.inv(out.root).T / out.deviation.T
        moments = compute_output_moments(evidence, partial(_turn_outputs, turn), width)
        ratio = compute_robust_ratio(
            value @ turn, *moments, predict=partial(_predict_towards, truth @ turn)
        )
        return keep_hidden_scores(ratio.sum(axis=1), evidence.hidden)


def _turn_outputs(turn: Floats, outputs: Floats, truth: Floats) -> Floats:
    """Turn outputs (..., b, d) to other axes."""
    return outputs @ turn


def _predict_towards(truth: Floats, without: Floats, with_it: Floats) -> Floats:
    """Predict the mean (n, d) with each record: part of the way from that without it to the truth.

    The part, one for each axis, is that of least squares.

    >>> _predict_towards(np.array([[4.0], [8.0]]), np.zeros((2, 1)), np.array([[1.0], [2.0]])).tolist()
    [[1.0], [2.0]]
    """
    way = truth - without
    part = ((with_it - without) * way).sum(axis=0) / np.maximum(
        (way**2).sum(axis=0), np.finfo(np.float64).tiny
    )
    # Models that only predict one value for all would otherwise be pushed away from the truth
    moved: Floats = without + np.clip(part, 0.0, 1.0) * way
    return moved
