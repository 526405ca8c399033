"""Convert between mu of Gaussian differential privacy and pairs (epsilon, delta).

References:
    [1] J. Dong, A. Roth, W. Su, "Gaussian Differential Privacy", JRSS-B 2022, arXiv:1905.02383
        (corollary 2.13).
    [2] B. Balle, Y.-X. Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML
2018, arXiv:1805.06530.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr

from memberscope.errors import InputError

MOST = 1e4  # mu and epsilon beyond which values can no longer be distinguished


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Give the smallest delta at `epsilon` (nats) of a mechanism that is mu-Gaussian private.

    >>> round(gaussian_delta(1.0, 1.0), 8)
    0.12693674
    """
    return float(np.exp(_log_delta(epsilon, mu)))


def _log_delta(epsilon: float, mu: float) -> float:
    """Give the log of delta, which stays exact where the two terms nearly cancel or are tiny."""
    # Without any leakage delta is zero at every epsilon from zero up
    if mu <= 0:
        return -np.inf if epsilon >= 0 else float(np.log(-np.expm1(epsilon)))
    # Logarithms of both terms, which underflow long before their difference matters
    first = float(log_ndtr(-epsilon / mu + mu / 2))
    second = epsilon + float(log_ndtr(-epsilon / mu - mu / 2))
    # Equal terms would give the logarithm of zero
    return first + float(np.log(-np.expm1(min(second - first, -1e-300))))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Give the epsilon (nats) at `delta` of a mechanism that is mu-Gaussian private, at least 0.

    Raises:
        InputError: Delta is not between 0 and 1: at 0 no Gaussian mechanism is private.

    >>> round(gaussian_epsilon(1.0, 1e-5), 6)
    4.377178
    """
    refuse_delta(delta)
    aim = float(np.log(delta))
    # The mechanism is private at epsilon zero already
    if _log_delta(0.0, mu) <= aim:
        return 0.0
    high = 1.0
    # Double until the root is enclosed, with an end where values no longer differ
    while _log_delta(high, mu) > aim and high < MOST:
        high *= 2
    return float(
        brentq(lambda epsilon: _log_delta(epsilon, mu) - aim, 0.0, high, xtol=1e-12, rtol=1e-14)
    )


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Give the mu of the Gaussian mechanism that is just (epsilon, delta)-private.

    Its noise is 1 / mu for a sensitivity of one.

    Raises:
        InputError: Delta is not between 0 and 1.

    >>> round(1 / gaussian_mu(1.0, 1e-5), 6)
    3.730632
    """
    refuse_delta(delta)
    aim = float(np.log(delta))
    high = 1.0
    while _log_delta(epsilon, high) < aim and high < MOST:
        high *= 2
    return float(
        brentq(lambda mu: _log_delta(epsilon, mu) - aim, 1e-12, high, xtol=1e-14, rtol=1e-14)
    )


def refuse_delta(delta: float) -> None:
    """Refuse a delta outside (0, 1).

    Raises:
        InputError: It is.
    """
    if not 0 < delta < 1:
        raise InputError(
            f"Expected a delta between 0 and 1, got {delta:g}. Set --delta below one over the "
            "number of records, for example 1e-5."
        )
