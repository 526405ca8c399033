"""Estimate how many seconds an audit takes.

A few constants come from `benchmarks/forecast.py`, the rest from a short probe made here.

All seconds are of one core. To set the constants again after the attacks or intervals became faster
or slower, run `python benchmarks/forecast.py constants` and copy the lines that it prints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import comb

import numpy as np

from memberscope.auditing.collect.reference_models import Training
from memberscope.auditing.documents.access_levels import Level
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.schedule import Schedule
from memberscope.auditing.subject.subject import Subject, take_records
from memberscope.errors import MemberscopeError, TargetError
from memberscope.facts import read_target_facts
from memberscope.signals import SignalRequest
from memberscope.targets.wrappers import find_metered_target
from memberscope.types import Attack

START = 1.5  # an audit of next to nothing
ATTACK = (0.0025, 4.0e-7)  # an attack that learns nothing at one level: in all, and for each record
FITTED = (0.015, 4.0e-6)  # one that is fitted once a fold and once a pair of folds
COMPARED = 2.5e-7  # one that compares with reference models: for each record and model, besides
# Quantile regression on features, all folds: in all, for each record, and the records up to which
# fitting takes longer
QUANTILE = (
    0.9,
    3.9e-5,
    50_000,
)
FURTHER = 0.05  # share of that which a record beyond them takes: it is scored only
# An attack classifier: `audit --attacks shokri` on Location-30, 8 references, 28 s for 465
CLASSIFIER = 0.06
# All numbers of one attack on some records, by the root of their number: so many ranks matter
PART = 1.8e-4
# The simulation of what the audit could have seen, by the root of the number of non-members
SIMULATED = 0.011
# The blind control: in all, for each record and column, and the most records it looks at
BLIND = (
    0.1,
    4.0e-7,
    20_000,
)
# The search for duplicates: for each record and column, and the most records it looks at
COMPARE = (
    2.5e-6,
    20_000,
)
# A moved record of a label-only search, besides the model: each, and for each of its columns
MOVED = (
    3.0e-6,
    1.2e-7,
)
# Share of the queries granted that a search spends, since many records are done before
SPENT = 0.75
COPIES = 8  # copies of a record in one call of a search that does not walk to the boundary
PROBED = 48  # the records that a local model is timed on
LARGE = 512  # and the size of the larger of two questions, made of the same records
# Share of a further core that work in threads gains: some of it waits for the interpreter
SHARED = 0.3


@dataclass(frozen=True)
class Timings:
    """Seconds measured on this machine, None where nothing was.

    Those of a `question`, of each `record` in it, and of training a `model`.
    """

    question: float | None = None
    record: float | None = None
    model: float | None = None


@dataclass(frozen=True)
class Seconds:
    """Seconds of one core that each part of an audit takes.

    Those of models are None where nobody measured them.
    """

    asking: float | None
    training: float | None
    observing: float | None
    scoring: float
    estimating: float
    controls: float

    @property
    def total(self) -> float:
        """The sum of what is known."""
        parts = (
            self.asking,
            self.training,
            self.observing,
            self.scoring,
            self.estimating,
            self.controls,
        )
        return sum(part for part in parts if part is not None)

    def wall(self, cores: int, at_once: int) -> float:
        """Compute the seconds that will pass.

        The target is asked by one thread, models are trained `at_once`, the rest shares `cores`, of
        which each further one gains less than the first.
        """
        models = (self.training or 0.0) + (self.observing or 0.0)
        return (
            (self.asking or 0.0)
            + models / max(at_once, 1)
            + (self.scoring + self.estimating + self.controls) / (1 + SHARED * max(cores - 1, 0))
        )


def time_target(subject: Subject, clock: Callable[[], float] = time.perf_counter) -> Timings:
    """Time a local model on a few dozen of its own records.

    An endpoint is never asked, and stored signals take no time. The fastest of three questions of
    each of two sizes tells what a question costs and what each record adds.

    Raises:
        TargetError: The model fails.
    """
    target = subject.target
    facts = read_target_facts(target)
    if facts.stored:
        return Timings(0.0, 0.0)
    # What costs money, or has nothing to be asked about, is left unknown
    if facts.costly or find_metered_target(target) is not None or subject.records.x is None:
        return Timings()
    # The larger question repeats the smaller one's records, so both ask about the same
    some = np.arange(min(PROBED, len(subject.records)))
    few, many = (take_records(subject, rows).records.x for rows in (some, np.resize(some, LARGE)))
    # The first answer may load or compile something, so it is not timed
    try:
        target.query(few)
        seconds = [
            min(_measure_seconds(partial(target.query, x), clock) for _ in range(3))
            for x in (few, many)
        ]
    except MemberscopeError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise TargetError(
            f"Expected the model to answer about its own records, got {type(error).__name__}: "
            f"{first}. Ask it about one to see why."
        ) from error
    # Two sizes give a line: what each record adds, and what a question takes without any
    record = max(seconds[1] - seconds[0], 0.0) / (LARGE - len(some))
    return Timings(max(seconds[0] - record * len(some), 0.0), record)


def read_timings(timed: Sequence[tuple[int, float]]) -> Timings:
    """Read the seconds of a question and of a record from the calls (records, seconds) of a run.

    The fastest of the largest calls and of the smallest ones give a line. Nothing is known without
    calls.

    >>> found = read_timings([(4096, 0.51), (4096, 0.42), (32, 0.0136)])
    >>> round(found.question, 4), round(found.record, 4)
    (0.0104, 0.0001)
    >>> read_timings([])
    Timings(question=None, record=None, model=None)
    """
    if not timed:
        return Timings()
    fastest = {n: min(seconds for size, seconds in timed if size == n) for n, _ in timed}
    few, many = min(fastest), max(fastest)
    if few == many:
        return Timings(0.0, fastest[many] / many)
    record = max(fastest[many] - fastest[few], 0.0) / (many - few)
    return Timings(max(fastest[few] - record * few, 0.0), record)


def _measure_seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Measure the seconds by the `clock` that `work` takes."""
    started = clock()
    work()
    return clock() - started


