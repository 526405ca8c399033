"""Estimate which share of the records a language model would write out, from log-probabilities.

Nothing is generated: the probability of a suffix follows from those of its tokens.

References:
    [1] J. Hayes et al., "Measuring memorization in language models via probabilistic extraction",
        NAACL 2025, arXiv:2410.19482.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memberscope._check import check_rate, check_same_length
from memberscope.auditing.documents.comparison import ValueWithLimits
from memberscope.auditing.documents.diagnostics import ExtractionRate, ExtractionSummary
from memberscope.errors import InputError
from memberscope.statistics import clopper_pearson, effective_counts
from memberscope.texts import TokenSignals
from memberscope.types import Bools, Floats, Ints

TRIES = (1, 100, 10_000)
PROBABILITY = 0.5
SUFFIX = 50  # tokens, as in [1]
METHOD = (
    "(n, p)-discoverable extraction by sampling from the whole distribution; Clopper-Pearson "
    "limits, by unit where there are units"
)


def estimate_extraction(
    tokens: TokenSignals,
    member: Bools,
    n: int | Sequence[int] = TRIES,
    p: float = PROBABILITY,
    *,
    suffix_tokens: int | None = None,
    unit: Ints | None = None,
    confidence: float = 0.95,
) -> ExtractionSummary:
    """Estimate the share of records whose suffix is sampled at least once in `n` tries.

    A record counts if the chance of that is at least `p`: 1 - (1 - q)^n >= p, where q is the
    probability of its suffix given what stands before [1]. Non-members are the control: what a
    model writes of them is likely text, not memory.

    Args:
        tokens: What the model says about the tokens of the records.
        member: Which records (k,) trained the model.
        n: Tries, one number or several.
        p: The probability with which a record is found.
        suffix_tokens: Last tokens of a record that must be produced; of a record with fewer than
            twice as many, the second half. None for all its scored tokens.
        unit: Person or document (k,) that each record belongs to.
        confidence: Of each interval.

    Raises:
        InputError: A number is out of range, or a side has no records.

    >>> known = TokenSignals(np.array([0, 2, 4]), np.log([0.9, 0.9, 0.1, 0.1]))
    >>> found = estimate_extraction(known, np.array([True, False]), n=(1, 100))
    >>> [(row.n, row.members.value, row.non_members.value) for row in found.rates]
    [(1, 1.0, 0.0), (100, 1.0, 1.0)]
    """
    tries = (n,) if isinstance(n, int) else tuple(n)
    check_rate("p", p)
    member = np.asarray(member, bool)
    check_same_length(tokens=np.arange(len(tokens)), member=member)
    if not tries or min(tries) < 1 or (suffix_tokens is not None and suffix_tokens < 1):
        raise InputError(
            f"Expected at least one try and one token, got n={n} and suffix_tokens={suffix_tokens}."
            " Raise them."
        )
    if member.all() or not member.any():
        raise InputError(
            f"Expected members and non-members, got {int(member.sum())} members of {len(member)} "
            "records. Give both: non-members are the control."
        )
    suffix = sum_suffix_log_probability(tokens, suffix_tokens)
    codes = None if unit is None else np.unique(unit, return_inverse=True)[1]
    rates = []
    for k in tries:
        counts = effective_counts(is_extracted(suffix, k, p), member, codes)
        sides = ((counts.tp, counts.n_members), (counts.fp, counts.n_non_members))
        rates.append(ExtractionRate(k, *(_estimate_share(*side, confidence) for side in sides)))
    return ExtractionSummary(p, suffix_tokens, confidence, METHOD, rates)


def sum_suffix_log_probability(tokens: TokenSignals, suffix_tokens: int | None = None) -> Floats:
    """Sum the log-probability (k,) of each record's suffix, in nats.

    >>> signals = TokenSignals(np.array([0, 4]), np.array([-1.0, -2.0, -3.0, -4.0]))
    >>> sum_suffix_log_probability(signals, 1).tolist(), sum_suffix_log_probability(signals).tolist()
    ([-4.0], [-10.0])
    """
    if suffix_tokens is None:
        return tokens.sum_tokens(tokens.log_probability)
    # A short record keeps half of its tokens as what stands before
    kept = np.minimum(suffix_tokens, (tokens.counts + 1) // 2)
    place = np.arange(int(tokens.offsets[-1]))
    begins = np.repeat(tokens.offsets[1:] - kept, tokens.counts)
    return tokens.sum_tokens(np.where(place >= begins, tokens.log_probability, 0.0))


def is_extracted(log_probability: Floats, n: int, p: float) -> Bools:
    """Tell which suffixes (k,) are produced in `n` tries with probability at least `p`.

    >>> is_extracted(np.log([0.5, 0.01, 0.006]), 100, 0.5).tolist()
    [True, True, False]
    """
    # On a log scale, where a probability of 1e-300 still counts
    with np.errstate(divide="ignore"):
        missed = n * np.log1p(-np.exp(np.minimum(log_probability, 0.0)))
    found: Bools = missed <= np.log1p(-p)
    return found


def _estimate_share(k: float, n: float, confidence: float) -> ValueWithLimits:
    """Estimate a share with its exact limits."""
    low, high = clopper_pearson(k, n, confidence)
    return ValueWithLimits(k / n, float(low), float(high))


def describe_extraction(found: ExtractionSummary | None) -> list[str]:
    """Describe in a sentence what a hundred tries would produce; nothing where it is not known.

    >>> describe_extraction(None)
    []
    """
    row = next((row for row in found.rates if row.n == 100), None) if found else None
    if found is None or row is None:
        return []
    inside, outside = (
        f"{side.value:.1%} ({side.low:.1%} to {side.high:.1%})"
        for side in (row.members, row.non_members)
    )
    which = (
        "scored tokens"
        if found.suffix_tokens is None
        else f"last {found.suffix_tokens} tokens (at most the second half)"
    )
    return [
        f"Sampled {row.n} times after what stands before them, the {which} "
        f"come out with probability {found.p:g} or more for {inside} of members, and for {outside} "
        "of non-members, of whom the model can only write what is likely."
    ]
