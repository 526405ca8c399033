"""The audit itself: gather, score, estimate, control, judge; each step a function on frozen values."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from memberscope._version import Tool, tool_version
from memberscope.auditing.collect.collect import Collected, Progress, gather
from memberscope.auditing.collect.measured_signals import TRANSFERRED, search_plan, spent
from memberscope.auditing.collect.reference_models import Training, designed, reference_control
from memberscope.auditing.controls.blind import blind_control
from memberscope.auditing.controls.direction import direction_control
from memberscope.auditing.controls.fitted import answers_of, fitted_control
from memberscope.auditing.controls.overlap import marked_duplicates, overlap_control
from memberscope.auditing.documents.access_levels import runs_at
from memberscope.auditing.documents.plan import Plan, Settings
from memberscope.auditing.documents.result import Arrays, Control, Cost, Result
from memberscope.auditing.estimates.one_run_epsilon import one_run_estimates
from memberscope.auditing.estimates.record_vulnerability import separations
from memberscope.auditing.provenance import digests, environment
from memberscope.auditing.scoring.null_control import null_control, of_non_members
from memberscope.auditing.scoring.score import score
from memberscope.auditing.scoring.score_targets import score_targets, targets_summary
from memberscope.auditing.subject.subject import Subject
from memberscope.auditing.summary import best_scores, diagnose, most_exposed
from memberscope.auditing.verdict.judge import judge
from memberscope.auditing.verdict.recompute import by_budget, digest_account, digest_arrays, recompute
from memberscope.auditing.verdict.repeated_audits import count_audit
from memberscope.signals import Observed, Store, digest_array
from memberscope.types import Estimate, Ints, ThreatModel


def run(
    plan: Plan,
    subject: Subject,
    *,
    training: Training | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Result:
    """Audit `subject` as `plan` says; `store` keeps the models' answers so that a killed run goes on where it stopped.

    `training` says how to train reference models; without it the attacks that need them are listed as not run.

    Raises:
        InputError: The data do not allow what the plan asks for.
        TargetError: The model failed.
    """
    started = time.perf_counter()
    report = progress or (lambda stage, done, total: None)
    plan = search_plan(designed(plan, training), subject)
    plan.resolvable_fprs(int((~subject.member).sum()))
    got = gather(plan, subject, store, report, training)
    member = got.subject.member
    fprs = plan.resolvable_fprs(int((~member).sum()))
    settings = Settings(fprs, plan.all_priors(), plan.confidence)
    arrays, not_run = score(plan, got, settings, report)
    targets, missing = score_targets(plan, got, settings, not_run, report)
    arrays, not_run = replace(arrays, targets=targets), not_run + missing
    marked = marked_duplicates(got.overlap, dropped=plan.drop_overlap)
    arrays = replace(arrays, vulnerability=separations(plan, got, arrays), overlap=marked)
    estimates = estimate(plan, got, arrays, settings, report)
    controls = control(plan, got, arrays, report)
    judgement = judge(plan, arrays, estimates, controls, not_run)
    claimed = [finding.estimate for finding in judgement.findings if finding.estimate is not None]
    estimates = [next((c for c in claimed if replace(c, exploratory=True) == entry), entry) for entry in estimates]
    result = Result(
        tool=Tool(version=tool_version()),
        verdict=judgement.verdict,  # type: ignore[arg-type]
        limited=judgement.limited,
        reason=judgement.reason,
        title=plan.title,
        plan=plan.document() | execution_of(got),
        threat_models=[replace(granted(plan, got), access=level.access, restriction=level.restriction) for level in got.levels],
        findings=judgement.findings,
        estimates=estimates,
        controls=controls,
        not_run=not_run,
        diagnostics=diagnose(plan, got, arrays, settings)
        | {"targets": targets_summary(plan, got, estimates, settings), "searches": spent(got.measured)},
        budgets=by_budget(arrays, settings),
        exposed=most_exposed(plan, got, arrays),
        cost=cost(got, time.perf_counter() - started, plan.references),
        environment=environment() | repeated(plan, got, store),
        digests=digests(plan, got, training) | {"arrays": digest_arrays(arrays)},
        arrays=arrays,
    )
    return result.model_copy(update={"digests": result.digests | {"account": digest_account(result)}})


def repeated(plan: Plan, got: Collected, store: Store | None) -> dict[str, str]:
    """How many audits of this model with this plan the store has seen, this one included; empty without a store."""
    if store is None:
        return {}
    return count_audit(store, plan, got.subject.target.digest or digest_array(got.observed.outputs))


def execution_of(got: Collected) -> dict[str, Any]:
    """How the reference models were trained, as far as their recipe left it open and a measurement decided it."""
    return {} if got.references is None else {"execution": got.references.fleet.choice}


def granted(plan: Plan, got: Collected) -> ThreatModel:
    """The plan's threat model with what the audit really gave the adversary: reference models that learned, a population."""
    transfer = transferred(got)
    trained = 0 if got.references is None else int(got.references.good.sum())
    seen = got.references is not None and got.references.target_population is not None
    return replace(plan.threat, references=trained + transfer, population=seen or transfer > 0)


