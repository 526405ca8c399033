"""Compare audits: does this release leak more than the last?

Two or more audits stand side by side, with a verdict on the last of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isclose
from typing import get_args

from memberscope._version import Tool, get_tool_version
from memberscope.auditing.compare.added_records import measure_added_records
from memberscope.auditing.compare.comparability import (
    collect_attack_versions,
    describe_verdict_level,
    find_shared_attacks,
    get_verdict_threat_model,
    has_same_records,
    list_audit_differences,
    list_obstacles,
)
from memberscope.auditing.compare.differences import (
    Measure,
    Subjects,
    compare_accuracies,
    compare_estimates,
    compare_scores,
    compare_unit_scores,
    select_headline_estimates,
)
from memberscope.auditing.documents.comparison import (
    Baseline,
    Change,
    Compared,
    Comparison,
    Release,
    Scope,
    TrendPoint,
    ValueWithLimits,
)
from memberscope.auditing.documents.result import AttackScores, AuditArrays, Result
from memberscope.auditing.estimates.ranking import drop_reference_attacks
from memberscope.auditing.estimates.strongest import STRONGEST
from memberscope.auditing.verdict.recompute import digest_audit_arrays, restore_plan
from memberscope.errors import InputError
from memberscope.statistics import Interval, can_resolve_fpr, difference_p_value, holm

# Rates of the claim where no policy names any: the first that allows ten false positives in both
USUAL = (
    0.001,
    0.01,
)
INDEPENDENT = "intervals are wider, as if the two had nothing in common"


def compare(
    results: Sequence[Result],
    *,
    names: Sequence[str] | None = None,
    margin: float = 0.0,
    baseline: Baseline = "previous",
) -> Comparison:
    """Compare the last of `results`, in order of release, with the one before it or the first.

    Results with `arrays` are compared score by score: over the attacks that both ran, with paired
    intervals where the records are the same. The last leaks more if a claim's lower limit,
    corrected by Holm, exceeds `margin`. Claims: the strongest attack's AUC, and its TPR at the
    policy's rates, or else at 0.1% or 1% false positives.

    Raises:
        InputError: There are fewer than two results, one is there twice, or scores are not those of
            their result.

    >>> import numpy as np
    >>> from memberscope.auditing import audit_signals
    >>> from memberscope.targets import StoredSignals
    >>> def _summarise_release(shift):
    ...     rng = np.random.default_rng(0)
    ...     member, labels = np.arange(600) < 300, rng.integers(0, 2, 600)
    ...     outputs = np.eye(2)[labels] * (rng.normal(size=600) + shift * member)[:, None]
    ...     return audit_signals(StoredSignals("logits", outputs, labels, member, np.arange(600).astype(str), {}, None, str(shift)))
    >>> compare([_summarise_release(0.0), _summarise_release(2.0)]).verdict
    'LEAKS_MORE'
    """
    if not 0 <= margin < 1:
        raise InputError(
            f"Expected a margin of at least 0 and below 1, got {margin}. Give it as a rate, such "
            "as 0.02."
        )
    if len(results) < 2:
        raise InputError(
            f"Expected at least two audits to compare, got {len(results)}. Give the earlier ones "
            "first."
        )
    # Titles may repeat, so releases are told by their place where no names are given
    called = list(names) if names else [f"release {i + 1}" for i in range(len(results))]
    _refuse_repeated_results(results, called)
    place = 0 if baseline == "first" else len(results) - 2
    before, after = audits = results[place], results[-1]
    confidence = after.plan.confidence
    hindrances = list_obstacles(before, after)
    measures, notes = _measure_changes(before, after)
    # Only claims are tested, and corrected for each other; obstacles leave the numbers shown
    claims = [] if hindrances else _select_claims(measures, before, after)
    corrected = [
        float(p) for p in holm([difference_p_value(measure.change, margin) for measure in claims])
    ]
    compared = [
        _evaluate_measure(
            measure, audits, corrected[claims.index(measure)] if measure in claims else None
        )
        for measure in measures
    ]
    verdict, reason = _conclude_comparison(
        compared, hindrances, (called[place], called[-1]), margin, confidence
    )
    scope, words = _decide_scope(claims)
    return Comparison(
        tool=Tool(version=get_tool_version()),
        verdict=verdict,
        reason=f"{reason} {words}".rstrip(),
        scope=scope,
        margin=margin,
        baseline=baseline,
        confidence=confidence,
        before=called[place],
        after=called[-1],
        releases=[
            _summarise_release(result, name) for result, name in zip(results, called, strict=True)
        ],
        obstacles=hindrances,
        notes=list_audit_differences(before, after) + notes + _list_trend_notes(results),
        compared=compared,
        trend=_collect_trend(results, called, claims),
        added=[] if hindrances else measure_added_records(before, after),
    )


def _refuse_repeated_results(results: Sequence[Result], names: list[str]) -> None:
    """Refuse the same audit twice, and scores that belong to another one.

    Raises:
        InputError: There is one.
    """
    seen: dict[str, str] = {}
    for result, name in zip(results, names, strict=True):
        text = result.model_dump_json()
        if text in seen:
            raise InputError(
                f"Expected different audits, got the same result twice: {seen[text]} and {name}. "
                "Give each once."
            )
        seen[text] = name
        if result.arrays is not None and digest_audit_arrays(result.arrays) != result.digests.get(
            "arrays"
        ):
            raise InputError(
                f"Expected the scores that {name} was computed from, got others. Run that audit "
                "again."
            )


def _measure_changes(before: Result, after: Result) -> tuple[list[Measure], list[str]]:
    """Measure every number that both audits have, with notes on how it could be compared."""
    # A change must be the model's, so attacks that only one audit ran are left out
    shared = find_shared_attacks(before, after)
    # Reference models that failed in one audit would make a difference of their own
    untrusted = any(_has_failed_references(result) for result in (before, after))
    notes = (
        ["Reference models failed their control: attacks that use them are not compared."]
        if untrusted
        else []
    )
    # Without scores only the stored estimates are left
    first, second = before.arrays, after.arrays
    if first is None or second is None:
        notes.append(
            f"The scores of {'both audits' if first is second else 'one audit'} are missing "
            f"(arrays.safetensors): {INDEPENDENT}."
        )
        # The stored strongest is over all attacks of its audit, so they must be the same in both
        even = (
            not untrusted
            and set(collect_attack_versions(before))
            == set(collect_attack_versions(after))
            == shared
        )
        if not even:
            notes.append(
                "The strongest attack is not compared: that takes the scores, as the audits did not run "
                "the same attacks."
            )
        found = [
            measure
            for of in get_args(Subjects)
            for measure in compare_estimates(before, after, shared, strongest=even, of=of)
        ]
    else:
        # Equal records allow paired intervals, which are narrower
        together = has_same_records(before, after, first, second)
        if not together:
            notes.append(f"The records, or which of them were members, differ: {INDEPENDENT}.")
        sides = [
            _limit_to_shared_attacks(arrays, shared, untrusted=untrusted)
            for arrays in (first, second)
        ]
        # A level that one audit lacks would leave its attacks without a partner
        sides = [
            replace(mine, scored=_select_common_levels(mine, other))
            for mine, other in (sides, sides[::-1])
        ]
        rates = _find_common_rates(before, after)
        found = (
            [
                *compare_scores(sides[0], sides[1], rates, together=together),
                *compare_unit_scores(sides[0], sides[1], rates, together=together),
            ]
            if sides[0].scored
            else []
        )
    # Accuracies are stored in the result, so they need no scores
    return found + list(compare_accuracies(before, after)), notes


def _has_failed_references(result: Result) -> bool:
    """Tell whether the reference models of a result failed their control."""
    control = result.controls.get("references")
    return control is not None and control.passed is False


def _limit_to_shared_attacks(
    arrays: AuditArrays, shared: set[str], *, untrusted: bool
) -> AuditArrays:
    """Keep the `shared` attacks only.

    Those that use reference models go where these are `untrusted`.
    """
    kept = replace(arrays, scored=tuple(entry for entry in arrays.scored if entry.attack in shared))
    return drop_reference_attacks(kept) if untrusted else kept


def _select_common_levels(mine: AuditArrays, other: AuditArrays) -> tuple[AttackScores, ...]:
    """Select the attacks at levels that the other audit has too."""
    names = {entry.name for entry in other.scored}
    return tuple(entry for entry in mine.scored if entry.name in names)


def _find_common_rates(before: Result, after: Result) -> tuple[float, ...]:
    """Find the false-positive rates of the later audit that both resolve, from large to small."""
    # The smaller audit decides what both resolve
    n = min(result.diagnostics.n_non_members for result in (before, after))
    rates = restore_plan(after).resolvable_fprs(after.diagnostics.n_non_members)
    return tuple(fpr for fpr in rates if can_resolve_fpr(fpr, n))


def _select_claims(measures: list[Measure], before: Result, after: Result) -> list[Measure]:
    """Select what the verdict rests on: the strongest attack at the level that both declare."""
    at = get_verdict_threat_model(after)
    found = [
        entry
        for entry in measures
        if (entry.attack, entry.access, entry.restriction, entry.of)
        == (STRONGEST, at.access.word, at.restriction, "records")
    ]
    # The later policy decides, since the question is about the last release
    rates = set(restore_plan(after).claim_fprs()) or _pick_usual_rates(found, before, after)
    return [entry for entry in found if entry.metric == "auc" or entry.fpr in rates]


def _pick_usual_rates(found: list[Measure], before: Result, after: Result) -> set[float]:
    """Pick the smallest of the usual rates that allows ten false positives in both audits.

    Where none does, it is the largest that they resolve.
    """
    n = min(result.diagnostics.n_non_members for result in (before, after))
    rates = sorted(entry.fpr for entry in found if entry.fpr in USUAL and entry.fpr)
    # The slack keeps 0.001 of 10000 from missing ten by rounding
    ample = [fpr for fpr in rates if fpr * n >= 10 - 1e-9]
    return set(ample[:1] or rates[-1:])


def _evaluate_measure(
    measure: Measure, audits: tuple[Result, Result], p_value: float | None
) -> Compared:
    """Evaluate a measure of two audits at the confidence of the later one."""
    confidence = audits[1].plan.confidence
    change = measure.change(confidence)
    found = Compared(
        measure.attack,
        measure.access,
        measure.restriction,
        measure.metric,
        measure.fpr,
        _drop_interval_method(measure.before(confidence)),
        _drop_interval_method(measure.after(confidence)),
        _drop_interval_method(change),
        change.method,
        measure.reached_by,
        p_value is not None,
        p_value,
        measure.of,
    )
    return _show_own_intervals(found, *audits)


def _show_own_intervals(entry: Compared, before: Result, after: Result) -> Compared:
    """Show each audit's own interval of a number that it holds, as its report does.

    The difference keeps its interval, whose limits on each side may be wider. A number over the
    attacks that both ran is another one than the audit's, where the audit's strongest is not among
    them.
    """
    confidence = after.plan.confidence
    return replace(
        entry,
        before=_find_own_interval(entry, entry.before, before, confidence),
        after=_find_own_interval(entry, entry.after, after, confidence),
    )


def _find_own_interval(
    entry: Compared, shown: ValueWithLimits, result: Result, confidence: float
) -> ValueWithLimits:
    """Find the interval of an audit's own estimate of `shown`; `shown` where it has none."""
    own_numbers = (
        () if entry.attack is None else select_headline_estimates(result, {entry.attack}, entry.of)
    )
    for own in own_numbers:
        place = (own.access, own.restriction, own.metric, own.fpr)
        if place != (entry.access, entry.restriction, entry.metric, entry.fpr):
            continue
        # Rounding alone may tell a value from the one that was stored
        if own.confidence == confidence and isclose(own.value, shown.value, abs_tol=1e-9):
            return ValueWithLimits(own.value, own.low, own.high)
    return shown


