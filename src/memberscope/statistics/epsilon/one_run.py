"""Estimate epsilon from guesses about the members of one run.

It is a bound only where members were assigned by independent coins, elsewhere an empirical figure.

References:
    [1] T. Steinke, M. Nasr, M. Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS
2023, arXiv:2305.08846.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import bdtr, bdtrc

from memberscope._check import check_rate
from memberscope.errors import InputError
from memberscope.statistics.intervals import Interval, clopper_pearson
from memberscope.statistics.threshold_rates import ConfusionCounts
from memberscope.types import Bools, Floats


def _binomial_upper_tail(k: int, n: int, p: float) -> float:
    """Give the probability that a binomial(n, p) count is at least `k`."""
    return 1.0 if k <= 0 else float(bdtrc(k - 1, n, p))


def one_run_p_value(
    m: int, guesses: int, correct: int, epsilon: float, delta: float = 0.0
) -> float:
    """Give the p-value of "the mechanism is (epsilon, delta)-DP" after `correct` right guesses.

    `guesses` were made about `m` fair coins.

    The number of guesses must have been fixed before looking. Epsilon is in nats.

    >>> round(one_run_p_value(1000, 100, 90, 1.0, 1e-5), 8)
    0.00084129
    """
    # The chance to guess a coin right under epsilon is a logistic function of it
    q = float(1 / (1 + np.exp(-epsilon)))
    beta = _binomial_upper_tail(correct, guesses, q)
    if delta == 0:
        return min(1.0, beta)
    # For delta > 0 the bound of [1] adds the worst case over how delta may move probability to
    # better outcomes
    steps = np.arange(1, correct + 1)
    upper = bdtr(correct - 1, guesses, q)
    lower = np.where(
        correct - steps - 1 >= 0, bdtr(np.maximum(correct - steps - 1, 0), guesses, q), 0.0
    )
    alpha = float(np.max((upper - lower) / steps)) if correct else 0.0
    return min(1.0, beta + 2 * m * delta * alpha)


def epsilon_one_run(
    m: int,
    guesses: int,
    correct: int,
    delta: float = 0.0,
    significance: float = 0.05,
    least: float = 0.0,
) -> float:
    """Give the largest epsilon (nats) that the guesses refute at `significance`.

    It is `least` if they refute none above it.

    Raises:
        InputError: The counts do not fit together.

    >>> round(epsilon_one_run(1000, 100, 90, 1e-5), 6)
    1.626143
    """
    check_rate("significance", significance)
    refuse_counts(m, guesses, correct)

    def excess(epsilon: float) -> float:
        return one_run_p_value(m, guesses, correct, epsilon, delta) - significance

    # Nothing above `least` is refuted, so no search is needed
    if guesses == 0 or excess(least) >= 0:
        return least
    high = max(1.0, 2 * least)
    # Beyond 60 nats the logistic function is 1 in double precision
    while excess(high) < 0 and high < 60:
        high *= 2
    return float(brentq(excess, least, high, xtol=1e-10))


def refuse_counts(m: int, guesses: int, correct: int) -> None:
    """Refuse counts of records, guesses and right guesses that do not fit together.

    Raises:
        InputError: They do not.
    """
    if not 0 <= correct <= guesses <= m:
        raise InputError(
            f"Expected 0 <= correct <= guesses <= records, got correct {correct}, guesses "
            f"{guesses}, records {m}. Count each guess once."
        )


def count_right_guesses(
    scores: Floats, member: Bools, n_guesses: int, rng: np.random.Generator
) -> int:
    """Count the right guesses when the highest scores are guessed in and the lowest out.

    Half of `n_guesses` are guessed in, half out. Ties are broken at random.

    >>> count_right_guesses(np.arange(10.0), np.arange(10) >= 5, 4, np.random.default_rng(0))
    4
    """
    # Equal scores must not be guessed by their place in the file, so ties fall at random
    half = n_guesses // 2
    order = np.lexsort((rng.random(len(scores)), scores))
    return int(member[order[len(order) - half :]].sum() + (~member[order[:half]]).sum())


def epsilon_empirical(
    counts: ConfusionCounts, delta: float = 0.0, confidence: float = 0.95
) -> Interval:
    """Give the log-ratio log((TPR - delta) / FPR), or that of the complements if larger.

    It is not a bound on any privacy guarantee.

    Its upper limit is infinite when a denominator's lower limit is 0, and is reported as the log of
    the counts' range.

    >>> epsilon_empirical(ConfusionCounts(50, 100, 5, 100)).value > 2
    True
    """
    part = (1 + confidence) / 2
    low_t, high_t = (float(x) for x in clopper_pearson(counts.tp, counts.n_members, part))
    low_f, high_f = (float(x) for x in clopper_pearson(counts.fp, counts.n_non_members, part))
    # Half a pseudo-count keeps both rates away from 0, where the ratio would be infinite
    tpr = (counts.tp + 0.5) / (counts.n_members + 1)
    fpr = (counts.fp + 0.5) / (counts.n_non_members + 1)
    # What this many records could show at most, reported in place of infinity
    cap = float(np.log(2 * (max(counts.n_members, counts.n_non_members) + 1)))

    def log_ratio(t: float, f: float) -> float:
        # Either the guesses in or the guesses out may tell more
        ratios = [(t - delta, f), (1 - f - delta, 1 - t)]
        found = [cap if b <= 0 else float(np.log(a / b)) for a, b in ratios if a > 0]
        return min(cap, max([0.0, *found]))

    value = log_ratio(tpr, fpr)
    low, high = log_ratio(low_t, high_f), log_ratio(high_t, low_f)
    method = (
        "log ratio of rates, Clopper-Pearson limits of both; not a bound on differential privacy"
    )
    # The pseudo-count moves the value, which must not leave its own limits
    return Interval(value, min(low, value), max(high, value), method)
