"""Train the reference models of an audit.

They are trained as the plan says, compared with the target, and judged.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from memberscope.auditing.documents.diagnostics import ReferenceFidelity
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.result import Control
from memberscope.auditing.subject.subject import Subject
from memberscope.errors import InputError
from memberscope.facts import read_recipe_facts, read_target_facts
from memberscope.recipes import (
    Execution,
    ReferenceFleet,
    TrainingJob,
    build_balanced_design,
    check_design,
)
from memberscope.recipes.fleet import find_top_confidence, require_equal_reading
from memberscope.signals import Observed, SignalRequest
from memberscope.statistics import DESCRIPTIVE, clopper_pearson
from memberscope.types import Bools, Evidence, Floats, Ints, Recipe, Records, SignalSpec, Target

# A model is left out if it learned less than this share of what the others, and the target, learned
CONVERGED = 0.9
DISTINCT = 17  # confidences a model must give for an exact copy of it to be no coincidence
MOST_FAILED = 0.25  # share of failed models above which the references say nothing


@dataclass(frozen=True, eq=False)
class Training:
    """How to train models like the target, where, and records that no model sees (used by RMIA).

    `design` (m, n) is the user's own membership of the reference models, over the members and then
    the non-members; without one it is drawn. `keep_weights` keeps the models, so that signals
    thought of later need no training.
    """

    recipe: Recipe
    execution: Execution = field(default_factory=Execution)
    population: Records | None = None
    design: NDArray[np.generic] | None = None
    keep_weights: bool = False


@dataclass(frozen=True, eq=False)
class References:
    """The reference models that trained well, as evidence; all of them, as accounts.

    `evidence` holds one entry for each signal that an attack of the plan needs; `good` (m,) marks
    models that converged. `observed` is what the target answered about the records, `extra_queries`
    what was asked besides one query for each record. `refused` says of signals that could not be
    measured of the target or of the models why.
    """

    fleet: ReferenceFleet
    good: Bools
    evidence: dict[SignalRequest, Evidence]
    observed: Floats
    target_population: Observed | None
    extra_queries: int
    refused: dict[SignalSpec, str] = field(default_factory=dict)

    @property
    def n_failed(self) -> int:
        """Models left out because they did not learn."""
        return int((~self.good).sum())


def fit_training(plan: Plan, subject: Subject, training: Training | None) -> Training | None:
    """Check how models are to be trained, and leave out what the threat model does not grant.

    Raises:
        InputError: Further targets are wanted and there is no recipe, or the design does not fit.
    """
    if training is None:
        if plan.targets:
            raise InputError(
                f"Expected a recipe to train {plan.targets} target models, got none. Give "
                "--recipe, or no --targets."
            )
        return None
    if training.design is not None:
        design = check_design(training.design, len(subject.records), subject.records.unit)
        training = replace(training, design=design)
    # What is not granted is dropped here, so that nothing downstream can use it
    if plan.threat.population is False:
        training = replace(training, population=None)
    return training


def build_training_job(
    plan: Plan,
    subject: Subject,
    training: Training,
    wanted: tuple[SignalRequest, ...],
    seed: np.random.SeedSequence,
) -> TrainingJob:
    """Say what to train: models of the target's size on the audited records.

    They are drawn without looking at membership. Each is asked for the signals `wanted`.

    Raises:
        InputError: The size leaves no record out, or the design does not fit.
    """
    records, member = subject.records, subject.member
    if records.x is None:
        raise InputError(
            "Expected records to train reference models on, got signals alone. Give the records, "
            "or no recipe."
        )
    rng = np.random.default_rng(seed)
    if training.design is not None:
        inside = check_design(training.design, len(records), records.unit)
    else:
        size = plan.reference_size or int(member.sum())
        inside = build_balanced_design(
            len(records), size, plan.count_references(), rng, **describe_design_constraints(subject)
        )
    seeds = draw_model_seeds(seed, len(inside))
    target = subject.target
    order = TrainingJob(
        training.recipe, records, inside, seeds, wanted, target.signal, target.n_classes, plan.views
    )
    order = read_like_target(order, target)
    return replace(order, population=training.population, keep_weights=training.keep_weights)


def read_like_target(order: TrainingJob, target: Target) -> TrainingJob:
    """Let models be read as the target is, or their answers would not compare.

    Raises:
        InputError: The recipe's language models read texts in another way.
    """
    facts = read_target_facts(target)
    # Before hours of training, and not after
    require_equal_reading(read_recipe_facts(order.recipe).tokens_identity, facts.tokens_identity)
    return replace(
        order, like=facts.reading, task=facts.task, tokens_identity=facts.tokens_identity
    )


def draw_model_seeds(seed: np.random.SeedSequence, n_models: int) -> tuple[int, ...]:
    """Draw the seed of each model, of which more models change none.

    >>> sequence = np.random.SeedSequence(0)
    >>> draw_model_seeds(sequence, 9)[:4] == draw_model_seeds(sequence, 4)
    True
    """
    # Apart from the draws of the design, of which there are more with more models
    apart = np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, 0))
    # 31 bits, which every framework takes
    values = np.random.default_rng(apart).integers(0, 2**31 - 1, n_models)
    return tuple(int(value) for value in values)


def cut_design(training: Training | None, keep: Ints | None, n: int) -> Training | None:
    """Cut a fixed design over `n` records to those at the places `keep`; None keeps all of them.

    Raises:
        InputError: The design does not fit the records.
    """
    if training is None or training.design is None or keep is None:
        return training
    return replace(training, design=check_design(training.design, n)[:, keep])


def fit_plan_to_design(plan: Plan, training: Training | None) -> Plan:
    """Fit the plan to the number of reference models of the user's own design.

    It is that of the threat model, if that grants fewer.

    Raises:
        InputError: The design has more models than are granted.
    """
    granted = plan.threat.references
    # A grant of none is left to the schedule, which says why attacks do not run
    if training is None or training.design is None:
        most = plan.count_references()
        return replace(plan, references=granted) if granted and granted < most else plan
    if granted is not None and granted < len(training.design):
        raise InputError(
            f"Expected a design of at most {granted} reference models, as the threat model grants, "
            f"got {len(training.design)}. "
            f"Leave models out of the design, or grant more."
        )
    return replace(plan, references=max(len(training.design), 1))


def describe_unused_seed(training: Training | None) -> list[str]:
    """Say so if the recipe is a function that never looks at its seed.

    A recipe that looks and forgets is not seen.
    """
    if training is None or read_recipe_facts(training.recipe).reads_seed:
        return []
    return [
        "The recipe never reads its seed. If its training is random, runs cannot be repeated or "
        "resumed to the same bytes; if it "
        "starts from one fixed seed, reference models are more alike than targets are, and attacks "
        "weaker."
    ]


class DesignConstraints(TypedDict):
    """What a design holds to: each class's share `strata` (n,), and units (n,) that stay whole."""

    strata: Ints
    unit: NDArray[np.generic] | None


