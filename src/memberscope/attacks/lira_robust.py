"""LiRA for few reference models.

It uses Student-t predictive densities under a prior learned from all records together.

With two to sixteen models a record's own mean and variance are poorly known. Each side's are given
a normal-inverse-gamma prior whose parameters are matched to the records' moments. The predictive
density of a new model is then a Student t, which is wide where few models contribute. The prior
mean of models trained with a record follows its mean without it.

References:
    [1] "BaVarIA", 2026, arXiv:2603.11799 (a normal-inverse-gamma prior for LiRA with few shadow
        models).
    [2] G. Smyth, "Linear models and empirical Bayes methods for assessing differential expression",
        2004, section 6.2 (the prior of the variances from the mean and spread of their logarithms).
    [3] K. Murphy, "Conjugate Bayesian analysis of the Gaussian distribution", 2007, equations
85-110.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, gammaln, polygamma

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import (
    Moments,
    access_of,
    compute_moments,
    keep_hidden_scores,
    read_target_values,
    tasks_of,
)
from memberscope.types import Evidence, Floats, Needs, OneNumber, SignalSpec

# From the mean (n, views) without each record, and that with it, to a prior mean of the latter
Predict = Callable[[Floats, Floats], Floats]
# Largest shape of the prior on variances: beyond it all records share one variance
STEADIEST = 100.0


@dataclass(frozen=True)
class RobustLiRA:
    """Log-ratio of the Student-t predictive densities of models trained with and without the record.

    >>> rng = np.random.default_rng(0)
    >>> inside = np.array([[True] * 40, [False] * 40])
    >>> difficulty = rng.normal(size=40)
    >>> refs = difficulty + rng.normal(size=(2, 40)) * 0.3 + 2 * inside
    >>> target = difficulty + np.where(np.arange(40) < 20, 2.0, 0.0)
    >>> hidden = np.full(40, -1, dtype=np.int8)
    >>> evidence = Evidence("logit_confidence", target[:, None, None], np.zeros(40, dtype=int), hidden,
    ...                     references=refs[:, :, None, None], inside=inside)
    >>> scores = RobustLiRA().score(evidence, rng)
    >>> bool(scores[:20].min() > scores[20:].max())
    True
    """

    signal: OneNumber = "logit_confidence"
    version: ClassVar[int] = 1
    log_ratio: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """`lira_robust`, with a signal other than the logit-scaled confidence."""
        return "lira_robust" + (f"_{self.signal}" if self.signal != "logit_confidence" else "")

    @property
    def needs(self) -> Needs:
        """One reference model with each record and one without it."""
        return Needs(
            access_of(self.signal),
            (self.signal,),
            SignalSpec(self.signal),
            references=(1, 1),
            tasks=tasks_of(self.signal),
        )

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the mean log-ratio over views, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing or too few.
        """
        require_needs(self, evidence)
        with_it, without = compute_moments(evidence)
        ratio = compute_robust_ratio(read_target_values(evidence), with_it, without)
        return keep_hidden_scores(ratio.mean(axis=1), evidence.hidden)


def compute_robust_ratio(
    value: Floats, with_it: Moments, without: Moments, predict: Predict | None = None
) -> Floats:
    """Compute the log-ratio (n, views) of the predictive densities with and without each record.

    `predict` gives the prior mean of the models trained with a record, from the posterior mean of
    those without it and from the mean of those with it; by default a line through all records.
    """
    # The models without a record first: the prior of the others follows from them
    out, expected = _predictive_log_density(
        value, without, np.broadcast_to(without.mean.mean(axis=0), without.mean.shape)
    )
    # How hard a record is without training tells most about its mean with it
    inside, _ = _predictive_log_density(
        value, with_it, (predict or _predict_by_least_squares)(expected, with_it.mean)
    )
    return inside - out


