"""What an audit would do and could see, before anything is asked or paid for."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from math import comb

import numpy as np

from memberscope.auditing.gather import asks_twice, streams_of
from memberscope.auditing.levels import Level, levels_of, runs_at
from memberscope.auditing.measuring import search_plan, why_not_searched
from memberscope.auditing.plan import Plan
from memberscope.auditing.procedure import target_order
from memberscope.auditing.result import NotRun
from memberscope.auditing.subject import Subject
from memberscope.auditing.training import Training, designed, order_of, seed_notes, wanted_by
from memberscope.errors import InputError
from memberscope.recipes.execution import threads_at_most
from memberscope.recipes.fleet import Standing, standing
from memberscope.recipes.observe import trained_models
from memberscope.recipes.settle import settled
from memberscope.signals import Store, is_measured
from memberscope.signals.outputs import PROBE
from memberscope.statistics import minimum_detectable_tpr, smallest_fpr
from memberscope.types import MEASURED_AT, Access

SECONDS = (4.0, 1.2e-4)  # per audit, and per record: measured by benchmarks/scale.py with every attack and 20 groups
CLASSIFIER = 0.06  # seconds to fit one attack classifier: `audit --attacks shokri` on Location-30, 8 references, 28 s for 465


@dataclass(frozen=True)
class Forecast:
    """Attacks that run and at which level, those that do not, costs, and (fpr, limit, detectable TPR) rows."""

    runs: list[tuple[str, str]]
    not_run: list[NotRun]
    n_members: int
    n_non_members: int
    queries: int
    minutes: float
    megabytes: float
    models: int
    targets: int
    model_megabytes: float
    smallest_fpr: float
    detectable: list[tuple[float, float, float | None]]
    notes: list[str]
    standing: Standing


def forecast(plan: Plan, subject: Subject, training: Training | None = None, store: Store | None = None) -> Forecast:
    """Dry run of `plan` on `subject`; the model is not asked and nothing is trained; `store` is what earlier runs left.

    Raises:
        InputError: The records do not resolve a rate that was asked for.
    """
    plan = search_plan(designed(plan, training), subject)
    n_members, n_others = int(subject.member.sum()), int((~subject.member).sum())
    n, signal = n_members + n_others, subject.target.signal
    levels = levels_of(subject.target, signal, plan.threat, plan.restrictions)
    runs, not_run = [], []
    for attack in plan.chosen():
        at = [level for level in levels if runs_at(attack, level)]
        if not at:
            not_run.append(
                NotRun(attack.name, plan.threat.access.word, f"needs {attack.needs.access.word}; the model returns {signal}")
            )
        elif is_measured(attack.needs.spec) and at[-1].access == Access.LABEL and not plan.search_queries:
            not_run.append(NotRun(attack.name, at[-1].word, why_not_searched(plan, subject)))
        elif attack.needs.spec.name == "augmentation" and len(getattr(subject.records.x, "shape", ())) < 3:
            not_run.append(NotRun(attack.name, at[-1].word, "needs images"))
        elif sum(attack.needs.references) and training is None:
            not_run.append(NotRun(attack.name, at[-1].word, "needs reference models; give a recipe that trains them"))
        elif signal == "loss" and "loss" not in attack.needs.signals:
            not_run.append(NotRun(attack.name, at[-1].word, "needs probabilities or logits; only losses are given"))
        elif attack.needs.features and subject.features is None:
            not_run.append(NotRun(attack.name, at[-1].word, "needs the records' features"))
        else:
            runs += [(attack.name, level.word) for level in at]
    limits = {claim.fpr: claim.tpr for claim in plan.policy.max_tpr} if plan.policy else {}
    rows = []
    for fpr in plan.resolvable_fprs(n_others):
        if limits and fpr not in limits:
            continue
        limit = limits.get(fpr, fpr)
        tpr = minimum_detectable_tpr(
            n_members, n_others, fpr, limit, confidence=plan.confidence, n_candidates=max(len({name for name, _ in runs}), 1)
        )
        rows.append((fpr, limit, tpr))
    if plan.targets and training is None:
        raise InputError(f"Expected a recipe to train {plan.targets} target models, got none. Give --recipe, or no --targets.")
    models = 0
    if training is not None and wanted_by(plan, levels):
        models = len(order_of(plan, subject, training, levels, np.random.SeedSequence(plan.seed)).inside)
    asked = n * len(plan.views) if models else n
    if models and training is not None and training.population is not None:
        asked += len(training.population) * len(plan.views)
    ran = {name for name, _ in runs}
    specs = {attack.needs.spec for attack in plan.chosen() if attack.name in ran and is_measured(attack.needs.spec)}
    searched = [spec for spec in specs if MEASURED_AT[spec.name] == Access.LABEL and spec.name != "transfer"]  # type: ignore[index]
    asked += n * len(searched) * (plan.search_queries or 0)
    stored = n * (2 * len(runs) + 5) * 8 + n * max(len(runs), 1) * 40
    each = SECONDS[1] * n * max(len(runs), 1) / 16 + CLASSIFIER * classifiers(plan, runs, subject.target.n_classes)
    seconds = SECONDS[0] + each * (1 + plan.targets)
    return Forecast(
        runs,
        not_run,
        n_members,
        n_others,
        asked + (min(PROBE, n) if asks_twice(plan, training) else 0),
        seconds / 60,
        stored / 1e6,
        models,
        plan.targets,
        stored_of_models(plan, subject, training, levels, models) / 1e6,
        smallest_fpr(n_others),
        rows,
        seed_notes(training),
        left_over(plan, subject, training, levels, store),
    )


def classifiers(plan: Plan, runs: list[tuple[str, str]], n_classes: int) -> int:
    """Attack classifiers that are fitted: one a class and one for all, or one for all, for each fold and pair of folds.

    >>> classifiers(Plan(folds=5), [("shokri", "probabilities"), ("shokri_statistics", "probabilities")], 30)
    480
    """
    one_fit = {"shokri": 1 + n_classes, "shokri_statistics": 1}
    return (plan.folds + comb(plan.folds, 2)) * sum(one_fit.get(name, 0) for name, _ in runs)


def left_over(
    plan: Plan, subject: Subject, training: Training | None, levels: tuple[Level, ...], store: Store | None
) -> Standing:
    """How many of the reference models and further targets are stored, kept, or to train."""
    if training is None:
        return Standing(0, 0, 0)
    streams, orders = streams_of(plan), []
    if wanted_by(plan, levels):
        orders.append(order_of(plan, subject, training, levels, streams["references"]))
    if plan.targets:
        orders.append(target_order(plan, subject, training, levels, streams["targets"]))
    parts = [standing(order, store) for order in orders]
    return Standing(*(sum(getattr(part, name) for part in parts) for name in ("stored", "kept", "to_train")))


def stored_of_models(plan: Plan, subject: Subject, training: Training | None, levels: tuple[Level, ...], models: int) -> int:
    """Bytes stored of the reference models and of the further targets, of which all answers are kept as well."""
    whole = 8 * len(subject.records) * subject.target.n_classes
    return (models + plan.targets) * bytes_of_a_model(plan, subject, training, levels) + plan.targets * whole


def bytes_of_a_model(plan: Plan, subject: Subject, training: Training | None, levels: tuple[Level, ...]) -> int:
    """What is stored of one reference model: a float32 a signal, record and view, all outputs where an attack needs them."""
    records = len(subject.records) + (len(training.population) if training and training.population else 0)
    per_record = 8
    for wanted in wanted_by(plan, levels):
        per_record += 4 * (subject.target.n_classes if wanted.spec.name == "outputs" else len(plan.views))
    return records * per_record


def seconds_a_model(plan: Plan, subject: Subject, training: Training) -> float:
    """Seconds that training one batch of reference models takes here on one core, by model; nothing is kept."""
    levels = levels_of(subject.target, subject.target.signal, plan.threat, plan.restrictions)
    order = order_of(plan, subject, training, levels, np.random.SeedSequence(plan.seed))
    recipe, _ = settled(order.recipe, order.pool, int(order.inside[0].sum()), len(order.inside), None)
    order = replace(order, recipe=recipe)
    batch = list(order.batches()[0])
    started = time.perf_counter()
    with threads_at_most(1):
        trained_models(order.recipe, order.pool, order.inside[batch], [order.seeds[row] for row in batch])
    return (time.perf_counter() - started) / len(batch)
