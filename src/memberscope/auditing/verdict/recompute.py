"""Recompute, verify, or judge a result by another policy from its stored arrays.

No model is asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from memberscope._digests import digest_array
from memberscope._parallel import map_in_parallel
from memberscope._version import get_tool_version
from memberscope.auditing.documents.access_levels import format_level
from memberscope.auditing.documents.plan import EstimateSettings, Plan
from memberscope.auditing.documents.policy import Policy
from memberscope.auditing.documents.result import AttackScores, AuditArrays, Result
from memberscope.auditing.estimates.attack_part import AttackPart, build_whole_part
from memberscope.auditing.estimates.by_unit import (
    build_unit_arrays,
    estimate_ignoring_units,
    estimate_unit_headlines,
    word_unit_estimate,
)
from memberscope.auditing.estimates.estimates import (
    estimate_attack,
    estimate_group,
    estimate_main_numbers,
)
from memberscope.auditing.estimates.ranking import (
    LevelRanking,
    Ranking,
    build_ranking,
    rank_levels,
)
from memberscope.auditing.estimates.strongest import (
    STRONGEST,
    estimate_strongest,
    estimate_strongest_by_group,
    list_lower_confidences,
)
from memberscope.auditing.scoring.score_targets import summarise_spread
from memberscope.auditing.verdict.judge import Judgement, judge_audit
from memberscope.types import Estimate


def recompute_estimates(
    arrays: AuditArrays,
    ranking: Ranking,
    settings: EstimateSettings,
    progress: Callable[[int, int], None] | None = None,
) -> list[Estimate]:
    """Recompute the estimates that follow from the stored arrays and their ranking alone."""
    # One attack a level has thresholds for all groups, and the whole list is made on demand
    chosen = {level.leading.name for level in ranking.levels if level.at.declared}
    if settings.all_estimates:
        chosen = {entry.name for entry in arrays.scored}
    # The order is that of the audit, since documents are compared entry by entry
    found = _estimate_level_by_level(
        ranking.levels,
        settings,
        lambda part: estimate_attack(part, arrays, settings, by_group=part.scored.name in chosen),
        progress,
    )
    found.extend(estimate_strongest_by_group(ranking.levels, arrays, settings))
    # Further targets tell only how numbers vary between trainings
    for name, other in arrays.targets.items():
        found.extend(
            replace(entry, target=name) for entry in _estimate_target_headlines(other, settings)
        )
    return found


def _estimate_target_headlines(arrays: AuditArrays, settings: EstimateSettings) -> list[Estimate]:
    """Estimate the headlines of one further target model, the strongest attack first.

    AUC, TPR and FPR at each rate and the balanced point.
    """
    return [
        entry
        for entry in _estimate_level_by_level(
            rank_levels(arrays), settings, lambda part: _estimate_headlines(part, settings)
        )
        if entry.attack != STRONGEST or entry.metric in ("auc", "tpr")
    ]


def _estimate_headlines(part: AttackPart, settings: EstimateSettings) -> list[Estimate]:
    """Estimate one attack's headlines.

    At a level tried beside the declared one there are no transferred thresholds.
    """
    if part.scored.declared:
        return estimate_group(part, settings)
    return estimate_main_numbers(part, settings)


def _estimate_level_by_level(
    levels: Sequence[LevelRanking],
    settings: EstimateSettings,
    estimate: Callable[[AttackPart], list[Estimate]],
    progress: Callable[[int, int], None] | None = None,
) -> list[Estimate]:
    """Estimate the strongest attack of each level, then apply `estimate` to every attack.

    Everything that one ranking is asked for is computed while its curve is at hand.
    """
    if not levels:
        return []
    wanted: dict[str, list[tuple[float, float]]] = {}
    for level in levels:
        for entry, fpr, confidence in list_lower_confidences(level, settings):
            wanted.setdefault(entry.name, []).append((fpr, confidence))
    # Attacks with the same numbers are one piece of work, so that no two threads compute them
    alike: dict[int, list[AttackScores]] = {}
    for entry in levels[0].arrays.scored:
        alike.setdefault(id(levels[0].rankings[entry.name].numbers), []).append(entry)

    def estimate_alike(entries: list[AttackScores]) -> dict[str, list[Estimate]]:
        found = {}
        for entry in entries:
            part = levels[0].build_part(entry)
            for fpr, confidence in wanted.get(entry.name, ()):
                part.measure_tpr(fpr, settings.confidence, confidence)
            found[entry.name] = estimate(part)
        return found

    by_name: dict[str, list[Estimate]] = {}
    for answers in map_in_parallel(estimate_alike, list(alike.values()), progress):
        by_name |= answers
    found = [entry for level in levels for entry in estimate_strongest(level, settings)]
    return found + [each for entry in levels[0].arrays.scored for each in by_name[entry.name]]


def estimate_by_budget(arrays: AuditArrays, settings: EstimateSettings) -> list[Estimate]:
    """Estimate AUC and TPR at each rate of each label-only search by its number of queries.

    They are what it would have reached, had it stopped at fewer `queries` a record.
    """
    found: list[Estimate] = []
    # Only searches keep the scores of their stages
    for entry in arrays.scored:
        if entry.budgets is None or entry.stages is None:
            continue
        for queries, scores in zip(entry.budgets.tolist(), entry.stages, strict=True):
            part = replace(
                build_whole_part(entry, arrays),
                scores=scores,
                scored=replace(entry, queries=queries),
            )
            found += [
                estimate
                for estimate in estimate_main_numbers(part, settings)
                if estimate.metric in ("auc", "tpr")
            ]
    return found


def estimate_by_unit(
    arrays: AuditArrays, ranking: Ranking, settings: EstimateSettings
) -> list[Estimate]:
    """Estimate AUC and TPR of units: was this person in?

    Each unit has one score. The leading attacks on records stand beside, with the limits that
    ignore units. Empty where no unit has several records.
    """
    units = build_unit_arrays(arrays)
    if units is None:
        return []
    found = _estimate_level_by_level(
        rank_levels(units), settings, lambda part: estimate_unit_headlines(part, settings)
    )
    return [word_unit_estimate(entry, units) for entry in found] + estimate_ignoring_units(
        ranking.levels, settings
    )


def digest_audit_arrays(arrays: AuditArrays) -> str:
    """Compute the SHA-256 of everything that estimates depend on.

    Membership, folds, groups, scores, thresholds and posteriors.
    """
    hasher = hashlib.sha256()
    parts: list[tuple[str, Any]] = [
        ("member", arrays.member),
        ("labels", arrays.labels),
        ("fold", arrays.fold),
    ]
    parts += [
        (f"group {name} {arrays.group_values[name]}", codes)
        for name, codes in sorted(arrays.groups.items())
    ]
    # What is optional is hashed only if there, so that results without it keep their digests
    parts += [] if arrays.vulnerability is None else [("vulnerability", arrays.vulnerability)]
    parts += [] if arrays.overlap is None else [("overlap", arrays.overlap)]
    parts += [] if arrays.unit is None else [("unit", arrays.unit)]
    for entry in arrays.scored:
        name = entry.name
        parts.append((f"{name} {entry.learned} {entry.declared} {entry.queries}", entry.scores))
        parts += (
            []
            if entry.budgets is None
            else [(f"{name} budgets", entry.budgets), (f"{name} stages", entry.stages)]
        )
        parts += [(f"{name} posterior", arrays.posterior[name])] if name in arrays.posterior else []
        parts += [(f"{name} {point}", cuts) for point, cuts in entry.thresholds.items()]
    # Names are hashed with the arrays, so that two of them cannot be exchanged
    for name, array in parts:
        hasher.update(f"{name}:{digest_array(array)}".encode())
    for name, other in arrays.targets.items():
        hasher.update(f"{name}:{digest_audit_arrays(other)}".encode())
    return hasher.hexdigest()


def digest_account(result: Result) -> str:
    """Compute the SHA-256 of what a verdict rests on besides the scores.

    Controls, what did not run, threat models and diagnostics.
    """
    parts = result.model_dump(
        mode="json", include={"controls", "not_run", "threat_models", "diagnostics"}
    )
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def restore_plan(result: Result) -> Plan:
    """Restore the plan as it stands in a result."""
    return Plan.restore(result.plan)


def restore_settings(result: Result) -> EstimateSettings:
    """Restore rates, priors and confidence of a result."""
    plan = restore_plan(result)
    return EstimateSettings(
        plan.resolvable_fprs(result.diagnostics.n_non_members),
        plan.all_priors(),
        plan.confidence,
        plan.all_estimates,
        plan.claim_fprs(),
    )


def restore_ranking(result: Result, arrays: AuditArrays) -> Ranking:
    """Rank the attacks of stored arrays as the audit of `result` ranked them."""
    return build_ranking(arrays, restore_plan(result).threat.access)


def verify_arrays(result: Result, arrays: AuditArrays, ranking: Ranking | None = None) -> list[str]:
    """List what does not agree between a result and its arrays, in sentences.

    Empty if everything does. `ranking` is that of `arrays`, which is built where it is not given.
    """
    found = []
    ranking = ranking or restore_ranking(result, arrays)
    # Digests first: they find any change, though not which number it makes wrong
    if result.digests.get("arrays") != digest_audit_arrays(arrays):
        found.append("arrays.safetensors is not the one that this result was computed from")
    if result.digests.get("account") != digest_account(result):
        found.append("the controls, diagnostics or reasons are not those that the audit wrote")
    # An attack that was dropped would leave no trace but its absence
    accounted = {entry.attack for entry in arrays.scored} | {
        name for entry in result.not_run for name in entry.attack.split(", ")
    }
    absent = [name for name in restore_plan(result).attacks if name not in accounted]
    own = {entry.name: entry for entry in result.plan.custom or ()}
    if any(entry.own != own.get(entry.attack) for entry in arrays.scored):
        found.append("what an attack of one's own needs is not what the plan says")
    if absent:
        found.append(
            f"attacks of the plan are neither scored nor listed as not run: {', '.join(absent)}"
        )
    # Bounds on epsilon are computed from draws that the arrays do not hold
    stored = {
        _identify_estimate(entry): entry
        for entry in result.estimates
        if entry.metric != "epsilon_lower"
    }
    again = {
        _identify_estimate(entry): entry
        for entry in recompute_estimates(arrays, ranking, restore_settings(result))
    }
    if set(stored) != set(again):
        found.append(f"{len(set(stored) ^ set(again))} estimates are on one side only")
    # Exact equality: the same arrays and settings give the same numbers
    changed = [
        key
        for key in stored
        if key in again and _get_estimate_numbers(stored[key]) != _get_estimate_numbers(again[key])
    ]
    found += (
        [f"{len(changed)} estimates differ, first {' '.join(map(str, changed[0]))}"]
        if changed
        else []
    )
    found += _check_search_queries(result, arrays)
    if result.budgets != estimate_by_budget(arrays, restore_settings(result)):
        found.append("leakage by query budget does not follow from the stored scores")
    # Results of earlier versions have no numbers by unit
    if "by_unit" in result.model_fields_set and result.by_unit != estimate_by_unit(
        arrays, ranking, restore_settings(result)
    ):
        found.append("the numbers by unit do not follow from the stored scores")
    plan = restore_plan(result)
    if result.digests.get("plan") != plan.digest():
        found.append("the plan is not the one that this result was made by")
    seen = {(threat.access.word, threat.restriction) for threat in result.threat_models}
    if not {(entry.access, entry.restriction) for entry in arrays.scored} <= seen:
        found.append("the threat models are not the levels that were attacked")
    between = result.diagnostics.targets
    if between and between.rows != summarise_spread(
        result.estimates, plan.claim_fprs() or restore_settings(result).fprs
    ):
        found.append("mean and spread between targets do not follow from their estimates")
    return found


def _check_search_queries(result: Result, arrays: AuditArrays) -> list[str]:
    """Find where the queries of a search, or the total, are not what the stored scores took.

    In sentences.
    """
    told = result.diagnostics.searches
    most = {entry.attack: entry.queries for entry in arrays.scored if entry.stages is not None}
    found = [
        f"the queries of the search {name} are not those of its scores"
        for name in most
        if name not in told or told[name].most != most[name]
    ]
    # Every other attack shares one answer a record
    least = len(arrays.member) if any(entry.queries for entry in arrays.scored) else 0
    total = sum(entry.mean for entry in told.values()) * len(arrays.member) + least
    return found + (
        [f"{result.cost.queries} queries are fewer than were asked"]
        # A mean times a count is a whole number only up to rounding
        if result.cost.queries < total - 0.5
        else []
    )


def _identify_estimate(entry: Estimate) -> tuple[Any, ...]:
    """Give what makes an estimate the one it is."""
    level = format_level(entry.access, entry.restriction)
    return (
        entry.target,
        entry.attack,
        level,
        entry.metric,
        entry.group,
        entry.fpr,
        entry.prior,
        entry.threshold,
    )


def _get_estimate_numbers(entry: Estimate) -> tuple[Any, ...]:
    """Give what an estimate says."""
    counts = (entry.n_members, entry.n_non_members, entry.queries)
    said = (entry.confidence, entry.method, entry.reached_by)
    return (entry.value, entry.low, entry.high, *said, *counts)


def verify_verdict(result: Result, judgement: Judgement) -> list[str]:
    """Find where a result's verdict and findings are not those of `judgement`, in sentences.

    Advice is not compared, and in a result of another version no sentence but the claims: their
    words change, and what they say is in the numbers.
    """
    if judgement.verdict != result.verdict:
        return [f"the stored scores give the verdict {judgement.verdict}, not {result.verdict}"]
    words = result.tool.version == get_tool_version()
    stored, found = (
        (
            entry.reason if words else "",
            entry.limited,
            [
                replace(finding, advice="", rule=finding.rule if words else "")
                for finding in entry.findings
            ],
        )
        for entry in (result, judgement)
    )
    return [] if stored == found else ["the stored scores give other findings"]


def judge_again(
    result: Result,
    arrays: AuditArrays,
    policy: Policy | None,
    ranking: Ranking | None = None,
) -> Judgement:
    """Judge stored scores by `policy`, or by the plan's own if None.

    `ranking` is that of `arrays`, which is built where it is not given.

    Raises:
        InputError: The records do not resolve a rate of the policy, or no attack was scored.
    """
    plan = restore_plan(result)
    plan = replace(plan, policy=policy or plan.policy)
    # Raises before anything is judged at a rate that the records cannot resolve
    plan.resolvable_fprs(result.diagnostics.n_non_members)
    # The blind control was judged at the audit's rates, and says nothing of others
    controls = dict(result.controls)
    blind = controls.get("blind")
    if policy is not None and blind is not None and blind.passed:
        tried = {entry["fpr"] for entry in blind.details.get("tpr", ())}
        untried = [fpr for fpr in plan.claim_fprs() if fpr not in tried]
        if untried:
            why = f"The blind control was not judged at {100 * untried[0]:.3g}% false positives. Audit again with this policy."
            controls["blind"] = replace(blind, passed=None, why=why)
    ranking = ranking or build_ranking(arrays, plan.threat.access)
    return judge_audit(
        plan,
        arrays,
        ranking,
        result.estimates,
        controls,
        result.not_run,
        model=result.diagnostics.model,
    )
