"""Precision at a realistic prior: of the records an adversary calls members, the share that are."""

from __future__ import annotations

import numpy as np
from scipy.special import bdtrik

from memberscope._check import rate
from memberscope.statistics.intervals import Interval, clopper_pearson, ratio
from memberscope.statistics.roc import Roc, operating_point
from memberscope.statistics.tpr import tied_near, tpr_at_fpr


def ppv(tpr: float, fpr: float, prior: float) -> float:
    """Precision of a test with these rates when a share `prior` of the records tried are members; `prior` if it never calls.

    >>> round(ppv(0.5, 0.01, 0.01), 4)
    0.3356
    """
    rate("prior", prior)
    called = prior * tpr + (1 - prior) * fpr
    return prior if called == 0 else prior * tpr / called


def of_ratio(odds: float, prior: float) -> float:
    """Precision when the TPR is `odds` times the FPR."""
    return 1.0 if np.isinf(odds) else prior * odds / (prior * odds + 1 - prior)


def ppv_at_fpr(curve: Roc, fpr: float, prior: float, confidence: float = 0.95, *, strict: Roc | None = None) -> Interval:
    """Precision at the best threshold for `fpr`.

    The lower limit takes the TPR's lower limit at the full rate `fpr`, which the threshold never exceeds. The upper one takes
    the TPR's upper limit at `fpr`, or, where non-member scores tie near the threshold, at the exact lower limit of the rate
    of the strictest threshold that may be the population's, since the rate may then lie well below `fpr`.

    >>> from memberscope.statistics.roc import roc
    >>> curve = roc(np.arange(200.0), np.arange(200) >= 100)
    >>> round(ppv_at_fpr(curve, 0.1, 0.5).value, 3)
    0.909
    """
    point = operating_point(curve, fpr)
    tpr = tpr_at_fpr(curve, fpr, confidence, strict=strict)
    smallest = fpr
    if tied_near(curve, fpr):
        smallest = smallest_rate(curve, fpr, confidence)
    value = ppv(tpr.value, point.fp / curve.n_non_members, prior)
    low, high = ppv(tpr.low, fpr, prior), ppv(tpr.high, smallest, prior)
    if tpr.low == 0:
        low = 0.0
    return Interval(value, min(low, value), max(high, value), f"from the TPR's limits: {tpr.method}")


def smallest_rate(curve: Roc, fpr: float, confidence: float) -> float:
    """Lower limit of the FPR that the population's threshold for `fpr` may really have, when scores tie."""
    tail = (1 - confidence) / 2
    n = curve.n_non_members
    surely = int(bdtrik(tail / 2, n, fpr))
    allowed = curve.fp[curve.fp < surely]
    strictest = int(allowed[-1]) if len(allowed) else 0
    return min(fpr, float(clopper_pearson(strictest, n, 1 - tail)[0]))


def ppv_from_counts(
    tp: int, n_members: int, fp: int, n_non_members: int, *, prior: float, confidence: float = 0.95
) -> Interval:
    """Precision at a threshold fixed beforehand; with no false positives the lower end comes from the FPR's upper limit.

    >>> interval = ppv_from_counts(50, 100, 0, 100, prior=0.5)
    >>> interval.value, interval.high, 0.85 < interval.low < 1
    (1.0, 1.0, True)
    """
    odds = ratio((tp, n_members), (fp, n_non_members), confidence)
    if tp == 0 and fp == 0:
        return Interval(prior, 0.0, 1.0, "nothing called a member: the prior itself, no information")
    value = ppv(tp / n_members, fp / n_non_members, prior)
    return Interval(value, of_ratio(odds.low, prior), of_ratio(odds.high, prior), odds.method)
