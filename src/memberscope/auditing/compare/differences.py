"""Measure the difference between two audits.

It is taken from the scores of both, or from their stored estimates alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import ndtri

from memberscope.auditing.documents.result import AttackScores, AuditArrays, Result
from memberscope.auditing.estimates.attack_part import AttackPart, build_whole_part
from memberscope.auditing.estimates.by_unit import build_unit_arrays
from memberscope.auditing.estimates.ranking import LevelRanking, rank_levels
from memberscope.auditing.estimates.strongest import STRONGEST, pick_strongest
from memberscope.auditing.estimates.training_variance import (
    BetweenTrainings,
    TargetNumbers,
    measure_trainings,
)
from memberscope.statistics import (
    AucEstimate,
    Interval,
    Roc,
    auc_change,
    can_resolve_fpr,
    correlate_estimates,
    difference_by_mover,
    estimate_auc,
    roc,
    shared_resamples,
    simultaneous_confidence,
    tpr_at_fpr,
)
from memberscope.types import Estimate, Floats, Ints

Limits = Callable[[float], Interval]
REPLICATES = 200
Subjects = Literal["records", "units"]
STORED = "; no scores at hand, limits at other confidences scaled as a normal's"
ACCURACIES = ("train_accuracy", "test_accuracy", "generalisation_gap")


@dataclass(frozen=True, eq=False)
class Measure:
    """One number of both audits at any confidence, and its change.

    `reached_by` names the attacks where it is the strongest's.

    `trainings` is the variance between trainings that the change allows for; without it, it is that
    of two models. `of` says whether records are found, or units.
    """

    attack: str | None
    access: str | None
    restriction: str | None
    metric: str
    fpr: float | None
    before: Limits
    after: Limits
    change: Limits
    reached_by: tuple[str, str] | None = None
    trainings: BetweenTrainings | None = None
    of: Subjects = "records"


@dataclass(frozen=True, eq=False)
class Scores:
    """One audit's attacks with their curves, and what resampling found of them.

    `drawn` holds AUC (b,) and TPR (b, f) over the resamples shared with the other audit. `areas`
    are the AUCs with their variances, `targets` the numbers of the further target models.
    """

    arrays: AuditArrays
    parts: dict[str, AttackPart]
    curves: dict[str, tuple[Roc, Roc | None]]
    areas: dict[str, AucEstimate]
    targets: TargetNumbers
    drawn: dict[str, tuple[Floats, Floats]]

    @classmethod
    def of(cls, arrays: AuditArrays) -> Scores:
        """Build the scores of all attacks in `arrays`."""
        parts = {entry.name: build_whole_part(entry, arrays) for entry in arrays.scored}
        curves = {name: _build_curves(part, arrays.unit) for name, part in parts.items()}
        areas = {
            name: estimate_auc(part.scores, part.member, arrays.unit)
            for name, part in parts.items()
        }
        return cls(arrays, parts, curves, areas, TargetNumbers.of(arrays), {})


def _build_curves(part: AttackPart, unit: Ints | None) -> tuple[Roc, Roc | None]:
    """Build the curve of one attack on all records, both curves with `unit` (n,).

    The second is the one for lower limits, if it is another.
    """
    # Learned attacks have scores of several folds, for which lower limits take the strict ones
    strict = None if part.strict is None else roc(part.strict, part.member, unit)
    return roc(part.scores, part.member, unit), strict


def _resample_together(
    before: Scores, after: Scores, fprs: tuple[float, ...]
) -> tuple[Scores, Scores]:
    """Draw the estimates of resamples that all attacks of both audits share."""
    # All in one call, so that each resample takes the same records for every attack
    parts = [*before.parts.values(), *after.parts.values()]
    # A fixed seed: the same two results compare alike every time
    rng = np.random.default_rng(0)
    scores, unit = [part.scores for part in parts], _find_shared_unit(before, after)
    auc, tpr = shared_resamples(scores, before.arrays.member, fprs, REPLICATES, rng, unit=unit)
    found = [(auc[:, k], tpr[:, k]) for k in range(len(parts))]
    n = len(before.parts)
    return (
        replace(before, drawn=dict(zip(before.parts, found[:n], strict=True))),
        replace(after, drawn=dict(zip(after.parts, found[n:], strict=True))),
    )


def _find_shared_unit(before: Scores, after: Scores) -> Ints | None:
    """Find the units (n,) of records that are the same in both audits; None without any."""
    return before.arrays.unit if after.arrays.unit is None else after.arrays.unit


def compare_scores(
    before: AuditArrays, after: AuditArrays, fprs: tuple[float, ...], *, together: bool
) -> Iterator[Measure]:
    """Compare each attack, and the strongest of them at each level that both have.

    Both arrays hold the same attacks, and `together` says that the records are the same in both.
    """
    first, second = Scores.of(before), Scores.of(after)
    # Only equal records can be drawn together
    if together:
        first, second = _resample_together(first, second, fprs)
    levels = {level.at.level: level for level in rank_levels(after)}
    for level in rank_levels(before):
        if other := levels.get(level.at.level):
            names = _name_candidates(level), _name_candidates(other)
            yield from _compare_attack(first, second, (STRONGEST, level.at), names, fprs)
    for entry in before.scored:
        if entry.name in second.parts:
            yield from _compare_attack(
                first, second, (entry.attack, entry), ((entry.name,), (entry.name,)), fprs
            )


def compare_unit_scores(
    before: AuditArrays, after: AuditArrays, fprs: tuple[float, ...], *, together: bool
) -> Iterator[Measure]:
    """Compare the attacks on units, with one score each; nothing where a unit is a record.

    `together` says that the records are the same in both.
    """
    first, second = build_unit_arrays(before), build_unit_arrays(after)
    if first is None or second is None:
        return
    # Other units of the same records are other people
    same = together and np.array_equal(np.asarray(before.unit), np.asarray(after.unit))
    n = min(int((~one.member).sum()) for one in (first, second))
    rates = tuple(fpr for fpr in fprs if can_resolve_fpr(fpr, n))
    for measure in compare_scores(first, second, rates, together=same):
        yield replace(measure, of="units")


def _name_candidates(level: LevelRanking) -> tuple[str, ...]:
    return tuple(entry.name for entry in level.candidates)


Names = tuple[tuple[str, ...], tuple[str, ...]]


def _compare_attack(
    before: Scores,
    after: Scores,
    what: tuple[str, AttackScores],
    names: Names,
    fprs: tuple[float, ...],
) -> Iterator[Measure]:
    """Compare AUC and TPR at each rate of one attack, or of the strongest of several.

    `names` are those of the candidates.
    """
    attack, at = what
    for metric, fpr in [("auc", None), *(("tpr", fpr) for fpr in fprs)]:
        usable = _select_resolved_candidates(before, after, names, fpr)
        # No candidate resolves this rate in both audits
        if not all(usable):
            continue
        sides = [
            _build_limits(scores, chosen, fpr)
            for scores, chosen in zip((before, after), usable, strict=True)
        ]
        reached = tuple(
            _name_leading_attack(scores, chosen, fpr)
            for scores, chosen in zip((before, after), usable, strict=True)
        )
        change = _estimate_change(
            before, after, usable, None if fpr is None else fprs.index(fpr), sides
        )
        # Further targets show how much training again changes, which two models alone do not
        trainings = measure_trainings(
            before.targets.largest(usable[0], fpr), after.targets.largest(usable[1], fpr)
        )
        yield Measure(
            attack,
            at.access,
            at.restriction,
            metric,
            fpr,
            sides[0],
            sides[1],
            _widen_for_trainings(change, trainings),
            (reached[0], reached[1]) if attack == STRONGEST else None,
            trainings,
        )


def _widen_for_trainings(change: Limits, trainings: BetweenTrainings | None) -> Limits:
    """Widen the change to allow for the variance between trainings, where it is known."""
    if trainings is None:
        return change
    return lambda confidence: trainings.widen(change(confidence), confidence)


def _select_resolved_candidates(
    before: Scores, after: Scores, names: Names, fpr: float | None
) -> Names:
    """Select the candidates at `fpr`: those of attacks that resolve it in both audits."""
    # An AUC needs no rate, so every attack has one
    if fpr is None:
        return names
    short = {
        part.scored.attack
        for scores in (before, after)
        for part in scores.parts.values()
        if not part.resolves(fpr)
    }
    one, two = (
        tuple(name for name in chosen if scores.parts[name].scored.attack not in short)
        for scores, chosen in zip((before, after), names, strict=True)
    )
    return one, two


def _build_limits(scores: Scores, names: Sequence[str], fpr: float | None) -> Limits:
    """Limit the largest AUC or TPR over the candidates, for all of them at once."""

    def limits(confidence: float) -> Interval:
        each = simultaneous_confidence(confidence, len(names))
        return pick_strongest(
            [_estimate_one_attack(scores, name, fpr, each) for name in names], list(names)
        )[0]

    return limits


def _estimate_one_attack(
    scores: Scores, name: str, fpr: float | None, confidence: float
) -> Interval:
    """Estimate AUC, or TPR at `fpr`, of one attack."""
    if fpr is None:
        return scores.areas[name].limits(confidence)
    curve, strict = scores.curves[name]
    return tpr_at_fpr(curve, fpr, confidence, strict=strict)


def _name_leading_attack(scores: Scores, names: Sequence[str], fpr: float | None) -> str:
    """Name the attack that reaches the largest value."""
    # Only the value is read, so any confidence will do
    values = [_estimate_one_attack(scores, name, fpr, 0.5).value for name in names]
    return scores.parts[names[int(np.argmax(values))]].scored.attack


def _estimate_change(
    before: Scores, after: Scores, names: Names, at: int | None, sides: list[Limits]
) -> Limits:
    """Estimate the change at any confidence; paired where audits were resampled together.

    `at` is the rate's position, None for AUC.
    """
    # Other records: the two are independent
    if not after.drawn:
        return lambda confidence: _add_candidate_counts(
            difference_by_mover(sides[0](confidence), sides[1](confidence)), names
        )
    # Two single AUCs have a closed form, which is sharper than resampling
    if at is None and len(names[0]) == len(names[1]) == 1:
        one, two = before.parts[names[0][0]].scores, after.parts[names[1][0]].scores
        unit = _find_shared_unit(before, after)
        return lambda confidence: auc_change(one, two, after.arrays.member, confidence, unit)
    # The strongest is chosen anew in each resample, as it was in the data
    both = [
        np.max(
            [
                scores.drawn[name][0] if at is None else scores.drawn[name][1][:, at]
                for name in chosen
            ],
            axis=0,
        )
        for scores, chosen in zip((before, after), names, strict=True)
    ]
    # How the two vary together is all that resampling adds to the limits of each side
    r = correlate_estimates(both[0], both[1])
    return lambda confidence: _add_candidate_counts(
        difference_by_mover(sides[0](confidence), sides[1](confidence), r), names
    )


def _add_candidate_counts(interval: Interval, names: Names) -> Interval:
    """Add the number of candidates to the interval's method, if there are several."""
    counts = [len(chosen) for chosen in names]
    if max(counts) == 1:
        return interval
    return interval._replace(
        method=f"{interval.method}; simultaneous over {counts[0]} and {counts[1]} candidates"
    )


