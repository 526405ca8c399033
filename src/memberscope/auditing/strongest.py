"""The strongest of several attacks at each access level, with intervals that hold for all candidates at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from memberscope.auditing.estimate import Part, Settings, level, whole
from memberscope.auditing.result import Arrays, Scored
from memberscope.statistics import (
    Interval,
    auc_interval,
    distinct_rankings,
    ppv,
    resolution_warning,
    simultaneous_confidence,
    tpr_at_fpr,
)
from memberscope.types import Access, Estimate

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
    found = [strongest_auc(parts, at, settings)]
    curves = [part.curves() for part in parts]
    for fpr in settings.fprs:
        usable = [index for index, part in enumerate(parts) if part.resolves(fpr)]
        if not usable:
            continue
        names = [parts[index].scored.attack for index in usable]
        confidence = simultaneous_confidence(settings.confidence, len(usable))
        intervals = [tpr_at_fpr(curves[index][0], fpr, confidence, strict=curves[index][1]) for index in usable]
        shared = parts[usable[0]]
        warning = resolution_warning(fpr, int((~shared.member).sum()))
        best, name = strongest_of(intervals, names)
        spent = next(part.scored.queries for part in parts if part.scored.attack == name)
        base = shared.estimate("tpr", best, settings.confidence, fpr=fpr, threshold="best", warning=warning)
        found.append(named(base, at, best.method, spent))
        for prior in settings.priors:
            base = shared.estimate(
                "ppv", implied(best, fpr, prior), settings.confidence, fpr=fpr, prior=prior, threshold="best", warning=warning
            )
            found.append(named(base, at, f"precision at exactly this FPR, from the TPR: {best.method}", spent))
    return found


def implied(tpr: Interval, fpr: float, prior: float) -> Interval:
    """Precision of an adversary who accuses exactly `fpr` of the non-members, from the limits of the TPR."""
    value, low, high = (ppv(rate, fpr, prior) for rate in tpr[:3])
    return Interval(value, low, high, tpr.method)


def strongest_auc(parts: list[Part], at: Scored, settings: Settings) -> Estimate:
    """The largest AUC over the candidates."""
    confidence = simultaneous_confidence(settings.confidence, len(parts))
    intervals = [auc_interval(part.scores, part.member, confidence) for part in parts]
    best, name = strongest_of(intervals, [part.scored.attack for part in parts])
    spent = next(part.scored.queries for part in parts if part.scored.attack == name)
    return named(parts[0].estimate("auc", best, settings.confidence), at, best.method, spent)


def named(estimate: Estimate, at: Scored, method: str, queries: int) -> Estimate:
    """The estimate under the name `strongest`, at the adversary's level, with what the attack that reached it asked."""
    return replace(estimate, attack=STRONGEST, access=at.access, restriction=at.restriction, method=method, queries=queries)
