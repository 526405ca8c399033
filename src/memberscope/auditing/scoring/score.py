"""Run every attack of the plan at every level it applies to, cross-fitted.

What cannot run is listed with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from memberscope._parallel import map_in_parallel
from memberscope.attacks import is_shipped
from memberscope.auditing.collect.collect import Collected, Progress
from memberscope.auditing.collect.schedule import drop_repeated_reasons
from memberscope.auditing.documents.access_levels import Level
from memberscope.auditing.documents.plan import EstimateSettings, Plan
from memberscope.auditing.documents.plan_document import CustomDocument
from memberscope.auditing.documents.result import AttackScores, AuditArrays, NotRun
from memberscope.auditing.documents.schedule import Job
from memberscope.auditing.scoring import crossfit as fitting
from memberscope.auditing.scoring.crossfit import FoldScores, pool_scores
from memberscope.auditing.scoring.parallel_fits import fit_slow_attacks
from memberscope.auditing.subject.subject import encode_groups
from memberscope.errors import InputError, UnmetNeedError
from memberscope.statistics import can_resolve_fpr, smallest_fpr
from memberscope.types import Attack, Evidence, Floats, Ints


@dataclass(frozen=True, eq=False)
class ScoredJob:
    """An attack's scores at one level, pooled (n,), and each record's probability of membership (n,).

    The probability is None at a level that is only tried beside the declared one.
    """

    entry: AttackScores
    pooled: Floats
    posterior: Floats | None


def score_attacks(
    plan: Plan, got: Collected, settings: EstimateSettings, report: Progress
) -> tuple[AuditArrays, list[NotRun]]:
    """Run every attack at every level it applies to, cross-fitted.

    Those that cannot run are listed with the reason.

    Raises:
        InputError: There are too few records, or no attack can run.
    """
    member, unit = got.subject.member, got.subject.unit_codes
    _require_enough_records(plan, got)
    fold = fitting.assign_folds(
        member, plan.folds, np.random.default_rng(got.streams["folds"]), unit
    )
    jobs = got.schedule.jobs
    fitted = _fit_slow_jobs(got, fold, report)
    n_fits = sum(map(len, fitted))
    answers = map_in_parallel(
        lambda index: _score_job(plan, got, settings, fold, jobs[index], fitted[index]),
        range(len(jobs)),
        lambda done, n: report("attack", n_fits + done, n_fits + n),
    )
    ran_well = [answer for answer in answers if isinstance(answer, ScoredJob)]
    refused = [
        (answer, job.level)
        for answer, job in zip(answers, jobs, strict=True)
        if isinstance(answer, NotRun)
    ]
    scored = tuple(answer.entry for answer in ran_well)
    # Reasons known before anything was asked come first
    not_run = [*got.schedule.not_run, *drop_repeated_reasons(refused)]
    if not scored:
        raise InputError(
            f"Expected an attack that can run on {got.observed.signal}, got none. {not_run[-1].why}"
        )
    groups, values = encode_groups(got.subject)
    arrays = AuditArrays(
        got.subject.records.ids,
        member,
        got.subject.class_codes,
        fold,
        scored,
        groups,
        values,
        {a.entry.name: a.posterior for a in ran_well if a.posterior is not None},
        unit=unit,
    )
    # Kept with the arrays, as every estimate and the report read the same pooled scores
    arrays.comparable.update({answer.entry.name: answer.pooled for answer in ran_well})
    return arrays, not_run + _note_unresolved_rates(plan, arrays, settings)


def _fit_slow_jobs(got: Collected, fold: Ints, report: Progress) -> list[FoldScores]:
    """Fit the attacks that take longest at all levels side by side, fold by fold."""
    jobs = got.schedule.jobs
    return fit_slow_attacks(
        [job.attack for job in jobs],
        lambda index: got.evidence_for(jobs[index].attack, jobs[index].level),
        got.subject.member,
        fold,
        got.streams["scores"],
        # Levels that are tried get no thresholds and no posterior, so fits of pairs are spared
        pairs=[job.level.declared for job in jobs],
        progress=lambda done, n: report("attack", done, n + len(jobs)),
    )


def _require_enough_records(plan: Plan, got: Collected) -> None:
    """Refuse records too few for the folds.

    Raises:
        InputError: A fold would have fewer than two members or non-members.
    """
    n_members, n_others = int(got.subject.member.sum()), int((~got.subject.member).sum())
    if min(n_members, n_others) < 2 * plan.folds:
        raise InputError(
            f"Expected at least {2 * plan.folds} members and non-members, got {n_members} and "
            f"{n_others}. Give more records."
        )


def _score_job(
    plan: Plan,
    got: Collected,
    settings: EstimateSettings,
    fold: Ints,
    job: Job,
    fitted: FoldScores,
) -> ScoredJob | NotRun:
    """Run one attack at one level, or say why it cannot run there.

    What is `fitted` already is not fitted again.
    """
    member, attack, level = got.subject.member, job.attack, job.level
    try:
        seen = got.evidence_for(attack, level)
        fit = fitting.crossfit_attack(
            attack,
            seen,
            member,
            fold,
            got.streams["scores"],
            pairs=level.declared,
            fitted=fitted,
        )
    except UnmetNeedError as error:
        why = f"{error}{_explain_missing_references(attack, got)}"
        return NotRun(attack.name, level.word, why)
    thresholds, posterior = {}, None
    if level.declared:
        thresholds = fitting.transfer_thresholds(fit, member, fold, settings.fprs)
        posterior = fitting.estimate_posteriors(fit, member, fold, plan.threat.prior)
    entry = AttackScores(
        attack.name,
        level.access.word,
        fit.elsewhere is not None,
        fit.scores,
        thresholds,
        _count_attack_queries(got, attack, level, seen),
        level.restriction,
        level.declared,
        own=None if is_shipped(attack.name) else CustomDocument.of(attack),
    )
    entry = _add_budget_stages(got, attack, level, entry, seen)
    return ScoredJob(entry, pool_scores(entry, member, fold), posterior)


def _explain_missing_references(attack: Attack, got: Collected) -> str:
    """Explain which reference models could not be trained.

    It is for an attack that needs more than are left; else empty.
    """
    if (
        got.references is None
        or not got.references.fleet.failures
        or not any(attack.needs.references)
    ):
        return ""
    failures = got.references.fleet.failures
    return f" {len(failures)} of {len(got.references.fleet)} could not be trained. {failures[min(failures)].why}"


def _count_attack_queries(got: Collected, attack: Attack, level: Level, seen: Evidence) -> int:
    """Count the most queries that one record took: one a view, or what the search asked.

    A changed copy of a text is a query more.
    """
    measured = got.measured.found.get(got.wanted(attack, level).spec)
    if measured is not None:
        return int(measured.queries[:, -1].max())
    # A model that only generates was asked for so many continuations of each text
    if attack.needs.spec.source == "generations":
        return got.observed.queries // len(seen)
    copies = 0 if got.tokens is None else len(set(attack.needs.tokens) & set(got.tokens.copies))
    return int(seen.target.shape[1]) + copies


def _add_budget_stages(
    got: Collected, attack: Attack, level: Level, entry: AttackScores, seen: Evidence
) -> AttackScores:
    """Add what the attack would have scored on smaller budgets to its entry.

    For searches that learn nothing and compare nothing.
    """
    measured = got.measured.found.get(got.wanted(attack, level).spec)
    if (
        measured is None
        or measured.values.shape[1] < 2
        or sum(attack.needs.references)
        or attack.needs.known != "none"
    ):
        return entry
    # Attacks that learn nothing draw nothing that matters, so any stream will do
    rng, stages = np.random.default_rng(0), measured.values.shape[1]
    hidden = np.full(len(seen), -1, dtype=np.int8)
    parts = [
        replace(seen, target=measured.values[:, stage, None, :], known=hidden)
        for stage in range(stages)
    ]
    try:
        scores = np.stack([attack.score(part, rng) for part in parts])
    # Somebody's own attack may refuse what an earlier stage has; its scores stay
    except UnmetNeedError:
        return entry
    return replace(entry, budgets=measured.queries.max(axis=0).astype(np.int64), stages=scores)


def _note_unresolved_rates(
    plan: Plan, arrays: AuditArrays, settings: EstimateSettings
) -> list[NotRun]:
    """Note each rate that attacks fitted fold by fold cannot resolve though all records do."""
    learned = sorted({entry.attack for entry in arrays.scored if entry.learned})
    smallest = int(np.bincount(arrays.fold[~arrays.member]).min())
    return [
        NotRun(
            ", ".join(learned),
            plan.threat.access.word,
            f"Too few non-members for a false-positive rate of {100 * fpr:g}%: these attacks learn on "
            f"one part of the records and are tested on another, which holds {smallest} non-members; "
            f"with so many the lowest rate is {100 * smallest_fpr(smallest):.2g}%.",
        )
        for fpr in settings.fprs
        if learned and not can_resolve_fpr(fpr, smallest)
    ]
