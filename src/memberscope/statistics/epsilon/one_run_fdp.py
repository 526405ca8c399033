"""Audit one run against a whole trade-off curve instead of one pair (epsilon, delta).

References:
    [1] S. Mahloujifar, L. Melis, K. Chaudhuri, "Auditing f-Differential Privacy in One Run", 2024,
arXiv:2410.22235.
"""

from __future__ import annotations

from math import inf

from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from memberscope._check import check_rate
from memberscope.statistics.epsilon.gaussian_dp import (
    MOST,
    gaussian_epsilon,
    gaussian_mu,
    refuse_delta,
)
from memberscope.statistics.epsilon.one_run import refuse_counts


def _compute_fdp_excess(
    m: int, guesses: int, correct: int, mu: float, significance: float
) -> float:
    """Compute a number above zero if the right guesses refute mu-Gaussian privacy [1, algorithm 3].

    `correct` of `guesses` guesses about `m` fair coins are right. The recursion bounds how much of
    all outcomes could be as good as this one or better, were the claim true, from the fewest right
    guesses that carry the `significance` downwards.
    """
    # Start where outcomes this good or better carry the whole significance
    right, wrong = significance * correct / m, significance * (guesses - correct) / m
    for i in range(correct - 1, -1, -1):
        # The trade-off curve says how much must be wrong where so much is right
        above = max(wrong, float(ndtr(float(ndtri(right)) - mu)))
        # Nothing more is added from here on
        if above == wrong:
            break
        right, wrong = min(right + i / (guesses - i) * (above - wrong), 1.0), above
    return right + wrong - guesses / m


def epsilon_one_run_fdp(
    m: int, guesses: int, correct: int, delta: float, significance: float = 0.05, least: float = 0.0
) -> float:
    """Give the epsilon (nats) at `delta` that the guesses refute for Gaussian mechanisms.

    It is that of the most private Gaussian mechanism they do not refute, and 0 if they refute none.
    It is a bound for mechanisms whose trade-off curve is a Gaussian one. The number of guesses must
    have been fixed beforehand. `least` is an epsilon below which the answer is not wanted; it is
    then returned.

    Raises:
        InputError: The counts do not fit together, or delta is not between 0 and 1.

    >>> round(epsilon_one_run_fdp(100, 80, 70, 1e-6), 4)
    3.2956
    """
    check_rate("significance", significance)
    refuse_counts(m, guesses, correct)
    refuse_delta(delta)

    def gap(mu: float) -> float:
        return _compute_fdp_excess(m, guesses, correct, mu, significance)

    # Just above zero, where the curve is not degenerate
    low = 1e-9 if least == 0 else gaussian_mu(least, delta)
    if guesses == 0 or gap(low) <= 0:
        return least
    high = max(1.0, 2 * low)
    while gap(high) > 0 and high < MOST:
        low, high = high, high * 2
    # Guesses that refute every mechanism that can be told apart give no finite bound
    return (
        inf if high >= MOST else gaussian_epsilon(float(brentq(gap, low, high, xtol=1e-9)), delta)
    )
