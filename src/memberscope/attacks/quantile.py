"""Quantile regression: compare a record's score with those of non-members like it.

A model of the non-members' logit-scaled confidence, given the record, sets a threshold of its own
for every record, so that each has the same false-positive rate. No other model is trained.

References:
    [1] M. Bertran, S. Tang, M. Kearns, J. Morgenstern, A. Roth, Z. S. Wu, "Scalable Membership
        Inference Attacks via Quantile Regression", NeurIPS 2023, arXiv:2307.03694.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from memberscope.attacks._inputs import require_needs, true_class_logit
from memberscope.types import Access, Bools, Evidence, Floats, Ints, Needs

LEVELS = (0.5, 0.75, 0.9, 0.95, 0.99)  # quantiles predicted; scores in between are interpolated
MISSING = 255  # in place of a bin
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
        return FoldedQuantile(self).score(evidence, rng)


class RowsSeen(NamedTuple):
    """What the regressors read of some records.

    Attributes:
        bins: Bin (r, f + 1) of each feature and of the class code, `MISSING` where there is none.
        outcome: Logit-scaled confidence (r,).
    """

    bins: NDArray[np.uint8]
    outcome: Floats

    def drop_columns(self, dropped: Bools) -> RowsSeen:
        """Drop the features marked in `dropped` (f + 1,)."""
        return self._replace(bins=self.bins[:, ~dropped]) if dropped.any() else self

    def take(self, rows: Ints | Bools) -> tuple[Floats, Floats]:
        """Take bins (s, f + 1), NaN where missing, and outcome (s,) of the records at `rows`."""
        # Column by column in memory, as the learner reads them
        inputs = np.asfortranarray(self.bins[rows], dtype=np.float64)
        inputs[inputs == MISSING] = np.nan
        return inputs, self.outcome[rows]


@dataclass(frozen=True, eq=False)
class FeatureBins:
    """The bins of records' features and classes, found once for all levels that are attacked."""

    _kept: list[tuple[Floats, Ints, int, NDArray[np.uint8]]] = field(
        default_factory=list, init=False
    )
    _lock: Lock = field(default_factory=Lock, init=False)

    def find(self, evidence: Evidence, max_bins: int) -> NDArray[np.uint8]:
        """Find the bins (n, f + 1) of the evidence's features, and of its labels at the end."""
        features, labels = evidence.features, evidence.labels
        assert features is not None
        with self._lock:
            for *known, bins in self._kept:
                # Levels differ in the answers, and share the records
                if known[0] is features and known[1] is labels and known[2] == max_bins:
                    return bins
            columns = [*features.T, labels.astype(np.float64)]
            found = np.stack([_bin_column(column, max_bins) for column in columns], axis=1)
            self._kept.append((features, labels, max_bins, found))
        return found


@dataclass(frozen=True, eq=False)
class FoldedQuantile:
    """The attack on one evidence, of which other records are known at each call.

    What does not depend on who is known is computed once: the logit-scaled confidence, and the bins
    of the features, which every fit would otherwise look for anew.
    """

    attack: Quantile
    bins: FeatureBins = field(default_factory=FeatureBins)
    _kept: list[RowsSeen] = field(default_factory=list, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the scores (n,) of the hidden records, NaN elsewhere.

        Raises:
            UnmetNeedError: The evidence lacks known non-members, or features where they are needed.
        """
        require_needs(self.attack, evidence)
        learn = np.flatnonzero(evidence.known == 0)
        if len(learn) > self.attack.max_fit:
            # Sorted, so that the fit does not depend on the order of the draw
            learn = np.sort(rng.choice(learn, self.attack.max_fit, replace=False))
        rows = self._read_rows(evidence)
        gaussian = self.attack.model == "gaussian"
        scores = np.full(len(rows.outcome), np.nan)
        if self.attack.given == "class":
            by_class = _score_class_gaussian if gaussian else _score_class_quantiles
            found = by_class(rows.outcome, evidence.labels, learn)[evidence.hidden]
        else:
            by_features = _score_feature_gaussian if gaussian else _score_feature_quantiles
            fit = partial(_fit_regressor, self.attack)
            # The learner cannot bin a column that is missing throughout
            rows = rows.drop_columns((rows.bins[learn] == MISSING).all(axis=0))
            found = by_features(rows.take(learn), rows.take(evidence.hidden), fit)
        scores[evidence.hidden] = found
        return scores

    def _read_rows(self, evidence: Evidence) -> RowsSeen:
        """Read all records once, whichever thread comes first."""
        with self._lock:
            if not self._kept:
                bins = np.empty((len(evidence), 0), dtype=np.uint8)
                if self.attack.given == "features":
                    bins = self.bins.find(evidence, self.attack.max_bins)
                self._kept.append(RowsSeen(bins, true_class_logit(evidence)))
        return self._kept[0]


def _bin_column(column: Floats, max_bins: int) -> NDArray[np.uint8]:
    """Number the bin (n,) of each value, from the lowest, with about as many values in each.

    A column of few different values has one bin for each.

    >>> _bin_column(np.array([3.0, np.nan, 1.0, 3.0]), 63).tolist()
    [1, 255, 0, 1]
    """
    missing = np.isnan(column)
    ordered = np.sort(column[~missing])
    distinct = ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered
    if len(distinct) > max_bins:
        distinct = np.unique(ordered[np.arange(1, max_bins + 1) * len(ordered) // max_bins - 1])
    # Values up to a bin's highest belong to it, and all above the last but one to the last
    found = np.searchsorted(distinct[:-1], column, side="left")
    return np.where(missing, MISSING, found).astype(np.uint8)


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


def _score_feature_gaussian(
    taught: tuple[Floats, Floats], asked: tuple[Floats, Floats], fit: Callable[..., Any]
) -> Floats:
    """Compute the z-score of the records asked about under a predicted mean and spread."""
    inputs, outcome = taught
    centre = fit(inputs, outcome, "squared_error")
    # The spread is predicted too, since some records are harder to predict than others
    residual = np.abs(outcome - centre.predict(inputs))
    spread = fit(inputs, residual, "squared_error")
    # A predicted spread near zero would let a tiny residual outrank all others
    floor = 0.1 * float(residual.mean()) + 1e-12
    scale = np.maximum(spread.predict(asked[0]), floor)
    return np.asarray((asked[1] - centre.predict(asked[0])) / scale, dtype=np.float64)


def _score_feature_quantiles(
    taught: tuple[Floats, Floats], asked: tuple[Floats, Floats], fit: Callable[..., Any]
) -> Floats:
    """Find the position of the records asked about among the quantiles predicted at `LEVELS`."""
    models = [fit(*taught, "quantile", level) for level in LEVELS]
    quantiles = np.column_stack([model.predict(asked[0]) for model in models])
    # Quantiles are fitted one by one and may cross: made to rise
    return _interpolate_score(asked[1], np.maximum.accumulate(quantiles, axis=1))


def _fit_regressor(
    attack: Quantile, inputs: Floats, outcome: Floats, loss: str, level: float | None = None
) -> Any:
    """Fit boosted trees to `outcome` (n,) from `inputs` (n, f), deterministically."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        loss=loss,
        quantile=level,
        # Small trees, as there may be few known records; all of them are used
        max_iter=attack.rounds,
        # Fewer rounds take larger steps
        learning_rate=6.0 / attack.rounds,
        max_leaf_nodes=15,
        min_samples_leaf=20,
        early_stopping=False,
        max_bins=attack.max_bins,
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
