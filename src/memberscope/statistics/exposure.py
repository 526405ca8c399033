"""Measure how much a model favours canaries it was trained on over those left out, in bits.

References:
    [1] N. Carlini, C. Liu, Ú. Erlingsson, J. Kos, D. Song, "The Secret Sharer: Evaluating and
        Testing Unintended Memorization in Neural Networks", USENIX Security 2019,
        arXiv:1802.08232.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr

from memberscope._check import check_rate
from memberscope.errors import InputError
from memberscope.statistics.intervals import Interval
from memberscope.types import Floats

METHOD = "order statistics of the canaries that are in; the canaries left out are taken as given"


@dataclass(frozen=True)
class ExposureSummary:
    """Exposure (bits) of `n` canaries among `n_outside` left out.

    `tenth` and `ninetieth` are quantiles and describe, `most` is what so many left out can show.
    A model that was not trained on the canaries has a median of about one bit.
    """

    median: Interval
    tenth: float
    ninetieth: float
    most: float
    n: int
    n_outside: int


def compute_exposure(inside: Floats, outside: Floats) -> Floats:
    """Compute the exposure (a,) of canaries with scores `inside` (a,), higher if better known.

    It is the logarithm to base 2 of the number of candidates, which are the canaries left out with
    scores `outside` (b,) and the canary itself, minus that of its rank among them [1]. Ties count
    against the canary. Of a model that does not know the canaries, it exceeds t bits with a
    probability of at most 2 to the power of -t.

    Raises:
        InputError: A score is not finite, or no canary was left out.

    >>> compute_exposure(np.array([5.0, 1.5]), np.array([1.0, 2.0, 3.0])).round(3).tolist()
    [2.0, 0.415]
    """
    inside, outside = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
    if not len(outside) or not np.isfinite(inside).all() or not np.isfinite(outside).all():
        raise InputError(
            f"Expected finite scores and at least one canary left out, got {len(outside)} left "
            "out. Draw more canaries, and look at what the model gives for them."
        )
    ranked = np.sort(outside)
    better = len(ranked) - np.searchsorted(ranked, inside, side="left")
    exposure: Floats = np.log2(len(ranked) + 1) - np.log2(better + 1)
    return exposure


def summarise_exposure(
    inside: Floats, outside: Floats, confidence: float = 0.95
) -> ExposureSummary:
    """Summarise the exposure of canaries with scores `inside` (a,) among `outside` (b,).

    Raises:
        InputError: A score is not finite, or there is no canary on one side.

    >>> rng = np.random.default_rng(0)
    >>> found = summarise_exposure(rng.normal(size=400), rng.normal(size=400))
    >>> found.median.low < 1 < found.median.high
    True
    """
    if not len(inside):
        raise InputError("Expected canaries that are in, got none. Draw more canaries.")
    values = np.sort(compute_exposure(inside, outside))
    low, high = _find_median_ranks(len(values), confidence)
    tenth, median, ninetieth = (float(v) for v in np.quantile(values, (0.1, 0.5, 0.9)))
    most = float(np.log2(len(outside) + 1))
    # Too few canaries give no limit from their order
    limits = (0.0 if low < 0 else float(values[low]), most if low < 0 else float(values[high]))
    interval = Interval(median, *limits, METHOD)
    return ExposureSummary(interval, tenth, ninetieth, most, len(values), len(outside))


def _find_median_ranks(n: int, confidence: float) -> tuple[int, int]:
    """Find the places of the order statistics that hold the median; negative if none do."""
    tail = (1 - check_rate("confidence", confidence)) / 2
    # The largest k for which at most k of n fall below the median with probability `tail`
    chances = bdtr(np.arange(n), n, 0.5)
    low = int(np.searchsorted(chances, tail, side="right")) - 1
    return (low, n - 1 - low) if low >= 0 else (-1, -1)
