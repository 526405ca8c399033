"""Find what an audit or a sweep of defences lets a guard serve.

That is the least restrictive outputs whose measured leakage meets every limit.

Who sees more also has the attacks of who sees less, so a level's upper limit is the largest of its
own and of all levels that can be worked out from it. Along a chain of such levels the search costs
no confidence: to accept wrongly, the audit has to be wrong about the most restrictive level that
leaks too much, and its limits hold for all attacks there at once. Levels of which neither tells the
other, such as `top:3` and `round:2`, each have that chance of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from memberscope.auditing import NOBODY, STRONGEST, Claim, Plan, Result, parse_training_name
from memberscope.auditing.defend import Frontier, FrontierRow
from memberscope.auditing.documents import EpsilonClaim
from memberscope.auditing.verdict import (
    AttackCoverage,
    Place,
    Ranking,
    Tested,
    count_excess_records,
    count_good_references,
    examine_claims,
    measure_attack_coverage,
    restore_plan,
    restore_ranking,
    select_parts,
)
from memberscope.defences import BehindOutputs, parse_defence
from memberscope.outputs import (
    LABEL,
    NONE,
    build_restrictiveness_key,
    can_derive_answers,
    is_inverted,
    name_fitted_file,
    shorten_defence_name,
)
from memberscope.policygen.evidence_rules import select_evidence_rules
from memberscope.policygen.guard_evidence import (
    Candidate,
    GuardChoice,
    GuardEvidence,
    MeasuredBound,
    Outcome,
    Outputs,
    format_rate_percent,
)
from memberscope.reports import read_verified, read_verified_frontier
from memberscope.types import OUTPUT_TASKS


def read_evidence(path: Path, *, accept_limited: bool = False) -> GuardEvidence:
    """Read the evidence of an audit or of a sweep, once its scores bear it out.

    `path` is an audit's folder or result.json, or a sweep's folder or frontier.json. With
    `accept_limited` an audit without the reference models that its policy requires will do.

    Raises:
        InputError: There is none, it is broken, or it is not what the stored scores give.
    """
    # A sweep is told by its file alone, so that a folder of either kind may be given
    swept = path.name == "frontier.json" or (path / "frontier.json").is_file()
    file = path / ("frontier.json" if swept else "result.json") if path.is_dir() else path
    # Of a sweep's audits only the undefended one is read: a guard cannot change training
    if swept:
        frontier, audits = read_verified_frontier(file)
        return build_frontier_evidence(frontier, audits["none"], file)
    result, arrays = read_verified(file)
    return build_result_evidence(
        result.model_copy(update={"arrays": arrays}), file, accept_limited=accept_limited
    )


def choose_served_outputs(evidence: GuardEvidence) -> GuardChoice:
    """Choose the least restrictive outputs that meet every claim.

    >>> bound = MeasuredBound(0.01, 0.03, 0.01, 0.02, "gap")
    >>> found = GuardEvidence("result.json", "", "", "", 0.95, 3, 1, (Candidate("label", "probabilities", (bound,), "meets"),))
    >>> choose_served_outputs(found).sentence
    'label meets every limit: at most 2% of members at 1% false positives where 3% is allowed.'
    """
    # Nothing was concluded, which is neither a pass nor a failure: hence exit code 3
    if evidence.gaps:
        return GuardChoice(None, 3, evidence.gaps[0])
    good = next((entry for entry in evidence.candidates if entry.outcome == "meets"), None)
    if good is not None:
        bound = good.tightest()
        words = f"at most {bound.write(bound.high)} {bound.place} where {bound.write(bound.limit)} is allowed"
        return GuardChoice(good, 0, f"{good.restrict} meets every limit: {words}.")
    least = select_evidence_rules(evidence.task).least
    # Labels are the most restrictive outputs: what they do not meet, nothing does
    labels = (entry for entry in evidence.candidates if entry.restrict == LABEL)
    last = next(labels, evidence.candidates[-1])
    # Outputs that lack only attacks can still be decided by another audit, unless labels leak
    short = next((entry for entry in evidence.candidates if entry.is_short), None)
    if short is not None and last.outcome != "breaks":
        return GuardChoice(
            None,
            3,
            f"{short.restrict} was not measured with the full set of attacks: "
            f"{', '.join(short.lacking)} did not run. "
            f"Audit again without --attacks.",
        )
    bound = max(
        last.bounds,
        key=lambda entry: (
            entry.outcome == "breaks",
            entry.outcome == "undecided",
            entry.high / entry.limit,
        ),
    )
    between = (
        f"{bound.write(bound.low)} to {bound.write(bound.high)} {bound.place} by {bound.attack}"
    )
    between += "" if bound.able else ", with no attack that could have exceeded it"
    if last.outcome == "breaks":
        return GuardChoice(
            None,
            1,
            f"Even {least} alone exceed the limit of {bound.write(bound.limit)}: {between}. No "
            "restriction of outputs helps: train the model "
            f"otherwise (see `memberscope defend`), and audit it again.",
        )
    return GuardChoice(
        None,
        1,
        f"It is not shown that {least} alone keep the limit of {bound.write(bound.limit)}: "
        f"{between}. Audit with more records, or train the "
        f"model otherwise (see `memberscope defend`).",
    )


def build_result_evidence(
    result: Result, file: Path, *, accept_limited: bool = False
) -> GuardEvidence:
    """Collect the evidence in an audit with its arrays."""
    plan, told = restore_plan(result), result.diagnostics
    rules = select_evidence_rules(plan.task)
    n_classes = rules.n_outputs or len(told.class_sizes)
    # A search spends its own budget, so the guard must allow what the longest one asked
    asked = max(len(plan.views), rules.count_queries(result))
    asked = asked if plan.threat.query_budget is None else min(asked, plan.threat.query_budget)
    notes = []
    # Answers that vary tell more when asked again, which the audit's attackers did not do
    if "determinism" in result.controls and result.controls["determinism"].passed is False:
        asked = 1
        notes = [f"{result.controls['determinism'].why} So one answer a record is allowed."]
    endpoint = {} if told.endpoint is None else told.endpoint.model_dump(mode="json")
    levels = _collect_guard_levels(result, plan, endpoint)
    gaps = _list_result_gaps(result, plan, levels, accept_limited=accept_limited)
    found = [] if gaps else [build_candidate(name, outputs, levels) for name, outputs in levels]
    if not any(threat.references for threat in result.threat_models):
        notes.append(
            "No attack with reference models ran: these limits are against attacks without them."
        )
    # The widest access describes the adversary: each level contains the ones before it
    granted = max(result.threat_models, key=lambda threat: threat.access)
    words = (
        f"access {plan.threat.access.word}, {told.n_members} members and {told.n_non_members} "
        f"non-members, {granted.references} reference models, {asked} queries a record at most"
    )
    return GuardEvidence(
        file.name,
        hashlib.sha256(file.read_bytes()).hexdigest(),
        result.title,
        words,
        plan.confidence,
        n_classes,
        asked,
        _sort_candidates(found, n_classes),
        tuple(gaps),
        tuple(notes),
        endpoint,
        task=plan.task,
    )


@dataclass(frozen=True)
class Measurement:
    """What is known of one level.

    `bounds` has a bound for each claim of the policy, and is empty where nothing ran there;
    `covered` says what attacked it.
    """

    bounds: tuple[MeasuredBound, ...]
    covered: AttackCoverage = field(default_factory=AttackCoverage)


Levels = dict[tuple[str, Outputs], Measurement]


def _collect_guard_levels(result: Result, plan: Plan, endpoint: Mapping[str, Any]) -> Levels:
    """Collect what was measured at each level that a guard could serve.

    A guard passes logits on or answers with probabilities; what an endpoint answers unrestricted it
    cannot change.
    """
    rules = select_evidence_rules(plan.task)
    serves = rules.find_served_outputs(result, endpoint)
    found: Levels = {}
    ranking = restore_ranking(result, result.arrays)
    for threat in result.threat_models:
        # Noise that was undone counts at the level with the noise, and is not served
        if is_inverted(threat.restriction):
            continue
        place = (threat.access.word, threat.restriction)
        named = rules.name_level(threat, serves, endpoint)
        if named is None:
            continue
        found[named] = Measurement(
            _collect_measured_bounds(result, plan, ranking, place),
            measure_attack_coverage(result, result.arrays, place),
        )
    return found


def _collect_measured_bounds(
    result: Result, plan: Plan, ranking: Ranking, place: Place
) -> tuple[MeasuredBound, ...]:
    """Bound each claim of the policy, for each value of its group; empty where nothing ran."""
    parts = select_parts(ranking, place)
    if not parts or plan.policy is None:
        return ()
    # Records on both sides beyond chance are taken in the worst case by every claim
    excess = count_excess_records(result.controls)
    tested = examine_claims(
        plan.policy, result.arrays, parts, result.estimates, plan.confidence, excess
    )
    return tuple(_build_measured_bound(entry) for entry in tested)


def _build_measured_bound(tested: Tested) -> MeasuredBound:
    """Make the bound of one claim, from 0 to 1 where nothing could be tested."""
    claim, estimate = tested.question.claim, tested.estimate
    is_rate = isinstance(claim, Claim) and tested.question.group is None
    fpr, words = getattr(claim, "fpr", None), "" if is_rate else tested.question.sentence()
    if estimate is None:
        return MeasuredBound(
            fpr, tested.limit, 0.0, 1.0, tested.why_not or "nothing", words, able=False
        )
    # No measurement shows an epsilon to be kept, whatever attack was able
    able = tested.able and not isinstance(claim, EpsilonClaim)
    high = max(tested.high, tested.worst_high)
    return MeasuredBound(
        fpr,
        tested.limit,
        estimate.low,
        high,
        estimate.reaching_attack,
        words,
        able,
    )


def _list_result_gaps(
    result: Result, plan: Plan, levels: Levels, *, accept_limited: bool = False
) -> list[str]:
    """Say why nothing can be concluded from an audit, in sentences; empty if something can."""
    if plan.policy is None:
        return [
            "The audit was judged by no policy, so there is no limit to keep. Audit again with a "
            "[policy]."
        ]
    found = [
        f"{finding.claim} This did not hold or was not checked: {finding.rule.rstrip('.')}. "
        f"{finding.advice}"
        for finding in result.findings
        if finding.attack != STRONGEST and finding.verdict != "PASS"
    ]
    # Duplicates on both sides hide leakage, so a pass would mean nothing
    overlap = result.controls.get("overlap")
    if overlap is not None and overlap.passed is False:
        found.append(
            f"Records stand on both sides, which makes every attack look weaker: {overlap.why} "
            "Audit with --drop-overlap."
        )
    labels = next((level for (name, _), level in levels.items() if name == LABEL), Measurement(()))
    found += select_evidence_rules(plan.task).list_gaps(result, bool(labels.bounds))
    if plan.policy.max_epsilon:
        found.append(
            "The policy limits epsilon, which no measurement can show to be kept. Prove it by "
            "accounting, or leave it out."
        )
    # Reference models whose control failed do not count towards what the policy requires
    used = count_good_references(result.controls)
    if plan.policy.references > used and not accept_limited:
        found.append(
            f"The policy requires {plan.policy.references} reference models and the audit used "
            f"{used}. Audit with --recipe and "
            f"--references {plan.policy.references}, or add --accept-limited."
        )
    # Numbers have no labels beneath them to fall back on
    real = plan.task in OUTPUT_TASKS
    measured = any(level.bounds for level in levels.values()) if real else bool(labels.bounds)
    if not measured and not found:
        found.append(
            f"{'The answers' if real else 'Labels alone'} were not measured: no attack ran there. "
            "Audit again without --attacks."
        )
    return found


def build_candidate(name: str, outputs: Outputs, levels: Levels) -> Candidate:
    """Make a candidate of a level, with the largest limits of all levels derived from it.

    It is undecided where a claim could not be tested, or an attack of the full set did not run.
    """
    own = levels[name, outputs]
    if not own.bounds:
        return Candidate(name, outputs, (), "undecided", own.covered.ran, own.covered.lacking)
    # Unrestricted logits bear the same name but are above probabilities, not below
    above = {(NONE, "logits")} if outputs == "probabilities" else set()
    # Who sees this level can work out each of these, and so run their attacks too
    weaker = [
        level.bounds
        for at, level in levels.items()
        if can_derive_answers(name, at[0]) and at not in above and level.bounds
    ]
    bounds = []
    for mine, seen in zip(own.bounds, zip(*weaker, strict=True), strict=True):
        top = max(seen, key=lambda entry: entry.high)
        bounds.append(
            replace(mine, low=max(entry.low for entry in seen), high=top.high, attack=top.attack)
        )
    outcome = _find_worst_outcome(
        [bound.outcome for bound in bounds] + (["undecided"] if own.covered.lacking else [])
    )
    return Candidate(name, outputs, tuple(bounds), outcome, own.covered.ran, own.covered.lacking)


def _find_worst_outcome(outcomes: list[Outcome]) -> Outcome:
    """Find the worst outcome: `breaks` before `undecided` before `meets`."""
    order: tuple[Outcome, ...] = ("breaks", "undecided", "meets")
    return min(outcomes, key=order.index)


def _sort_candidates(found: list[Candidate], n_classes: int) -> tuple[Candidate, ...]:
    """Sort the least restrictive first, and logits before probabilities."""
    return tuple(
        sorted(
            found,
            key=lambda entry: (build_restrictiveness_key(entry.restrict, n_classes), entry.outputs),
        )
    )


def build_frontier_evidence(frontier: Frontier, bare: Result, file: Path) -> GuardEvidence:
    """Collect the evidence in a sweep: its rows that change outputs alone.

    `bare` is the sweep's audit of undefended training.

    Whether a row meets the policy holds for all claims and all choices at once, as the sweep judged
    it.
    """
    claims = _read_rate_limits(frontier)
    access, n_classes = frontier.plan.threat.access, len(bare.diagnostics.class_sizes)
    asked = max([1, *(entry.budget for entry in bare.diagnostics.searches.values())])
    served = [
        row
        for row in frontier.rows
        if row.why_not is None and row.average is not None and not _has_training_change(row.name)
    ]
    gaps = _list_frontier_gaps(frontier, bare, served)
    outputs: Outputs = "logits" if access == "logits" else "probabilities"
    found = _sort_candidates(
        [] if gaps else [_build_row_candidate(row, served, outputs, claims) for row in served],
        n_classes,
    )
    chosen = next((entry.restrict for entry in found if entry.outcome == "meets"), None)
    notes = [
        f"{row.name} meets the policy, too, but changes training, which a guard cannot: train the "
        "served model so, and audit that."
        for row in frontier.rows
        if row.meets == "meets" and _has_training_change(row.name)
    ]
    fitted = next(
        (_find_fitted_file(row) for row in served if shorten_defence_name(row.name) == chosen), None
    )
    if fitted is not None:
        notes.append(
            "What is fitted belongs to the sweep's own model: fit it to the served one with "
            "`memberscope guard fit --force`."
        )
    return GuardEvidence(
        file.name,
        hashlib.sha256(file.read_bytes()).hexdigest(),
        frontier.title,
        f"access {access}, a sweep of {len(frontier.rows)} choices with "
        f"{frontier.plan.references} reference models each, "
        f"{asked} queries a record at most",
        frontier.plan.confidence,
        n_classes,
        asked,
        found,
        tuple(gaps),
        tuple(notes),
        fitted=fitted,
        task=frontier.plan.task,
    )


def _find_fitted_file(row: FrontierRow) -> str | None:
    """Name the file that a sweep left of a row's fitted parts, if it has any."""
    name = parse_training_name(row.name)
    return None if name == NONE else name_fitted_file(name)


