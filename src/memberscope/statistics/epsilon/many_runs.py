"""Bound epsilon from below from independent runs.

Each run has one canary put in or left out, and one score.

References:
    [1] M. Jagielski, J. Ullman, A. Oprea, "Auditing Differentially Private Machine Learning",
        NeurIPS 2020, arXiv:2006.07709.
    [2] M. Nasr et al., "Tight Auditing of Differentially Private Machine Learning", USENIX Security
2023, arXiv:2302.07956.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import ndtri

from memberscope._check import check_rate
from memberscope.errors import InputError
from memberscope.statistics.curves.roc import roc
from memberscope.statistics.epsilon.gaussian_dp import gaussian_epsilon, refuse_delta
from memberscope.statistics.epsilon.one_run_canaries import find_hull_corners
from memberscope.statistics.intervals import clopper_pearson
from memberscope.statistics.threshold_rates import ConfusionCounts
from memberscope.types import Bools, Floats

Shape = Literal["any", "gaussian"]


def epsilon_from_counts(
    counts: ConfusionCounts, delta: float, significance: float = 0.05, *, shape: Shape = "any"
) -> float:
    """Give the epsilon (nats) at `delta` that the errors of one rule over independent runs refute.

    The rule must be fixed beforehand; the answer is at least 0.

    With `any` nothing is assumed of the mechanism [1]; `gaussian` takes its trade-off curve for a
    Gaussian one [2], which is right for the Gaussian mechanism and its kin, and gives more. Both
    rates' upper limits hold together at `significance`.

    Raises:
        InputError: Delta is not in [0, 1), or 0 for a Gaussian curve.

    >>> round(epsilon_from_counts(ConfusionCounts(1000, 1000, 0, 1000), 1e-5), 5)
    5.60058
    >>> round(gaussian_mu_from_counts(ConfusionCounts(900, 1000, 10, 1000)), 5)
    3.26345
    """
    if shape == "gaussian":
        refuse_delta(delta)
        mu = gaussian_mu_from_counts(counts, significance)
        return gaussian_epsilon(mu, delta) if mu > 0 else 0.0
    if not 0 <= delta < 1:
        raise InputError(
            f"Expected a delta from 0 to below 1, got {delta:g}. Set --delta below one over the "
            "number of records, for example 1e-5."
        )
    missed, accused = _error_limits(counts, significance)
    # Either error may be the small one, so both ratios are tried and the larger counts
    ratios = [(1 - delta - missed, accused), (1 - delta - accused, missed)]
    return max([0.0, *(float(np.log(a / b)) for a, b in ratios if a > 0)])


def gaussian_mu_from_counts(counts: ConfusionCounts, significance: float = 0.05) -> float:
    """Give the mu of Gaussian privacy that the errors refute; at least 0."""
    missed, accused = _error_limits(counts, significance)
    # The distance of two unit normals with these error rates
    return max(0.0, float(-ndtri(accused) - ndtri(missed)))


def _error_limits(counts: ConfusionCounts, significance: float) -> tuple[float, float]:
    """Give upper limits of the false-negative and false-positive rate that hold together."""
    check_rate("significance", significance)
    # Each one-sided limit misses with half of `significance`, so that both hold together
    missed = clopper_pearson(counts.n_members - counts.tp, counts.n_members, 1 - significance)[1]
    accused = clopper_pearson(counts.fp, counts.n_non_members, 1 - significance)[1]
    return float(missed), float(accused)


def epsilon_from_runs(
    scores: Floats, member: Bools, delta: float, significance: float = 0.05, *, shape: Shape = "any"
) -> float:
    """Give the epsilon that the scores (n,) of independent runs refute.

    Every corner of the ROC's hull is tried at an equal share of `significance`, and the best one
    counts.

    >>> scores = np.arange(2000.0)
    >>> round(epsilon_from_runs(scores, scores >= 1000, 0.0), 4)
    5.3394
    """
    curve = roc(scores, member)
    found = find_hull_corners(curve)
    # Thresholds were chosen on the same data, so each corner pays its share
    parts = [
        ConfusionCounts(int(tp), curve.n_members, int(fp), curve.n_non_members)
        for tp, fp in zip(found.tp, found.fp, strict=True)
    ]
    return max(
        epsilon_from_counts(part, delta, significance / len(parts), shape=shape) for part in parts
    )
