"""Measure what readers expect beside the attacks.

Accuracy, its gap, calibration, sizes, and the most exposed records.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import stdtrit

from memberscope._numerics import fill_hidden_probabilities
from memberscope.auditing.documents.result import AttackScores, AuditArrays, ExposedRecord
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


def _measure_accuracy(hits: Bools, confidence: float, unit: Ints | None = None) -> dict[str, float]:
    """Measure the share of right answers with its Clopper-Pearson interval.

    Records of one `unit` (n,) may depend.
    """
    # Records that depend count for less, which the design effect says
    effect = 1.0 if unit is None else design_effect(hits, np.unique(unit, return_inverse=True)[1])
    low, high = clopper_pearson(int(hits.sum()) / effect, len(hits) / effect, confidence)
    return {"value": float(hits.mean()), "low": float(low), "high": float(high), "n": len(hits)}


def measure_generalisation(
    hits: Bools, member: Bools, confidence: float, unit: Ints | None = None
) -> dict[str, Any]:
    """Measure accuracy on members and on non-members, and their difference with a MOVER interval.

    Records of one `unit` (n,) may depend.
    """
    train, test = (
        _measure_accuracy(hits[side], confidence, None if unit is None else unit[side])
        for side in (member, ~member)
    )
    gap = train["value"] - test["value"]
    # MOVER combines the distances to the limits that face each other
    down = np.hypot(train["value"] - train["low"], test["high"] - test["value"])
    up = np.hypot(train["high"] - train["value"], test["value"] - test["low"])
    return {
        "train_accuracy": train,
        "test_accuracy": test,
        "generalisation_gap": {"value": gap, "low": gap - float(down), "high": gap + float(up)},
    }


def measure_overconfidence(
    confidences: Floats, hits: Bools, confidence: float, unit: Ints | None = None
) -> dict[str, float]:
    """Measure mean confidence (n,) minus accuracy, with MOVER limits.

    They take the two as independent, which only widens them.

    >>> measure_overconfidence(np.array([0.9, 0.9]), np.array([True, False]), 0.95)["value"]
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
    low = mean - right["value"] - float(np.hypot(reach, right["high"] - right["value"]))
    high = mean - right["value"] + float(np.hypot(reach, right["value"] - right["low"]))
    # Rounded so that a difference of zero is not told as a rest of 1e-17
    return {"value": round(mean - right["value"], 12), "low": low, "high": high, "n": n}


def measure_calibration(
    evidence: Evidence, member: Bools, confidence: float, unit: Ints | None = None
) -> dict[str, Any]:
    """Measure overconfidence on members and on non-members, from probabilities (n, 1, k).

    Records of one `unit` (n,) may depend.
    """
    # A restriction may hide classes, whose share is spread over them
    values = fill_hidden_probabilities(np.asarray(evidence.target[:, 0, :], dtype=np.float64))
    hits, top = values.argmax(axis=1) == evidence.labels, values.max(axis=1)
    sides = {"member": member, "non_member": ~member}
    return {
        name: measure_overconfidence(
            top[side], hits[side], confidence, None if unit is None else unit[side]
        )
        for name, side in sides.items()
    }


def count_class_records(labels: Ints, names: tuple[str, ...]) -> dict[str, int]:
    """Count the records of each class by name."""
    counts = np.bincount(labels, minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def rank_exposed_members(
    arrays: AuditArrays, hashes: list[str], best: AttackScores
) -> list[ExposedRecord]:
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
            record=hashes[i],
            label=values[arrays.groups["class"][i]],
            member=True,
            attack=best.attack,
            posterior=float(posterior[i]),
            score=float(place[i]),
            **_describe_separation(arrays, int(i)),
        )
        for i in order
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
) -> dict[str, Any]:
    """Build the reliability diagram of one attack's posterior at `prior`."""
    bins = build_reliability_bins(arrays.posterior[best.name], arrays.member, prior)
    words = f"{DESCRIPTIVE}; limits are exact for a bin fixed beforehand, and these bins are cut at quantiles of the same data"
    at = {"attack": best.attack, "access": best.access, "prior": prior, "method": words}
    return {**at, "bins": [_dump_reliability_bin(entry) for entry in bins]}


def _dump_reliability_bin(entry: Any) -> dict[str, float]:
    """Dump a bin as plain JSON data."""
    fields: dict[str, float] = entry if isinstance(entry, dict) else entry._asdict()
    return {name: float(value) for name, value in fields.items()}
