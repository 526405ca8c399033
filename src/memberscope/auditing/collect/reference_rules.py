"""Choose by task how reference models are judged and compared with the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memberscope.auditing.collect.loss_references import (
    mark_confident_models,
    measure_loss_confidence,
    measure_loss_fidelity,
    run_loss_reference_control,
)
from memberscope.auditing.collect.output_references import (
    mark_fitted_models,
    measure_mean_quality,
    measure_output_fidelity,
    run_output_reference_control,
)
from memberscope.auditing.collect.reference_models import (
    References,
    mark_converged_models,
    measure_fidelity,
    measure_target_accuracy,
    run_reference_control,
)
from memberscope.auditing.collect.table_references import run_table_reference_control
from memberscope.auditing.collect.text_references import (
    mark_learned_models,
    measure_text_accuracy,
    measure_text_fidelity,
    run_text_reference_control,
)
from memberscope.auditing.documents.diagnostics import ReferenceFidelity
from memberscope.auditing.documents.result import Control
from memberscope.auditing.subject.subject import Subject
from memberscope.facts import read_target_facts
from memberscope.signals import Observed
from memberscope.types import OUTPUT_TASKS, Bools, Floats, Target


@dataclass(frozen=True)
class ReferenceRules:
    """How reference models of one task are judged.

    `measure_accuracy` is that of the target on its members, `mark_trained` marks the models that
    learned by their own, `run_control` checks that they resemble the target, and `measure_fidelity`
    says how much.
    """

    measure_accuracy: Callable[[Subject, Observed], float]
    mark_trained: Callable[[Floats, float], Bools]
    run_control: Callable[[References, Subject, float], Control]
    measure_fidelity: Callable[[References, Subject], ReferenceFidelity]


CLASSIFIERS = ReferenceRules(
    measure_target_accuracy, mark_converged_models, run_reference_control, measure_fidelity
)
TEXTS = ReferenceRules(
    measure_text_accuracy, mark_learned_models, run_text_reference_control, measure_text_fidelity
)
LOSSES = ReferenceRules(
    measure_loss_confidence,
    mark_confident_models,
    run_loss_reference_control,
    measure_loss_fidelity,
)

TABLES = ReferenceRules(
    measure_mean_quality, mark_fitted_models, run_table_reference_control, measure_output_fidelity
)
OUTPUTS = ReferenceRules(
    measure_mean_quality, mark_fitted_models, run_output_reference_control, measure_output_fidelity
)


def select_reference_rules(target: Target) -> ReferenceRules:
    """Select the rules that fit what a target does.

    >>> from memberscope.targets import FunctionTarget
    >>> select_reference_rules(FunctionTarget(len, n_classes=2)) is CLASSIFIERS
    True
    """
    task = read_target_facts(target).task
    if task == "table":
        return TABLES
    if task in OUTPUT_TASKS:
        return OUTPUTS
    if task == "text":
        return TEXTS
    return LOSSES if target.signal == "loss" else CLASSIFIERS