def _has_training_change(name: str) -> bool:
    """Tell whether a choice changes training, which a guard cannot.

    >>> _has_training_change("l2:0.01+top:3"), _has_training_change("memguard:1"), _has_training_change("top:3")
    (True, False, False)
    """
    return any(
        not isinstance(part, BehindOutputs) for part in parse_defence(name, NOBODY, NOBODY).training
    )


def _build_row_candidate(
    row: FrontierRow, rows: list[FrontierRow], outputs: Outputs, claims: Mapping[float, float]
) -> Candidate:
    """Make a candidate of a row.

    It meets the policy if it and every row that can be worked out from it do.
    """
    name = shorten_defence_name(row.name)
    weaker = [other for other in rows if can_derive_answers(name, shorten_defence_name(other.name))]
    seen = [other.average for other in weaker if other.average is not None]
    top = max(seen, key=lambda entry: entry.high)
    fpr = top.fpr or 0.0
    attack = top.reaching_attack
    bound = MeasuredBound(fpr, claims[fpr], max(entry.low for entry in seen), top.high, attack)
    # The sweep judged its rows already, for all claims and choices at once
    outcome = _find_worst_outcome([other.meets for other in weaker])  # type: ignore[misc]
    return Candidate(name, outputs, (bound,), outcome, tuple(row.attacks), tuple(row.lacking))


