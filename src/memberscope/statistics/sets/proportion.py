"""Estimate how large a share of a collection a model was trained on.

Each record is called a member or not, and the calls are corrected by the rates at which the same
attack calls members and non-members when reference models play the target [1]: a share p gives
p TPR + (1 - p) FPR calls. The limits hold every share that the calls do not contradict, given the
records' own noise, the spread between reference models and how far the target was off on records
that it surely did not see.

References:
    [1] Z. Tong, J. Ye, S. Zarifzadeh, R. Shokri, "How much of my dataset did you use? Quantitative
        data usage inference in machine learning", ICLR 2025 (DUCI).
    [2] F. Satterthwaite, "An approximate distribution of estimates of variance components",
        Biometrics Bulletin 2, 1946.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from memberscope import _check
from memberscope.errors import InputError
from memberscope.types import Bools, Floats, Ints

FEWEST_PLAYERS = 2  # reference models that play the target: one shows no spread between models
STEPS = 2001  # shares that are tried from 0 to 1
METHOD = (
    "DUCI: calls corrected by the rates of reference models as targets; limits hold every share "
    "within the noise of the records and the spread between models"
)


@dataclass(frozen=True, eq=False)
class ShareScores:
    """Scores of one attack on the target and on reference models that played the target.

    Reference i was attacked with the models of round `rounds[i]`, which gave it `references[i]`
    (n,) and the target `target[rounds[i]]` (n,). `inside` (m, n) is who was trained into it.

    Raises:
        InputError: The shapes do not fit, a score is not finite, or there are fewer than two models.

    >>> found = ShareScores(np.zeros((1, 3)), np.zeros((2, 3)), np.eye(2, 3) > 0, np.zeros(2, dtype=int))
    >>> found.target.shape
    (1, 3)
    """

    target: Floats
    references: Floats
    inside: Bools
    rounds: Ints

    def __post_init__(self) -> None:
        m, n = self.references.shape
        if self.inside.shape != (m, n) or self.target.shape[1:] != (n,) or len(self.rounds) != m:
            raise InputError(
                f"Expected scores and membership of the same records, got {self.target.shape} of "
                f"the target, {self.references.shape} of references and {self.inside.shape} of who "
                "was inside. Align them record by record."
            )
        if m < FEWEST_PLAYERS:
            raise InputError(
                f"Expected at least {FEWEST_PLAYERS} reference models that play the target, got {m}. Train "
                "more, or give --targets 4."
            )
        # By record, which is what the message of a score that is not finite counts
        _check.check_finite("scores", np.concatenate([self.target, self.references]).T)


@dataclass(frozen=True)
class ShareEstimate:
    """The share of a collection that was used, with its limits.

    `value` is within [0, 1]; None where the attack cannot tell members from non-members. `raw` is
    the same before it was cut. `called` is the share of records called members of the target, `tpr`
    and `fpr` what reference models give. `shift` is how much more of the held-out records were
    called than of reference models' non-members among them; None without held-out records.
    `possible` is false if no share at all explains the calls.

    >>> ShareEstimate(0.5, 0.4, 0.6, 0.5, 0.45, 0.8, 0.1, None, True, 100, 100, 4, 0.95).value
    0.5
    """

    value: float | None
    low: float
    high: float
    raw: float
    called: float
    tpr: float
    fpr: float
    shift: float | None
    possible: bool
    n: int
    n_units: int
    n_references: int
    confidence: float
    method: str = METHOD


def find_youden_threshold(scores: Floats, member: Bools) -> float:
    """Find the threshold whose calls (scores at or above it) have the largest TPR - FPR.

    >>> find_youden_threshold(np.array([0.0, 1, 2, 3]), np.array([False, False, True, True]))
    2.0
    """
    order = np.argsort(-scores, kind="stable")
    ranked, inside = scores[order], member[order]
    # Equal scores are called together, so only the last of each block is a threshold
    ends = np.append(ranked[1:] != ranked[:-1], True)
    inside_called, outside_called = np.cumsum(inside)[ends], np.cumsum(~inside)[ends]
    gain = inside_called / inside.sum() - outside_called / (~inside).sum()
    return float(ranked[ends][np.argmax(gain)])


def estimate_share(
    found: ShareScores,
    suspect: Bools,
    held_out: Bools | None = None,
    *,
    unit: Ints | None = None,
    confidence: float = 0.95,
) -> ShareEstimate:
    """Estimate the share of the `suspect` records (n,) that the target was trained on.

    Rates come from reference models on the suspect records alone, so held-out records need not be
    like them. `held_out` (n,) records, which the target surely did not see, show how far its calls
    are off, and the limits are widened by that. Records of one `unit` (n,) may depend on one
    another.

    Raises:
        InputError: A reference model saw all suspect records or none.

    >>> rng = np.random.default_rng(0)
    >>> inside = rng.random((4, 2000)) < 0.5
    >>> used = np.arange(2000) < 600
    >>> found = ShareScores(rng.normal(size=(1, 2000)) + 3 * used, rng.normal(size=(4, 2000)) + 3 * inside,
    ...                     inside, np.zeros(4, dtype=int))
    >>> share = estimate_share(found, np.ones(2000, dtype=bool))
    >>> round(share.value, 2), share.low < 0.3 < share.high
    (0.3, True)
    """
    _check.check_rate("confidence", confidence)
    _require_both_kinds(found, suspect)
    calls = _call_members(found, suspect)
    codes = np.arange(len(suspect)) if unit is None else np.unique(unit, return_inverse=True)[1]
    rates = _measure_rates(calls[1], found.inside, suspect, codes)
    called = calls[0][:, suspect].mean(axis=1)
    shift = None if held_out is None else _measure_shift(calls, found.inside, held_out)
    shares = np.linspace(0.0, 1.0, STEPS)
    reach = _compute_reach(shares, rates, int(suspect.sum()), confidence) + abs(shift or 0.0)
    tpr, fpr = (float(rates.means[:, side].mean()) for side in (0, 1))
    mean = float(called.mean())
    # Shares whose expected calls are within reach of those seen
    held = shares[np.abs(mean - shares * tpr - (1 - shares) * fpr) <= reach]
    raw = (mean - fpr) / (tpr - fpr) if tpr > fpr else float("nan")
    value = min(max(raw, 0.0), 1.0) if tpr > fpr else None
    low, high = 0.0, 1.0
    if value is not None:
        # No share fits: the nearest is given, and said not to fit
        ends = [value, value] if not len(held) else [float(held[0]), float(held[-1])]
        low, high = min(ends[0], value), max(ends[1], value)
    return ShareEstimate(
        value,
        low,
        high,
        raw,
        mean,
        tpr,
        fpr,
        shift,
        bool(len(held)),
        int(suspect.sum()),
        len(np.unique(codes[suspect])),
        len(found.references),
        confidence,
    )


def _require_both_kinds(found: ShareScores, suspect: Bools) -> None:
    """Refuse reference models that saw all suspect records or none.

    Raises:
        InputError: Some did.
    """
    _check.check_same_length(records=found.inside[0], suspect=suspect)
    seen = found.inside[:, suspect].sum(axis=1)
    n = int(suspect.sum())
    if n == 0 or (seen == 0).any() or (seen == n).any():
        raise InputError(
            f"Expected reference models that saw some of the {n} suspect records and not others, "
            f"got {int(seen.min()) if n else 0} to {int(seen.max()) if n else 0}. Train them on "
            "half of the suspect and held-out records."
        )


def _call_members(found: ShareScores, suspect: Bools) -> tuple[Bools, Bools]:
    """Call records members of the target, and of each reference model, as (m, n) each.

    The threshold of each reference model comes from models other than those of its round, so that
    neither its own scores nor the target's enter; the target is called at the same one.
    """
    ours, theirs = np.empty((2, *found.references.shape), dtype=bool)
    for i, own in enumerate(found.rounds):
        others = found.rounds != own
        # A single round: all models but this one
        if not others.any():
            others = np.arange(len(found.rounds)) != i
        pooled = np.ix_(others, suspect)
        threshold = find_youden_threshold(
            found.references[pooled].ravel(), found.inside[pooled].ravel()
        )
        ours[i], theirs[i] = found.target[own] >= threshold, found.references[i] >= threshold
    return ours, theirs


@dataclass(frozen=True, eq=False)
class _Rates:
    """What the attack calls of each reference model: `means` (m, 2), TPR and FPR.

    `noise` (m, 2) is the variance of each from the records drawn, and `single` (2,) that of one
    record, dependence within units included.
    """

    means: Floats
    noise: Floats
    single: Floats


def _measure_rates(calls: Bools, inside: Bools, suspect: Bools, codes: Ints) -> _Rates:
    """Measure TPR and FPR of each reference model among the suspect records."""
    means, noise, sizes = np.empty((3, len(calls), 2))
    for i, row in enumerate(calls):
        for side, chosen in enumerate((suspect & inside[i], suspect & ~inside[i])):
            means[i, side], noise[i, side] = _measure_rate(row[chosen], codes[chosen])
            sizes[i, side] = chosen.sum()
    return _Rates(means, noise, (noise * sizes).mean(axis=0))


def _measure_rate(called: Bools, codes: Ints) -> tuple[float, float]:
    """Give the share of `called` (k,) and its variance, residuals of one unit added first."""
    n, mean = len(called), float(called.mean())
    sums = np.bincount(codes, weights=called - mean)
    units = len(np.unique(codes))
    spread = units / max(units - 1, 1) * float((sums**2).sum()) / n**2
    # All called or none: the share is still known to one unit or so only
    return mean, max(spread, 1 / units**2)


def _measure_shift(calls: tuple[Bools, Bools], inside: Bools, held_out: Bools) -> float:
    """Measure how much more of the held-out records is called of the target than of references.

    Of each reference model those that it did not see.
    """
    ours = calls[0][:, held_out].mean(axis=1)
    outside = held_out & ~inside
    theirs = (calls[1] & outside).sum(axis=1) / np.maximum(outside.sum(axis=1), 1)
    return float((ours - theirs).mean())


def _compute_reach(shares: Floats, rates: _Rates, n: int, confidence: float) -> Floats:
    """Compute how far the calls may be from those expected of each of `shares` (s,).

    The spread between the models' expected calls holds their records' noise too, which is taken out
    and added for the target and for the mean of the models. Degrees of freedom are Satterthwaite's
    [2], since few models show the spread.
    """
    m = len(rates.means)
    weights = np.stack([shares, 1 - shares])
    between = np.var(rates.means @ weights, axis=0, ddof=1) * (1 + 1 / m)
    drawn = (weights**2).T @ rates.noise.mean(axis=0)
    least = weights.T @ rates.single / n + drawn / m
    total = np.maximum(between + least - drawn * (1 + 1 / m), least)
    # Only the spread between models is poorly known
    with np.errstate(divide="ignore"):
        freedom = np.minimum((m - 1) * (total / (total - least)) ** 2, 1e6)
    reach: Floats = stdtrit(freedom, 0.5 + confidence / 2) * np.sqrt(total)
    return reach
