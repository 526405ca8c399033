"""The strongest of several attacks at each access level, with intervals that hold for all candidates at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from memberscope.auditing.documents.plan import Settings
from memberscope.auditing.documents.result import Arrays, Scored
from memberscope.auditing.estimates.estimates import Part, level, ppv_of_tpr, whole
from memberscope.statistics import (
    Interval,
    auc_interval,
    distinct_rankings,
    resolution_warning,
    simultaneous_confidence,
    tpr_at_fpr,
)
from memberscope.types import Access, Estimate, Metric

STRONGEST = "strongest"


def judged_level(arrays: Arrays, declared: Access) -> Scored:
    """An entry of the level that a verdict speaks of: the declared one, or the highest that the model offers below it."""
    usable = [entry for entry in arrays.scored if entry.declared and level(entry.access) <= declared]
    return max(usable or arrays.scored, key=lambda entry: level(entry.access))


def candidates(arrays: Arrays, at: Scored) -> list[Part]:
    """Attacks that an adversary at the level of `at` could use: each at its highest level, those with identical rankings once.

    Under a restriction that is tried beside the declared one these are the attacks made there and those on labels.
    """
    finest: dict[str, Scored] = {}
    for scored in arrays.scored:
        before = finest.get(scored.attack)
        if within(scored, at) and (before is None or level(scored.access) > level(before.access)):
            finest[scored.attack] = scored
    parts = [whole(scored, arrays) for scored in finest.values()]
    return [parts[index] for index in distinct_rankings([part.scores for part in parts])]


def within(scored: Scored, at: Scored) -> bool:
    """Whether what was seen at the level of `scored` can be worked out from what is seen at the level of `at`."""
    if scored.level == at.level:
        return True
    weaker = level(scored.access) < level(at.access)
    return weaker and (at.declared or level(scored.access) == Access.LABEL) and scored.declared


def levels_in(arrays: Arrays) -> list[Scored]:
    """One entry of each level, in the order of the scores."""
    return list({entry.level: entry for entry in reversed(arrays.scored)}.values())[::-1]


def strongest_of(intervals: list[Interval], names: list[str]) -> tuple[Interval, str]:
    """The largest value, with the largest lower and the largest upper limit, and the candidate that reached it."""
    best = int(np.argmax([interval.value for interval in intervals]))
    low = max(interval.low for interval in intervals)
    high = max(interval.high for interval in intervals)
    method = f"{intervals[best].method}; simultaneous over {len(intervals)} candidates; reached by {names[best]}"
    return Interval(intervals[best].value, low, high, method), names[best]


def strongest(arrays: Arrays, at: Scored, settings: Settings) -> list[Estimate]:
    """AUC, TPR at each rate and precision at each prior of the strongest attack at the level of `at`.

    Candidates that a rate does not resolve are left out at that rate.
    """
    parts = candidates(arrays, at)
    if not parts:
        return []
    found = [strongest_auc(parts, settings.confidence)]
    for fpr in settings.fprs:
        usable = [part for part in parts if part.resolves(fpr)]
        if not usable:
            continue
        tpr = strongest_tpr(usable, fpr, settings.confidence)
        found.append(tpr)
        found += [precision_of(tpr, prior) for prior in settings.priors]
    return [replace(entry, access=at.access, restriction=at.restriction) for entry in found]


def strongest_auc(parts: list[Part], confidence: float) -> Estimate:
    """The largest AUC over the candidates.

    The lower limit is corrected for their number. The upper limit is the largest of theirs, which needs no correction: the
    largest AUC exceeds it only where the one attack that has it exceeds its own limit.
    """
    corrected = simultaneous_confidence(confidence, len(parts))
    intervals = []
    for part in parts:
        plain = auc_interval(part.scores, part.member, confidence, part.unit)
        low = auc_interval(part.scores, part.member, corrected, part.unit).low if len(parts) > 1 else plain.low
        intervals.append(plain._replace(low=low))
    return _named(parts, intervals, confidence, "auc")


def strongest_tpr(parts: list[Part], fpr: float, confidence: float) -> Estimate:
    """The largest TPR at `fpr` over the candidates, all of which resolve it; limits as for the AUC."""
    corrected = simultaneous_confidence(confidence, len(parts))
    intervals = []
    for part in parts:
        curve, strict = part.curves()
        intervals.append(tpr_at_fpr(curve, fpr, confidence, strict=strict, low_confidence=corrected))
    n = min(part.n_compared() for part in parts)
    return _named(parts, intervals, confidence, "tpr", fpr=fpr, threshold="best", warning=resolution_warning(fpr, n))


def strongest_ppv(parts: list[Part], fpr: float, prior: float, confidence: float) -> Estimate:
    """Precision of the strongest attack at exactly `fpr`."""
    return precision_of(strongest_tpr(parts, fpr, confidence), prior)


def precision_of(tpr: Estimate, prior: float) -> Estimate:
    """Precision of an adversary who accuses exactly the estimate's rate of the non-members, from the limits of its TPR."""
    assert tpr.fpr is not None
    found = ppv_of_tpr(Interval(tpr.value, tpr.low, tpr.high, tpr.method), tpr.fpr, prior)
    return replace(tpr, metric="ppv", value=found.value, low=found.low, high=found.high, prior=prior, method=found.method)


def _named(parts: list[Part], intervals: list[Interval], confidence: float, metric: Metric, **conditions: Any) -> Estimate:
    """The estimate under the name `strongest`, with what the attack that reached it asked."""
    best, name = strongest_of(intervals, [part.scored.attack for part in parts])
    leader = next(part for part in parts if part.scored.attack == name)
    found = leader.estimate(metric, best, confidence, **conditions)
    return replace(found, attack=STRONGEST, method=best.method)
