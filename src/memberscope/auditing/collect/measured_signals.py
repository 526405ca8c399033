"""Measure what one answer a record does not show.

Label-only searches within a budget, and the inside of the target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from memberscope.attacks import compute_token_features
from memberscope.auditing.documents.diagnostics import SpentQueries
from memberscope.auditing.documents.effort import EFFORTS
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.schedule import Schedule
from memberscope.auditing.subject.subject import Subject
from memberscope.errors import MemberscopeError, TargetError, UnmetNeedError
from memberscope.facts import read_target_facts
from memberscope.recipes.fleet import score_by_transfer
from memberscope.signals import (
    MeasuredSignal,
    Store,
    build_single_stage,
    collect_tokens,
    hide_vocabulary,
    measure_signal,
)
from memberscope.texts import TokenSignals
from memberscope.types import Evidence, Recipe, Records, Signal, SignalSpec, Target

Seed = np.random.SeedSequence

TRANSFERRED = 4  # models trained on the target's labels for the transfer attack
LEAST = 16  # queries a record below which a search is not worth its name
RESERVED = 10  # of so many queries at an endpoint one is kept for those that have to be sent again


@dataclass(frozen=True, eq=False)
class Measurements:
    """Each signal measured of the target, by its specification.

    `refused` says in a sentence why one could not be. `asked` counts the records of a population
    that were sent besides.
    """

    found: dict[SignalSpec, MeasuredSignal] = field(default_factory=dict)
    refused: dict[SignalSpec, str] = field(default_factory=dict)
    asked: int = 0

    def evidence(self, spec: SignalSpec, records: Records) -> Evidence:
        """Give the signal as evidence about all records, nothing known yet.

        Raises:
            UnmetNeedError: It could not be measured.
        """
        assert spec.name != "outputs"
        if spec not in self.found:
            raise UnmetNeedError(
                self.refused.get(
                    spec,
                    f"Expected the signal {spec.title} measured, got none. Audit with a model.",
                )
            )
        values = self.found[spec].final[:, None, :]
        return Evidence(spec.name, values, records.y, np.full(len(records), -1, dtype=np.int8))

    @property
    def queries(self) -> int:
        """Records sent to the target for all of them together."""
        # Students answer for themselves, so only the population that the target labelled was sent
        own = (
            entry.queries[:, -1].sum()
            for spec, entry in self.found.items()
            if spec.source != "student"
        )
        return self.asked + int(sum(own))


def plan_searches(plan: Plan, subject: Subject) -> Plan:
    """Fill in the queries for each label-only search that the plan leaves open, 0 for none.

    A declared query budget is taken as it is. Without one a local model is asked as often as the
    effort allows, fewer times where that would be more records in all than it allows, and an
    endpoint, where each query costs, never. The boundary search gets as many queries as the others
    where somebody gave their number.
    """
    # Stored answers cannot be asked about moved records
    if read_target_facts(subject.target).stored:
        return replace(plan, search_queries=0, boundary_queries=0)
    limits = EFFORTS[plan.effort]
    is_given = plan.search_queries is not None or plan.threat.query_budget is not None
    other = (
        _choose_search_queries(plan, subject)
        if plan.search_queries is None
        else plan.search_queries
    )
    boundary = plan.boundary_queries
    if boundary is None:
        boundary = other if is_given else min(other, limits.boundary_queries)
    return replace(plan, search_queries=other, boundary_queries=boundary)


def has_open_searches(plan: Plan, subject: Subject) -> bool:
    """Tell whether the effort alone decides how long searches are.

    It does not where their number or the adversary's budget is given, or where none can be made.
    """
    facts = read_target_facts(subject.target)
    return (
        plan.search_queries is None
        and plan.boundary_queries is None
        and plan.threat.query_budget is None
        and not facts.stored
        and not facts.costly
    )


def _choose_search_queries(plan: Plan, subject: Subject) -> int:
    """Choose the queries a record for each label-only search."""
    target = subject.target
    budget = plan.threat.query_budget
    if budget is None:
        # Queries at an endpoint are paid for, so they are never spent undeclared
        if read_target_facts(target).costly:
            return 0
        limits = EFFORTS[plan.effort]
        budget = limits.search_queries
        if limits.rows is not None:
            budget = min(budget, limits.rows // max(len(subject.records), 1))
    elif read_target_facts(target).costly:
        # Some queries are lost on the way and sent again, which must stay within the budget
        budget -= budget // RESERVED
    return budget if budget >= LEAST else 0


def explain_no_search(plan: Plan, subject: Subject) -> str:
    """Explain why label-only searches are not made."""
    if read_target_facts(subject.target).stored:
        return "Expected a model to search with new queries, got stored signals. Audit the model itself."
    budget = plan.threat.query_budget
    if budget is not None and _choose_search_queries(plan, subject) == 0:
        # The least declared budget that leaves enough after the reserve
        least = (
            LEAST + LEAST // (RESERVED - 1) if read_target_facts(subject.target).costly else LEAST
        )
        return f"Expected a budget of at least {least} queries a record for a label-only search, got {budget}. Grant more."
    if read_target_facts(subject.target).costly:
        return "Expected a query budget for searches at an endpoint, got none. Add --query-budget 256 if so many may be sent."
    if plan.effort == "quick" and _choose_search_queries(plan, subject):
        return (
            "Expected queries for label-only searches, got none: there is no time for them in a "
            "quick audit, or search_queries is 0. Leave search_queries out, and give --effort "
            "normal."
        )
    if _choose_search_queries(plan, subject):
        return "Expected queries for label-only searches, got --search-queries 0. Leave it out."
    most = (EFFORTS[plan.effort].rows or 0) // LEAST
    return (
        f"Expected at most {most} records for label-only searches, got "
        f"{len(subject.records)}. "
        f"Declare a --query-budget, audit fewer records, or give --effort thorough."
    )


def explain_no_custom(spec: SignalSpec, plan: Plan, subject: Subject) -> str | None:
    """Explain why a signal of somebody's own cannot be measured; None if it can."""
    facts, budget = read_target_facts(subject.target), plan.threat.query_budget
    if facts.stored:
        return f"Expected a model to measure {spec.title} of, got stored signals. Audit the model itself."
    if facts.costly and budget is None:
        return f"Expected a query budget to measure {spec.title} at an endpoint, got none. Add --query-budget 256 if so many may be sent."
    needed = 1 if spec.own is None else spec.own.queries
    if budget is not None and budget < needed:
        return f"Expected a budget of at least {needed} queries a record for {spec.title}, got {budget}. Grant more."
    return None


