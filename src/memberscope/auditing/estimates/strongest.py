"""Estimate the strongest of several attacks at each access level.

Its intervals hold for all candidates at once.
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
from memberscope.outputs import INVERTED, is_inverted
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
    """Find an entry of the level that a verdict speaks of.

    It is the declared one, or the highest that the model offers below it.
    """
    # Answers whose noise was undone are a way to attack the level with the noise
    served = [entry for entry in arrays.scored if not is_inverted(entry.restriction)]
    usable = [
        entry for entry in served if entry.declared and parse_access(entry.access) <= declared
    ]
    # Where nothing was declared, the highest level is all there is to speak of
    return max(usable or served, key=lambda entry: parse_access(entry.access))


def list_candidate_parts(arrays: AuditArrays, at: AttackScores) -> list[AttackPart]:
    """List attacks that an adversary at the level of `at` could use.

    Each at its highest level, those with identical rankings once.

    Under a restriction that is tried beside the declared one these are the attacks made there and
    those on labels.
    """
    finest: dict[tuple[str, bool], AttackScores] = {}
    for scored in arrays.scored:
        # Answers with noise, and the same answers without, are two ways to attack
        way = scored.attack, _is_undone_noise(scored, at)
        before = finest.get(way)
        # More access never hurts an attack, so its finest version stands for it
        if is_derivable(scored, at) and (
            before is None or parse_access(scored.access) > parse_access(before.access)
        ):
            finest[way] = scored
    parts = [build_whole_part(scored, arrays) for scored in finest.values()]
    # Equal rankings would be paid for twice in the correction, for nothing
    return [parts[index] for index in find_distinct_rankings([part.scores for part in parts])]


def is_derivable(scored: AttackScores, at: AttackScores) -> bool:
    """Tell whether what is seen at the level of `scored` follows from what is seen at `at`."""
    if scored.level == at.level or _is_undone_noise(scored, at):
        return True
    # A restriction that is tried hides something, so only labels follow from it
    weaker = parse_access(scored.access) < parse_access(at.access)
    return (
        weaker and (at.declared or parse_access(scored.access) == Access.LABEL) and scored.declared
    )


def _is_undone_noise(scored: AttackScores, at: AttackScores) -> bool:
    """Tell whether the level of `scored` is that of `at` with its noise undone."""
    return scored.level == f"{at.level}+{INVERTED}"


def list_scored_levels(arrays: AuditArrays) -> list[AttackScores]:
    """List one entry of each level, in the order of the scores."""
    # Reversed twice: the first entry of a level wins and the order stays
    return list({entry.level: entry for entry in reversed(arrays.scored)}.values())[::-1]


def pick_strongest(intervals: list[Interval], names: list[str]) -> tuple[Interval, str]:
    """Pick the largest value, with the largest limits, and the candidate that reached it."""
    best = int(np.argmax([interval.value for interval in intervals]))
    # The true largest lies above every lower limit and below the largest upper one
    low = max(interval.low for interval in intervals)
    high = max(interval.high for interval in intervals)
    method = f"{intervals[best].method}; simultaneous over {len(intervals)} candidates; reached by {names[best]}"
    return Interval(intervals[best].value, low, high, method), names[best]


def estimate_strongest(
    arrays: AuditArrays, at: AttackScores, settings: EstimateSettings
) -> list[Estimate]:
    """Estimate AUC, TPR and precision of the strongest attack at the level of `at`.

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
    # An attack from below may have won, but the estimate speaks of this level
    return [replace(entry, access=at.access, restriction=at.restriction) for entry in found]


def estimate_strongest_auc(parts: list[AttackPart], confidence: float) -> Estimate:
    """Estimate the largest AUC over the candidates.

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
    """Estimate the largest TPR at `fpr` over the candidates, all of which resolve it.

    Limits are as for the AUC.
    """
    corrected = simultaneous_confidence(confidence, len(parts))
    intervals = []
    for part in parts:
        curve, strict = part.curves()
        intervals.append(
            tpr_at_fpr(curve, fpr, confidence, strict=strict, low_confidence=corrected)
        )
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
