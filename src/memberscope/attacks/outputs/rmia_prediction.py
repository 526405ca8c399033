"""RMIA on the density of the residual.

The probability of the truth under a model takes the place of the probability of the true class: the
density, at the true value, of a distribution around the model's prediction, as a share of its
largest value. Its scale is that of the residuals of reference models about records that they were
not trained with.

References:
    [1] S. Zarifzadeh, P. Liu, R. Shokri, "Low-Cost High-Power Membership Inference Attacks", ICML
        2024, arXiv:2312.03262.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from scipy.linalg import solve_triangular

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import keep_hidden_scores
from memberscope.attacks.outputs._blocks import (
    Convert,
    build_output_needs,
    iterate_output_blocks,
    read_outputs,
)
from memberscope.attacks.outputs._correlation import shrink_correlation
from memberscope.attacks.outputs._normal_ratio import Mode
from memberscope.attacks.rmia import RMIA
from memberscope.types import Evidence, Floats, Needs

Density = Literal["gaussian", "laplace"]


@dataclass(frozen=True)
class RMIAPrediction:
    """Share of population records whose likelihood ratio the record's exceeds.

    The density of the residual is `gaussian`, with the covariance of the outputs' residuals, shrunk
    towards none, or `laplace`, which large residuals sway less. Of several outputs the logarithm of
    the density is averaged. `mode` is as for `RMIA`.

    >>> inside = np.array([[True, False, True], [False, True, False]])
    >>> refs = np.where(inside, 44.0, 40.0)
    >>> evidence = Evidence("prediction", np.array([44.0, 42, 40])[:, None, None], np.full((3, 1), 45.0), np.full(3, -1, dtype=np.int8),
    ...                     references=refs[:, :, None, None], inside=inside)
    >>> RMIAPrediction().score(evidence, np.random.default_rng(0)).round(2).tolist()
    [1.0, 0.67, 0.33]
    """

    mode: Mode = "online"
    density: Density = "gaussian"
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """`rmia_prediction` or `rmia_prediction_offline`, with `_laplace` if that is chosen."""
        parts = ["rmia_prediction"] + (["offline"] if self.mode == "offline" else [])
        return "_".join(parts + (["laplace"] if self.density == "laplace" else []))

    @property
    def needs(self) -> Needs:
        """One reference model on each side that is averaged."""
        return build_output_needs("prediction", (1, 1) if self.mode == "online" else (0, 1))

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the share of population records with a smaller ratio, as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: Reference models are missing or too few.
        """
        require_needs(self, evidence)
        measure = _build_log_density(evidence, self.density)
        found = score_density_ratio(evidence, measure, self.mode, rng)
        return keep_hidden_scores(found, evidence.hidden)


def score_density_ratio(
    evidence: Evidence, measure: Convert, mode: Mode, rng: np.random.Generator
) -> Floats:
    """Score by RMIA the log-density (..., n, 1), at most 0, that `measure` gives of outputs.

    Densities of models seldom differ by a factor of two, so that any larger one counts.
    """
    return RMIA(mode, gamma=1.0, temperature=1.0).score(_convert_densities(evidence, measure), rng)


def _convert_densities(evidence: Evidence, measure: Convert) -> Evidence:
    """Convert outputs to one number a record and model, as of the signal `log_confidence`."""
    assert evidence.references is not None
    outputs, truth = read_outputs(evidence)
    references = np.empty((evidence.n_references, len(evidence), 1, 1), dtype=np.float32)
    for block in iterate_output_blocks(evidence, measure):
        references[:, block.rows, 0] = block.references
    # In the precision of the references, so that equal densities tie
    target = measure(outputs, truth)[:, None, :].astype(np.float32)
    population = evidence.population
    return replace(
        evidence,
        signal="log_confidence",
        target=target,
        references=references,
        labels=np.zeros(len(evidence), dtype=np.int64),
        population=None if population is None else _convert_densities(population, measure),
    )


def _build_log_density(evidence: Evidence, density: Density) -> Convert:
    """Build what gives the log-density of the residual, averaged over outputs, as (..., b, 1)."""
    width = evidence.target.shape[2]
    if density == "laplace":
        scale = _average_over_out(evidence, np.abs)
        return partial(_measure_laplace, np.where(scale > 0, scale, 1.0))
    scale = np.sqrt(_average_over_out(evidence, np.square))
    scale = np.where(scale > 0, scale, 1.0)
    total, fourth, count = np.zeros((width, width)), 0.0, 0
    for block in iterate_output_blocks(evidence, np.subtract):
        z = block.references[block.inside == 0] / scale
        total += z.T @ z
        fourth += float(((z * z).sum(axis=1) ** 2).sum())
        count += len(z)
    root = np.linalg.cholesky(shrink_correlation(total, fourth, count)) * scale[:, None]
    return partial(_measure_gaussian, root)


def _average_over_out(evidence: Evidence, change: Callable[[Floats], Floats]) -> Floats:
    """Average what `change` makes of residuals (d,) of models not trained with the record."""
    total, count = np.zeros(evidence.target.shape[2]), 0
    for block in iterate_output_blocks(evidence, np.subtract):
        chosen = block.references[block.inside == 0]
        total += change(chosen).sum(axis=0)
        count += len(chosen)
    average: Floats = total / max(count, 1)
    return average


def _measure_laplace(scale: Floats, outputs: Floats, truth: Floats) -> Floats:
    """Measure the mean log-density of residuals on a scale (d,), as a share of the largest."""
    return np.asarray(-(np.abs(outputs - truth) / scale).mean(axis=-1, keepdims=True))


def _measure_gaussian(root: Floats, outputs: Floats, truth: Floats) -> Floats:
    """Measure the mean log-density of residuals whose covariance has the root (d, d)."""
    residual = outputs - truth
    z = solve_triangular(root, residual.reshape(-1, len(root)).T, lower=True).T
    return np.asarray(-(z.reshape(residual.shape) ** 2 / 2).mean(axis=-1, keepdims=True))