def compare_estimates(
    before: Result, after: Result, shared: set[str], *, strongest: bool, of: Subjects = "records"
) -> Iterator[Measure]:
    """Compare the numbers that both results hold of the `shared` attacks.

    The strongest attack is among them only if it is over the same ones.
    """
    wanted = shared | ({STRONGEST} if strongest else set())
    second = {
        _identify_measure(entry): entry for entry in select_headline_estimates(after, wanted, of)
    }
    for entry in select_headline_estimates(before, wanted, of):
        if _identify_measure(entry) in second:
            other = second[_identify_measure(entry)]
            # The two audits may have been told at different confidences
            one, two = (
                _rescale_limits(Interval(e.value, e.low, e.high, ""), e.confidence)
                for e in (entry, other)
            )
            reached = (
                (entry.reaching_attack, other.reaching_attack)
                if entry.attack == STRONGEST
                else None
            )
            at = (entry.attack, entry.access, entry.restriction)
            trainings = measure_trainings(
                _list_target_values(before, entry), _list_target_values(after, entry)
            )
            change = _widen_for_trainings(_subtract_independent(one, two, STORED), trainings)
            yield Measure(*at, entry.metric, entry.fpr, one, two, change, reached, trainings, of)


def _list_target_values(result: Result, wanted: Estimate) -> list[float]:
    """List the number `wanted` of each further target model of a result."""
    return [
        entry.value
        for entry in result.estimates
        if entry.target != "target"
        and entry.group is None
        and entry.of == wanted.of
        and entry.threshold == wanted.threshold
        and _identify_measure(entry) == _identify_measure(wanted)
    ]


