"""Forecast what an audit would do and could see, before anything is asked or paid for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from memberscope.auditing.collect.collect import can_ask_twice, derive_streams
from memberscope.auditing.collect.reference_models import (
    Training,
    build_training_job,
    cut_design,
    describe_unused_seed,
    fit_training,
)
from memberscope.auditing.collect.schedule import build_schedule
from memberscope.auditing.collect.stored_references import fit_plan_to_stored
from memberscope.auditing.collect.target_models import build_target_job
from memberscope.auditing.documents.access_levels import Level
from memberscope.auditing.documents.plan import Plan, fit_plan_to_task
from memberscope.auditing.documents.result import NotRun
from memberscope.auditing.documents.schedule import Schedule
from memberscope.auditing.forecast.choose_effort import (
    choose_references,
    choose_search_queries,
    count_least_references,
    fill_plan,
)
from memberscope.auditing.forecast.text_costs import ReferenceCost, forecast_reference_costs
from memberscope.auditing.forecast.time_model import (
    Seconds,
    Timings,
    estimate_audit_seconds,
    is_search,
)
from memberscope.auditing.subject.shared_units import settle_units
from memberscope.auditing.subject.subject import Subject, encode_groups, require_named_units
from memberscope.auditing.subject.text_restriction import restrict_text_subject
from memberscope.auditing.verdict.claims import count_questions
from memberscope.auditing.verdict.power import compute_detectable_rates, count_sides
from memberscope.facts import read_target_facts
from memberscope.recipes.fleet import (
    ResumeState,
    limit_threads,
    read_resume_state,
    train_models,
    tune_recipe,
)
from memberscope.signals import COPIED, PROBE, SAMPLES, SignalRequest, Store, is_measured
from memberscope.statistics import smallest_fpr
from memberscope.targets.wrappers import find_metered_target
from memberscope.types import Access, Attack


@dataclass(frozen=True)
class Forecast:
    """What an audit would do, cost and see.

    It has the attacks that run with their levels, those that do not, costs, and rows of (fpr,
    limit, detectable TPR).

    `queries` and `model_queries` are the most records that the target, and all other models
    together, are asked about. `minutes` will pass on this machine, apart from what is `unknown`, in
    sentences; `seconds` are those of one core by part.
    `fine_tunes` says what reference models of a language model cost.
    """

    runs: list[tuple[str, str]]
    not_run: list[NotRun]
    n_members: int
    n_non_members: int
    queries: int
    model_queries: int
    minutes: float
    seconds: Seconds
    unknown: list[str]
    megabytes: float
    models: int
    targets: int
    model_megabytes: float
    smallest_fpr: float
    detectable: list[tuple[float, float, float | None]]
    notes: list[str]
    standing: ResumeState
    fine_tunes: list[ReferenceCost] = field(default_factory=list)


def forecast_audit(
    plan: Plan,
    subject: Subject,
    training: Training | None = None,
    store: Store | None = None,
    timings: Timings | None = None,
    price: float | None = None,
) -> Forecast:
    """Forecast `plan` on `subject`; the model is not asked and nothing is trained.

    `store` is what earlier runs left, `price` that of a token of a language model.

    `timings` are what was measured of the models (`time_target`, `measure_training_seconds`);
    without them their own time is not known.

    Raises:
        InputError: The records do not resolve a rate that was asked for, or further targets are
    wanted and there is no recipe.
    """
    # The same steps as the audit takes, so that both refuse the same plans for the same reasons
    plan = fit_plan_to_task(plan, read_target_facts(subject.target).task)
    plan, subject = fit_plan_to_stored(plan, subject)
    subject = restrict_text_subject(subject, plan.threat)
    require_named_units(plan.unit, subject)
    every = len(subject.member)
    subject, kept = settle_units(subject, drop=plan.drop_overlap)
    training = cut_design(training, kept, every)
    timings = timings or Timings()
    # Checked against the full plan first: a design and a population must fit whatever is chosen
    full = fill_plan(plan, subject, training, plan.effort)
    training = fit_training(full, subject, training)
    plan, schedule = _choose_numbers(plan, full, subject, training, timings)
    n_members, n_others = int(subject.member.sum()), int((~subject.member).sum())
    n, runs = n_members + n_others, _order_runs(plan, schedule)
    # Counted by the job itself, which knows the user's own design
    wanted, models = schedule.list_reference_requests(), 0
    if training is not None and wanted:
        seed = np.random.SeedSequence(plan.seed)
        models = len(build_training_job(plan, subject, training, wanted, seed).inside)
    left = _count_remaining_models(plan, subject, training, schedule, store)
    seconds = estimate_audit_seconds(plan, subject, training, schedule, timings)
    # Stored models were asked already, so only the others cost time to observe
    done = 0.0 if not models + plan.targets else 1 - left.stored / (models + plan.targets)
    queries = _count_target_queries(plan, subject, training, runs, models)
    # What is left to do, unlike the whole audit in `seconds`
    rest = replace(
        seconds,
        asking=_estimate_rate_limited_seconds(subject, queries)
        if seconds.asking is None
        else seconds.asking,
        training=None if timings.model is None else timings.model * left.to_train,
        observing=None if seconds.observing is None else seconds.observing * done,
    )
    cores = os.cpu_count() or 1
    # Eight bytes a number in the arrays, and some forty a record and attack as text
    stored = n * (2 * len(runs) + 5) * 8 + n * max(len(runs), 1) * 40
    return Forecast(
        runs=[(attack.name, level.word) for attack, level in runs],
        not_run=_merge_reasons(schedule.not_run),
        n_members=n_members,
        n_non_members=n_others,
        queries=queries,
        model_queries=_count_model_queries(plan, subject, training, schedule, models),
        minutes=rest.wall(cores, count_parallel_jobs(training)) / 60,
        seconds=rest,
        unknown=_describe_unknown_times(plan, subject, runs, rest, left),
        megabytes=stored / 1e6,
        models=models,
        targets=plan.targets,
        model_megabytes=_count_stored_bytes(plan, subject, training, schedule, models) / 1e6,
        smallest_fpr=smallest_fpr(n_others),
        detectable=_list_detectable_rows(plan, subject, runs),
        notes=describe_unused_seed(training),
        standing=left,
        fine_tunes=forecast_reference_costs(
            subject,
            training,
            plan.reference_size or n_members,
            timings,
            count_parallel_jobs(training),
            price,
        ),
    )


def _choose_numbers(
    plan: Plan, full: Plan, subject: Subject, training: Training | None, timings: Timings
) -> tuple[Plan, Schedule]:
    """Choose the numbers that the plan leaves open as the audit will, with what then runs.

    `full` is the plan with the most of its effort. What nobody timed is taken to fit.
    """
    schedule = build_schedule(full, subject, subject.target.signal, training)
    trains = training is not None and bool(schedule.list_reference_requests())
    if trains and timings.model is not None and plan.references is None and plan.effort == "quick":
        at_once = count_parallel_jobs(training)
        rounds = -(-count_least_references(plan) // at_once)
        plan = choose_references(plan, timings.model * rounds, at_once)
    plan = choose_search_queries(plan, subject, schedule, timings, trains=trains)
    plan = fill_plan(plan, subject, training, plan.effort)
    return plan, build_schedule(plan, subject, subject.target.signal, training)


def _order_runs(plan: Plan, schedule: Schedule) -> list[tuple[Attack, Level]]:
    """Order the schedule's attacks as the plan names them, each with its levels."""
    return [run for attack in plan.chosen() for run in schedule.runs if run[0] == attack]


