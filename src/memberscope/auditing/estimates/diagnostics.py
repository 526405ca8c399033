"""Measure what readers expect beside the attacks.

Accuracy, its gap, calibration, sizes, and the most exposed records.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from memberscope._numerics import fill_hidden_probabilities
from memberscope.auditing.documents.comparison import ValueWithLimits
from memberscope.auditing.documents.diagnostics import (
    CalibrationSides,
    MeasuredValue,
    ReliabilityBin,
    ReliabilityDiagram,
)
from memberscope.auditing.documents.result import AttackScores, AuditArrays, ExposedRecord
from memberscope.auditing.subject.subject import hash_ids
from memberscope.statistics import (
    DESCRIPTIVE,
    build_reliability_bins,
    clopper_pearson,
    design_effect,
    kish_size,
    ranks_within_fold,
)
from memberscope.types import Bools, Evidence, Floats, Ints

N_EXPOSED = 30


def _measure_accuracy(hits: Bools, confidence: float, unit: Ints | None = None) -> MeasuredValue:
    """Measure the share of right answers with its Clopper-Pearson interval.

    Records of one `unit` (n,) may depend.
    """
    # Records that depend count for less, which the design effect says
    effect = 1.0 if unit is None else design_effect(hits, np.unique(unit, return_inverse=True)[1])
    low, high = clopper_pearson(int(hits.sum()) / effect, len(hits) / effect, confidence)
    return MeasuredValue(float(hits.mean()), float(low), float(high), len(hits))


@dataclass(frozen=True)
class Generalisation:
    """Accuracy on members and on non-members, and the gap between them."""

    train: MeasuredValue
    test: MeasuredValue
    gap: ValueWithLimits


def measure_generalisation(
    hits: Bools, member: Bools, confidence: float, unit: Ints | None = None
) -> Generalisation:
    """Measure accuracy on members and on non-members, and their difference with a MOVER interval.

    Records of one `unit` (n,) may depend.
    """
    train, test = (
        _measure_accuracy(hits[side], confidence, None if unit is None else unit[side])
        for side in (member, ~member)
    )
    gap = train.value - test.value
    # MOVER combines the distances to the limits that face each other
    down = np.hypot(train.value - train.low, test.high - test.value)
    up = np.hypot(train.high - train.value, test.value - test.low)
    return Generalisation(train, test, ValueWithLimits(gap, gap - float(down), gap + float(up)))


def measure_overconfidence(
    confidences: Floats, hits: Bools, confidence: float, unit: Ints | None = None
) -> MeasuredValue:
    """Measure mean confidence (n,) minus accuracy, with MOVER limits.

    They take the two as independent, which only widens them.

    >>> measure_overconfidence(np.array([0.9, 0.9]), np.array([True, False]), 0.95).value
    0.4
    """
    n = len(hits)
    right = _measure_accuracy(hits, confidence, unit)
    mean = float(confidences.mean())
    # One record has no spread, so its error is taken over one
    size, error = float(n), float(confidences.std()) / max(n - 1, 1) ** 0.5
    # Units vary as a whole; the larger of both errors is the safe one
    if unit is not None:
        codes = np.unique(unit, return_inverse=True)[1]
        sums, size = np.bincount(codes, weights=confidences - mean), kish_size(np.bincount(codes))
        error = max(error, float((sums**2).sum() * len(sums) / max(len(sums) - 1, 1)) ** 0.5 / n)
    reach = float(stdtrit(max(size - 1, 1), (1 + confidence) / 2)) * error
    low = mean - right.value - float(np.hypot(reach, right.high - right.value))
    high = mean - right.value + float(np.hypot(reach, right.value - right.low))
    # Rounded so that a difference of zero is not told as a rest of 1e-17
    return MeasuredValue(round(mean - right.value, 12), low, high, n)


def measure_calibration(
    evidence: Evidence, member: Bools, confidence: float, unit: Ints | None = None
) -> CalibrationSides:
    """Measure overconfidence on members and on non-members, from probabilities (n, 1, k).

    Records of one `unit` (n,) may depend.
    """
    # A restriction may hide classes, whose share is spread over them
    values = fill_hidden_probabilities(np.asarray(evidence.target[:, 0, :], dtype=np.float64))
    hits, top = values.argmax(axis=1) == evidence.labels, values.max(axis=1)
    inside, outside = (
        measure_overconfidence(
            top[side], hits[side], confidence, None if unit is None else unit[side]
        )
        for side in (member, ~member)
    )
    return CalibrationSides(inside, outside)


def count_class_records(labels: Ints, names: tuple[str, ...]) -> dict[str, int]:
    """Count the records of each class by name."""
    counts = np.bincount(labels, minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def rank_exposed_members(arrays: AuditArrays, best: AttackScores) -> list[ExposedRecord]:
    """Rank the members that an adversary using the attack `best` would be surest of.

    There are at most thirty.
    """
    name = best.name
    posterior, comparable = arrays.posterior[name], arrays.comparable[name]
    # All records as one fold, since comparable scores already allow for folds
    place = ranks_within_fold(comparable, arrays.member, np.zeros(len(comparable), dtype=np.int64))
    members = np.flatnonzero(arrays.member)
    # Ties of the posterior go by score, then by place, so that the list is the same every time
    order = members[np.lexsort((members, -comparable[members], -posterior[members]))][:N_EXPOSED]
    values = arrays.group_values["class"]
    return [
        ExposedRecord(
            record=record,
            label=values[arrays.groups["class"][i]],
            member=True,
            attack=best.attack,
            posterior=float(posterior[i]),
            score=float(place[i]),
            **_describe_separation(arrays, int(i)),
        )
        for i, record in zip(order, hash_ids(arrays.ids, order), strict=True)
    ]


def _describe_separation(arrays: AuditArrays, i: int) -> dict[str, float]:
    """Describe record `i`'s separation under the reference models, as fields of `ExposedRecord`.

    Empty where it has none.
    """
    if arrays.vulnerability is None or not np.isfinite(arrays.vulnerability[i]).all():
        return {}
    value, low, high = arrays.vulnerability[i].tolist()
    return {"vulnerability": value, "vulnerability_low": low, "vulnerability_high": high}


def build_reliability_diagram(
    arrays: AuditArrays, best: AttackScores, prior: float
) -> ReliabilityDiagram:
    """Build the reliability diagram of one attack's posterior at `prior`."""
    bins = build_reliability_bins(arrays.posterior[best.name], arrays.member, prior)
    words = f"{DESCRIPTIVE}; limits are exact for a bin fixed beforehand, and these bins are cut at quantiles of the same data"
    # Counts are written as floats, as the other numbers of a bin
    rows = [ReliabilityBin(*map(float, entry)) for entry in bins]
    return ReliabilityDiagram(best.attack, best.access, prior, words, rows)
