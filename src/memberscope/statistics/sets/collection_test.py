"""Test whether the records of a collection look more like members than held-out ones do.

Scores of several attacks become one number a unit by weights fitted on half of the units and used
on the other half [1]. Exchanging suspect and held-out units at random, weights fitted anew, gives
the distribution of the statistic where the collection was not used.

References:
    [1] P. Maini, H. Jia, N. Papernot, A. Dziedzic, "LLM Dataset Inference: Did you train on my
        dataset?", NeurIPS 2024, arXiv:2406.06443.
    [2] E. Chung, J. Romano, "Exact and asymptotically robust permutation tests", Annals of
        Statistics 41, 2013 (a studentised statistic allows for unequal variances).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from memberscope.statistics.sets.unit_features import UnitFeatures
from memberscope.types import Bools, Floats, Ints

PERMUTATIONS = 999
HALVINGS = 3  # each gives two directions: fitted on one half and used on the other
RIDGE = 1.0  # added to the variance, 1, of each feature
BLOCK = 1 << 19  # numbers handled at a time, so that they stay in the processor's cache


@dataclass(frozen=True)
class CollectionTest:
    """How much more the suspect units look like members than the held-out ones.

    `effect` is the difference of the means in standard deviations of a unit, on units that the
    weights were not fitted on, with limits of `confidence`. `p_value` is one-sided. `spread` is the
    standard deviation of the statistic without use, 1 for a t test of all units.
    """

    effect: float
    low: float
    high: float
    p_value: float
    spread: float
    confidence: float
    permutations: int


@dataclass(frozen=True, eq=False)
class _Direction:
    """The units (a,) that weights are fitted on, those (b,) they are used on, and `inverse` (f, f).

    `inverse` is that of the variance of the fitted half; None for a feature that needs no weight.
    """

    fitted: Floats
    used: Floats
    rows: Ints
    fitted_rows: Ints
    inverse: Floats | None


def compare_collections(
    features: UnitFeatures,
    rng: np.random.Generator,
    *,
    confidence: float = 0.9,
    permutations: int = PERMUTATIONS,
) -> CollectionTest:
    """Test one-sidedly whether suspect units have higher scores than held-out ones.

    A weight is never negative: each attack scores members higher by definition, so that a
    collection which merely differs the other way is not taken for a used one. A single feature
    needs no weights and no halves.

    >>> from memberscope.statistics.sets.unit_features import build_unit_features
    >>> rng = np.random.default_rng(0)
    >>> member = np.arange(400) < 200
    >>> scores = rng.standard_normal((400, 3)) + 0.5 * member[:, None]
    >>> found = compare_collections(build_unit_features(scores, member), rng)
    >>> found.p_value, bool(found.low > 0.4)
    (0.001, True)
    """
    directions = list(_build_directions(features.values, rng))
    found = [_measure_statistics(directions, features.member[:, None])]
    most = max(1, BLOCK // len(features.member))
    for start in range(0, permutations, most):
        n = min(most, permutations - start)
        # The same exchange in all directions, since their statistics are averaged
        drawn = rng.permuted(np.tile(features.member, (n, 1)), axis=1).T
        found.append(_measure_statistics(directions, drawn))
    observed, others = float(found[0][0]), np.concatenate(found[1:])
    inside, outside = features.sizes
    share = 1.0 if directions[0].inverse is None else 0.5
    # From a statistic on so many units to standard deviations of one
    scale = float(np.sqrt((1 / inside + 1 / outside) / share))
    noise, effect = float(others.std()), observed * scale
    # The standard deviation that the effect is measured in is estimated too
    error = np.hypot(noise * scale, effect / np.sqrt(2 * (inside + outside)))
    reach = float(ndtri(0.5 + confidence / 2) * error)
    return CollectionTest(
        effect,
        effect - reach,
        effect + reach,
        # Equal up to rounding counts as equal, on the safe side
        (1 + int((others >= observed - 1e-9).sum())) / (1 + permutations),
        noise / float(np.sqrt(share)),
        confidence,
        permutations,
    )


def _build_directions(values: Floats, rng: np.random.Generator) -> Iterator[_Direction]:
    """Build the pairs of halves of the units, drawn without regard to which are suspect."""
    n, f = values.shape
    if f == 1:
        yield _Direction(values[:0], values, np.arange(n), np.arange(0), None)
        return
    for _ in range(HALVINGS):
        order = rng.permutation(n)
        halves = (order[: n // 2], order[n // 2 :])
        for fit, use in (halves, halves[::-1]):
            centred = values[fit] - values[fit].mean(axis=0)
            inverse = np.linalg.inv(centred.T @ centred / len(fit) + RIDGE * np.eye(f))
            yield _Direction(centred, values[use], use, fit, inverse)


def fit_weights(sums: Floats, inverse: Floats) -> Floats:
    """Fit weights (f, b) to the `sums` (f, b) of centred features over suspect units.

    Equal weights where no attack scores suspect units higher.
    """
    weights = np.maximum(inverse @ sums, 0.0)
    weights[:, ~weights.any(axis=0)] = 1.0
    return weights


def _measure_statistics(directions: list[_Direction], member: Bools) -> Floats:
    """Measure Welch's t, averaged over directions, for each column of `member` (u, b)."""
    total = np.zeros(member.shape[1])
    for one in directions:
        if one.inverse is None:
            scores = np.broadcast_to(one.used, (len(one.used), member.shape[1]))
        else:
            chosen = member[one.fitted_rows].astype(np.float64)
            scores = one.used @ fit_weights(one.fitted.T @ chosen, one.inverse)
        total += measure_welch_t(scores, member[one.rows])
    return total / len(directions)


def measure_welch_t(scores: Floats, member: Bools) -> Floats:
    """Measure Welch's t (b,) of members against others in each column of `scores` (u, b).

    0 where a side has fewer than two, or neither has any spread.

    >>> member = np.array([[True], [True], [False], [False]])
    >>> measure_welch_t(np.array([[3.0], [5.0], [1.0], [3.0]]), member).round(3).tolist()
    [1.414]
    """
    inside = member.astype(np.float64)
    n, n1 = len(scores), inside.sum(axis=0)
    n0 = n - n1
    # About the mean of all, since sums of squares of large numbers lose digits
    centred = scores - scores.mean(axis=0)
    squares = centred**2
    first = np.einsum("ub,ub->b", centred, inside)
    second = np.einsum("ub,ub->b", squares, inside)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean1, mean0 = first / n1, -first / n0
        part1 = (second / n1 - mean1**2) / (n1 - 1)
        part0 = ((squares.sum(axis=0) - second) / n0 - mean0**2) / (n0 - 1)
        found: Floats = (mean1 - mean0) / np.sqrt(np.maximum(part1 + part0, 1e-300))
    known = (n1 > 1) & (n0 > 1) & (squares.sum(axis=0) > 0)
    return np.where(known, found, 0.0)