def _subtract_independent(before: Limits, after: Limits, words: str = "") -> Limits:
    """Subtract two numbers taken as independent."""

    def change(confidence: float) -> Interval:
        found = difference_by_mover(before(confidence), after(confidence))
        return found._replace(method=found.method + words)

    return change


def select_headline_estimates(
    result: Result, attacks: set[str], of: Subjects = "records"
) -> Iterator[Estimate]:
    """Select AUC and TPR at the best threshold, of the audited model and all records or units."""
    for entry in result.estimates if of == "records" else result.by_unit:
        wanted = entry.attack in attacks and entry.of == of
        everywhere = wanted and entry.target == "target" and entry.group is None
        if everywhere and (
            entry.metric == "auc" or (entry.metric == "tpr" and entry.threshold == "best")
        ):
            yield entry


def _identify_measure(entry: Estimate) -> tuple[Any, ...]:
    """Give what makes two estimates of two audits the same number."""
    return entry.attack, entry.access, entry.restriction, entry.metric, entry.fpr


def _rescale_limits(stored: Interval, told: float) -> Limits:
    """Rescale the limits of a number stored at the confidence `told` to any other.

    They are scaled as a normal's.

    >>> limits = _rescale_limits(Interval(0.5, 0.4, 0.6, ""), 0.95)
    >>> limits(0.95).low, round(limits(0.99).low, 3)
    (0.4, 0.369)
    """

    def limits(confidence: float) -> Interval:
        # What was stored is given back as it is, without rounding
        if confidence == told:
            return stored
        scale = float(ndtri((1 + confidence) / 2) / ndtri((1 + told) / 2))
        # Each side by itself, so that skew limits stay skew
        down, up = scale * (stored.value - stored.low), scale * (stored.high - stored.value)
        return stored._replace(low=stored.value - down, high=stored.value + up)

    return limits


def compare_accuracies(before: Result, after: Result) -> Iterator[Measure]:
    """Compare accuracies on members and non-members and the gap between them.

    Each only where both results hold it.
    """
    for name in ACCURACIES:
        sides = [
            _rescale_limits(
                Interval(entry.value, entry.low, entry.high, ""),
                result.plan.confidence,
            )
            for result in (before, after)
            if (entry := getattr(result.diagnostics, name)) is not None
        ]
        if len(sides) == 2:
            yield Measure(
                None,
                None,
                None,
                name,
                None,
                sides[0],
                sides[1],
                _subtract_independent(sides[0], sides[1]),
            )
