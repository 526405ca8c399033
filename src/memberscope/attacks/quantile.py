"""Quantile regression: compare a record's score with those of non-members like it.

A model of the non-members' logit-scaled confidence, given the record, sets a threshold of its own
for every record, so that each has the same false-positive rate. No other model is trained.

References:
    [1] M. Bertran, S. Tang, M. Kearns, J. Morgenstern, A. Roth, Z. S. Wu, "Scalable Membership
        Inference Attacks via Quantile Regression", NeurIPS 2023, arXiv:2307.03694.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from scipy.special import ndtri

from memberscope.attacks._inputs import require_needs, true_class_logit
from memberscope.types import Access, Bools, Evidence, Floats, Ints, Needs

LEVELS = (0.5, 0.75, 0.9, 0.95, 0.99)  # quantiles predicted; scores in between are interpolated
SHRINKAGE = 5.0  # pseudo-records of the overall distribution added to each class


@dataclass(frozen=True)
class Quantile:
    """Position of the confidence in the distribution predicted for a non-member like this record.

    The confidence is logit-scaled.

    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.2, 0.8, 50)
    >>> known = np.where(np.arange(50) < 48, 0, -1).astype(np.int8)
    >>> evidence = Evidence("probabilities", np.stack([p, 1 - p], axis=1)[:, None, :], np.zeros(50, dtype=int), known)
    >>> scores = Quantile(given="class").score(evidence, rng)
    >>> bool(scores[48] > scores[49]) == bool(p[48] > p[49]), int(np.isnan(scores).sum())
    (True, 48)
    """

    given: Literal["features", "class"] = "features"
    model: Literal["gaussian", "pinball"] = "gaussian"
    max_fit: int = 20_000
    max_bins: int = 63
    rounds: int = 20
    version: ClassVar[int] = 3

    @property
    def name(self) -> str:
        """`quantile`, with `_class` or `_pinball` when those are chosen."""
        return (
            "quantile"
            + ("_class" if self.given == "class" else "")
            + ("_pinball" if self.model == "pinball" else "")
        )

    @property
    def needs(self) -> Needs:
        """One query, known non-members, and features unless only the class is used."""
        return Needs(
            access=Access.PROBABILITIES,
            signals=("loss", "probabilities", "logits"),
            known="non_members",
            features=self.given == "features",
        )

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the standardised excess over non-members like it, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks known non-members, or features where they are needed.
        """
        require_needs(self, evidence)
        learn = np.flatnonzero(evidence.known == 0)
        if len(learn) > self.max_fit:
            # Sorted, so that the fit does not depend on the order of the draw
            learn = np.sort(rng.choice(learn, self.max_fit, replace=False))
        score = self._score_by_class if self.given == "class" else self._score_by_features
        scores = np.full(len(evidence.labels), np.nan)
        scores[evidence.hidden] = score(evidence, learn)
        return scores

    def _score_by_class(self, evidence: Evidence, learn: Ints) -> Floats:
        """Score the hidden records (h,) by those at `learn` of their class."""
        part = _score_class_gaussian if self.model == "gaussian" else _score_class_quantiles
        return part(true_class_logit(evidence), evidence.labels, learn)[evidence.hidden]

    def _score_by_features(self, evidence: Evidence, learn: Ints) -> Floats:
        """Score the hidden records (h,) by those at `learn` with features like theirs."""
        part = _score_feature_gaussian if self.model == "gaussian" else _score_feature_quantiles
        taught, asked = _take_rows(evidence, learn), _take_rows(evidence, evidence.hidden)
        # The learner cannot bin a column that is missing throughout
        seen = ~np.isnan(taught.inputs).all(axis=0)
        if not seen.all():
            taught, asked = (
                RowsSeen(rows.inputs[:, seen], rows.outcome) for rows in (taught, asked)
            )
        return part(taught, asked, partial(_fit_regressor, self.max_bins, self.rounds))


class RowsSeen(NamedTuple):
    """Features and class code (r, f + 1) of some records, and their logit-scaled confidence (r,)."""

    inputs: Floats
    outcome: Floats


def _take_rows(evidence: Evidence, rows: Ints | Bools) -> RowsSeen:
    """Take what the regressors read of the records at `rows`.

    Nothing is computed of the others, of which there may be many more.
    """
    assert evidence.features is not None
    own = Evidence(
        evidence.signal, evidence.target[rows], evidence.labels[rows], evidence.known[rows]
    )
    inputs = np.empty((len(own.labels), evidence.features.shape[1] + 1))
    inputs[:, :-1], inputs[:, -1] = evidence.features[rows], own.labels
    return RowsSeen(inputs, true_class_logit(own))


