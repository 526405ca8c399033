"""Estimate precision at a realistic prior: the share of members among records called members."""

from __future__ import annotations

import numpy as np

from memberscope._check import check_rate
from memberscope.statistics.curves.roc import Roc
from memberscope.statistics.curves.tpr_at_fpr import tpr_at_fpr
from memberscope.statistics.intervals import Interval, ratio_of_shares


def ppv(tpr: float, fpr: float, prior: float) -> float:
    """Give the precision of a test with these rates when a share `prior` of records are members.

    It is `prior` if the test never calls a record a member.

    >>> round(ppv(0.5, 0.01, 0.01), 4)
    0.3356
    """
    check_rate("prior", prior)
    called = prior * tpr + (1 - prior) * fpr
    # Nobody is called a member, so the prior is all that is known
    return prior if called == 0 else prior * tpr / called


def _ppv_from_odds(odds: float, prior: float) -> float:
    """Give the precision when the TPR is `odds` times the FPR."""
    return 1.0 if np.isinf(odds) else prior * odds / (prior * odds + 1 - prior)


def ppv_at_fpr(
    curve: Roc,
    fpr: float,
    prior: float,
    confidence: float = 0.95,
    *,
    strict: Roc | None = None,
    low_confidence: float | None = None,
) -> Interval:
    """Estimate the precision of the best rule at exactly the rate `fpr`.

    It rises with the TPR, so its limits come from the TPR's.

    Raises:
        InputError: The non-members do not resolve `fpr`.

    >>> from memberscope.statistics.curves.roc import roc
    >>> curve = roc(np.arange(200.0), np.arange(200) >= 100)
    >>> round(ppv_at_fpr(curve, 0.1, 0.5).value, 3)
    0.909
    """
    tpr = tpr_at_fpr(curve, fpr, confidence, strict=strict, low_confidence=low_confidence)
    value, low, high = (ppv(rate, fpr, prior) for rate in (tpr.value, tpr.low, tpr.high))
    return Interval(value, low, high, f"from the TPR's limits: {tpr.method}")


def ppv_from_counts(
    tp: float,
    n_members: float,
    fp: float,
    n_non_members: float,
    *,
    prior: float,
    confidence: float = 0.95,
) -> Interval:
    """Estimate the precision at a threshold fixed beforehand.

    With no false positives the lower end comes from the FPR's upper limit.

    >>> interval = ppv_from_counts(50, 100, 0, 100, prior=0.5)
    >>> interval.value, interval.high, 0.85 < interval.low < 1
    (1.0, 1.0, True)
    """
    odds = ratio_of_shares((tp, n_members), (fp, n_non_members), confidence)
    if tp == 0 and fp == 0:
        return Interval(
            prior, 0.0, 1.0, "nothing called a member: the prior itself, no information"
        )
    # The value from the rates, as zero false positives are no reason for an infinite ratio
    value = ppv(tp / n_members, fp / n_non_members, prior)
    return Interval(
        value, _ppv_from_odds(odds.low, prior), _ppv_from_odds(odds.high, prior), odds.method
    )