def estimate_audit_seconds(
    plan: Plan,
    subject: Subject,
    training: Training | None,
    schedule: Schedule,
    timings: Timings,
) -> Seconds:
    """Add up what an audit of this plan does by its schedule."""
    runs, wanted = schedule.runs, schedule.list_reference_requests()
    models = plan.count_references() if training is not None and wanted else 0
    n, width = len(subject.records), _count_columns(subject)
    own = tuple(dict.fromkeys(job.request for job in schedule.jobs))
    of_target = _sum_question_seconds(plan, subject, own, timings)
    observing = _sum_observation_seconds(plan, subject, training, schedule, models, timings)
    scoring = estimate_attack_seconds(plan, subject, runs, models, n)
    # Further targets are attacked and estimated as the target is
    further = plan.targets * (scoring + _sum_estimate_seconds(plan, subject, runs, n))
    # The null control runs each attack once more on the non-members, at its highest level
    n_outside = int((~subject.member).sum())
    highest = list({attack: level for attack, level in runs if level.declared}.items())
    controls = estimate_attack_seconds(plan, subject, highest, models, n_outside, pairs=False)
    if subject.features is not None:
        controls += COMPARE[0] * min(n, COMPARE[1]) * width
        controls += (
            BLIND[0]
            + BLIND[1] * min(n, BLIND[2]) * (width + min(subject.target.n_classes, 100)) * 10
        )
    return Seconds(
        asking=of_target,
        training=None if timings.model is None else timings.model * (models + plan.targets),
        observing=observing,
        scoring=START + scoring + further,
        estimating=_sum_estimate_seconds(plan, subject, runs, n) + SIMULATED * n_outside**0.5,
        controls=controls,
    )


def estimate_attack_seconds(
    plan: Plan,
    subject: Subject,
    runs: list[tuple[Attack, Level]],
    models: int,
    n: int,
    *,
    pairs: bool = True,
) -> float:
    """Add up what the attacks of `runs` take on `n` records beside `models` reference models.

    Without `pairs`, attacks are fitted once a fold only, as those of levels that are tried are.
    """
    seconds, alone = 0.0, plan.folds / (plan.folds + comb(plan.folds, 2))
    # Attacks on features are the slowest by far, then those that are fitted once a fold
    for attack, level in runs:
        fixed, each = (
            ATTACK
            if attack.needs.known == "none"
            else QUANTILE[:2]
            if attack.needs.features
            else FITTED
        )
        whole = fixed + each * (
            min(n, QUANTILE[2]) + FURTHER * max(n - QUANTILE[2], 0) if attack.needs.features else n
        )
        spared = attack.needs.known != "none" and not (pairs and level.declared)
        seconds += whole * alone if spared else whole
        if sum(attack.needs.references):
            seconds += COMPARED * n * models
    names = [attack.name for attack, _ in runs]
    n_classifiers = count_classifiers(plan, names, subject.target.n_classes)
    return seconds + CLASSIFIER * n_classifiers * (1.0 if pairs else alone)