def measure_target(
    schedule: Schedule,
    subject: Subject,
    store: Store | None,
    report: Callable[[str, int, int], None],
    *,
    known: Signal | None = None,
) -> Measurements:
    """Measure every signal of the schedule that one answer does not show, each once.

    What cannot be is refused in a sentence. `known` is what the first answers are.
    """
    found: dict[SignalSpec, MeasuredSignal] = {}
    refused: dict[SignalSpec, str] = {}
    # Levels may ask for one signal several times
    wanted = dict.fromkeys(request.spec for request in schedule.list_measured_requests())
    for spec in wanted:
        # What the first query answered already
        if spec.name == known:
            continue
        measured, why = attempt_measuring(
            subject.target,
            subject.records,
            spec,
            store,
            _build_stage_callback(report, f"measure {spec.title}"),
        )
        if measured is None:
            refused[spec] = why
        else:
            found[spec] = measured
    return Measurements(found, refused)


def add_token_parts(
    schedule: Schedule,
    subject: Subject,
    tokens: TokenSignals | None,
    store: Store | None,
    report: Callable[[str, int, int], None],
) -> tuple[TokenSignals | None, dict[SignalSpec, str]]:
    """Ask for the parts of the token signals that the schedule's attacks read, each once.

    The first answers hold the rest. What cannot be had is refused in a sentence.

    Raises:
        TargetError: An endpoint failed, which the audit can go on from.
    """
    refused: dict[SignalSpec, str] = {}
    if tokens is None:
        return None, refused
    wanted = [part for job in schedule.jobs for part in job.attack.needs.tokens]
    if _needs_features(schedule) and read_target_facts(subject.target).base is not None:
        wanted.append("base")
    for part in dict.fromkeys(wanted):
        if tokens.has_part(part):
            continue
        try:
            # The first answers are taken from the store, or asked for again
            more = collect_tokens(
                subject.target,
                subject.records,
                (part,),
                store=store,
                progress=_build_stage_callback(report, f"query {part}"),
                known=tokens,
            )
        except MemberscopeError as error:
            if isinstance(error, TargetError) and read_target_facts(subject.target).costly:
                raise
            refused[SignalSpec("tokens", views=(part,))] = str(error)
        else:
            tokens = more
    return tokens, refused


