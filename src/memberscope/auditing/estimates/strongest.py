"""Estimate the strongest of several attacks at each access level.

Its intervals hold for all candidates at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from memberscope._parallel import map_in_parallel
from memberscope.auditing.documents.plan import EstimateSettings
from memberscope.auditing.documents.result import AttackScores, AuditArrays
from memberscope.auditing.estimates.attack_part import AttackPart, restrict_part
from memberscope.auditing.estimates.estimates import convert_tpr_to_ppv, iterate_groups
from memberscope.auditing.estimates.ranking import LevelRanking
from memberscope.statistics import (
    Interval,
    build_resolution_warning,
    largest_tpr,
    simultaneous_confidence,
)
from memberscope.types import Estimate, Ints, Metric

STRONGEST = "strongest"


def pick_strongest(intervals: list[Interval], names: list[str]) -> tuple[Interval, str]:
    """Pick the largest value, with the largest limits, and the candidate that reached it."""
    best = int(np.argmax([interval.value for interval in intervals]))
    # The true largest lies above every lower limit and below the largest upper one
    low = max(interval.low for interval in intervals)
    high = max(interval.high for interval in intervals)
    method = f"{intervals[best].method}; simultaneous over {len(intervals)} candidates; reached by {names[best]}"
    return Interval(intervals[best].value, low, high, method), names[best]


def list_lower_confidences(
    level: LevelRanking, settings: EstimateSettings
) -> list[tuple[AttackScores, float, float]]:
    """List which lower limits `estimate_strongest` asks of the candidates of a level.

    Each is an attack, a rate that it resolves and the confidence of the limit.
    """
    parts, found = level.build_parts(), []
    for fpr in settings.fprs:
        usable = [part for part in parts if part.resolves(fpr)]
        corrected = simultaneous_confidence(settings.confidence, len(usable))
        found += [(part.scored, fpr, corrected) for part in usable]
    return found


def estimate_strongest(level: LevelRanking, settings: EstimateSettings) -> list[Estimate]:
    """Estimate AUC, TPR and precision of the strongest attack at a level.

    Candidates that a rate does not resolve are left out at that rate.
    """
    parts, at = level.build_parts(), level.at
    found = [estimate_strongest_auc(parts, settings.confidence)]
    for fpr in settings.fprs:
        usable = [part for part in parts if part.resolves(fpr)]
        if not usable:
            continue
        tpr = estimate_strongest_tpr(usable, fpr, settings.confidence)
        found.append(tpr)
        found += [_estimate_precision(tpr, prior) for prior in settings.priors]
    # An attack from below may have won, but the estimate speaks of this level
    return [replace(entry, access=at.access, restriction=at.restriction) for entry in found]


def estimate_strongest_by_group(
    levels: Sequence[LevelRanking], arrays: AuditArrays, settings: EstimateSettings
) -> list[Estimate]:
    """Estimate AUC and TPR of the strongest attack in each class and group, at each level.

    TPR is estimated at the rates that readers and claims ask for in groups, or at all of them.

    The attack that finds most in a group need not be the one that leads over all records. Levels
    tried beside the declared one are left out.
    """
    declared = [level for level in levels if level.at.declared]
    whole = {
        entry.name: level.build_part(entry) for level in declared for entry in level.candidates
    }
    wanted = [
        _list_group_fprs([whole[entry.name] for entry in level.candidates], settings)
        for level in declared
    ]

    def estimate(group: tuple[str, Ints]) -> list[Estimate]:
        name, places = group
        # Levels share their attacks, so each is restricted to the group once
        parts = {key: restrict_part(part, places, name) for key, part in whole.items()}
        found = []
        for level, fprs in zip(declared, wanted, strict=True):
            own = [parts[entry.name] for entry in level.candidates]
            numbers = [estimate_strongest_auc(own, settings.confidence)]
            for fpr in fprs:
                if usable := [part for part in own if part.resolves(fpr)]:
                    numbers.append(_estimate_largest_tpr(usable, fpr, settings.confidence))
            at = level.at
            found += [
                replace(entry, access=at.access, restriction=at.restriction) for entry in numbers
            ]
        return found

    groups = list(iterate_groups(arrays)) if whole else []
    return [entry for found in map_in_parallel(estimate, groups) for entry in found]


def _list_group_fprs(parts: Sequence[AttackPart], settings: EstimateSettings) -> list[float]:
    """List the rates at which groups are estimated: what claims ask, and two more.

    Those are the one that a headline reads, the lowest without a warning, and the next larger one,
    which smaller groups resolve. `parts` are the candidates on all records.
    """
    if settings.all_estimates:
        return list(settings.fprs)
    compared = {
        fpr: min((part.n_compared() for part in parts if part.resolves(fpr)), default=0)
        for fpr in settings.fprs
    }
    resolved = [fpr for fpr, n in compared.items() if n]
    sure = [fpr for fpr in resolved if build_resolution_warning(fpr, compared[fpr]) is None]
    lowest = min(sure or resolved, default=0.0)
    larger = min((fpr for fpr in settings.fprs if fpr > lowest), default=lowest)
    return [fpr for fpr in settings.fprs if fpr in (lowest, larger, *settings.claimed)]


def estimate_strongest_auc(parts: list[AttackPart], confidence: float) -> Estimate:
    """Estimate the largest AUC over the candidates.

    The lower limit is corrected for their number. The upper limit is the largest of theirs, which
    needs no correction: the largest AUC exceeds it only where the one attack that has it exceeds
    its own limit.
    """
    corrected = simultaneous_confidence(confidence, len(parts))
    intervals = []
    for part in parts:
        found = part.measure_auc()
        plain = found.limits(confidence)
        low = found.limits(corrected).low if len(parts) > 1 else plain.low
        intervals.append(plain._replace(low=low))
    return _build_candidate_estimate(parts, intervals, confidence, "auc")


def estimate_strongest_tpr(parts: list[AttackPart], fpr: float, confidence: float) -> Estimate:
    """Estimate the largest TPR at `fpr` over the candidates, all of which resolve it.

    Limits are as for the AUC.
    """
    corrected = simultaneous_confidence(confidence, len(parts))
    intervals = [part.measure_tpr(fpr, confidence, corrected) for part in parts]
    # The candidate with the fewest non-members decides whether a warning is due
    n = min(part.n_compared() for part in parts)
    return _build_candidate_estimate(
        parts,
        intervals,
        confidence,
        "tpr",
        fpr=fpr,
        threshold="best",
        warning=build_resolution_warning(fpr, n),
    )


def _estimate_largest_tpr(parts: list[AttackPart], fpr: float, confidence: float) -> Estimate:
    """Estimate the same as `estimate_strongest_tpr`, without the numbers of each candidate."""
    corrected = simultaneous_confidence(confidence, len(parts))
    curves = [part.curves() for part in parts]
    intervals = largest_tpr(curves, fpr, confidence, low_confidence=corrected)
    n = min(part.n_compared() for part in parts)
    warning = build_resolution_warning(fpr, n)
    conditions = {"fpr": fpr, "threshold": "best", "warning": warning}
    return _build_candidate_estimate(parts, intervals, confidence, "tpr", **conditions)


def estimate_strongest_ppv(
    parts: list[AttackPart], fpr: float, prior: float, confidence: float
) -> Estimate:
    """Estimate the precision of the strongest attack at exactly `fpr`."""
    return _estimate_precision(estimate_strongest_tpr(parts, fpr, confidence), prior)


def _estimate_precision(tpr: Estimate, prior: float) -> Estimate:
    """Estimate the precision of an adversary who accuses exactly the estimate's rate.

    Its limits are worked out from those of the TPR.
    """
    assert tpr.fpr is not None
    found = convert_tpr_to_ppv(Interval(tpr.value, tpr.low, tpr.high, tpr.method), tpr.fpr, prior)
    return replace(
        tpr,
        metric="ppv",
        value=found.value,
        low=found.low,
        high=found.high,
        prior=prior,
        method=found.method,
    )


def _build_candidate_estimate(
    parts: list[AttackPart],
    intervals: list[Interval],
    confidence: float,
    metric: Metric,
    **conditions: Any,
) -> Estimate:
    """Build the estimate under the name `strongest`.

    Counts and queries are those of the attack that reached it.
    """
    best, name = pick_strongest(intervals, [part.scored.attack for part in parts])
    leader = next(part for part in parts if part.scored.attack == name)
    found = leader.estimate(metric, best, confidence, **conditions)
    return replace(found, attack=STRONGEST, method=best.method, reached_by=name)
