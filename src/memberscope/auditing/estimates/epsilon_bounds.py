"""Bound differential privacy by canaries.

The guesses of each bound were fixed before anybody looked.

References:
    [1] T. Steinke, M. Nasr, M. Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS
        2023, arXiv:2305.08846.
    [2] S. Mahloujifar, L. Melis, K. Chaudhuri, "Auditing f-Differential Privacy in One Run", 2024,
arXiv:2410.22235.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope import _check
from memberscope.errors import InputError
from memberscope.statistics import count_right_guesses, epsilon_one_run, epsilon_one_run_fdp
from memberscope.statistics.epsilon import Form
from memberscope.types import Bools, Floats

# Shares of the canaries that are guessed, each at an equal part of the significance
SHARES = (
    0.02,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
)
ASSUMES = {
    "one_run": "any (epsilon, delta)-private training",
    "one_run_fdp": "training whose trade-off curve is a Gaussian mechanism's, as DP-SGD's nearly is",
}


@dataclass(frozen=True)
class EpsilonBound:
    """A lower bound on `epsilon` (nats) at `delta`, from `right` of `guesses` about `m` canaries.

    `most` is what it could have been.
    """

    form: Form
    epsilon: float
    delta: float
    confidence: float
    m: int
    guesses: int
    right: int
    most: float
    assumes: str


def compute_privacy_bounds(
    scores: Floats, inside: Bools, delta: float, confidence: float = 0.95, seed: int = 0
) -> list[EpsilonBound]:
    """Bound epsilon in each form from the scores (m,) of canaries.

    Fair coins put them in or left them out; `inside` (m,) says which.

    The surest half of the guesses are in, the least sure half out. How many are guessed is tried at
    six shares that were fixed beforehand, each at a sixth of the significance, so that the bound
    holds whichever turns out best.

    Raises:
        InputError: There are too few canaries, all coins fell alike, or a score is not finite.

    >>> rng = np.random.default_rng(0)
    >>> inside = rng.random(1000) < 0.5
    >>> [round(bound.epsilon, 1) for bound in compute_privacy_bounds(rng.normal(size=1000) + 3 * inside, inside, 1e-5)]
    [4.6, 7.8]
    """
    m = len(scores)
    # With fewer canaries even a perfect attack shows next to nothing
    if m < 20 or inside.all() or not inside.any():
        raise InputError(
            f"Expected at least 20 canaries, some in and some out, got {m} with "
            f"{int(inside.sum())} in. Add canaries."
        )
    _check.check_binary_scores(np.asarray(scores, dtype=np.float64), inside)
    # Six guesses are tried, so each gets a sixth of the significance
    rng, significance = np.random.default_rng(seed), (1 - confidence) / len(SHARES)
    # Half of the guesses are in and half out, so their number is even
    guesses = [2 * max(1, round(m * share / 2)) for share in SHARES]
    guesses = [min(n, m - m % 2) for n in guesses]
    right = [count_right_guesses(scores, inside, n, rng) for n in guesses]
    # Each form holds under its own assumption, so the two are not corrected for each other
    found = []
    for form, bound in (("one_run", epsilon_one_run), ("one_run_fdp", epsilon_one_run_fdp)):
        values = [bound(m, n, r, delta, significance) for n, r in zip(guesses, right, strict=True)]
        best = int(np.argmax(values))
        # What all guesses right would have shown: a bound of zero may come of too few canaries
        most = max(bound(m, n, n, delta, significance) for n in guesses)
        entry = EpsilonBound(
            form,  # type: ignore[arg-type]
            values[best],
            delta,
            confidence,
            m,
            guesses[best],
            right[best],
            most,
            ASSUMES[form],
        )
        found.append(entry)
    return found
