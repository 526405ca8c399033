"""Name units of a collection that were used, with a limit on the share named wrongly.

Each unit's score is ranked among those of held-out units, which gives it a conformal p-value [1];
the procedure of Benjamini and Hochberg [2] turns these into a list. Weights of several attacks are
learned from other held-out units against all units that are ranked, which keeps the limit exact [3].

References:
    [1] S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia, "Testing for outliers with conformal
        p-values", Annals of Statistics 51, 2023, arXiv:2104.08279.
    [2] Y. Benjamini, Y. Hochberg, "Controlling the false discovery rate", Journal of the Royal
        Statistical Society B 57, 1995.
    [3] A. Marandon, L. Lei, D. Mary, E. Roquain, "Adaptive novelty detection with false discovery
        rate guarantee", Annals of Statistics 52, 2024, arXiv:2208.06685.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.statistics.sets.collection_test import RIDGE, fit_weights
from memberscope.statistics.sets.unit_features import UnitFeatures
from memberscope.types import Bools, Floats, Ints

LEARNING = 3  # one of so many held-out units is spent on the weights


@dataclass(frozen=True, eq=False)
class NamedUnits:
    """The suspect `units` (u,), each with its p-value, and whether it is `named` (u,).

    `n_ranked_among` held-out units gave the p-values: no p-value is below one over one more.
    """

    units: Ints
    p_values: Floats
    named: Bools
    n_ranked_among: int


def name_units(features: UnitFeatures, fdr: float, rng: np.random.Generator) -> NamedUnits:
    """Name suspect units so that at most a share `fdr` of them, on average, was not used.

    >>> from memberscope.statistics.sets.unit_features import build_unit_features
    >>> rng = np.random.default_rng(0)
    >>> scores = rng.standard_normal((600, 2))
    >>> scores[:50] += 5
    >>> features = build_unit_features(scores, np.arange(600) < 300, by_rank=True)
    >>> found = name_units(features, 0.1, rng)
    >>> int(found.named[:50].sum()), int(found.named[50:].sum())
    (50, 1)
    """
    held_out = np.flatnonzero(~features.member)
    suspects = np.flatnonzero(features.member)
    scores, ranked = features.values[:, 0], held_out
    if features.values.shape[1] > 1:
        held_out = rng.permutation(held_out)
        learned = held_out[: len(held_out) // LEARNING]
        ranked = held_out[len(held_out) // LEARNING :]
        # Suspects and those they are ranked among are one side, so that exchanging them changes no
        # weight
        mixed = np.concatenate([suspects, ranked])
        scores = features.values @ _learn_weights(features.values[mixed], features.values[learned])
    p_values = compute_conformal_p_values(scores[suspects], scores[ranked])
    return NamedUnits(
        features.names[suspects], p_values, control_false_discoveries(p_values, fdr), len(ranked)
    )


def _learn_weights(mixed: Floats, learned: Floats) -> Floats:
    """Learn weights (f,) that tell `mixed` (a, f) from `learned` (b, f) held-out units."""
    both = np.concatenate([mixed, learned])
    centred = both - both.mean(axis=0)
    inverse = np.linalg.inv(centred.T @ centred / len(both) + RIDGE * np.eye(both.shape[1]))
    sums = centred[: len(mixed)].sum(axis=0)
    return fit_weights(sums[:, None], inverse)[:, 0]


def compute_conformal_p_values(scores: Floats, known: Floats) -> Floats:
    """Compute the p-value (n,) of each score: its rank among those of `known` (k,) non-members.

    Ties count against it.

    >>> compute_conformal_p_values(np.array([5.0, 2.0, 0.0]), np.array([1.0, 2.0, 3.0])).tolist()
    [0.25, 0.75, 1.0]
    """
    ordered = np.sort(known)
    above = len(ordered) - np.searchsorted(ordered, scores, side="left")
    found: Floats = (1 + above) / (1 + len(ordered))
    return found


def control_false_discoveries(p_values: Floats, fdr: float) -> Bools:
    """Choose p-values (n,) such that a share of at most `fdr` is chosen wrongly, on average.

    >>> control_false_discoveries(np.array([0.001, 0.03, 0.2, 0.9]), 0.1).tolist()
    [True, True, False, False]
    """
    if not len(p_values):
        return np.zeros(0, dtype=bool)
    # Imported here, since it takes long and most commands need none of it
    from scipy.stats import false_discovery_control

    chosen: Bools = false_discovery_control(p_values) <= fdr
    return chosen
