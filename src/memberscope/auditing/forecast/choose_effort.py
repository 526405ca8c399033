"""Choose how many queries and reference models fit into the time that a quick audit may take."""

from __future__ import annotations

import os
from dataclasses import replace

from memberscope.auditing.collect.measured_signals import has_open_searches, plan_searches
from memberscope.auditing.collect.reference_models import Training, fit_plan_to_design
from memberscope.auditing.documents.effort import BOUNDARY, QUICK, Effort, SearchBudget
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.schedule import Schedule
from memberscope.auditing.forecast.time_model import (
    Timings,
    estimate_audit_seconds,
    sum_search_seconds,
)
from memberscope.auditing.subject.subject import Subject

SECONDS = 20.0  # what a quick audit takes or so, without reference models
WITH_MODELS = 60.0  # and with them
TRAINED = 40.0  # seconds of these that training and asking reference models may take
PLANNED = 0.85  # share of the time that is planned for, since forecasts err
# Share of the other seconds that searches may take, however long everything else takes
LEAST_SHARE = 0.15
# Queries a record for the boundary search and for the others, from the best choice to the cheapest
SEARCHES = tuple(
    SearchBudget(boundary, other)
    for boundary, other in (
        (BOUNDARY, QUICK.search_queries),
        (BOUNDARY, 64),
        (32, 64),
        (20, 64),
        (20, 32),
        (20, 0),
        (0, 0),
    )
)
MODELS = (8, 4, 2)  # numbers of reference models, from the best choice to the cheapest


def choose_search_queries(
    plan: Plan, subject: Subject, schedule: Schedule, timings: Timings, *, trains: bool
) -> Plan:
    """Choose the longest searches that fit into the time, and write them into the plan.

    `schedule` is that of the longest searches. What the policy requires is searched for in full,
    however long it takes. Where nobody measured the model, searches are as long as they may be.
    `trains` tells whether reference models are trained too.
    """
    if plan.effort != "quick" or not has_open_searches(plan, subject):
        return plan_searches(plan, subject)
    full = plan_searches(plan, subject)
    if timings.question is None or timings.record is None or not full.search_queries:
        return full
    own = tuple(dict.fromkeys(job.request for job in schedule.jobs))
    required = [
        attack.needs.spec
        for attack in plan.find(plan.policy.require if plan.policy else ())
        if attack.needs.spec.source == "search"
    ]
    allowed = [
        budget
        for budget in SEARCHES
        if all(budget.count(spec) == SEARCHES[0].count(spec) for spec in required)
    ]
    seconds = compute_search_seconds(plan, subject, schedule, timings, trains=trains)
    for budget in allowed:
        tried = replace(plan, search_queries=budget.other, boundary_queries=budget.boundary)
        # The cheapest is taken even if it is too slow: nothing less meets the policy
        if budget == allowed[-1] or sum_search_seconds(tried, subject, own, timings) <= seconds:
            return tried
    raise AssertionError("the first choice is always allowed")


def compute_search_seconds(
    plan: Plan, subject: Subject, schedule: Schedule, timings: Timings, *, trains: bool
) -> float:
    """Compute the seconds that are left for searches beside the rest of the audit."""
    given = PLANNED * SECONDS * _scale_time(plan, trains)
    none = replace(plan, search_queries=0, boundary_queries=0)
    rest = estimate_audit_seconds(none, subject, None, schedule, timings)
    return max(given - rest.wall(os.cpu_count() or 1, 1), LEAST_SHARE * given)


def count_least_references(plan: Plan) -> int:
    """Count the reference models that a quick audit trains whatever the time.

    >>> count_least_references(Plan())
    2
    """
    required = plan.policy.references if plan.policy else 0
    return max(MODELS[-1], required)


def choose_references(plan: Plan, seconds: float, at_once: int) -> Plan:
    """Choose the most reference models that fit into the time, and write them into the plan.

    `seconds` is what the fewest took, trained `at_once` at a time. The models that the policy
    requires are trained however long they take.

    >>> choose_references(Plan(), 10.0, 1).references, choose_references(Plan(), 10.0, 2).references
    (8, 8)
    >>> choose_references(Plan(), 30.0, 2).references
    2
    """
    least = count_least_references(plan)
    each = seconds / _count_rounds(least, at_once)
    for models in MODELS:
        if models > least and _count_rounds(models, at_once) * each <= TRAINED * _scale_time(
            plan, True
        ):
            return replace(plan, references=models)
    return replace(plan, references=least)


def _count_rounds(models: int, at_once: int) -> int:
    """Count the rounds in which so many models are trained, `at_once` in each."""
    return -(-models // max(at_once, 1))


def _scale_time(plan: Plan, trains: bool) -> float:
    """Scale the seconds of each part to the time budget that was given."""
    if plan.time_budget is None:
        return 1.0
    return plan.time_budget / (WITH_MODELS if trains else SECONDS)


def fill_plan(plan: Plan, subject: Subject, training: Training | None, effort: Effort) -> Plan:
    """Fill in every number that the plan leaves open, with the most of an effort."""
    time_budget = plan.time_budget if effort == "quick" else None
    plan = replace(plan, effort=effort, time_budget=time_budget)
    plan = plan_searches(fit_plan_to_design(plan, training), subject)
    return replace(plan, references=plan.count_references())
