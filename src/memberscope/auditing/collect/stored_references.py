"""Read reference models that others trained, of which answers about the records were stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.auditing.collect.loss_references import mark_unmeasured_models
from memberscope.auditing.collect.reference_models import References
from memberscope.auditing.collect.reference_rules import select_reference_rules
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.schedule import Schedule
from memberscope.auditing.subject.subject import Subject
from memberscope.recipes import ReferenceFleet
from memberscope.recipes.fleet import LARGEST, find_top_confidence, restrict_own_model
from memberscope.signals import (
    Observed,
    SignalRequest,
    measure_output_quality,
    reduce_outputs,
    validate_outputs,
)
from memberscope.targets import ReferenceOutputs
from memberscope.types import OUTPUT_SIGNALS, Evidence, Floats, Ints, Signal, SignalSpec, Task

Named = tuple[Signal, NDArray[Any]]
Reduction = Callable[[SignalRequest, NDArray[Any]], Named]
# What follows from an answer about a record, at any temperature
KEPT = ("logit_confidence", "log_confidence")


def explain_unstored(spec: SignalSpec, signal: Signal, task: Task) -> str | None:
    """Explain why an attack cannot run on stored reference models; None if it can.

    >>> explain_unstored(SignalSpec("log_confidence"), "loss", "text") is None
    True
    >>> explain_unstored(SignalSpec("gradient_norm"), "logits", "classification")[:38]
    'Expected a recipe to measure gradient_'
    """
    if spec.name in KEPT:
        if task != "text" or dict(spec.parameters).get("temperature", 1.0) == 1.0:
            return None
    # Of one number a record the schedule says that whole answers are lacking
    elif spec.name == "outputs":
        return None
    kept = (
        "the mean log-probability of each record is known"
        if task == "text"
        else f"the {'answers' if signal != 'loss' else 'one number'} about each record are known"
    )
    return (
        f"Expected a recipe to measure {spec.title} of reference models, got stored ones, of which "
        f"{kept}. Give --recipe."
    )


def fit_plan_to_stored(plan: Plan, subject: Subject) -> tuple[Plan, Subject]:
    """Fit the plan to the number of stored reference models, and these to what is granted."""
    stored = subject.stored_references
    if stored is None:
        return plan, subject
    granted = plan.threat.references
    # A grant of none is left to the schedule, which says why attacks do not run
    if granted and granted < len(stored):
        stored = stored.limit(granted)
        subject = replace(subject, stored_references=stored)
    return replace(plan, references=len(stored)), subject


def build_stored_references(
    subject: Subject, schedule: Schedule, observed: Observed
) -> References | None:
    """Build the evidence of stored reference models beside the target's; None without any.

    Raises:
        InputError: Answers of a model are not of the target's kind.
    """
    stored = subject.stored_references
    if stored is None:
        return None
    fleet = _build_fleet(subject, stored)
    rules = select_reference_rules(subject.target)
    if stored.train_accuracy is not None and subject.target.signal == "loss":
        good = mark_unmeasured_models(stored.train_accuracy)
    elif stored.number is not None:
        good = np.ones(len(stored), dtype=bool)
    else:
        good = rules.mark_trained(fleet.train_accuracy, rules.measure_accuracy(subject, observed))
    chosen = np.flatnonzero(good)
    evidence = {
        wanted: _build_evidence(wanted, subject, observed.outputs, stored, chosen)
        for wanted in schedule.list_reference_requests()
    }
    return References(fleet, good, evidence, observed.outputs, None, 0)


def _build_fleet(subject: Subject, stored: ReferenceOutputs) -> ReferenceFleet:
    """Build the account of the models, as of a fleet that was trained here."""
    signal, inside = subject.target.signal, stored.inside
    told = predicted = None
    if signal == "loss":
        told = np.empty(inside.shape, dtype=np.float32)
        for row, values in enumerate(stored.outputs):
            told[row] = _read_number(stored, values[:, 0, 0])
        sure = told if stored.number is not None else np.exp(told)
        per_record: NDArray[np.generic] = sure
        predicted = np.zeros(inside.shape, dtype=np.int32)
    elif signal in OUTPUT_SIGNALS:
        per_record = told = _measure_quality(subject, stored)
        # There is no top class; the first output tells copies of one model from each other
        sure = np.asarray(stored.outputs[:, :, 0, 0], dtype=np.float32)
        predicted = np.zeros(inside.shape, dtype=np.int32)
    else:
        predicted = np.empty(inside.shape, dtype=np.int32)
        sure = np.empty(inside.shape, dtype=np.float32)
        for row, values in enumerate(stored.outputs):
            outputs = np.asarray(values[:, 0], dtype=np.float64)
            validate_outputs(signal, outputs, subject.records.ids, subject.target.n_classes)
            predicted[row], sure[row] = find_top_confidence(signal, outputs)
        per_record = predicted == subject.records.y
    accuracies = [
        np.array([row[side].mean() for row, side in zip(per_record, sides, strict=True)])
        for sides in (inside, ~inside)
    ]
    return ReferenceFleet(
        inside=inside,
        observed={},
        population={},
        predicted=predicted,
        confidence=sure,
        train_accuracy=accuracies[0],
        held_out_accuracy=accuracies[1],
        trained=0,
        record_quality=told,
    )


def _measure_quality(subject: Subject, stored: ReferenceOutputs) -> NDArray[np.float32]:
    """Measure how right each model is about each record (m, n), of numbers or several labels.

    Raises:
        InputError: Answers of a model are not of the target's kind.
    """
    target, records = subject.target, subject.records
    quality = np.empty(stored.inside.shape, dtype=np.float32)
    for row, values in enumerate(stored.outputs):
        outputs = np.asarray(values[:, 0], dtype=np.float64)
        validate_outputs(target.signal, outputs, records.ids, target.n_classes)
        quality[row] = measure_output_quality(target.signal, outputs, records.y)
    return quality


def _read_number(stored: ReferenceOutputs, values: NDArray[np.generic]) -> Floats:
    """Read one number a record (n,), higher for likelier members: minus a loss, or the user's."""
    sign = -1.0 if stored.number is None else stored.number.sign
    return sign * np.asarray(values, dtype=np.float64)


