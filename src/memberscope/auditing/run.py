"""Run the audit itself: gather, score, estimate, control, judge.

Each step is a function on frozen values.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from memberscope._digests import digest_array
from memberscope._parallel import run_beside
from memberscope._version import Tool, get_tool_version
from memberscope.auditing.collect.collect import (
    Collected,
    Progress,
    ask_first_answers,
    collect_audit_data,
)
from memberscope.auditing.collect.measured_signals import TRANSFERRED
from memberscope.auditing.collect.model_kind import describe_model
from memberscope.auditing.collect.reference_models import Training
from memberscope.auditing.collect.reference_rules import select_reference_rules
from memberscope.auditing.collect.stored_references import fit_plan_to_stored
from memberscope.auditing.controls.blind import run_blind_control
from memberscope.auditing.controls.direction import run_direction_control
from memberscope.auditing.controls.fitted import run_fitted_control, select_answers
from memberscope.auditing.controls.ngram_overlap import add_ngram_overlap
from memberscope.auditing.controls.overlap import mark_duplicates, run_overlap_control
from memberscope.auditing.controls.text_blind import run_text_blind_control
from memberscope.auditing.documents.plan import EstimateSettings, Plan, fit_plan_to_task
from memberscope.auditing.documents.result import AuditArrays, Control, Cost, Result
from memberscope.auditing.estimates.one_run_epsilon import estimate_one_run_epsilon
from memberscope.auditing.estimates.ranking import Ranking, build_ranking
from memberscope.auditing.estimates.record_vulnerability import collect_separations
from memberscope.auditing.forecast.settle_effort import keep_answers, settle_effort
from memberscope.auditing.provenance import collect_environment, digest_inputs
from memberscope.auditing.scoring.null_control import run_null_control, select_non_member_evidence
from memberscope.auditing.scoring.score import score_attacks
from memberscope.auditing.scoring.score_targets import score_targets
from memberscope.auditing.subject.subject import Subject, list_known_columns
from memberscope.auditing.subject.text_restriction import restrict_text_subject
from memberscope.auditing.summary import collect_diagnostics, list_exposed_records
from memberscope.auditing.verdict.judge import judge_audit, report_power
from memberscope.auditing.verdict.recompute import (
    digest_account,
    digest_audit_arrays,
    estimate_by_budget,
    estimate_by_unit,
    recompute_estimates,
)
from memberscope.auditing.verdict.repeated_audits import count_audit
from memberscope.facts import read_target_facts
from memberscope.signals import Observed, Store
from memberscope.types import Estimate, ThreatModel


def audit_subject(
    plan: Plan,
    subject: Subject,
    *,
    training: Training | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Result:
    """Audit `subject` as `plan` says.

    `store` keeps the models' answers so that a killed run goes on where it stopped. `training` says
    how to train reference models; without it the attacks that need them are listed as not run.

    Raises:
        InputError: The data do not allow what the plan asks for.
        TargetError: The model failed.
    """
    with keep_answers(store) as kept:
        return _audit_with_store(plan, subject, training, (store, kept), progress)


def _audit_with_store(
    plan: Plan,
    subject: Subject,
    training: Training | None,
    stores: tuple[Store | None, Store | None],
    progress: Progress | None,
) -> Result:
    """Audit with the user's store, and with the one that keeps answers during the audit."""
    started = time.perf_counter()
    report = progress or (lambda stage, done, total: None)
    plan = fit_plan_to_task(plan, read_target_facts(subject.target).task)
    plan, subject = fit_plan_to_stored(plan, subject)
    subject = restrict_text_subject(subject, plan.threat)
    # Refuses rates that cannot be resolved before anything is asked
    plan.resolvable_fprs(int((~subject.member).sum()))
    first = ask_first_answers(plan, subject, stores[0], report, training)
    settled = settle_effort(plan, first, stores[1], report)
    plan = settled.plan
    for note in settled.notes:
        report(f"note: {note}", 1, 1)
    got = collect_audit_data(plan, first, stores[1], report)
    # Once more, since duplicates may have been dropped
    fprs = plan.resolvable_fprs(int((~got.subject.member).sum()))
    settings = EstimateSettings(
        fprs, plan.all_priors(), plan.confidence, plan.all_estimates, plan.claim_fprs()
    )
    # Score, attack further targets, and mark what the estimates need
    arrays, not_run = score_attacks(plan, got, settings, report)
    targets, missing = score_targets(plan, got, settings, not_run, report)
    arrays, not_run = replace(arrays, targets=targets), not_run + missing
    ranking = build_ranking(arrays, plan.threat.access)
    marked = mark_duplicates(got.overlap, dropped=plan.drop_overlap)
    arrays = replace(arrays, vulnerability=collect_separations(plan, got, ranking), overlap=marked)
    # Estimate, control and judge; the first two need nothing of each other
    (estimates, by_unit), (controls, power) = run_beside(
        lambda: _estimate_all_attacks(plan, got, arrays, ranking, settings, report),
        lambda: (
            _run_controls(plan, got, arrays, ranking),
            report_power(plan, ranking, settings.fprs),
        ),
    )
    report("control", 1, 1)
    model = describe_model(got.subject.target)
    judgement = judge_audit(plan, arrays, ranking, estimates, controls, not_run, model=model)
    claimed = [finding.estimate for finding in judgement.findings if finding.estimate is not None]
    # Numbers that a claim rests on are no longer exploratory
    estimates = [
        next((c for c in claimed if replace(c, exploratory=True) == entry), entry)
        for entry in estimates
    ]
    result = Result(
        tool=Tool(version=get_tool_version()),
        verdict=judgement.verdict,  # type: ignore[arg-type]
        limited=judgement.limited,
        reason=judgement.reason,
        title=plan.title,
        plan=plan.document(None if got.references is None else got.references.fleet.choice),
        threat_models=[
            replace(
                _build_granted_threat(plan, got), access=level.access, restriction=level.restriction
            )
            for level in got.levels
        ],
        findings=judgement.findings,
        estimates=estimates,
        controls=controls,
        not_run=not_run,
        diagnostics=collect_diagnostics(
            plan, got, arrays, ranking, settings, estimates=estimates, power=power
        ),
        budgets=estimate_by_budget(arrays, settings),
        by_unit=by_unit,
        exposed=list_exposed_records(arrays, ranking),
        cost=_compute_audit_cost(
            got, time.perf_counter() - started, plan.count_references(), settled.training_seconds
        ),
        environment=collect_environment() | settled.longer | _count_repeats(plan, got, stores[0]),
        digests=digest_inputs(plan, got, training) | {"arrays": digest_audit_arrays(arrays)},
        arrays=arrays,
    )
    # The account covers the finished document, so its digest can only come last
    return result.model_copy(
        update={"digests": result.digests | {"account": digest_account(result)}}
    )


