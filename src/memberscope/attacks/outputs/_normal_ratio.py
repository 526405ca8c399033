"""Likelihood ratio of two normals, of models trained with each record and without it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from memberscope.attacks._reference_stats import Moments
from memberscope.attacks.lira import LiRA
from memberscope.attacks.outputs._blocks import (
    Convert,
    compute_output_moments,
    iterate_output_blocks,
)
from memberscope.attacks.outputs._correlation import Side, estimate_roots
from memberscope.types import Evidence, Floats

Mode = Literal["online", "offline"]
Variance = Literal["auto", "fixed", "per_example"]
Covariance = Literal["shrunk", "diagonal"]


def name_variant(base: str, mode: Mode, variance: Variance, *others: str) -> str:
    """Name an attack with what differs from the default.

    >>> name_variant("lira_prediction", "offline", "auto")
    'lira_prediction_offline'
    """
    parts = [base] + (["offline"] if mode == "offline" else [])
    return "_".join([*parts, *([variance] if variance != "auto" else []), *others])


def model_sides(
    evidence: Evidence, convert: Convert, width: int, variance: Variance, covariance: Covariance
) -> tuple[Side, Side]:
    """Model the numbers that `convert` gives under the models with each record, and without it."""
    moments = compute_output_moments(evidence, convert, width)
    n_models = evidence.n_references
    deviations = (
        _find_deviation(moments[0], variance, n_models),
        _find_deviation(moments[1], variance, n_models),
    )
    roots = (np.eye(width), np.eye(width))
    if covariance == "shrunk":
        roots = estimate_roots(iterate_output_blocks(evidence, convert), moments, deviations)
    return (
        Side(moments[0].mean, deviations[0], roots[0]),
        Side(moments[1].mean, deviations[1], roots[1]),
    )


def compute_log_ratio(sides: tuple[Side, Side], value: Floats) -> Floats:
    """Compute the log-ratio (n,) of the densities of `value` (n, d) on the two sides."""
    return sides[0].compute_log_density(value) - sides[1].compute_log_density(value)


def _find_deviation(side: Moments, variance: Variance, n_models: int) -> Floats:
    """Find the standard deviation (n, d) of each record's numbers, or the pooled one (1, d)."""
    # Where no model was trained with any record, that side has no spread
    if not side.count.any():
        return np.ones((1, side.mean.shape[1]))
    return np.sqrt(LiRA(variance=variance).spread(side, n_models))
