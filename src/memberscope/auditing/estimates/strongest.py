"""The strongest of several attacks at each access level.

With intervals that hold for all candidates at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from memberscope.auditing.documents.plan import EstimateSettings
from memberscope.auditing.documents.result import AttackScores, AuditArrays
from memberscope.auditing.estimates.estimates import (
    AttackPart,
    build_whole_part,
    convert_tpr_to_ppv,
    parse_access,
)
from memberscope.statistics import (
    Interval,
    auc_interval,
    build_resolution_warning,
    find_distinct_rankings,
    simultaneous_confidence,
    tpr_at_fpr,
)
from memberscope.types import Access, Estimate, Metric

STRONGEST = "strongest"


def find_verdict_level(arrays: AuditArrays, declared: Access) -> AttackScores:
    """An entry of the level that a verdict speaks of.

    The declared one, or the highest that the model offers below it.
    """
    usable = [
        entry
        for entry in arrays.scored
        if entry.declared and parse_access(entry.access) <= declared
    ]
    return max(usable or arrays.scored, key=lambda entry: parse_access(entry.access))


def list_candidate_parts(arrays: AuditArrays, at: AttackScores) -> list[AttackPart]:
    """Attacks that an adversary at the level of `at` could use.

    Each at its highest level, those with identical rankings once.

    Under a restriction that is tried beside the declared one these are the attacks made there and
    those on labels.
    """
    finest: dict[str, AttackScores] = {}
    for scored in arrays.scored:
        before = finest.get(scored.attack)
        if is_derivable(scored, at) and (
            before is None or parse_access(scored.access) > parse_access(before.access)
        ):
            finest[scored.attack] = scored
    parts = [build_whole_part(scored, arrays) for scored in finest.values()]
    return [parts[index] for index in find_distinct_rankings([part.scores for part in parts])]


def is_derivable(scored: AttackScores, at: AttackScores) -> bool:
    """Whether what was seen at the level of `scored` can be worked out from what is seen at the level of `at`."""
    if scored.level == at.level:
        return True
    weaker = parse_access(scored.access) < parse_access(at.access)
    return (
        weaker and (at.declared or parse_access(scored.access) == Access.LABEL) and scored.declared
    )


def list_scored_levels(arrays: AuditArrays) -> list[AttackScores]:
    """One entry of each level, in the order of the scores."""
    return list({entry.level: entry for entry in reversed(arrays.scored)}.values())[::-1]


def pick_strongest(intervals: list[Interval], names: list[str]) -> tuple[Interval, str]:
    """The largest value, with the largest lower and the largest upper limit.

    And the candidate that reached it.
    """
    best = int(np.argmax([interval.value for interval in intervals]))
    low = max(interval.low for interval in intervals)
    high = max(interval.high for interval in intervals)
    method = f"{intervals[best].method}; simultaneous over {len(intervals)} candidates; reached by {names[best]}"
    return Interval(intervals[best].value, low, high, method), names[best]


def estimate_strongest(
    arrays: AuditArrays, at: AttackScores, settings: EstimateSettings
) -> list[Estimate]:
    """AUC, TPR at each rate and precision at each prior of the strongest attack at the level of `at`.

    Candidates that a rate does not resolve are left out at that rate.
    """
    parts = list_candidate_parts(arrays, at)
    if not parts:
        return []
    found = [estimate_strongest_auc(parts, settings.confidence)]
    for fpr in settings.fprs:
        usable = [part for part in parts if part.resolves(fpr)]
        if not usable:
            continue
        tpr = estimate_strongest_tpr(usable, fpr, settings.confidence)
        found.append(tpr)
        found += [_estimate_precision(tpr, prior) for prior in settings.priors]
    return [replace(entry, access=at.access, restriction=at.restriction) for entry in found]


def estimate_strongest_auc(parts: list[AttackPart], confidence: float) -> Estimate:
    """The largest AUC over the candidates.

    The lower limit is corrected for their number. The upper limit is the largest of theirs, which
    needs no correction: the largest AUC exceeds it only where the one attack that has it exceeds
    its own limit.
    """
    corrected = simultaneous_confidence(confidence, len(parts))
    intervals = []
    for part in parts:
        plain = auc_interval(part.scores, part.member, confidence, part.unit)
        low = (
            auc_interval(part.scores, part.member, corrected, part.unit).low
            if len(parts) > 1
            else plain.low
        )
        intervals.append(plain._replace(low=low))
    return _build_candidate_estimate(parts, intervals, confidence, "auc")


def estimate_strongest_tpr(parts: list[AttackPart], fpr: float, confidence: float) -> Estimate:
    """The largest TPR at `fpr` over the candidates, all of which resolve it.

    Limits as for the AUC.
    """
    corrected = simultaneous_confidence(confidence, len(parts))
    intervals = []
    for part in parts:
        curve, strict = part.curves()
        intervals.append(
            tpr_at_fpr(curve, fpr, confidence, strict=strict, low_confidence=corrected)
        )
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


def estimate_strongest_ppv(
    parts: list[AttackPart], fpr: float, prior: float, confidence: float
) -> Estimate:
    """Precision of the strongest attack at exactly `fpr`."""
    return _estimate_precision(estimate_strongest_tpr(parts, fpr, confidence), prior)


def _estimate_precision(tpr: Estimate, prior: float) -> Estimate:
    """Precision of an adversary who accuses exactly the estimate's rate of the non-members.

    From the limits of its TPR.
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
    """The estimate under the name `estimate_strongest`.

    With what the attack that reached it asked.
    """
    best, name = pick_strongest(intervals, [part.scored.attack for part in parts])
    leader = next(part for part in parts if part.scored.attack == name)
    found = leader.estimate(metric, best, confidence, **conditions)
    return replace(found, attack=STRONGEST, method=best.method, reached_by=name)
