"""Bound epsilon from below from the scores of canaries.

A fair coin put each canary in or left it out.

References:
    [1] T. Steinke, M. Nasr, M. Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS
        2023, arXiv:2305.08846.
    [2] S. Mahloujifar, L. Melis, K. Chaudhuri, "Auditing f-Differential Privacy in One Run", 2024,
arXiv:2410.22235.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy.special import expit

from memberscope._check import check_rate
from memberscope.statistics.curves.roc import Roc, roc
from memberscope.statistics.epsilon.gaussian_dp import refuse_delta
from memberscope.statistics.epsilon.one_run import epsilon_one_run
from memberscope.statistics.epsilon.one_run_fdp import epsilon_one_run_fdp
from memberscope.statistics.intervals import clopper_pearson
from memberscope.types import Bools, Floats, Ints

Form = Literal["one_run", "one_run_fdp"]


class Corners(NamedTuple):
    """Canaries in (`tp`) and out (`fp`) at or above each threshold (h,) at a corner of the hull."""

    thresholds: Floats
    tp: Ints
    fp: Ints


def find_hull_corners(curve: Roc) -> Corners:
    """Find the corners of the upper hull of a ROC staircase.

    They go from the strictest threshold to the most lenient.

    >>> find_hull_corners(roc(np.array([4.0, 3, 2, 1]), np.array([True, False, True, False]))).tp.tolist()
    [0, 1, 2, 2]
    """
    # Drop corners that lie on or below the line of their neighbours, until none does
    keep = np.arange(len(curve.tp))
    while len(keep) > 2:
        steps_t, steps_f = np.diff(curve.tp[keep]), np.diff(curve.fp[keep])
        inside = (
            steps_t[:-1] * steps_f[1:] <= steps_t[1:] * steps_f[:-1]
        )  # not steeper before than after
        if not inside.any():
            break
        keep = keep[np.concatenate([[True], ~inside, [True]])]
    return Corners(curve.thresholds[keep], curve.tp[keep], curve.fp[keep])


def epsilon_from_one_run(
    scores: Floats,
    member: Bools,
    delta: float,
    significance: float = 0.05,
    *,
    form: Form = "one_run",
    threshold: float | None = None,
) -> float:
    """Give the epsilon (nats) that the scores (m,) of canaries from one training run refute.

    Each canary is in with probability one half [1, 2].

    Canaries at or above `threshold` are guessed in, and no others are guessed. Without one, every
    corner of the hull is tried, each at an equal share of `significance`.

    Raises:
        InputError: A score is not finite, or delta is not between 0 and 1 (or 0, for the plain
            form).

    >>> scores = np.arange(100.0)
    >>> round(epsilon_from_one_run(scores, scores >= 50, 1e-5, threshold=50.0), 6)
    2.781889
    """
    check_rate("significance", significance)
    # The plain form holds at delta zero as well
    if delta or form == "one_run_fdp":
        refuse_delta(delta)
    curve = roc(scores, member)
    m = curve.n_members + curve.n_non_members
    bound = epsilon_one_run_fdp if form == "one_run_fdp" else epsilon_one_run
    if threshold is not None:
        # The last vertex at or above the threshold
        at = int(np.searchsorted(-curve.thresholds, -threshold, side="right")) - 1
        return bound(m, int(curve.tp[at] + curve.fp[at]), int(curve.tp[at]), delta, significance)
    found = find_hull_corners(curve)
    # Every corner was chosen by looking, so each gets an equal share
    share, guesses = significance / len(found.tp), found.tp + found.fp
    surest = np.argsort(
        -clopper_pearson(found.tp, np.maximum(guesses, 1), 1 - 2 * share)[0], kind="stable"
    )
    best = 0.0
    for at in surest:  # the surest first, so that most of the rest need no search
        # Fewer right guesses than the best bound explains cannot improve on it
        if guesses[at] and found.tp[at] > expit(best) * guesses[at]:
            best = bound(m, int(guesses[at]), int(found.tp[at]), delta, share, best)
    return best