def count_classifiers(plan: Plan, names: list[str], n_classes: int) -> int:
    """Count the attack classifiers that are fitted.

    There is one a class and one for all, or one for all, for each fold and pair of folds.

    >>> count_classifiers(Plan(folds=5), ["shokri", "shokri_statistics"], 30)
    480
    """
    one_fit = {"shokri": 1 + n_classes, "shokri_statistics": 1}
    return (plan.folds + comb(plan.folds, 2)) * sum(one_fit.get(name, 0) for name in names)


def _sum_estimate_seconds(
    plan: Plan, subject: Subject, runs: list[tuple[Attack, Level]], n: int
) -> float:
    """Add up the estimates of all attacks.

    All are estimated on all records, and one of each declared level by class and by group; with
    `all_estimates` every one there.
    """
    # Classes of fewer than ten members or non-members get no estimates
    values = [min(subject.target.n_classes, n // 20)]
    values += [len(np.unique(codes)) for codes in subject.records.groups.values()]
    declared = [level for _, level in runs if level.declared]
    whole = len(declared if plan.all_estimates else set(declared))
    # k groups of n / k records each
    return float(PART * n**0.5 * (len(runs) + whole * sum(k**0.5 for k in values)))


def _sum_question_seconds(
    plan: Plan, subject: Subject, wanted: tuple[SignalRequest, ...], timings: Timings
) -> float | None:
    """Sum the seconds that the target takes to answer, searches included.

    None where nobody measured it.
    """
    if timings.question is None or timings.record is None:
        return None
    n = len(subject.records)
    # Long inputs are asked about in several questions
    plain = timings.question * (1 + n // 4096) + timings.record * n
    return plain * len(plan.views) + sum_search_seconds(plan, subject, wanted, timings)


def sum_search_seconds(
    plan: Plan, subject: Subject, wanted: tuple[SignalRequest, ...], timings: Timings
) -> float:
    """Sum the seconds of the label-only searches of one model.

    In each call all records that still search are asked: once on the way to the boundary, where
    each answer decides the next query, and with several copies by other searches.
    """
    assert timings.question is not None and timings.record is not None
    specs, n = {entry.spec for entry in wanted if is_search(entry)}, len(subject.records)
    steps = {spec: SPENT * plan.search_budget.count(spec) for spec in specs}
    calls = sum(count / (1 if spec.name == "boundary" else COPIES) for spec, count in steps.items())
    each = timings.record + MOVED[0] + MOVED[1] * _count_columns(subject)
    return calls * timings.question + sum(steps.values()) * n * each


def _sum_observation_seconds(
    plan: Plan,
    subject: Subject,
    training: Training | None,
    schedule: Schedule,
    models: int,
    timings: Timings,
) -> float | None:
    """Sum the seconds that reference models and further targets take to answer.

    Each takes as long as the target; None where that is not known.
    """
    if training is None or not models + plan.targets:
        return 0.0
    if timings.question is None or timings.record is None:
        return None
    n = len(subject.records) + (0 if training.population is None else len(training.population))
    plain = (timings.question + timings.record * n) * len(plan.views)
    of_reference = plain + sum_search_seconds(
        plan, subject, schedule.list_reference_requests(), timings
    )
    of_further = plain + sum_search_seconds(plan, subject, schedule.list_target_requests(), timings)
    return models * of_reference + plan.targets * of_further


def is_search(wanted: SignalRequest) -> bool:
    """Tell whether a signal is searched for with new queries."""
    return wanted.spec.source == "search"


def _count_columns(subject: Subject) -> int:
    """Count the columns of a record; 1 where that cannot be known."""
    return 1 if subject.features is None else int(subject.features.shape[1])


__all__ = [
    "Seconds",
    "Timings",
    "count_classifiers",
    "is_search",
    "estimate_attack_seconds",
    "estimate_audit_seconds",
    "read_timings",
    "sum_search_seconds",
    "time_target",
]