def _drop_interval_method(interval: Interval) -> ValueWithLimits:
    """Give an interval without its method."""
    return ValueWithLimits(float(interval.value), float(interval.low), float(interval.high))


def _conclude_comparison(
    compared: list[Compared],
    hindrances: list[str],
    names: tuple[str, str],
    margin: float,
    confidence: float,
) -> tuple[Change, str]:
    """Conclude the verdict and its reason in a sentence."""
    claims = [entry for entry in compared if entry.claim]
    if hindrances:
        return "INCONCLUSIVE", f"Not compared: {hindrances[0]}"
    if not claims:
        return (
            "INCONCLUSIVE",
            "Not compared: at the declared access the two audits have no number of the strongest "
            "attack in common.",
        )
    # Only a rise is tested, so each claim gets one tail of the interval
    alpha = (1 - confidence) / 2
    risen = [entry for entry in claims if entry.p_value is not None and entry.p_value < alpha]
    beyond = f" by more than the margin of {margin:g}" if margin else ""
    if risen:
        # The surest rise is named, and of equally sure ones the largest
        worst = min(risen, key=lambda entry: (entry.p_value, -entry.difference.value))
        return (
            "LEAKS_MORE",
            f"{names[1]} leaks more than {names[0]}{beyond}: {_describe_claim_change(worst)}.",
        )
    # With every upper limit at zero or below, no rise is left to be excluded
    if all(entry.difference.high <= 0 for entry in claims):
        fallen = "; ".join(_describe_claim_change(entry) for entry in claims)
        return "NOT_MORE", f"{names[1]} leaks less than {names[0]}: {fallen}."
    # A rise that was not shown is not excluded, so the upper limits are told
    still = "; ".join(
        f"by up to {_format_change(entry, max(entry.difference.high, 0))} in "
        f"{_describe_claim_subject(entry)}"
        for entry in claims
    )
    return (
        "NOT_MORE",
        f"{names[1]} is not shown to leak more than {names[0]}{beyond}. An increase cannot be excluded: "
        f"{still}.",
    )


