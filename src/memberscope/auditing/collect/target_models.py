"""Train further target models, each on records drawn for it alone.

They show the training procedure, and answer as the audited model does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from memberscope.auditing.collect.reference_models import (
    Training,
    describe_design_constraints,
    draw_model_seeds,
    read_like_target,
)
from memberscope.auditing.collect.reference_rules import select_reference_rules
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.subject.subject import Subject
from memberscope.errors import InputError
from memberscope.recipes import ReferenceFleet, TrainingJob, build_balanced_design
from memberscope.recipes.fleet import Failure, Progress, try_train_fleet
from memberscope.signals import SignalRequest, Store
from memberscope.types import Bools


@dataclass(frozen=True, eq=False)
class Procedure:
    """Target models as they answered, `fleet.inside` (t, n) being who each was trained on.

    `good` (t,) converged.
    """

    fleet: ReferenceFleet
    good: Bools

    @property
    def n_failed(self) -> int:
        """Target models left out because they did not learn."""
        return int((~self.good).sum())

    def named(self) -> list[tuple[str, int]]:
        """Name and number each target model that converged: `target 1` for number 0."""
        return [(f"target {k + 1}", k) for k in np.flatnonzero(self.good).tolist()]


def draw_target_membership(plan: Plan, subject: Subject, rng: np.random.Generator) -> Bools:
    """Draw the membership (t, n) of the target models.

    Each row is drawn by itself, of the reference models' size and strata.

    Nothing about the design of the reference models enters, so what a record's references saw says
    nothing about its bit.

    Raises:
        InputError: The size leaves no record out.
    """
    size = plan.reference_size or int(subject.member.sum())
    # A design of one model each: rows of one design would balance each other
    rows = [
        build_balanced_design(
            len(subject.records), size, 1, rng, **describe_design_constraints(subject)
        )
        for _ in range(plan.targets)
    ]
    return np.concatenate(rows)


def build_target_job(
    plan: Plan,
    subject: Subject,
    training: Training,
    wanted: tuple[SignalRequest, ...],
    seed: np.random.SeedSequence,
) -> TrainingJob:
    """Say what to train: `plan.targets` models, kept with their answers and the signals `wanted`.

    Raises:
        InputError: There are no records to train on, or the size leaves none out.
    """
    records = subject.records
    if records.x is None:
        raise InputError(
            "Expected records to train target models on, got signals alone. Give the records, or "
            "no --targets."
        )
    rng = np.random.default_rng(seed)
    inside = draw_target_membership(plan, subject, rng)
    seeds = draw_model_seeds(seed, plan.targets)
    target = subject.target
    plain = TrainingJob(
        training.recipe, records, inside, seeds, wanted, target.signal, target.n_classes, plan.views
    )
    plain = read_like_target(plain, target)
    return replace(
        # The whole answers are kept, since these models are attacked as the target is
        plain,
        population=training.population,
        whole=True,
        keep_weights=training.keep_weights,
    )


def train_target_models(
    plan: Plan,
    subject: Subject,
    training: Training,
    wanted: tuple[SignalRequest, ...],
    expected: float,
    *,
    seed: np.random.SeedSequence,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Procedure | Failure:
    """Train the target models, or say why none could be.

    `expected` is the training accuracy of the audited model.

    Raises:
        InputError: The records do not allow it, or the models answer in another way than the
        target.
        TargetError: The recipe fails.
    """
    order = build_target_job(plan, subject, training, wanted, seed)
    fleet = try_train_fleet(order, store, training.execution, progress)
    mark = select_reference_rules(subject.target).mark_trained
    return (
        fleet
        if isinstance(fleet, Failure)
        else Procedure(fleet, mark(fleet.train_accuracy, expected))
    )
