"""Say what a test of a collection would have shown: its power, and the least that it would see."""

from __future__ import annotations

import numpy as np
from scipy.special import nctdtr, nctdtrinc, ndtr, stdtrit


def compute_collection_power(
    effect: float, n_suspect: int, n_held_out: int, *, level: float = 0.05, spread: float = 1.0
) -> float:
    """Give the probability that the one-sided test finds an `effect` in standard deviations.

    That of Welch's t test with so many units a side, whose critical value is stretched by `spread`,
    the standard deviation of the statistic without use.

    >>> [round(compute_collection_power(0.62, q, q), 2) for q in (10, 20, 50, 100)]
    [0.38, 0.61, 0.92, 1.0]
    """
    degrees = n_suspect + n_held_out - 2
    cut = spread * float(stdtrit(degrees, 1 - level))
    shift = effect / float(np.sqrt(1 / n_suspect + 1 / n_held_out))
    found = 1 - float(nctdtr(degrees, shift, cut))
    # The library's sum fails far away from the critical value, where the normal is exact enough
    return found if np.isfinite(found) and abs(shift) < 30 else float(ndtr(shift - cut))


def find_smallest_effect(
    n_suspect: int, n_held_out: int, *, power: float = 0.8, level: float = 0.05, spread: float = 1.0
) -> float:
    """Find the effect in standard deviations that the test would have found with `power`.

    >>> round(find_smallest_effect(100, 100), 3)
    0.353
    """
    degrees = n_suspect + n_held_out - 2
    cut = spread * float(stdtrit(degrees, 1 - level))
    shift = float(nctdtrinc(degrees, 1 - power, cut))
    return shift * float(np.sqrt(1 / n_suspect + 1 / n_held_out))


def convert_effect_to_auc(effect: float) -> float:
    """Convert a difference in standard deviations into the AUC of normal scores.

    >>> round(convert_effect_to_auc(0.62), 2)
    0.67
    """
    return float(ndtr(effect / np.sqrt(2)))