def _merge_reasons(not_run: tuple[NotRun, ...]) -> list[NotRun]:
    """Name each attack once for each reason, at the highest level it holds at."""
    return list({(entry.attack, entry.why): entry for entry in not_run}.values())


def _list_detectable_rows(
    plan: Plan, subject: Subject, runs: list[tuple[Attack, Level]]
) -> list[tuple[float, float, float | None]]:
    """List for each rate the limit, and the smallest TPR that would fail it.

    The rates are those of the policy, or each that is reported.
    """
    attacks = {
        attack.name: attack.needs.known != "none" for attack, level in runs if level.declared
    }
    sides = count_sides(subject.member, subject.unit_codes)
    n_claims = count_questions(plan.policy, encode_groups(subject)[1]) if plan.policy else 1
    fprs = plan.resolvable_fprs(int((~subject.member).sum()))
    rows = compute_detectable_rates(plan, attacks, *sides, fprs, n_claims)
    return [(row.fpr, row.limit, row.tpr) for row in rows]


def _count_target_queries(
    plan: Plan,
    subject: Subject,
    training: Training | None,
    runs: list[tuple[Attack, Level]],
    models: int,
) -> int:
    """Count the most records that the target will be asked about.

    Each view, each search, the population, and some a second time.
    """
    n = len(subject.records)
    # Views beyond the record itself are asked only for comparison with reference models
    asked = n * len(plan.views) if models else n
    n_others = 0 if training is None or training.population is None else len(training.population)
    if models:
        asked += n_others * len(plan.views)
    # The target labels the population for students
    if any(attack.needs.spec.source == "student" for attack, _ in runs):
        asked += n_others
    # Attacks that read one signal share its search
    budget = plan.search_budget
    wanted = {
        level.wanted(attack.needs.spec, budget.count(attack.needs.spec)) for attack, level in runs
    }
    asked += (n + (n_others if models else 0)) * _sum_search_queries(plan, wanted)
    # Each changed copy of a text is a query of its own, unless it was stored
    if not read_target_facts(subject.target).stored:
        read = {part for attack, _ in runs for part in attack.needs.tokens}
        asked += n * len(read.intersection(COPIED))
    # And so is each continuation that a model samples; one that only generates gives nothing else
    if any(attack.needs.spec.source == "generations" for attack, _ in runs):
        if subject.target.signal == "generations":
            return n * min(SAMPLES, plan.threat.query_budget or SAMPLES)
        asked += n * SAMPLES
    return asked + (min(PROBE, n) if can_ask_twice(plan, training) else 0)


