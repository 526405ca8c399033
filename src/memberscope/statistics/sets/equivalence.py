"""Bound the share of a collection that was used, by what the scores of known members look like.

A used part moves the mean score of the collection in proportion: share = difference / effect, where
the effect is that of records known to be members. Limits are Fieller's, of a ratio of two normals.

References:
    [1] D. Schuirmann, "A comparison of the two one-sided tests procedure", Journal of
        Pharmacokinetics and Biopharmaceutics 15, 1987.
    [2] E. Fieller, "Some problems in interval estimation", Journal of the Royal Statistical
        Society B 16, 1954.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from memberscope.statistics.sets.collection_test import RIDGE, fit_weights
from memberscope.statistics.sets.unit_features import ROUNDING, TAIL, average_units
from memberscope.types import Bools, Floats, Ints


@dataclass(frozen=True)
class MeanDifference:
    """A difference of two means, and its variance."""

    value: float
    variance: float


@dataclass(frozen=True)
class UsedShare:
    """The share of the collection that was used, with one-sided limits.

    `p_value` is that of at least `margin` having been used: small where less was. `smallest` is the
    share that would have been told from none with a probability of 80%.
    """

    value: float
    low: float
    high: float
    p_value: float
    margin: float
    smallest: float


def scale_by_non_members(
    scores: Floats, member: Bools, unit: Ints | None = None
) -> tuple[Floats, Bools]:
    """Bring scores (n, f) to the scale of non-members, clip them, and average them by `unit` (n,).

    Gives features (u, f) and membership (u,) of units. The scale is one function of a record's
    score, whatever share of the others was used, so that means mix in proportion.

    >>> scores = np.array([[0.0], [2.0], [1.0], [3.0], [9.0]])
    >>> scale_by_non_members(scores, np.arange(5) > 3)[0].round(2).ravel().tolist()
    [-1.33, 0.47, -0.47, 1.33, 1.33]
    """
    others = scores[~member]
    cut = np.quantile(others, (TAIL, 1 - TAIL), axis=0)
    clipped = np.clip(others, cut[0], cut[1])
    spread = clipped.std(axis=0)
    flat = spread <= ROUNDING * np.abs(others).max(axis=0)
    values = (np.clip(scores, cut[0], cut[1]) - clipped.mean(axis=0)) / np.where(flat, 1, spread)
    # Other models must have the same columns, so one without spread stays, and counts for nothing
    values[:, flat] = 0.0
    means, first, _ = average_units(values, unit)
    return means, member[first]


def learn_known_weights(features: Floats, member: Bools) -> Floats:
    """Learn weights (f,) that tell members from others by their features (u, f).

    >>> learn_known_weights(np.array([[2.0], [1.0], [0.0], [-1.0]]), np.arange(4) < 2).round(2)
    array([0.89])
    """
    centred = features - features.mean(axis=0)
    inverse = np.linalg.inv(centred.T @ centred / len(centred) + RIDGE * np.eye(centred.shape[1]))
    weights = fit_weights(centred[member].sum(axis=0)[:, None], inverse)[:, 0]
    return weights


def measure_mean_difference(scores: Floats, member: Bools) -> MeanDifference:
    """Measure the mean score (u,) of members less that of others, with Welch's variance.

    >>> measure_mean_difference(np.array([3.0, 5.0, 1.0, 3.0]), np.array([True, True, False, False]))
    MeanDifference(value=2.0, variance=2.0)
    """
    inside, outside = scores[member], scores[~member]
    variance = inside.var(ddof=1) / len(inside) + outside.var(ddof=1) / len(outside)
    return MeanDifference(float(inside.mean() - outside.mean()), float(variance))


def combine_differences(found: list[MeanDifference]) -> MeanDifference:
    """Combine the differences under several models into that of one more model like them.

    >>> combine_differences([MeanDifference(1.0, 0.01), MeanDifference(1.2, 0.01)])
    MeanDifference(value=1.1, variance=0.0299...)
    """
    values = np.array([one.value for one in found])
    within = float(np.mean([one.variance for one in found])) / len(found)
    if len(found) == 1:
        return found[0]
    # The audited model is one more draw of the training, beside the mean of those seen
    between = float(values.var(ddof=1)) * (1 + 1 / len(found))
    return MeanDifference(float(values.mean()), max(within, between))


def bound_used_share(
    difference: MeanDifference, known: MeanDifference, margin: float, *, level: float = 0.05
) -> UsedShare | None:
    """Bound the share used by the `difference` of the collection and that of `known` members.

    None where known members are not surely above non-members: nothing follows from such scores.

    >>> found = bound_used_share(MeanDifference(0.01, 1e-4), MeanDifference(1.0, 1e-4), 0.1)
    >>> round(found.high, 3), found.p_value < 1e-9
    (0.026, True)
    """
    cut = float(ndtri(1 - level))
    squared = known.value**2 - cut**2 * known.variance
    if known.value <= 0 or squared <= 0:
        return None
    # Fieller: the shares s for which |difference - s * known| is within `cut` standard errors
    middle = difference.value * known.value
    rest = difference.value**2 - cut**2 * difference.variance
    root = float(np.sqrt(max(middle**2 - squared * rest, 0.0)))
    error = float(np.sqrt(difference.variance + margin**2 * known.variance))
    p_value = float(ndtr((difference.value - margin * known.value) / error))
    smallest = (cut + float(ndtri(0.8))) * float(np.sqrt(difference.variance)) / known.value
    return UsedShare(
        difference.value / known.value,
        (middle - root) / squared,
        (middle + root) / squared,
        p_value,
        margin,
        smallest,
    )