def _read_rate_limits(frontier: Frontier) -> dict[float, float]:
    """Read the limit of the TPR on all records at each rate of a sweep's policy."""
    claims = () if frontier.policy is None else frontier.policy.max_tpr
    return {claim.fpr: claim.tpr for claim in claims if claim.group is None}


def _list_frontier_gaps(frontier: Frontier, bare: Result, served: list[FrontierRow]) -> list[str]:
    """Say why nothing can be concluded from a sweep, in sentences; empty if something can."""
    if frontier.policy is None or not frontier.policy.max_tpr:
        return [
            "The sweep was judged by no policy, so there is no limit to keep. Run it again with a "
            "[policy]."
        ]
    found = []
    for name in ("null", "blind", "references"):
        passed = frontier.rows[0].controls.get(name, True)
        # An open control may be overruled by the plan's own assumption; a failed one never is
        if passed is False or (passed is None and not frontier.plan.assume_exchangeable):
            found.append(
                f"The {name} control of the sweep did not pass, so its numbers decide nothing. See "
                "its audits."
            )
    if frontier.fpr not in _read_rate_limits(frontier):
        found.append(
            f"The policy says nothing of {format_rate_percent(frontier.fpr)} false positives, the "
            "least that was told. Give more records."
        )
    # Numbers have no labels beneath them to fall back on
    if frontier.plan.task in OUTPUT_TASKS:
        return found
    if not bare.diagnostics.searches:
        found.append(
            "Labels alone were not searched. Run the sweep with the attack boundary and "
            "--search-queries 64."
        )
    if not any(shorten_defence_name(row.name) == LABEL for row in served):
        found.append(
            "Labels alone are not among the choices that were judged. Add label to --defences."
        )
    return found