def _decide_scope(claims: Sequence[Measure]) -> tuple[Scope, str]:
    """Decide what the claims compare, models or training procedures, and say so.

    The words are empty without claims.
    """
    if not claims:
        return "models", ""
    # One claim without the variance between trainings is enough to speak of two models only
    if any(claim.trainings is None for claim in claims):
        return (
            "models",
            "Two models are compared, not two training procedures: training either again may "
            "change as much.",
        )
    one, two = (
        max(claim.trainings.n_targets[k] for claim in claims if claim.trainings) for k in (0, 1)
    )
    return (
        "trainings",
        f"The limits allow for training again: {one} further target models before and {two} after "
        "show how much.",
    )


def _describe_claim_change(entry: Compared) -> str:
    """Describe a claim's numbers: before, after, and the difference with its limits."""
    if entry.metric == "auc":
        ends = f"{entry.before.value:.3f} to {entry.after.value:.3f}"
    else:
        ends = f"{100 * entry.before.value:.3g}% to {100 * entry.after.value:.3g}%"
    gain, low, high = (
        _format_change(entry, value)
        for value in (entry.difference.value, entry.difference.low, entry.difference.high)
    )
    moved = "rose" if entry.difference.value > 0 else "fell"
    return f"{_describe_claim_subject(entry)} {moved} from {ends}, by {gain} ({low} to {high})"


