"""Accuracy and its kin at a decision threshold: fixed beforehand, or the best one on the same data (optimistic)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.statistics.intervals import Interval, clopper_pearson, kolmogorov_band, weighted_sum
from memberscope.statistics.roc import Roc

OPTIMISTIC = "Kolmogorov band over all thresholds; threshold chosen on these data (optimistic)"


@dataclass(frozen=True)
class Counts:
    """True positives among members and false positives among non-members at one threshold."""

    tp: int
    n_members: int
    fp: int
    n_non_members: int

    @property
    def share(self) -> float:
        """Members as a share of all records."""
        return self.n_members / (self.n_members + self.n_non_members)


def best_balanced(curve: Roc) -> float:
    """Threshold with the best balanced accuracy for "member iff score >= threshold"; of equals, the strictest.

    >>> from memberscope.statistics.roc import roc
    >>> best_balanced(roc(np.array([0.9, 0.8, 0.3, 0.1]), np.arange(4) < 2))
    0.8
    """
    return float(curve.thresholds[best_vertex(curve)])


def best_vertex(curve: Roc) -> int:
    """Index of the first vertex with the largest TPR - FPR, among thresholds at observed scores."""
    advantage = curve.tp[1:] * curve.n_non_members - curve.fp[1:] * curve.n_members  # whole numbers, so that equals are equal
    return 1 + int(np.argmax(advantage))


def rates(counts: Counts, confidence: float = 0.95) -> dict[str, Interval]:
    """Accuracy, balanced accuracy, precision on the audit's own mix, recall, FPR, FNR and advantage at a fixed threshold.

    >>> found = rates(Counts(80, 100, 30, 100))
    >>> found["accuracy"].value, round(found["advantage"].value, 3)
    (0.75, 0.5)
    """
    hits = (counts.tp, counts.n_members)
    kept = (counts.n_non_members - counts.fp, counts.n_non_members)
    alarms = (counts.fp, counts.n_non_members)
    share = counts.share
    recall, fpr = exact(hits, confidence), exact(alarms, confidence)
    advantage = weighted_sum(hits, alarms, (1.0, -1.0), confidence)
    return {
        "accuracy": weighted_sum(hits, kept, (share, 1 - share), confidence),
        "balanced_accuracy": weighted_sum(hits, kept, (0.5, 0.5), confidence),
        "precision": precision(counts, confidence),
        "recall": recall,
        "fpr": fpr,
        "fnr": Interval(1 - recall.value, 1 - recall.high, 1 - recall.low, recall.method),
        "advantage": advantage,
    }


def exact(share: tuple[int, int], confidence: float) -> Interval:
    """A share (k, n) with its exact limits."""
    low, high = clopper_pearson(*share, confidence)
    return Interval(share[0] / share[1], float(low), float(high), "Clopper-Pearson")


def precision(counts: Counts, confidence: float) -> Interval:
    """Precision at the audit's own share of members."""
    from memberscope.statistics.ppv import ppv_from_counts

    return ppv_from_counts(
        counts.tp, counts.n_members, counts.fp, counts.n_non_members, prior=counts.share, confidence=confidence
    )


def best_rates(curve: Roc, confidence: float = 0.95) -> dict[str, Interval]:
    """The same rates at the best threshold on these data, with limits for the value at the threshold that was chosen.

    The limits hold for every threshold at once, so the choice cannot void them; the value itself stays optimistic.

    >>> from memberscope.statistics.roc import roc
    >>> best_rates(roc(np.arange(200.0), np.arange(200) >= 100))["balanced_accuracy"].value
    1.0
    """
    at = best_vertex(curve)
    part = (1 + confidence) / 2
    tpr, fpr = curve.tp[at] / curve.n_members, curve.fp[at] / curve.n_non_members
    reach = kolmogorov_band(curve.n_members, part), kolmogorov_band(curve.n_non_members, part)
    low_t, high_t = max(0.0, tpr - reach[0]), min(1.0, tpr + reach[0])
    low_f, high_f = max(0.0, fpr - reach[1]), min(1.0, fpr + reach[1])
    share = curve.n_members / (curve.n_members + curve.n_non_members)

    def spread(tpr_weight: float, fpr_weight: float, offset: float = 0.0) -> Interval:
        value, low, high = (offset + tpr_weight * t + fpr_weight * f for t, f in ((tpr, fpr), (low_t, high_f), (high_t, low_f)))
        return Interval(float(value), float(low), float(high), OPTIMISTIC)

    def precise(t: float, f: float) -> float:
        return float(share * t / (share * t + (1 - share) * f)) if t + f > 0 else share

    return {
        "accuracy": spread(share, share - 1, 1 - share),
        "balanced_accuracy": spread(0.5, -0.5, 0.5),
        "precision": Interval(precise(tpr, fpr), precise(low_t, high_f), precise(high_t, low_f), OPTIMISTIC),
        "recall": Interval(float(tpr), float(low_t), float(high_t), OPTIMISTIC),
        "fpr": Interval(float(fpr), float(low_f), float(high_f), OPTIMISTIC),
        "fnr": Interval(float(1 - tpr), float(1 - high_t), float(1 - low_t), OPTIMISTIC),
        "advantage": spread(1.0, -1.0),
    }