def _count_repeats(plan: Plan, got: Collected, store: Store | None) -> dict[str, str]:
    """Count the audits of this model with this plan in the store, this one included.

    Empty without a store.
    """
    if store is None:
        return {}
    # A model without a digest is told by its answers
    return count_audit(store, plan, got.subject.target.digest or digest_array(got.observed.outputs))


def _build_granted_threat(plan: Plan, got: Collected) -> ThreatModel:
    """Build the plan's threat model with what the audit really gave the adversary.

    Reference models that learned, and a population.
    """
    transfer = _count_transfer_models(got)
    trained = 0 if got.references is None else int(got.references.good.sum())
    seen = got.references is not None and got.references.target_population is not None
    return replace(plan.threat, references=trained + transfer, population=seen or transfer > 0)


def _count_transfer_models(got: Collected) -> int:
    """Count the models trained on the target's labels for the transfer attack."""
    return TRANSFERRED if any(spec.source == "student" for spec in got.measured.found) else 0


def _estimate_all_attacks(
    plan: Plan,
    got: Collected,
    arrays: AuditArrays,
    ranking: Ranking,
    settings: EstimateSettings,
    report: Progress,
) -> tuple[list[Estimate], list[Estimate]]:
    """Estimate everything: the strongest attack at each level first, then each attack.

    The second list is of units.
    """
    found = recompute_estimates(
        arrays, ranking, settings, lambda done, n: report("estimate", done, n)
    )
    # Only this thread reports, as the controls run in another one meanwhile
    report("control", 0, 1)
    found += estimate_one_run_epsilon(plan, arrays, np.random.default_rng(got.streams["guesses"]))
    return found, estimate_by_unit(arrays, ranking, settings)