def _format_change(entry: Compared, value: float) -> str:
    """Write a difference as it is told: of rates in percentage points, of an AUC as it is."""
    return f"{value:.3f}" if entry.metric == "auc" else f"{100 * value:.3g} points"


def _describe_claim_subject(entry: Compared) -> str:
    """Describe what a claim speaks of."""
    if entry.metric == "auc":
        return "the AUC of the strongest attack"
    return f"the members found at {100 * (entry.fpr or 0):.3g}% false positives"


def _summarise_release(result: Result, name: str) -> Release:
    """Summarise one audit in a line."""
    return Release(
        name,
        result.title,
        result.tool.version,
        result.verdict,
        result.diagnostics.n_members,
        result.diagnostics.n_non_members,
        result.arrays is not None,
    )


def _collect_trend(
    results: Sequence[Result], names: list[str], claims: list[Measure]
) -> list[TrendPoint]:
    """Collect AUC and claimed rates of the strongest attack in each release.

    They are those at the last one's level, as each audit told them.
    """
    at = get_verdict_threat_model(results[-1])
    # None stands for the AUC, which every release has
    wanted = {entry.fpr for entry in claims if entry.fpr} | {None}
    return [
        TrendPoint(
            name,
            "auc" if entry.fpr is None else "tpr",
            entry.fpr,
            entry.value,
            entry.low,
            entry.high,
            entry.reaching_attack,
        )
        for result, name in zip(results, names, strict=True)
        for entry in select_headline_estimates(result, {STRONGEST})
        if (entry.access, entry.restriction) == (at.access.word, at.restriction)
        and entry.fpr in wanted
    ]


def _list_trend_notes(results: Sequence[Result]) -> list[str]:
    """List what the trend over more than two releases mixes."""
    # Of two releases the notes on the comparison say the same
    if len(results) < 3:
        return []
    found = []
    if len({tuple(sorted(collect_attack_versions(result).items())) for result in results}) > 1:
        found.append(
            "The trend shows each release under the attacks that its own audit ran, which differ."
        )
    if len({describe_verdict_level(result) for result in results}) > 1:
        found.append(
            "The trend leaves out releases that were not audited at "
            f"{describe_verdict_level(results[-1])}."
        )
    return found
