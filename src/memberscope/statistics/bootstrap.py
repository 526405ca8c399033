"""Stratified bootstrap of the AUC and of TPR at several rates: sort once, then resample counts.

A resampled ROC curve needs no sorting: every record keeps its place and only its multiplicity changes.
"""

from __future__ import annotations

import numpy as np

from memberscope import _check
from memberscope.statistics.roc import allowed_false_positives
from memberscope.types import Bools, Floats, Ints


def bootstrap(
    scores: Floats, member: Bools, fprs: tuple[float, ...], n_replicates: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """AUC (b,) and TPR at `fprs` (b, f) of `n_replicates` resamples, members and non-members drawn apart.

    Raises:
        InputError: A score is not finite, one kind is missing, or a rate is not resolved.

    >>> auc, tpr = bootstrap(np.arange(40.0), np.arange(40) >= 20, (0.1,), 5, np.random.default_rng(0))
    >>> auc.tolist(), tpr.shape
    ([1.0, 1.0, 1.0, 1.0, 1.0], (5, 1))
    """
    scores, member = np.asarray(scores, dtype=np.float64), np.asarray(member, dtype=bool)
    _check.binary_scores(scores, member)
    inside, outside = np.sort(scores[member]), np.sort(scores[~member])
    allowed = [allowed_false_positives(fpr, len(outside)) for fpr in fprs]
    levels = np.unique(outside)
    below = np.searchsorted(inside, levels, "left")
    up_to = np.searchsorted(inside, levels, "right")
    level_of = np.searchsorted(levels, outside).astype(np.intp)
    auc, tpr = np.empty(n_replicates), np.empty((n_replicates, len(fprs)))
    for b in range(n_replicates):
        drawn = drawn_counts(len(inside), rng)
        others = drawn_counts(len(outside), rng)
        if len(levels) < len(outside):
            others = np.bincount(level_of, weights=others, minlength=len(levels)).astype(np.int64)
        auc[b], tpr[b] = replicate(drawn, others, below, up_to, allowed)
    return auc, tpr


def drawn_counts(n: int, rng: np.random.Generator) -> Ints:
    """How often each of `n` records is drawn when `n` are drawn with replacement, as (n,)."""
    return np.bincount(rng.integers(0, n, size=n, dtype=np.uint32), minlength=n)


def replicate(drawn: Ints, others: Ints, below: Ints, up_to: Ints, allowed: list[int]) -> tuple[float, Floats]:
    """AUC and TPRs (f,) of one resample: members `drawn` (n,) times in score order, non-members `others` (l,) per level.

    `below` and `up_to` (l,) count the members that score below, and not above, each non-member level.
    """
    running = np.empty(len(drawn) + 1, dtype=np.int64)
    running[0] = 0
    np.cumsum(drawn, out=running[1:])
    n_members, n_others = int(running[-1]), int(others.sum())
    not_above = running[up_to]
    doubled = not_above + running[below]  # twice the members below, ties counting one half
    auc = 1 - int(others @ doubled) / (2 * n_members * n_others)
    false = np.cumsum(others[::-1])
    tpr = np.empty(len(allowed))
    for i, k in enumerate(allowed):
        strictest = len(others) - int(np.searchsorted(false, k, side="right"))
        tpr[i] = 1.0 if strictest == 0 else (n_members - int(not_above[strictest - 1])) / n_members
    return auc, tpr
