"""Quantile regression of the error: compare a record's error with those of non-members like it.

A model of the non-members' error, given the record and its true values, sets a threshold of its own
for every record. No other model is trained. The true values matter: a model errs most about rare
ones, whoever they belong to.

References:
    [1] M. Bertran, S. Tang, M. Kearns, J. Morgenstern, A. Roth, Z. S. Wu, "Scalable Membership
        Inference Attacks via Quantile Regression", NeurIPS 2023, arXiv:2307.03694.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks.outputs._blocks import build_output_needs, read_outputs
from memberscope.attacks.outputs.errors import scale_squared_error
from memberscope.attacks.quantile import FoldedQuantile, Quantile
from memberscope.types import Evidence, Floats, Needs


@dataclass(frozen=True)
class ErrorQuantile:
    """Position of the error in the distribution predicted for a non-member like this record.

    The error is minus the square root of the scaled error, whose distribution is nearly symmetric.

    >>> rng = np.random.default_rng(0)
    >>> x, known = rng.normal(size=(60, 1)), np.where(np.arange(60) < 58, 0, -1).astype(np.int8)
    >>> truth = 3 * x
    >>> wrong = np.where(np.arange(60) == 58, 0.0, 1.0)[:, None] * rng.uniform(0.5, 1.0, (60, 1))
    >>> evidence = Evidence("prediction", (truth + wrong)[:, None, :], truth, known, features=x)
    >>> scores = ErrorQuantile().score(evidence, rng)
    >>> bool(scores[58] > scores[59]), int(np.isnan(scores).sum())
    (True, 58)
    """

    quantile: Quantile = field(default_factory=Quantile)
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`error_quantile`, with `_pinball` when that is chosen."""
        return "error_quantile" + self.quantile.name.removeprefix("quantile")

    @property
    def needs(self) -> Needs:
        """One query, known non-members, and features."""
        return replace(build_output_needs("prediction"), known="non_members", features=True)

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the standardised excess over non-members like it, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks known non-members or features.
        """
        return self.prepare_folds()(evidence, rng)

    def prepare_folds(self) -> Callable[[Evidence, np.random.Generator], Floats]:
        """Prepare what scores one evidence several times, other records known each time."""
        folded = FoldedQuantile(self.quantile)

        def score_fold(evidence: Evidence, rng: np.random.Generator) -> Floats:
            require_needs(self, evidence)
            return folded.score(_convert_errors(evidence), rng)

        return score_fold


def _convert_errors(evidence: Evidence) -> Evidence:
    """Convert predictions to losses whose logit is minus the square root of the scaled error.

    The true values are features like the others.
    """
    assert evidence.features is not None
    outputs, truth = read_outputs(evidence)
    closeness = -np.sqrt(np.sqrt(scale_squared_error(outputs, truth)))
    return replace(
        evidence,
        signal="loss",
        target=np.logaddexp(0, -closeness)[:, None, None],
        labels=np.zeros(len(evidence), dtype=np.int64),
        features=np.column_stack([evidence.features, truth]),
        references=None,
        inside=None,
        population=None,
    )
