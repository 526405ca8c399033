"""Estimate the probability of membership at a stated prior from a score.

The ratio is the isotonic regression of membership on the score, smoothed so that no record is ever
certain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression

from memberscope import _check
from memberscope.statistics.intervals import ratio_of_shares
from memberscope.types import Bools, Floats


@dataclass(frozen=True, eq=False)
class LikelihoodRatio:
    """P(score | member) / P(score | non-member) as a step function.

    It is `ratios` (b,) from each of `starts` (b,) upwards.
    """

    starts: Floats
    ratios: Floats

    def posterior(self, scores: Floats, prior: float) -> Floats:
        """Give the probability of membership (n,) of records with `scores` (n,).

        A share `prior` of records are members.
        """
        # A score below the first step gets the ratio of that step
        at = np.clip(np.searchsorted(self.starts, scores, side="right") - 1, 0, None)
        odds = self.ratios[at] * prior / (1 - prior)
        return np.asarray(odds / (1 + odds), dtype=np.float64)


def fit_likelihood_ratio(scores: Floats, member: Bools) -> LikelihoodRatio:
    """Fit the likelihood ratio to `scores` (n,) of known membership (n,).

    Each level is smoothed by one pseudo-record.

    Raises:
        InputError: A score is not finite, the lengths differ, or one kind is missing.

    >>> ratio = fit_likelihood_ratio(np.array([0.0, 0, 1, 1]), np.array([False, True, True, True]))
    >>> ratio.posterior(np.array([0.0, 1.0]), 0.5).round(3).tolist()
    [0.318, 0.786]
    """
    scores, member = np.asarray(scores, dtype=np.float64), np.asarray(member, dtype=bool)
    _check.check_binary_scores(scores, member)
    # Records of one score are one level, whose share of members counts by their number
    levels, inverse = np.unique(scores, return_inverse=True)
    counts = np.bincount(inverse)
    inside = np.bincount(inverse, weights=member)
    # More score must never mean less likely a member
    fit = isotonic_regression(inside / counts, weights=counts)
    edges = fit.blocks[:-1]
    block_inside = np.add.reduceat(inside, edges)
    block_outside = np.add.reduceat(counts, edges) - block_inside
    n_inside, n_outside = float(member.sum()), float((~member).sum())
    # The pseudo-record is split in the sample's own proportion, which favours neither side
    share = n_inside / (n_inside + n_outside)
    ratios = ((block_inside + share) / n_inside) / ((block_outside + 1 - share) / n_outside)
    # Smoothing by one record may break the order between small blocks: restore it
    return LikelihoodRatio(levels[edges], np.maximum.accumulate(ratios))


class Bin(NamedTuple):
    """One bin of a reliability diagram.

    Predicted and observed share of members at the prior, with limits and counts.
    """

    predicted: float
    observed: float
    low: float
    high: float
    n_members: int
    n_non_members: int


def build_reliability_bins(
    posterior: Floats, member: Bools, prior: float, n_bins: int = 10, confidence: float = 0.95
) -> list[Bin]:
    """Sort records into bins of about equal size by `posterior` (n,).

    Each bin compares the mean prediction with the observed share, both reweighted to `prior`.

    >>> bins = build_reliability_bins(np.array([0.1] * 50 + [0.9] * 50), np.arange(100) >= 50, 0.5, n_bins=2)
    >>> [round(entry.predicted, 2) for entry in bins], [entry.observed for entry in bins]
    ([0.1, 0.9], [0.0, 1.0])
    """
    _check.check_rate("prior", prior)
    member = np.asarray(member, dtype=bool)
    n_members, n_others = int(member.sum()), int((~member).sum())
    # Weights under which the sample has the prior's share of members
    weights = np.where(member, prior / n_members, (1 - prior) / n_others)
    # Quantiles that coincide, as where many records tie, leave fewer bins
    edges = np.unique(np.quantile(posterior, np.linspace(0, 1, n_bins + 1)))
    code = np.clip(np.searchsorted(edges, posterior, side="right") - 1, 0, max(len(edges) - 2, 0))
    found = []
    for entry in np.unique(code):
        own = code == entry
        inside, outside = int((own & member).sum()), int((own & ~member).sum())
        odds = ratio_of_shares((inside, n_members), (outside, n_others), confidence)
        scale = prior / (1 - prior)
        shares = [
            # No non-member in the bin: all of it are members at any prior
            1.0 if np.isinf(x) else x * scale / (1 + x * scale)
            for x in (odds.value, odds.low, odds.high)
        ]
        predicted = float(np.average(posterior[own], weights=weights[own]))
        found.append(Bin(predicted, shares[0], shares[1], shares[2], inside, outside))
    return found
