"""Bootstrap the AUC and the TPR at several rates: sort once, then resample counts.

A resampled ROC curve needs no sorting: every record keeps its place and only its multiplicity
changes. A few replicates are drawn together, as many as stay in the processor's cache. Threads over
replicates were measured and gain nothing: they wait for the interpreter between steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope import _check
from memberscope.statistics.curves.resampling import Drawn, Resampler, spawn_fast_rng
from memberscope.statistics.curves.roc import allowed_false_positives
from memberscope.types import Bools, Floats, Ints

ROWS = 8  # replicates that are drawn together
PIECE = 8192  # numbers that BLAS multiplies and adds in one thread


def bootstrap_rates(
    scores: Floats,
    member: Bools,
    fprs: tuple[float, ...],
    n_replicates: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Give the AUC (b,) and TPR at `fprs` (b, f) of `n_replicates` resamples.

    Members and non-members are drawn separately.

    Raises:
        InputError: A score is not finite, one kind is missing, or a rate is not resolved.

    >>> auc, tpr = bootstrap_rates(np.arange(40.0), np.arange(40) >= 20, (0.1,), 5, np.random.default_rng(0))
    >>> auc.tolist(), tpr.shape
    ([1.0, 1.0, 1.0, 1.0, 1.0], (5, 1))
    """
    scores, member = np.asarray(scores, dtype=np.float64), np.asarray(member, dtype=bool)
    _check.check_binary_scores(scores, member)
    places = Places.of(scores, member)
    # Refuse rates that the non-members do not resolve before any work is done
    for fpr in fprs:
        allowed_false_positives(fpr, places.n_others)
    auc, tpr = np.empty(n_replicates), np.empty((n_replicates, len(fprs)))

    curve, stream = Curve(places), spawn_fast_rng(rng)
    # Members and non-members apart, so that both numbers stay as in the data
    members, others = Resampler(places.n_members, ROWS), Resampler(places.n_others, ROWS)
    for first in range(0, n_replicates, ROWS):
        drawn = zip(members.draw(stream), others.draw(stream), strict=True)
        # The last rows may be drawn in vain, where the number is no multiple of them
        for b, (inside, outside) in zip(range(first, n_replicates), drawn, strict=False):
            auc[b], tpr[b] = curve.rates(inside, outside, fprs)
    return auc, tpr


@dataclass(frozen=True, eq=False)
class Places:
    """Positions of non-members among the members, both from the highest score to the lowest.

    `starts` (l,) is the first non-member of each distinct score; `above` and `least` (l,) count the
    members that score more, and at least as much.
    """

    n_members: int
    n_others: int
    starts: Ints
    above: Ints
    least: Ints

    @classmethod
    def of(cls, scores: Floats, member: Bools) -> Places:
        """Build the positions from scores (n,) and membership (n,)."""
        # Negative scores sort from the highest to the lowest
        inside, outside = np.sort(-scores[member]), np.sort(-scores[~member])
        levels, starts = np.unique(outside, return_index=True)
        above, least = (
            np.searchsorted(inside, levels, "left"),
            np.searchsorted(inside, levels, "right"),
        )
        return cls(len(inside), len(outside), starts, above, least)


class Curve:
    """Compute rates of resampled curves in arrays that are used again.

    Allocating fresh arrays costs more than the sums in them.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self.running = np.zeros(places.n_members + 1, dtype=np.int32)
        levels = len(places.starts)
        self.above, self.least = np.empty(levels, dtype=np.int32), np.empty(levels, dtype=np.int32)
        self.height, self.width = np.empty(levels), np.empty(levels)
        # Without ties half of the sums can be left out
        self.tied = not np.array_equal(places.above, places.least)

    def rates(self, drawn: Drawn, others: Drawn, fprs: tuple[float, ...]) -> tuple[float, Floats]:
        """Give the AUC and TPRs (f,) of one resample.

        `drawn` (n,) and `others` (m,) count how often each member and non-member was drawn, highest
        score first; `fprs` (f,) are the rates.
        """
        places, above = self.places, self.above
        # How many members were drawn up to each place
        np.cumsum(drawn, out=self.running[1:])
        # Non-members of one score are one step of the curve
        weights = (
            others
            if len(above) == len(others)
            else np.add.reduceat(others, places.starts, dtype=np.int32)
        )
        # With mode="raise" NumPy would buffer the output; every place is within the array
        self.running.take(places.above, out=above, mode="clip")
        self.height[:] = above
        if self.tied:  # ties count one half
            self.running.take(places.least, out=self.least, mode="clip")
            self.height += self.least
            self.height *= 0.5
        self.width[:] = weights
        n_members, n_others = (
            int(self.running[-1]),
            int(weights.sum()),
        )  # not fixed where units of several records are drawn
        area = _sum_products(self.height, self.width) / (n_members * n_others)
        # The slack keeps a product such as 0.003 * 1000 from losing a false positive
        first = _find_first_beyond(
            weights, np.floor(np.multiply(fprs, n_others) + 1e-9).astype(np.int64)
        )
        # Where no level goes beyond what is allowed, every member is found
        reached = above.take(first, mode="clip")
        return area, np.where(first < len(above), reached, n_members) / n_members


def _sum_products(a: Floats, b: Floats) -> float:
    """Sum the products of `a` and `b` (l,); exact, in any order, for halves below 2^52.

    The arrays are summed in pieces: beyond 10,000 numbers BLAS starts threads of its own, which is
    ten times slower on busy cores.

    >>> _sum_products(np.array([3.0, 0.5]), np.ones(2))
    3.5
    """
    return float(
        sum(
            a[start : start + PIECE] @ b[start : start + PIECE] for start in range(0, len(a), PIECE)
        )
    )


def _find_first_beyond(weights: NDArray[np.integer], allowed: Ints) -> Ints:
    """Find the first level (f,) where the running sum of `weights` (l,) exceeds each of `allowed`.

    The answer is l where no level does.

    >>> _find_first_beyond(np.array([1, 0, 2, 5]), np.array([0, 1, 2, 9])).tolist()
    [0, 2, 2, 4]
    """
    most = int(allowed.max(initial=0))
    false = np.cumsum(weights[: 2 * most + 64], dtype=np.int32)  # nearly always far enough
    # Few resamples need more than the start of the sum
    if len(false) < len(weights) and false[-1] <= most:
        false = np.cumsum(weights, dtype=np.int32)
    return np.searchsorted(false, allowed.astype(np.int32), side="right")
