"""Build the evidence of trained reference models.

The target is asked what they were asked, and both stand side by side.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.auditing.collect.measured_signals import Measurements, attempt_measuring
from memberscope.auditing.collect.reference_models import References
from memberscope.auditing.collect.reference_rules import select_reference_rules
from memberscope.auditing.documents.access_levels import find_remaining_restriction
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.subject.subject import Subject
from memberscope.facts import read_target_facts
from memberscope.recipes import ReferenceFleet, TrainingJob
from memberscope.signals import (
    MeasuredSignal,
    Observed,
    SignalRequest,
    Store,
    arrange_labels,
    collect_outputs,
    is_measured,
    reduce_outputs,
    transform_view,
)
from memberscope.types import Bools, Evidence, Floats, Records, Signal


def build_references(
    plan: Plan,
    subject: Subject,
    order: TrainingJob,
    fleet: ReferenceFleet,
    observed: Observed,
    measured: Measurements | None = None,
    *,
    store: Store | None = None,
) -> References:
    """Ask the target what the trained `fleet` was asked, and put both side by side.

    Signals that could not be measured of the target, or of some model, are left out with the
    reason.
    """
    # The first view is the record itself, which was asked about already
    answers, asked = [observed.outputs], 0
    for name in plan.views[1:]:
        more = _collect_view_answers(subject, subject.records, name, store)
        answers.append(more.outputs)
        asked += more.queries
    # A population that no model saw is asked about in the same views
    others, population = [], order.population
    if population is not None:
        others = [_collect_view_answers(subject, population, name, store) for name in plan.views]
        asked += sum(entry.queries for entry in others)
    # Models that did not learn are dropped from every signal, not only from some
    rules = select_reference_rules(subject.target)
    good = rules.mark_trained(fleet.train_accuracy, rules.measure_accuracy(subject, observed))
    found, done = measured or Measurements(), read_target_facts(subject.target).restriction
    evidence, refused = {}, dict(found.refused)
    for wanted in order.wanted:
        # A signal that a good model lacks would leave holes in its evidence
        if (why := _explain_unmeasured(wanted, fleet, good)) is not None:
            refused.setdefault(wanted.spec, why)
        if wanted.spec in refused:
            continue
        known = found.found.get(wanted.spec)
        # Answers are reduced as the models' were; measurements are taken as they are
        if known is None:
            values = _reduce_target_answers(wanted, observed.signal, answers, subject.records, done)
        else:
            values = _name_measured_values(wanted, known)
        evidence[wanted] = _build_reference_evidence(
            values, subject.records, fleet.observed[wanted][good], fleet.inside[good]
        )
    # No model was trained on the population, so it is outside everywhere
    if population is not None:
        nowhere = np.zeros((int(good.sum()), len(population)), dtype=bool)
        outputs = [entry.outputs for entry in others]
        for wanted in list(evidence):
            if is_measured(wanted.spec):
                more_of_it, why = attempt_measuring(subject.target, population, wanted.spec, store)
                if more_of_it is None:
                    refused[wanted.spec] = why
                    del evidence[wanted]
                    # Without the population the attack would see less than it was built for
                    continue
                values, asked = (
                    _name_measured_values(wanted, more_of_it),
                    asked + int(more_of_it.queries[:, -1].sum()),
                )
            else:
                values = _reduce_target_answers(wanted, observed.signal, outputs, population, done)
            outside = _build_reference_evidence(
                values, population, fleet.population[wanted][good], nowhere
            )
            evidence[wanted] = replace(evidence[wanted], population=outside)
    return References(
        fleet, good, evidence, observed.outputs, others[0] if others else None, asked, refused
    )


def _explain_unmeasured(wanted: SignalRequest, fleet: ReferenceFleet, good: Bools) -> str | None:
    """Explain why a measured signal cannot be compared: some good model does not show it.

    None if all do.
    """
    if not is_measured(wanted.spec):
        return None
    tables = [
        fleet.observed[wanted],
        *([fleet.population[wanted]] if wanted in fleet.population else []),
    ]
    lacking = [
        k
        for k in np.flatnonzero(good).tolist()
        if any(np.isnan(table[k]).any() for table in tables)
    ]
    if not lacking:
        return None
    return (
        f"Expected reference models of which {wanted.spec.title} can be measured as of the target, "
        f"got {len(lacking)} of "
        f"{int(good.sum())} of which it cannot. Let the recipe return a model like the target."
    )


def _collect_view_answers(
    subject: Subject, records: Records, name: str, store: Store | None
) -> Observed:
    """Collect the target's answers about one view of some records."""
    copies = replace(records, x=transform_view(name, records.x))
    return collect_outputs(subject.target, copies, store=store, probe=False)


Named = tuple[Signal, NDArray[Any]]


def _reduce_target_answers(
    wanted: SignalRequest,
    signal: Signal,
    answers: list[Floats],
    records: Records,
    done: str | None = None,
) -> Named:
    """Reduce the target's answers (n, k) about each view to a signal (n, views, d) and its name.

    `done` names the restriction that the answers went through already.
    """
    # Whole answers are kept of the first view only
    chosen = answers[:1] if wanted.spec.name == "outputs" else answers
    left = replace(wanted, restriction=find_remaining_restriction(wanted.restriction, done))
    parts = [reduce_outputs(left, signal, outputs, records.y) for outputs in chosen]
    return parts[0][0], np.stack([values for _, values in parts], axis=1)


def _name_measured_values(wanted: SignalRequest, measured: MeasuredSignal) -> Named:
    """Name a measured signal, and give the target's values (n, 1, d) of it."""
    assert wanted.spec.name != "outputs"
    return wanted.spec.name, measured.final[:, None, :]


def _build_reference_evidence(
    values: Named, records: Records, references: NDArray[Any], inside: Bools
) -> Evidence:
    """Build evidence of a signal, the target's beside the reference models' (m, n, views, d)."""
    hidden = np.full(len(records), -1, dtype=np.int8)
    labels = arrange_labels(values[0], records.y)
    return Evidence(values[0], values[1], labels, hidden, references=references, inside=inside)