def _run_controls(
    plan: Plan, got: Collected, arrays: AuditArrays, ranking: Ranking
) -> dict[str, Control]:
    """Run the controls that bear on the verdict, and those that inform.

    The determinism probe informs, and what came of undoing noise.
    """
    subject, unit = got.subject, arrays.unit
    outside = ~subject.member
    # Each attack at its highest declared level, as levels come weakest first
    highest = {job.attack: job.level for job in got.schedule.jobs if job.level.declared}
    null = run_null_control(
        tuple(attack for attack in plan.chosen() if attack in highest),
        lambda attack: select_non_member_evidence(
            got.evidence_for(attack, highest[attack]), subject.member
        ),
        subject.records.ids[outside],
        plan.folds,
        got.streams["null"],
        unit=None if unit is None else unit[outside],
    )
    blind = _check_blind_control(plan, got, arrays, ranking)
    predicted, probabilities = select_answers(got.evidence)
    hits = None if predicted is None else predicted == subject.records.y
    found: dict[str, Control] = {
        "null": null,
        "blind": blind,
        "overlap": _check_overlap_control(plan, got),
        "direction": run_direction_control(arrays, hits, blind),
    }
    # Only classes can be told from a constant answer
    if plan.task == "classification":
        found["fitted"] = run_fitted_control(
            predicted, probabilities, subject.records.y, subject.member, unit
        )
    found["determinism"] = _check_determinism(got.observed)
    if got.inversion is not None:
        found["inversion"] = got.inversion
    if got.references is not None:
        run_control = select_reference_rules(subject.target).run_control
        found["references"] = run_control(got.references, subject, plan.confidence)
    # Reference models that all failed are a control that failed, not one that is missing
    elif got.broken_recipe:
        details = {"models": plan.count_references(), "failed": plan.count_references()}
        found["references"] = Control(
            False, f"No reference model could be trained. {got.broken_recipe}", details=details
        )
    return found


def _check_overlap_control(plan: Plan, got: Collected) -> Control:
    """Run the overlap control, which of texts counts the members' phrases in others as well."""
    subject = got.subject
    control = run_overlap_control(got.overlap, subject.member, dropped=plan.drop_overlap)
    texts = subject.list_texts() if plan.task == "text" else None
    if texts is None:
        return control
    return add_ngram_overlap(control, texts, subject.member, subject.unit_codes)


def _check_blind_control(
    plan: Plan, got: Collected, arrays: AuditArrays, ranking: Ranking
) -> Control:
    """Run the blind control on the audit's records.

    Copies that stand beside a record of their own side are left out.
    """
    subject = got.subject
    alone = np.ones(len(subject.member), dtype=bool) if subject.copies is None else ~subject.copies
    leading, unit = ranking.leading, arrays.unit
    best = None if leading is None else arrays.comparable[leading.name]
    if plan.task == "text":
        texts = subject.list_texts()
        return run_text_blind_control(
            None if texts is None else [texts[row] for row in np.flatnonzero(alone)],
            subject.member[alone],
            None if best is None else best[alone],
            fprs=plan.claim_fprs(),
            unit=None if unit is None else unit[alone],
        )
    return run_blind_control(
        None if subject.features is None else list_known_columns(subject)[alone],
        subject.class_codes[alone],
        subject.member[alone],
        None if best is None else best[alone],
        fprs=plan.claim_fprs(),
        unit=None if unit is None else unit[alone],
    )


def _compute_audit_cost(
    got: Collected, seconds: float, n_references: int, training_seconds: float
) -> Cost:
    """Compute what was spent, with `n_references` models if none could be trained.

    Models and queries of an earlier, interrupted run of the same plan are counted too.
    """
    fleets = [entry for entry in (got.references, got.procedure) if entry is not None]
    trained, failed = (
        sum(len(entry.fleet) for entry in fleets),
        sum(entry.n_failed for entry in fleets),
    )
    # Models of a recipe that fails for all of them leave no fleet to count
    failed += n_references if got.broken_recipe else 0
    return Cost(
        round(seconds, 3),
        got.queries,
        trained + _count_transfer_models(got),
        failed,
        round(got.training_seconds + training_seconds, 3),
    )


def _check_determinism(observed: Observed) -> Control:
    """Check whether asking the same records twice gave the same answers."""
    if observed.deterministic is None:
        return Control(
            None, "Nothing was asked twice, since the budget is one query for each record."
        )
    if observed.deterministic:
        return Control(True, "Asked twice, the model answered the same.", observed.largest_change)
    why = (
        f"Asked twice, the model answered differently (by up to {observed.largest_change:.3g}): "
        "outputs are random, and "
        "these numbers hold for one answer a record; an adversary who averages many may learn "
        "more."
    )
    return Control(False, why, observed.largest_change)
