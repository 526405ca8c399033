"""Set differential privacy of a recipe, and compute its proven epsilon.

The proof is that of Opacus's accountants.

References:
    [1] M. Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv:1607.00133.
    [2] S. Gopi, Y. T. Lee, L. Wutschitz, "Numerical Composition of Differential Privacy", NeurIPS
        2021, arXiv:2106.02848.
    [3] I. Mironov, K. Talwar, L. Zhang, "Rényi Differential Privacy of the Sampled Gaussian
Mechanism", 2019, arXiv:1908.10530.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from memberscope.errors import InputError

ASSUMES = (
    "Every record joins each step by a coin of its own (Poisson sampling); neighbouring data sets "
    "differ by one record added or "
    "removed; all intermediate models may be seen; the number of records is public, the seed is "
    "secret, and no setting was "
    "tuned on these records"
)
MOST_NOISE = 1e5  # above this nothing is learned any more, and the accountants' grids give out
# Above this the PRV accountant takes minutes or overflows, and such an epsilon protects nobody
FAR = 50.0


@dataclass(frozen=True)
class Privacy:
    """Settings of DP-SGD [1]: each record's gradient is clipped, and noise is added.

    Gradients are clipped to `max_grad_norm`, and Gaussian noise is added to the sum over a Poisson
    sample.

    Either a target `epsilon` (nats) at `delta`, for which the noise is searched, or the
    `noise_multiplier`: the noise's standard deviation in units of `max_grad_norm`. `fix` lets
    layers that mix records, such as BatchNorm, be replaced.

    Noise comes from a seeded generator, so that training can be repeated: the guarantee holds
    against whoever does not know the seed, and not against attacks on how floating-point numbers
    are drawn.

    >>> Privacy(epsilon=3.0).delta, Privacy(noise_multiplier=1.1).epsilon
    (1e-05, None)
    """

    epsilon: float | None = None
    noise_multiplier: float | None = None
    delta: float = 1e-5
    max_grad_norm: float = 1.0
    fix: bool = False

    def __post_init__(self) -> None:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            got = (
                "none"
                if self.epsilon is None
                else f"epsilon {self.epsilon:g} and noise {self.noise_multiplier:g}"
            )
            raise InputError(
                f"Expected either a target epsilon or a noise multiplier, got {got}. Give one; the "
                "other follows from it."
            )
        if self.epsilon is not None and not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise InputError(
                f"Expected a finite epsilon above 0, got {self.epsilon:g}. Give for example "
                "epsilon=3.0."
            )
        if self.noise_multiplier is not None and not 0 <= self.noise_multiplier <= MOST_NOISE:
            raise InputError(
                f"Expected a noise multiplier of 0 to {MOST_NOISE:g}, got "
                f"{self.noise_multiplier:g}. Give for example noise_multiplier=1.0."
            )
        if not 0 < self.delta < 1:
            raise InputError(
                f"Expected a delta between 0 and 1, got {self.delta:g}. Give delta=1e-5, or less "
                "than 1 / records."
            )
        if not (math.isfinite(self.max_grad_norm) and self.max_grad_norm > 0):
            raise InputError(
                f"Expected a finite max_grad_norm above 0, got {self.max_grad_norm:g}. Give for "
                "example max_grad_norm=1.0."
            )


@dataclass(frozen=True)
class Proof:
    """Proven privacy of a training run: `epsilon` (nats) at `delta`, if what it `assumes` holds.

    `epsilon` is the upper end of the PRV accountant's interval [2], `epsilon_rdp` the older and
    looser Rényi bound [3]. Where that one is above 50, both are that one: nothing is protected
    there, and the PRV accountant takes long or overflows.
    """

    epsilon: float
    epsilon_rdp: float
    delta: float
    noise_multiplier: float
    sample_rate: float
    steps: int
    assumes: str = ASSUMES


def prove_epsilon(privacy: Privacy, n_records: int, batch_size: int, epochs: int) -> Proof:
    """Compute what DP-SGD on `n_records` proves.

    Each record joins a step with probability `batch_size / n_records`; an epoch has the inverse of
    that many steps, rounded to the nearest and at least one.

    Raises:
        InputError: There is no noise; delta is so large that publishing a record at random would
            pass; no noise reaches the target; or Opacus is not installed.

    >>> found = prove_epsilon(Privacy(noise_multiplier=1.1), n_records=60_000, batch_size=240, epochs=60)
    >>> found.steps, round(found.epsilon, 2), round(found.epsilon_rdp, 2)
    (15000, 2.31, 2.5)
    """
    if privacy.noise_multiplier == 0:
        raise InputError(
            "Expected noise for a proof of privacy, got a noise multiplier of 0. Without noise "
            "nothing is proven."
        )
    # Publishing one record at random has delta = 1 / n
    if privacy.delta >= 1 / n_records:
        raise InputError(
            f"Expected a delta below 1 / records = {1 / n_records:.2g}, got {privacy.delta:g}: at "
            "that size, publishing a record "
            "drawn at random would count as private. Lower delta."
        )
    # Only now the accountants, which are slow, or may not be installed
    rate, steps = compute_sampling_schedule(n_records, batch_size, epochs)
    noise = find_noise_multiplier(privacy, n_records, batch_size, epochs)
    tight, rdp = compute_epsilons(noise, rate, steps, privacy.delta)
    return Proof(tight, rdp, privacy.delta, noise, rate, steps)


def compute_sampling_schedule(n_records: int, batch_size: int, epochs: int) -> tuple[float, int]:
    """Give the probability that a record joins a step, and the number of steps.

    >>> compute_sampling_schedule(1000, 128, 2)
    (0.128, 16)
    """
    # A batch larger than the data means every record at each step
    rate = min(1.0, batch_size / n_records)
    return rate, epochs * max(1, round(1 / rate))


def find_noise_multiplier(privacy: Privacy, n_records: int, batch_size: int, epochs: int) -> float:
    """Give the noise multiplier: as set, or the least that reaches the target epsilon.

    The search is to a thousandth, with the PRV accountant.

    Raises:
        InputError: No noise reaches the target, or Opacus is not installed.
    """
    if privacy.noise_multiplier is not None:
        return privacy.noise_multiplier
    assert privacy.epsilon is not None, "a Privacy has a target epsilon or a noise multiplier"
    rate, steps = compute_sampling_schedule(n_records, batch_size, epochs)
    return search_noise_multiplier(privacy.epsilon, privacy.delta, rate, steps)


@lru_cache(maxsize=256)
def search_noise_multiplier(target: float, delta: float, rate: float, steps: int) -> float:
    """Find the least noise multiplier, to a thousandth, whose proven epsilon is at most `target`.

    Raises:
        InputError: There is none, or Opacus is not installed.
    """
    # Upwards from 1 by doubling, until the noise is enough
    low = high = 1.0
    while compute_epsilons(high, rate, steps, delta)[0] > target:
        low, high = high, 2 * high
        if high > MOST_NOISE:
            raise InputError(
                f"Expected an epsilon that {steps} steps can reach, got {target:g}: no noise "
                f"multiplier up to {MOST_NOISE:g} "
                "proves it. Raise epsilon, or train for fewer epochs."
            )
    # Widen downwards until the target lies between both ends
    while low == high or compute_epsilons(low, rate, steps, delta)[0] <= target:
        low, high = low / 2, low
        # With next to no noise the target is still met: less is not searched for
        if low < 1e-3:
            return high
    from scipy.optimize import brentq

    def beyond(logarithm: float) -> float:
        # On logarithms, as epsilon spans several orders of magnitude
        return math.log(compute_epsilons(math.exp(logarithm), rate, steps, delta)[0] / target)

    # A tolerance of 2e-4 in the logarithm is well within a thousandth
    found = math.exp(brentq(beyond, math.log(low), math.log(high), xtol=2e-4))
    # The root is approximate: make sure that the noise is enough, never slightly too little
    while compute_epsilons(found, rate, steps, delta)[0] > target:
        found *= 1.0004
    return found


def compute_epsilons(noise: float, rate: float, steps: int, delta: float) -> tuple[float, float]:
    """Compute the proven epsilon by the PRV accountant and by the RDP accountant.

    The mechanism is the subsampled Gaussian one, run for `steps` steps.

    Raises:
        InputError: Opacus is not installed.
    """
    prv, rdp = _load_accountants()
    # The accountants warn at the ends of their grids, where their bounds are still bounds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rdp.history = prv.history = [(noise, rate, steps)]
        loose = float(rdp.get_epsilon(delta))
        # Both are upper bounds, so that the smaller one holds too
        return min(loose, float(prv.get_epsilon(delta))) if loose <= FAR else loose, loose


def _load_accountants() -> tuple[Any, Any]:
    """Load Opacus's PRV and RDP accountants.

    Raises:
        InputError: Opacus is not installed.
    """
    try:
        from opacus.accountants import PRVAccountant, RDPAccountant
    except ImportError as error:
        raise InputError(
            "Expected opacus for a proof of privacy, got none. Run `pip install memberscope[dp]`."
        ) from error
    return PRVAccountant(), RDPAccountant()
