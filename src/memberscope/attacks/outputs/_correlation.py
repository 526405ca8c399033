"""Estimate how the outputs of models vary together, shrunk towards no correlation.

References:
    [1] O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance
        matrices", Journal of Multivariate Analysis 88, 2004.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from memberscope.attacks._reference_stats import Block, Moments
from memberscope.types import Bools, Floats

# Least weight of no correlation, so that two outputs that are one can still be told apart from it
LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Side:
    """The models on one side of the records.

    Their mean (n, d), standard deviation (n, d) or (1, d), and the lower triangular root (d, d) of
    the correlation of their outputs.
    """

    mean: Floats
    deviation: Floats
    root: Floats

    def whiten(self, value: Floats) -> Floats:
        """Turn values (n, d) into uncorrelated numbers of variance 1 under these models."""
        z = (value - self.mean) / self.deviation
        return np.asarray(solve_triangular(self.root, z.T, lower=True).T, dtype=np.float64)

    def compute_log_density(self, value: Floats) -> Floats:
        """Compute the log-density (n,) of values (n, d) under a normal with these moments.

        >>> one = Side(np.zeros((1, 1)), np.ones((1, 1)), np.eye(1))
        >>> round(float(one.compute_log_density(np.ones((1, 1)))[0]), 8)
        -1.41893853
        """
        constant = np.log(2 * np.pi) / 2 + np.log(np.diag(self.root)) + np.log(self.deviation)
        density: Floats = -(constant + self.whiten(value) ** 2 / 2).sum(axis=1)
        return density


def estimate_roots(
    blocks: Iterable[Block], sides: tuple[Moments, Moments], deviations: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    """Estimate the root (d, d) of the correlation within records, on both sides.

    Residuals of all records are pooled, each divided by its standard deviation in `deviations`, and
    their correlation is shrunk towards none [1].
    """
    width = sides[0].mean.shape[1]
    totals, fourth, counts = np.zeros((2, width, width)), np.zeros(2), np.zeros(2)
    # One output has no correlation to estimate
    for block in blocks if width > 1 else ():
        for place, (side, deviation, chosen) in enumerate(
            zip(sides, deviations, (block.inside > 0, block.inside == 0), strict=True)
        ):
            z = _standardize(block, side, deviation, chosen)
            totals[place] += z.T @ z
            fourth[place] += float(((z * z).sum(axis=1) ** 2).sum())
            counts[place] += len(z)
    roots = [
        np.asarray(np.linalg.cholesky(shrink_correlation(total, float(power), int(count))), float)
        for total, power, count in zip(totals, fourth, counts, strict=True)
    ]
    return roots[0], roots[1]


def _standardize(block: Block, side: Moments, deviation: Floats, chosen: Bools) -> Floats:
    """Divide the residuals (r, d) of the chosen models and records by their deviations."""
    own = deviation[block.rows] if len(deviation) > 1 else deviation
    # A record without models on this side has no mean, and no residual either
    return np.asarray(((block.references - side.mean[block.rows]) / own)[chosen])


def shrink_correlation(total: Floats, fourth: float, count: int) -> Floats:
    """Shrink the correlation (d, d) of `count` residuals z towards none, by their own noise [1].

    `total` is the sum of z z' and `fourth` that of |z|^4.

    >>> z = np.random.default_rng(0).normal(size=(50, 2))
    >>> found = shrink_correlation(z.T @ z, float(((z * z).sum(axis=1) ** 2).sum()), 50)
    >>> bool(abs(found[0, 1]) < abs(np.corrcoef(z.T)[0, 1])), found.diagonal().round(6).tolist()
    (True, [1.0, 1.0])
    """
    width = len(total)
    none = np.eye(width)
    if width == 1 or count < 2:
        return none
    spread = total / count
    # Outputs that never vary have no correlation with the others
    scale = np.sqrt(np.where(np.diag(spread) > 0, np.diag(spread), 1.0))
    correlation = spread / np.outer(scale, scale)
    np.fill_diagonal(correlation, 1.0)
    distance = float(((correlation - none) ** 2).sum())
    noise = (fourth / count - float((spread**2).sum())) / count
    weight = min(max(noise / distance, LEAST), 1.0) if distance > 0 else 1.0
    shrunk: Floats = (1 - weight) * correlation + weight * none
    return shrunk