def _build_evidence(
    wanted: SignalRequest,
    subject: Subject,
    outputs: Floats,
    stored: ReferenceOutputs,
    good: NDArray[np.intp],
) -> Evidence:
    """Build the evidence of one signal: the target's (n, views, d) beside the models'."""
    labels = subject.records.y
    # Without a target of their own, the answers that were just asked for are the only view
    own = outputs[:, None, :] if stored.target is None else stored.target
    reduce = _choose_reduction(subject, stored)
    name, target = reduce(wanted, own)
    references = np.empty((len(good), *target.shape), dtype=np.float32)
    for place, model in enumerate(good):
        # As the owner of such a model would see it, with noise of its own
        seen = restrict_own_model(wanted, stored.inside[model])
        references[place] = np.clip(reduce(seen, stored.outputs[model])[1], -LARGEST, LARGEST)
    hidden = np.full(len(labels), -1, dtype=np.int8)
    return Evidence(name, target, labels, hidden, references=references, inside=stored.inside[good])


def _choose_reduction(subject: Subject, stored: ReferenceOutputs) -> Reduction:
    """Choose how answers (n, views, d) of a model are reduced to a signal and its values."""
    signal, labels = subject.target.signal, subject.records.y
    if stored.number is not None:
        return _NumberReduction(stored)
    return lambda wanted, values: _reduce_views(wanted, signal, values, labels)


class _NumberReduction:
    """Read one number of the user's own on the scale of a logit, unless it is a logit already.

    It is moved by the mean of all reference models' numbers, and divided by how much models differ
    about a record. LiRA is not changed by that; averages of confidences need some scale.
    """

    def __init__(self, stored: ReferenceOutputs) -> None:
        self.stored, self.centre, self.scale = stored, 0.0, 1.0
        assert stored.number is not None
        if not stored.number.is_logit:
            mean, spread = _measure_spread(stored)
            self.centre = stored.number.sign * mean
            self.scale = spread if spread > 0 else 1.0

    def __call__(self, wanted: SignalRequest, values: NDArray[Any]) -> Named:
        """Give the signal's name and its values (n, views, 1)."""
        number = (_read_number(self.stored, values) - self.centre) / self.scale
        if wanted.spec.name == "log_confidence":
            number = -np.logaddexp(0, -number / dict(wanted.spec.parameters).get("temperature", 1))
        assert wanted.spec.name != "outputs"
        return wanted.spec.name, number.astype(np.float32)


def _measure_spread(stored: ReferenceOutputs) -> tuple[float, float]:
    """Measure the mean of numbers, and their standard deviation over models of a record's side.

    Model by model, so that no more than some numbers a record are held.
    """
    inside = stored.inside.astype(np.float64)
    first = np.asarray(stored.outputs[0, :, 0, 0], dtype=np.float64)
    sums = np.zeros((2, len(first)))
    for values, with_it in zip(stored.outputs, inside, strict=True):
        # Apart from the first model's, so that large numbers lose no digits
        moved = values[:, 0, 0] - first
        sums += (with_it * moved, (1 - with_it) * moved)
    counts = np.maximum(np.stack([inside.sum(axis=0), (1 - inside).sum(axis=0)]), 1)
    means, squares = sums / counts, 0.0
    for values, with_it in zip(stored.outputs, stored.inside, strict=True):
        residual = values[:, 0, 0] - first - np.where(with_it, means[0], means[1])
        squares += float(np.square(residual).sum())
    total = float(first.mean() + sums.sum() / inside.size)
    return total, float(np.sqrt(squares / inside.size))


def _reduce_views(
    wanted: SignalRequest, signal: Signal, values: NDArray[Any], labels: Ints
) -> Named:
    """Reduce answers (n, views, d) to a signal's name and its values (n, views, e)."""
    # Whole answers are kept of the first view only
    chosen = range(1 if wanted.spec.name == "outputs" else values.shape[1])
    temperature = dict(wanted.spec.parameters).get("temperature", 1.0)
    # Of a loss alone the other classes count as one, which at any temperature takes the rest
    scaled = signal == "loss" and temperature != 1.0
    asked = replace(wanted, spec=SignalSpec("logit_confidence")) if scaled else wanted
    parts = [
        reduce_outputs(asked, signal, np.asarray(values[:, view], np.float64), labels)
        for view in chosen
    ]
    found = np.stack([part for _, part in parts], axis=1)
    if not scaled:
        return parts[0][0], found
    assert wanted.spec.name != "outputs"
    return wanted.spec.name, -np.logaddexp(0, -found.astype(np.float64) / temperature).astype(
        np.float32
    )