def _count_model_queries(
    plan: Plan, subject: Subject, training: Training | None, schedule: Schedule, models: int
) -> int:
    """Count the most records that reference models and further targets are asked about.

    Searches are included.

    Searches included.
    """
    if training is None:
        return 0
    n = len(subject.records) + (0 if training.population is None else len(training.population))

    # Further targets are searched for attacks without reference models, too
    def asked(*, alone: bool) -> int:
        wanted = schedule.list_target_requests() if alone else schedule.list_reference_requests()
        return n * (len(plan.views) + _sum_search_queries(plan, wanted))

    return models * asked(alone=False) + plan.targets * asked(alone=True)


def _sum_search_queries(plan: Plan, wanted: Iterable[SignalRequest]) -> int:
    """Sum the queries a record of all searches among the signals `wanted`, each search once."""
    return sum(
        plan.search_budget.count(spec)
        for spec in {entry.spec for entry in wanted if is_search(entry)}
    )


def _estimate_rate_limited_seconds(subject: Subject, queries: int) -> float | None:
    """Estimate the seconds that an endpoint's rate limit makes of so many queries.

    None where there is no limit, since endpoints are not asked.
    """
    endpoint = read_target_facts(find_metered_target(subject.target)).endpoint
    if endpoint is None or endpoint.rate is None:
        return None
    return float(-(-queries // endpoint.rows_a_request) / endpoint.rate)


def _describe_unknown_times(
    plan: Plan,
    subject: Subject,
    runs: list[tuple[Attack, Level]],
    seconds: Seconds,
    left: ResumeState,
) -> list[str]:
    """Describe what the minutes leave out, in sentences."""
    found = []
    if find_metered_target(subject.target) is not None and seconds.asking is not None:
        found.append(
            "The endpoint's own time is not known: the minutes are those of its rate limit."
        )
    if seconds.asking is None:
        found.append("The target's own time is not known: nothing was asked of it.")
    if left.to_train and seconds.training is None:
        found.append(
            f"The time to train {left.to_train} models is not known; --measure trains some to see."
        )
    if left.to_train + left.kept and seconds.observing is None:
        found.append("How long reference models take to answer is not known.")
    inside = sorted(
        {
            attack.name
            for attack, level in runs
            if level.access == Access.WHITE_BOX and is_measured(attack.needs.spec)
        }
    )
    if inside:
        found.append(f"The time of gradients and activations ({', '.join(inside)}) is not known.")
    return found


def count_parallel_jobs(training: Training | None) -> int:
    """Count the models that are trained at a time on this machine."""
    jobs = (
        1
        if training is None or training.execution.backend == "sequential"
        else training.execution.n_jobs
    )
    # A negative number of jobs stands for all cores, as in joblib
    return (os.cpu_count() or 1) if jobs < 0 else max(jobs, 1)


def _count_remaining_models(
    plan: Plan,
    subject: Subject,
    training: Training | None,
    schedule: Schedule,
    store: Store | None,
) -> ResumeState:
    """Count the reference models and further targets that are stored, kept, or to train."""
    if training is None:
        return ResumeState(0, 0, 0)
    # The audit's own streams, so that the jobs are the ones that a store would hold
    streams, orders = derive_streams(plan), []
    if wanted := schedule.list_reference_requests():
        orders.append(build_training_job(plan, subject, training, wanted, streams["references"]))
    if plan.targets:
        wanted = schedule.list_target_requests()
        orders.append(build_target_job(plan, subject, training, wanted, streams["targets"]))
    parts = [read_resume_state(order, store) for order in orders]
    return ResumeState(
        *(sum(getattr(part, name) for part in parts) for name in ("stored", "kept", "to_train"))
    )


def _count_stored_bytes(
    plan: Plan, subject: Subject, training: Training | None, schedule: Schedule, models: int
) -> int:
    """Count the bytes stored of the reference models and of the further targets.

    Of further targets all answers are kept as well.
    """
    whole = 8 * len(subject.records) * subject.target.n_classes
    return (models + plan.targets) * _count_bytes_per_model(
        plan, subject, training, schedule
    ) + plan.targets * whole


def _count_bytes_per_model(
    plan: Plan, subject: Subject, training: Training | None, schedule: Schedule
) -> int:
    """Count the bytes stored of one reference model.

    A float32 a signal, record and view, all outputs where an attack needs them.
    """
    records = len(subject.records) + (
        len(training.population) if training and training.population else 0
    )
    # The top class and its confidence are kept of every record
    per_record = 8
    for wanted in schedule.list_reference_requests():
        per_record += 4 * (
            subject.target.n_classes if wanted.spec.name == "outputs" else len(plan.views)
        )
    return records * per_record


def measure_training_seconds(
    plan: Plan,
    subject: Subject,
    training: Training,
    clock: Callable[[], float] = time.perf_counter,
    *,
    store: Store | None = None,
) -> float:
    """Measure the seconds that training one batch takes here on one core, by model.

    The `store` keeps how models are trained, as far as that was measured: an audit with the same
    store trains them so. The models are not kept.
    """
    # Of as many models as the audit trains: the choice depends on it
    plan = fit_plan_to_task(plan, read_target_facts(subject.target).task)
    subject = restrict_text_subject(subject, plan.threat)
    plan = fill_plan(plan, subject, training, plan.effort)
    schedule = build_schedule(plan, subject, subject.target.signal, training)
    wanted, seed = schedule.list_reference_requests(), np.random.SeedSequence(plan.seed)
    order = build_training_job(plan, subject, training, wanted, seed)
    # Tuned first, or the time of tuning would be taken for that of training
    recipe, _ = tune_recipe(
        order.recipe, order.pool, int(order.inside[0].sum()), len(order.inside), store
    )
    if plan.targets and store is not None:
        further = build_target_job(plan, subject, training, schedule.list_target_requests(), seed)
        tune_recipe(further.recipe, further.pool, int(further.inside[0].sum()), plan.targets, store)
    order = replace(order, recipe=recipe)
    batch = list(order.batches()[0])
    started = clock()
    # One core, as all seconds of the forecast are; `wall` shares them out
    with limit_threads(1):
        train_models(
            order.recipe, order.pool, order.inside[batch], [order.seeds[row] for row in batch]
        )
    return (clock() - started) / len(batch)