def describe_design_constraints(subject: Subject) -> DesignConstraints:
    """Describe what a design holds to, as arguments of `build_balanced_design`."""
    return {"strata": subject.class_codes, "unit": subject.records.unit}


def measure_target_accuracy(subject: Subject, observed: Observed) -> float:
    """Measure the target's accuracy on its members."""
    top = find_top_confidence(observed.signal, observed.outputs)[0]
    return float((top == subject.records.y)[subject.member].mean())


def mark_converged_models(
    train_accuracy: Floats, of_target: float, share: float = CONVERGED
) -> Bools:
    """Mark models (m,) that reached a `share` of what the fleet's median and the target did.

    >>> mark_converged_models(np.array([1.0, 0.98, 0.05, np.nan]), 1.0).tolist()
    [True, True, False, False]
    """
    finite = train_accuracy[np.isfinite(train_accuracy)]
    # The better of the two: a fleet that failed as a whole must not set its own standard
    expected = max(float(np.median(finite)) if len(finite) else 0.0, of_target)
    # Models that could not be trained have no accuracy, and NaN is not converged
    with np.errstate(invalid="ignore"):
        return np.asarray(train_accuracy >= share * expected)


def run_reference_control(found: References, subject: Subject, confidence: float) -> Control:
    """Check that enough models trained, and know their own records better than others."""
    fleet, good = found.fleet, found.good
    fidelity = measure_fidelity(found, subject)
    details = asdict(fidelity)
    m, failed = len(good), found.n_failed
    broken, first = len(fleet.failures), next(iter(fleet.failures.values()), None)
    least = f"training accuracy below {CONVERGED:g} of what the others or the audited model reached"
    why = explain_untrained_models(found, least)
    # First whether there are models that differ, then whether they are like the target
    if why is not None:
        return Control(False, why, details=details)
    inside, outside = (
        float(fleet.train_accuracy[good].mean()),
        float(fleet.held_out_accuracy[good].mean()),
    )
    # The target's gap has limits, as its records are a sample
    right = _mark_correct_records(found, subject)
    limits = [
        clopper_pearson(int(right[side].sum()), int(side.sum()), confidence)
        for side in (subject.member, ~subject.member)
    ]
    target_gap = float(limits[0][0] - limits[1][1])
    # Models must show at least half of the gap that the target surely has
    if target_gap > 0.02 and inside - outside < target_gap / 2:
        why = (
            f"Reference models do as well on records they were not given ({100 * outside:.3g}%) as "
            "on those they were "
            f"({100 * inside:.3g}%), while the audited model is at least {100 * target_gap:.2g} points "
            "better on its own: the recipe trains on everything, or not like the audited model."
        )
        return Control(False, why, details=details)
    most = float(limits[0][1] - limits[1][0])
    # And not far more than it can have: twice as much, and ten points
    if inside - outside > 2 * max(most, 0.0) + 0.1:
        why = (
            f"Reference models overfit as the audited model does not: they are right about "
            f"{100 * inside:.3g}% of their own records and {100 * outside:.3g}% of others, where the "
            f"audited model differs by at most {100 * most:.2g} points. Attacks with them say little "
            "of it."
        )
        return Control(False, why, details=details)
    # Passed, with what was left out
    left_out = f"; {failed} left out, which did not learn" if failed > broken else ""
    if first is not None:
        left_out += f"; {broken} left out, which could not be trained ({first.why.rstrip('.')})"
    why = (
        f"{m - failed} reference models are right about {100 * inside:.3g}% of their own records and "
        f"{100 * outside:.3g}% of others, the audited model about "
        f"{100 * float(right[subject.member].mean()):.3g}% and "
        f"{100 * float(right[~subject.member].mean()):.3g}%; on records new to both they agree with it "
        f"in {100 * fidelity.agreement:.3g}%{left_out}."
    )
    return Control(True, why, details=details)