def _score_class_gaussian(statistic: Floats, labels: Ints, learn: Ints) -> Floats:
    """Compute the z-score (n,) within the class's known non-members.

    Their mean and variance are shrunk towards the overall ones.
    """
    # The small number keeps equal confidences from dividing by zero
    mean, variance = statistic[learn].mean(), statistic[learn].var() + 1e-12
    codes = labels[learn]
    # Classes of hidden records count too, though no known record may have them
    size = max(int(labels.max()) + 1, 1)
    count = np.bincount(codes, minlength=size)
    sums = np.bincount(codes, weights=statistic[learn], minlength=size)
    # A class without known records gets the overall mean
    means = (sums + SHRINKAGE * mean) / (count + SHRINKAGE)
    residual = (statistic[learn] - means[codes]) ** 2
    variances = (np.bincount(codes, weights=residual, minlength=size) + SHRINKAGE * variance) / (
        count + SHRINKAGE
    )
    z: Floats = (statistic - means[labels]) / np.sqrt(variances[labels])
    return z


def _score_class_quantiles(statistic: Floats, labels: Ints, learn: Ints) -> Floats:
    """Find the position (n,) among the empirical quantiles of the class's known non-members.

    Small classes use the quantiles of all known non-members.
    """
    overall = np.quantile(statistic[learn], LEVELS)
    quantiles = np.tile(overall, (len(statistic), 1))
    for label in np.unique(labels[learn]):
        own = statistic[learn][labels[learn] == label]
        # A class needs so many non-members that its highest level rests on at least one of them
        if len(own) >= 1.0 / (1.0 - LEVELS[-1]):
            quantiles[labels == label] = np.quantile(own, LEVELS)
    return _interpolate_score(statistic, quantiles)


def _score_feature_gaussian(taught: RowsSeen, asked: RowsSeen, fit: Callable[..., Any]) -> Floats:
    """Compute the z-score of the records asked about under a predicted mean and spread."""
    centre = fit(taught.inputs, taught.outcome, "squared_error")
    # The spread is predicted too, since some records are harder to predict than others
    residual = np.abs(taught.outcome - centre.predict(taught.inputs))
    spread = fit(taught.inputs, residual, "squared_error")
    # A predicted spread near zero would let a tiny residual outrank all others
    floor = 0.1 * float(residual.mean()) + 1e-12
    scale = np.maximum(spread.predict(asked.inputs), floor)
    return np.asarray((asked.outcome - centre.predict(asked.inputs)) / scale, dtype=np.float64)


def _score_feature_quantiles(taught: RowsSeen, asked: RowsSeen, fit: Callable[..., Any]) -> Floats:
    """Find the position of the records asked about among the quantiles predicted at `LEVELS`."""
    models = [fit(taught.inputs, taught.outcome, "quantile", level) for level in LEVELS]
    quantiles = np.column_stack([model.predict(asked.inputs) for model in models])
    # Quantiles are fitted one by one and may cross: made to rise
    return _interpolate_score(asked.outcome, np.maximum.accumulate(quantiles, axis=1))


def _fit_regressor(
    max_bins: int,
    rounds: int,
    inputs: Floats,
    outcome: Floats,
    loss: str,
    level: float | None = None,
) -> Any:
    """Fit boosted trees to `outcome` (n,) from `inputs` (n, f), deterministically."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        loss=loss,
        quantile=level,
        # Small trees, as there may be few known records; all of them are used
        max_iter=rounds,
        # Fewer rounds take larger steps
        learning_rate=6.0 / rounds,
        max_leaf_nodes=15,
        min_samples_leaf=20,
        early_stopping=False,
        max_bins=max_bins,
    )
    return model.fit(inputs, outcome)


def _interpolate_score(statistic: Floats, quantiles: Floats) -> Floats:
    """Interpolate a standard-normal score (n,) of `statistic` from `quantiles` (n, levels).

    It is extrapolated past both ends.

    >>> z = _interpolate_score(np.array([0.0, 1.0]), np.array([[0.0, 1, 2, 3, 4], [0.0, 1, 2, 3, 4]]))
    >>> [round(float(v), 3) for v in z]
    [0.0, 0.674]
    """
    marks = ndtri(np.array(LEVELS))
    # Beyond both ends the outermost segment is extended
    segment = np.clip((statistic[:, None] >= quantiles).sum(axis=1) - 1, 0, len(LEVELS) - 2)
    rows = np.arange(len(statistic))
    low, high = quantiles[rows, segment], quantiles[rows, segment + 1]
    # Quantiles that nearly meet would give unbounded scores
    width = np.maximum(high - low, 1e-9 + 1e-3 * np.ptp(quantiles, axis=1))
    z: Floats = marks[segment] + (statistic - low) / width * (marks[segment + 1] - marks[segment])
    return z