def _needs_features(schedule: Schedule) -> bool:
    """Tell whether an attack of the schedule reads features of the tokens."""
    return any(job.request.spec.name == "token_features" for job in schedule.jobs)


def add_token_features(
    measured: Measurements, schedule: Schedule, tokens: TokenSignals | None
) -> Measurements:
    """Add the features of the target's tokens, which were asked for, if an attack reads them."""
    if tokens is None or not _needs_features(schedule):
        return measured
    # The attack runs where given tokens' log-probabilities are all that is shown
    found = compute_token_features(hide_vocabulary(tokens))
    features = {SignalSpec("token_features"): build_single_stage(found)}
    return replace(measured, found=measured.found | features)


def attempt_measuring(
    target: Target,
    records: Records,
    spec: SignalSpec,
    store: Store | None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[MeasuredSignal | None, str]:
    """Measure one signal, or give None and a sentence why it could not be.

    No measurement ends the audit of what else there is.

    Raises:
        TargetError: An endpoint failed, which the audit can go on from.
    """
    try:
        return measure_signal(target, records, spec, store=store, progress=progress), ""
    except MemberscopeError as error:
        # Stored progress lets the audit go on, so a failing endpoint ends it instead of losing
        # signals
        if isinstance(error, TargetError) and read_target_facts(target).costly:
            raise
        return None, str(error)
    # Models of users may raise anything, and one signal is not worth the audit
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return None, (
            f"Expected {spec.title} measured of this model, got {type(error).__name__}: {first}. "
            "Remove hooks and wrappers that the "
            f"training put on it, or do without attacks that need it."
        )


def add_transfer_signal(
    measured: Measurements,
    schedule: Schedule,
    subject: Subject,
    recipe: Recipe | None,
    population: Records | None,
    *,
    seed: Seed,
) -> Measurements:
    """Add what models trained on the target's labels think, if an attack of the schedule asks."""
    jobs = [job for job in schedule.jobs if job.request.spec.source == "student"]
    if not jobs or recipe is None or population is None:
        return measured
    spec = jobs[0].request.spec
    seeds = [
        int(value) for value in np.random.default_rng(seed).integers(0, 2**31 - 1, TRANSFERRED)
    ]
    try:
        values = score_by_transfer(recipe, subject.target, population, subject.records, seeds)
    except MemberscopeError as error:
        # As above: an audit of an endpoint goes on from where it failed
        if isinstance(error, TargetError) and read_target_facts(subject.target).costly:
            raise
        return replace(measured, refused=measured.refused | {spec: str(error)})
    each = -(
        -len(population) // len(subject.records)
    )  # what was asked about the population, shared out over the records
    found = measured.found | {spec: build_single_stage(values, each)}
    return Measurements(found, measured.refused, measured.asked + len(population))


def _build_stage_callback(
    report: Callable[[str, int, int], None], stage: str
) -> Callable[[int, int], None]:
    """Build a callback for one stage of the progress report."""
    return lambda done, total: report(stage, done, total)


def _name_search(spec: SignalSpec) -> str:
    """Name the signal, with the search where it is not the default.

    >>> _name_search(SignalSpec("boundary", parameters=(("hopskipjump", 1.0), ("queries", 128.0))))
    'boundary_hopskipjump'
    """
    return "_".join(
        [spec.title, *(name for name, value in spec.parameters if name == "hopskipjump" and value)]
    )


def summarise_spent_queries(measured: Measurements) -> dict[str, SpentQueries]:
    """Summarise the queries a record of each label-only search, for the report.

    The budget, the mean and the most.
    """
    return {
        _name_search(spec): SpentQueries(
            budget=int(dict(spec.parameters).get("queries", 0)),
            mean=float(entry.queries[:, -1].mean()),
            most=int(entry.queries[:, -1].max()),
        )
        for spec, entry in measured.found.items()
        if entry.queries.any() and spec.source != "student"
    }