def transferred(got: Collected) -> int:
    """Models that were trained on the target's labels for the transfer attack."""
    return TRANSFERRED if any(spec.name == "transfer" for spec in got.measured.found) else 0


def estimate(plan: Plan, got: Collected, arrays: Arrays, settings: Settings, report: Progress) -> list[Estimate]:
    """Every estimate: the strongest attack at each level first, then each attack."""
    found = recompute(arrays, settings, lambda done, n: report("estimate", done, n))
    return found + one_run_estimates(plan, arrays, np.random.default_rng(got.streams["guesses"]))


def control(plan: Plan, got: Collected, arrays: Arrays, report: Progress) -> dict[str, Control]:
    """The controls that bear on the verdict, and the determinism probe, which informs."""
    report("control", 0, 2)
    subject, unit = got.subject, arrays.unit
    outside = ~subject.member
    highest = {attack: level for level in got.levels if level.declared for attack in plan.chosen() if runs_at(attack, level)}
    null = null_control(
        tuple(attack for attack in plan.chosen() if attack in highest),
        lambda attack: of_non_members(got.evidence_for(attack, highest[attack]), subject.member),
        subject.records.ids[outside],
        plan.folds,
        got.streams["null"],
        unit=None if unit is None else unit[outside],
    )
    report("control", 1, 2)
    blind = blind_of(plan, got, arrays, unit)
    report("control", 2, 2)
    predicted, probabilities = answers_of(got.evidence)
    hits = None if predicted is None else predicted == subject.records.y
    found = {
        "null": null,
        "blind": blind,
        "overlap": overlap_control(got.overlap, subject.member, dropped=plan.drop_overlap),
        "direction": direction_control(arrays, hits, blind),
        "fitted": fitted_control(predicted, probabilities, subject.records.y, subject.member, unit),
        "determinism": determinism(got.observed),
    }
    if got.references is not None:
        found["references"] = reference_control(got.references, got.subject, plan.confidence)
    elif got.broken_recipe:
        details = {"models": plan.references, "failed": plan.references}
        found["references"] = Control(False, f"No reference model could be trained. {got.broken_recipe}", details=details)
    return found


def blind_of(plan: Plan, got: Collected, arrays: Arrays, unit: Ints | None) -> Control:
    """The blind control on the audit's records, without copies that stand beside a record of their own side."""
    subject = got.subject
    alone = np.ones(len(subject.member), dtype=bool) if subject.copies is None else ~subject.copies
    best = best_scores(arrays, plan)
    return blind_control(
        None if subject.features is None else subject.features[alone],
        subject.records.y[alone],
        subject.member[alone],
        None if best is None else best[alone],
        fprs=plan.claim_fprs(),
        unit=None if unit is None else unit[alone],
    )


def cost(got: Collected, seconds: float, n_references: int) -> Cost:
    """What was spent, with `n_references` models if none of them could be trained; models and queries of an earlier, interrupted run of the same plan are counted too."""
    fleets = [entry for entry in (got.references, got.procedure) if entry is not None]
    trained, failed = sum(len(entry.fleet) for entry in fleets), sum(entry.n_failed for entry in fleets)
    failed += n_references if got.broken_recipe else 0
    return Cost(round(seconds, 3), got.queries, trained + transferred(got), failed, round(got.training_seconds, 3))


def determinism(observed: Observed) -> Control:
    """Whether asking the same records twice gave the same answers."""
    if observed.deterministic is None:
        return Control(None, "Nothing was asked twice: the budget is one query a record.")
    if observed.deterministic:
        return Control(True, "Asked twice, the model answered the same.", observed.largest_change)
    why = (
        f"Asked twice, the model answered differently (by up to {observed.largest_change:.3g}): outputs are random, and "
        f"these numbers hold for one answer a record; an adversary who averages many may learn more."
    )
    return Control(False, why, observed.largest_change)