def _predict_by_least_squares(predictor: Floats, response: Floats) -> Floats:
    """Predict `response` from `predictor` by least squares (n, views), view by view."""
    centred = predictor - predictor.mean(axis=0)
    # A predictor that does not vary gives the mean alone
    slope = (centred * response).sum(axis=0) / np.maximum(
        (centred**2).sum(axis=0), np.finfo(np.float64).tiny
    )
    fitted: Floats = response.mean(axis=0) + slope * centred
    return fitted


def _predictive_log_density(
    value: Floats, side: Moments, prior_mean: Floats
) -> tuple[Floats, Floats]:
    """Compute the log-density (n, views) of `value` under one more model of this side.

    Also give the side's posterior mean.
    """
    count, weight, shape, scale = side.count, *_estimate_prior(side, prior_mean)
    # The updates of [3] for a normal-inverse-gamma prior
    shape_n = shape + count / 2
    weight_n = weight + count
    gap = side.mean - prior_mean
    scale_n = scale + side.squares / 2 + weight * count * gap**2 / (2 * weight_n)
    mean = prior_mean + count / weight_n * gap
    return student_log_density(
        value, mean, scale_n * (weight_n + 1) / (shape_n * weight_n), 2 * shape_n
    ), mean


def _estimate_prior(side: Moments, prior_mean: Floats) -> tuple[Floats, Floats, Floats]:
    """Estimate the prior: pseudo-count of the mean, shape and scale of the variance, each (views,).

    They are matched to the records' moments [2].
    """
    tiny = np.finfo(np.float64).tiny
    spread = ((side.mean - prior_mean) ** 2).mean(axis=0) + tiny
    freedom = side.count[:, 0] - 1
    # Only records with two models or more show a variance
    own = freedom > 0
    if not own.any():
        # One model on each side shows no variance: half of its distance to the prior mean is taken
        # as between records, half as within
        return np.ones_like(spread), np.full_like(spread, 3.0), spread
    half = freedom[own, None] / 2
    # Models that agree exactly would give a logarithm of zero
    floor = 1e-6 * side.squares[own].sum(axis=0) / freedom[own].sum() + tiny
    log_variance = (
        np.log(np.maximum(side.squares[own] / (2 * half), floor)) - digamma(half) + np.log(half)
    )
    # The spread of log-variances beyond what sampling alone gives
    excess = log_variance.var(axis=0) - polygamma(1, half).mean(axis=0)
    shape = np.array([_inverse_trigamma(value) for value in excess])
    scale = np.exp(log_variance.mean(axis=0) + digamma(shape))
    within = side.squares.sum(axis=0) / freedom.sum() + tiny
    # The spread of the means holds the error of each mean too; at least a hundredth of the variance
    # is left, so that the pseudo-count stays finite
    between = np.maximum(spread - (within / side.count).mean(axis=0), 0.01 * within)
    return within / between, shape, scale


def _inverse_trigamma(value: float) -> float:
    """Find the x with trigamma(x) = `value`, at most `STEADIEST`.

    >>> round(_inverse_trigamma(float(polygamma(1, 2.5))), 6), _inverse_trigamma(-1.0)
    (2.5, 100.0)
    """
    # No excess spread: all records share one variance
    if value <= polygamma(1, STEADIEST):
        return STEADIEST
    return float(brentq(lambda x: polygamma(1, x) - value, 1e-3, STEADIEST))


def student_log_density(
    value: Floats, mean: Floats, squared_scale: Floats, freedom: Floats
) -> Floats:
    """Compute the log-density of a Student t with location, squared scale and degrees of freedom.

    >>> round(float(student_log_density(np.zeros(1), np.zeros(1), np.ones(1), np.array([1.0]))[0]), 6)
    -1.14473
    """
    constant = (
        gammaln((freedom + 1) / 2)
        - gammaln(freedom / 2)
        - 0.5 * np.log(np.pi * freedom * squared_scale)
    )
    density: Floats = constant - (freedom + 1) / 2 * np.log1p(
        (value - mean) ** 2 / (freedom * squared_scale)
    )
    return density
