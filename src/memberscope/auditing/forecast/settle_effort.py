"""Turn the effort of a plan into numbers of queries and reference models, before scoring.

The first answers of the target and the first reference models are timed, and both are part of the
audit. The numbers are kept in the store, so that a resumed audit takes the same ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from tempfile import TemporaryDirectory

import numpy as np

from memberscope.auditing.collect.collect import (
    FirstAnswers,
    Progress,
    derive_streams,
    schedule_attacks,
    train_references,
)
from memberscope.auditing.collect.reference_models import fit_plan_to_design
from memberscope.auditing.collect.schedule import build_schedule
from memberscope.auditing.documents.effort import EFFORTS
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.forecast.choose_effort import (
    choose_references,
    choose_search_queries,
    count_least_references,
    fill_plan,
)
from memberscope.auditing.forecast.dry_run import count_parallel_jobs
from memberscope.auditing.forecast.time_model import (
    Timings,
    estimate_audit_seconds,
    read_timings,
)
from memberscope.errors import InputError
from memberscope.facts import read_recipe_facts, read_target_facts
from memberscope.signals import Store, digest_records

LONG = 60.0  # seconds from which an audit says beforehand how long it will take
LONGER = "longer_audit_"  # with an effort, a key of the environment of a result
NO_QUERIES = "none, as search_queries is 0"
ONLY_STORED = "none, as stored answers are all there is"


@dataclass(frozen=True)
class SettledPlan:
    """A plan whose numbers are all given, and sentences about what it takes and leaves out.

    `training_seconds` went into the first reference models. `longer` says what longer audits would
    take, under keys of the result's environment.
    """

    plan: Plan
    notes: tuple[str, ...] = ()
    training_seconds: float = 0.0
    longer: dict[str, str] = field(default_factory=dict)


def settle_effort(
    plan: Plan, first: FirstAnswers, store: Store | None, report: Progress
) -> SettledPlan:
    """Choose the numbers that the plan leaves open, by the time that the first answers took.

    With a recipe the fewest reference models are trained, and more where there is time; `store`
    keeps them for the audit.

    Raises:
        InputError: The time budget is too small for one query of each record.
        TargetError: A model takes too long to train, or the workers are lost.
    """
    _refuse_small_budget(plan, first)
    key = _build_choice_key(plan, first)
    kept = store.get(key) if store and key else None
    if kept is not None:
        boundary, other, references = (int(number) for number in kept)
        chosen = replace(plan, search_queries=other, boundary_queries=boundary)
        chosen = replace(chosen, references=references or None)
        filled = fill_plan(chosen, first.subject, first.training, plan.effort)
        # The answers come from the store, so nothing was timed
        longer = describe_longer_audits(plan, filled, first, Timings())
        return SettledPlan(filled, longer=longer)
    timings = read_timings(first.observed.timed)
    settled, timings = _choose_numbers(plan, first, store, report, timings)
    if store and key:
        budget, references = settled.plan.search_budget, settled.plan.references or 0
        numbers = (budget.boundary, budget.other, references)
        store.put(key, np.array(numbers, dtype=np.float64))
    return replace(
        settled,
        notes=tuple(describe_effort(plan, settled.plan, first, timings)),
        longer=describe_longer_audits(plan, settled.plan, first, timings),
    )


def _choose_numbers(
    plan: Plan, first: FirstAnswers, store: Store | None, report: Progress, timings: Timings
) -> tuple[SettledPlan, Timings]:
    """Choose the numbers, and add the seconds of training a model where that was measured."""
    subject, training = first.subject, first.training
    full = fill_plan(plan, subject, training, plan.effort)
    schedule = build_schedule(full, subject, first.observed.signal, training)
    trains = training is not None and bool(schedule.list_reference_requests())
    chosen = choose_search_queries(plan, subject, schedule, timings, trains=trains)
    if not trains or full.references == fit_plan_to_design(plan, training).references:
        return SettledPlan(fill_plan(chosen, subject, training, plan.effort)), timings
    if plan.effort != "quick":
        return SettledPlan(fill_plan(chosen, subject, training, plan.effort)), timings
    # The fewest models are part of any choice, so timing them costs nothing
    n_least, at_once = count_least_references(plan), count_parallel_jobs(training)
    least = replace(chosen, references=n_least)
    schedule, seed = schedule_attacks(least, first)[0], derive_streams(plan)["references"]
    started = time.perf_counter()
    train_references(least, subject, training, schedule, seed, store=store, report=report)
    seconds = time.perf_counter() - started
    chosen = choose_references(chosen, seconds, at_once)
    return SettledPlan(chosen, (), seconds), replace(timings, model=seconds * at_once / n_least)


def _refuse_small_budget(plan: Plan, first: FirstAnswers) -> None:
    """Refuse a time budget that one query of each record already used up.

    Raises:
        InputError: It is too small.
    """
    spent = sum(seconds for _, seconds in first.observed.timed)
    if plan.time_budget is not None and spent > plan.time_budget:
        raise InputError(
            f"Expected a time budget of at least {spent:.2g} s for one query of each of "
            f"{len(first.subject.records)} records, got {plan.time_budget:g} s. Raise "
            "--time-budget, or audit fewer records."
        )


def _build_choice_key(plan: Plan, first: FirstAnswers) -> str | None:
    """Build the key under which the numbers of this audit are kept; None without a digest."""
    model = first.subject.target.digest
    if model is None:
        return None
    recipe = None if first.training is None else read_recipe_facts(first.training.recipe).digest
    text = json.dumps(
        ["effort", plan.digest(), model, digest_records(first.subject.records), recipe]
    )
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def keep_answers(store: Store | None) -> Iterator[Store]:
    """Give the store, or one that lasts as long as the audit.

    The first reference models are trained before their number is known, and not again after.
    """
    if store is not None:
        yield store
        return
    with TemporaryDirectory(prefix="memberscope-") as name:
        yield Store(name)


def describe_effort(asked: Plan, plan: Plan, first: FirstAnswers, timings: Timings) -> list[str]:
    """Describe what the plan spends and takes, and what a longer audit would.

    Nothing is said of a short audit that no effort would make longer.
    """
    spent = _describe_spending(plan, first, timings)
    longer = {
        name: fill_plan(asked, first.subject, first.training, name)
        for name in EFFORTS
        if name != "quick"
    }
    if plan.effort == "quick" and any(
        _list_numbers(of, first) != _list_numbers(plan, first) for of in longer.values()
    ):
        others = "; ".join(
            f"--effort {name}: {_describe_spending(of, first, timings)}"
            for name, of in longer.items()
        )
        return [f"Effort quick: {spent}.", f"{others}."]
    seconds = _estimate_seconds(plan, first, timings)
    return [f"Effort {plan.effort}: {spent}."] if seconds is not None and seconds > LONG else []


def describe_longer_audits(
    asked: Plan, plan: Plan, first: FirstAnswers, timings: Timings
) -> dict[str, str]:
    """Describe what longer audits than `plan` would spend and take, by keys of the environment.

    Times differ between runs, so this stands where a result may differ: beside versions and dates.
    """
    names = list(EFFORTS)
    longer = {
        name: fill_plan(asked, first.subject, first.training, name)
        for name in names[names.index(plan.effort) + 1 :]
    }
    own = _list_numbers(plan, first)
    found = {
        f"{LONGER}{name}": _describe_spending(of, first, timings)
        for name, of in longer.items()
        if _list_numbers(of, first) != own
    }
    if found:
        return found
    searches = any(attack.needs.spec.source == "search" for attack in asked.chosen())
    if searches and asked.search_queries == 0:
        return {LONGER.rstrip("_"): NO_QUERIES}
    stored = read_target_facts(first.subject.target).stored
    return {LONGER.rstrip("_"): ONLY_STORED if stored else "none"}


def _describe_spending(plan: Plan, first: FirstAnswers, timings: Timings) -> str:
    """Describe the numbers of a plan and the time that they take."""
    numbers, seconds = (
        ", ".join(_list_numbers(plan, first)),
        _estimate_seconds(plan, first, timings),
    )
    if seconds is None:
        return numbers
    trains = first.training is not None and bool(plan.references)
    besides = " besides training" if trains and timings.model is None else ""
    return f"{numbers}, about {format_duration(seconds)}{besides}"


def _list_numbers(plan: Plan, first: FirstAnswers) -> list[str]:
    """List what a plan spends, in words."""
    budget, needs = plan.search_budget, [attack.needs for attack in plan.chosen()]
    if not any(entry.spec.source == "search" for entry in needs):
        found = ["one query for each record"]
    elif not budget.boundary:
        found = ["no searches"]
    elif budget.boundary == budget.other:
        found = [f"searches of {budget.other} queries for each record"]
    else:
        others = f" and {budget.other} (noise)" if budget.other else ""
        found = [f"searches of {budget.boundary} (boundary){others} queries for each record"]
    if first.training is not None and plan.references and any(any(e.references) for e in needs):
        found.append(f"{plan.references} reference models")
    return found


def _estimate_seconds(plan: Plan, first: FirstAnswers, timings: Timings) -> float | None:
    """Estimate the seconds that an audit takes here; None where the model was not timed."""
    if timings.question is None:
        return None
    schedule = build_schedule(plan, first.subject, first.observed.signal, first.training)
    seconds = estimate_audit_seconds(plan, first.subject, first.training, schedule, timings)
    return seconds.wall(os.cpu_count() or 1, count_parallel_jobs(first.training))


def format_duration(seconds: float) -> str:
    """Write a duration as people say it.

    >>> format_duration(14.2), format_duration(200.0), format_duration(9000.0)
    ('14 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