def explain_untrained_models(found: References, least: str) -> str | None:
    """Explain why there are too few reference models, or why they are the same.

    `least` says what marks those that did not learn. None if there are enough that differ.
    """
    fleet, m, failed = found.fleet, len(found.good), found.n_failed
    broken, first = len(fleet.failures), next(iter(fleet.failures.values()), None)
    if first is not None and failed > MOST_FAILED * m:
        return f"{broken} of {m} reference models could not be trained, and {failed - broken} more did not learn. {first.why}"
    if failed > MOST_FAILED * m:
        return (
            f"{failed} of {m} reference models did not learn ({least}): too few are left to trust. Give the recipe "
            "the settings that the audited model was trained with."
        )
    copies = len(_find_copied_models(fleet))
    if copies:
        return (
            f"{copies} of {m} reference models answer exactly as another one does, though trained "
            "on other records: the recipe "
            "ignores what it is given, or returns a stored model."
        )
    return None


def _find_copied_models(fleet: ReferenceFleet) -> list[int]:
    """Find models whose answers about every record equal an earlier model's to the last bit.

    Only models that were trained on other records.

    Models that give few different confidences, such as trees or a constant guess, can agree by
    right and are not compared.
    """
    first: dict[bytes, int] = {}
    found = []
    for model in range(len(fleet)):
        # Few confidences may agree by right, and failed models have none
        sure = fleet.confidence[model]
        if len(np.unique(sure)) < DISTINCT or not np.isfinite(fleet.train_accuracy[model]):
            continue
        before = first.setdefault(fleet.predicted[model].tobytes() + sure.tobytes(), model)
        if before != model and not np.array_equal(fleet.inside[before], fleet.inside[model]):
            found.append(model)
    return found


def _mark_correct_records(found: References, subject: Subject) -> Bools:
    """Mark records (n,) on which the target's top class is right."""
    top = find_top_confidence(subject.target.signal, found.observed)[0]
    return np.asarray(top == subject.records.y)


def measure_fidelity(found: References, subject: Subject) -> ReferenceFidelity:
    """Measure how like the target the reference models are.

    On non-members of the target that each was not trained on.

    `agreement` is the share of equal top classes; `calibration_distance` the difference in
    overconfidence (mean confidence minus accuracy) between them and the target.
    """
    fleet, good, member = found.fleet, found.good, subject.member
    top, sure = find_top_confidence(subject.target.signal, found.observed)
    right = top == subject.records.y
    # New to both sides: members would show the target's memory, not its likeness
    new = ~fleet.inside[good] & ~member[None, :]
    count = max(int(new.sum()), 1)
    theirs_right = fleet.predicted[good] == subject.records.y
    theirs = float((fleet.confidence[good] * new).sum() - (theirs_right & new).sum()) / count
    # The target is weighted as the models were asked, so that both are about the same records
    weight = new.sum(axis=0)
    own = float(((sure - right) * weight).sum()) / count
    return ReferenceFidelity(
        models=len(good),
        failed=found.n_failed,
        records_per_model=round(float(fleet.inside.sum(axis=1).mean())),
        records_in_every_model=int(fleet.inside[good].all(axis=0).sum()),
        records_in_no_model=int((~fleet.inside[good]).all(axis=0).sum()),
        train_accuracy=float(np.nanmean(fleet.train_accuracy[good])) if good.any() else None,
        held_out_accuracy=float(np.nanmean(fleet.held_out_accuracy[good])) if good.any() else None,
        target_train_accuracy=float(right[member].mean()),
        target_held_out_accuracy=float(right[~member].mean()),
        agreement=float(((fleet.predicted[good] == top) & new).sum()) / count,
        calibration_distance=abs(theirs - own),
        method=DESCRIPTIVE,
    )
