"""Read reference models that were trained elsewhere, of which one number a record was stored."""

from __future__ import annotations

import numpy as np

from memberscope.auditing.collect.reference_models import References
from memberscope.auditing.collect.reference_rules import select_reference_rules
from memberscope.auditing.documents.schedule import Schedule
from memberscope.auditing.subject.subject import StoredReferences, Subject
from memberscope.recipes import ReferenceFleet
from memberscope.signals import Observed, SignalRequest, reduce_outputs
from memberscope.types import Evidence, Floats, SignalSpec

# What follows from the mean log-probability of a record's tokens
KEPT = ("logit_confidence", "log_confidence")


def explain_unstored(spec: SignalSpec) -> str | None:
    """Explain why an attack cannot run on stored reference models; None if it can.

    >>> explain_unstored(SignalSpec("log_confidence")) is None
    True
    """
    if spec.name in KEPT and dict(spec.parameters).get("temperature", 1.0) == 1.0:
        return None
    return (
        f"Expected a recipe to measure {spec.title} of reference models, got stored ones, of which "
        "the mean log-probability of each record is known. Give --recipe."
    )


def build_stored_references(
    subject: Subject, schedule: Schedule, observed: Observed
) -> References | None:
    """Build the evidence of stored reference models beside the target's; None without any."""
    stored = subject.stored_references
    if stored is None:
        return None
    fleet = _build_fleet(stored)
    rules = select_reference_rules(subject.target)
    good = rules.mark_trained(fleet.train_accuracy, rules.measure_accuracy(subject, observed))
    evidence = {
        wanted: _build_evidence(wanted, subject, observed.outputs, stored, np.flatnonzero(good))
        for wanted in schedule.list_reference_requests()
    }
    return References(fleet, good, evidence, observed.outputs, None, 0)


def _build_fleet(stored: StoredReferences) -> ReferenceFleet:
    """Build the account of the models, as of a fleet that was trained here."""
    known = np.exp(stored.log_confidence)
    inside = stored.inside
    accuracies = [
        np.array([row[side].mean() for row, side in zip(known, sides, strict=True)])
        for sides in (inside, ~inside)
    ]
    return ReferenceFleet(
        inside=inside,
        observed={},
        population={},
        predicted=np.zeros(inside.shape, dtype=np.int32),
        confidence=known.astype(np.float32),
        train_accuracy=accuracies[0],
        held_out_accuracy=accuracies[1],
        trained=0,
        record_quality=stored.log_confidence.astype(np.float32),
    )


def _build_evidence(
    wanted: SignalRequest,
    subject: Subject,
    outputs: Floats,
    stored: StoredReferences,
    good: np.ndarray[tuple[int], np.dtype[np.intp]],
) -> Evidence:
    """Build the evidence of one signal: the target's (n, 1, 1) beside the models' (m, n, 1, 1)."""
    labels = subject.records.y
    name, own = reduce_outputs(wanted, "loss", outputs, labels)
    theirs = [
        reduce_outputs(wanted, "loss", -stored.log_confidence[k][:, None], labels)[1] for k in good
    ]
    hidden = np.full(len(labels), -1, dtype=np.int8)
    references = np.stack(theirs)[:, :, None, :] if theirs else np.empty((0, len(labels), 1, 1))
    return Evidence(
        name, own[:, None, :], labels, hidden, references=references, inside=stored.inside[good]
    )
