"""Give intervals for shares and for sums and ratios of two independent shares.

They are built on exact binomial limits.

References:
    [1] C. Clopper, E. Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934.
    [2] G. Zou, A. Donner, "Construction of confidence limits about effect measures: a general
        approach", Statistics in Medicine 27, 2008 (MOVER).
    [3] A. Donner, G. Zou, "Closed-form confidence intervals for functions of the normal mean and
        standard deviation", Statistical Methods in Medical Research 21, 2012 (ratios).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.special import betaincinv

from memberscope._check import check_rate

DESCRIPTIVE = "descriptive: no interval is claimed"  # said of numbers whose spread is not known


class Interval(NamedTuple):
    """An estimate with its two-sided limits and the name of the method.

    >>> Interval(0.5, 0.4, 0.6, "example").low
    0.4
    """

    value: float
    low: float
    high: float
    method: str


def clopper_pearson(k: Any, n: Any, confidence: float = 0.95) -> tuple[Any, Any]:
    """Give exact limits for a share of `k` out of `n`, elementwise.

    >>> low, high = clopper_pearson(0, 100, 0.9)
    >>> float(low), round(float(high), 7)
    (0.0, 0.029513)
    """
    tail = (1 - check_rate("confidence", confidence)) / 2
    k, n = np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64)
    return compute_lower_share(k, n, tail), compute_upper_share(k, n, tail)


def compute_lower_share(k: Any, n: Any, tail: float) -> Any:
    """Compute the exact lower limit at level `tail` for a share of `k` out of `n`, elementwise.

    >>> float(compute_lower_share(0.0, 100.0, 0.05))
    0.0
    """
    # The limit at 0 is set apart: the beta quantile is not defined there
    return np.where(k > 0, betaincinv(np.maximum(k, 1e-9), n - k + 1, tail), 0.0)


def compute_upper_share(k: Any, n: Any, tail: float) -> Any:
    """Compute the exact upper limit at level `tail` for a share of `k` out of `n`, elementwise.

    >>> float(compute_upper_share(100.0, 100.0, 0.05))
    1.0
    """
    # The limit at n is set apart, likewise
    return np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1e-9), 1 - tail), 1.0)


def weighted_sum_of_shares(
    first: tuple[float, float],
    second: tuple[float, float],
    weights: tuple[float, float],
    confidence: float = 0.95,
) -> Interval:
    """Estimate w1 p1 + w2 p2 for two independent shares, each given as (k, n).

    The limits are MOVER's, from the shares' exact limits.

    >>> interval = weighted_sum_of_shares((80, 100), (30, 100), (0.5, -0.5))
    >>> round(interval.value, 3), interval.low < 0.25 < interval.high
    (0.25, True)
    """
    value, down, up = 0.0, 0.0, 0.0
    for (k, n), weight in zip((first, second), weights, strict=True):
        # Each share keeps its own limits, which need not be symmetric
        low, high = clopper_pearson(k, n, confidence)
        share = k / n
        below, above = weight * (share - float(low)), weight * (float(high) - share)
        # A negative weight turns the limits of its share round
        if weight < 0:
            below, above = -above, -below
        value, down, up = value + weight * share, down + below**2, up + above**2
    return Interval(value, value - down**0.5, value + up**0.5, "MOVER of Clopper-Pearson limits")


def ratio_of_shares(
    first: tuple[float, float], second: tuple[float, float], confidence: float = 0.95
) -> Interval:
    """Estimate p1 / p2 for two independent shares, each given as (k, n).

    The ratio is infinite where the second count is 0. Each side joins the limits of both shares at
    a confidence split evenly between them (Bonferroni), so that it holds without approximation.

    >>> ratio_of_shares((50, 100), (0, 100)).high
    inf
    """
    # Bonferroni: each share's limits err with half of the rest
    part = 1 - (1 - confidence) / 2
    low1, high1 = clopper_pearson(*first, part)
    low2, high2 = clopper_pearson(*second, part)
    (k1, n1), (k2, n2) = first, second
    # The limits of the ratio join the ends that lie furthest apart
    value = float("inf") if k2 == 0 else (k1 / n1) / (k2 / n2)
    high = float("inf") if low2 == 0 else float(high1) / float(low2)
    return Interval(
        value, float(low1) / float(high2), high, "Clopper-Pearson limits of both shares, Bonferroni"
    )


@lru_cache(maxsize=4096)
def kolmogorov_band(n: int, confidence: float = 0.95) -> float:
    """Give the half width of a band around the distribution of `n` records that holds everywhere.

    It follows from the exact law of the Kolmogorov statistic.

    >>> round(kolmogorov_band(100), 4)
    0.134
    """
    # Imported here, since scipy.stats takes long to load
    from scipy.stats import kstwo

    return float(kstwo.ppf(check_rate("confidence", confidence), n))
