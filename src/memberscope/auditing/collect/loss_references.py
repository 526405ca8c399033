"""Judge reference models of which one number a record is known: a loss, or the user's own.

No accuracy follows from it. What can be told is whether the number of a record moves by training on
it, and whether it moves as the target's does.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from memberscope.auditing.collect.reference_models import (
    CONVERGED,
    References,
    mark_converged_models,
)
from memberscope.auditing.collect.text_references import (
    LEARNED,
    measure_likeness,
    measure_text_fidelity,
)
from memberscope.auditing.collect.training_comparison import (
    TrainingComparison,
    TrainingWords,
    run_training_control,
)
from memberscope.auditing.documents.diagnostics import ReferenceFidelity
from memberscope.auditing.documents.result import Control
from memberscope.auditing.subject.subject import Subject
from memberscope.signals import Observed
from memberscope.statistics import DESCRIPTIVE
from memberscope.types import Bools, Floats

# Standard deviations of the number by which gains may always differ
ALLOWED = 0.1
LESS_ACCURATE = f"training accuracy below {CONVERGED:g} of the others'"
WORDS = TrainingWords(
    models="reference models",
    too_weak=f"confidence in their own records below {LEARNED:g} of the others' or the audited "
    "model's",
    mistrained="they were trained in another way, or inside is not whom they were trained on. "
    "Attacks with them say little; give references that were trained as the audited model was.",
    alike="were trained like the audited model",
    unknown_gain="how much training moves their numbers cannot be told from this design",
)


def measure_loss_confidence(subject: Subject, observed: Observed) -> float:
    """Measure the target's mean confidence exp(-loss) on its members."""
    return float(np.exp(-observed.outputs[subject.member, 0]).mean())


def mark_confident_models(train_accuracy: Floats, of_target: float) -> Bools:
    """Mark models (m,) whose own records are not far less likely than to the median and the target.

    >>> mark_confident_models(np.array([0.9, 0.8, 0.3]), 0.9).tolist()
    [True, True, False]
    """
    return mark_converged_models(train_accuracy, of_target, LEARNED)


def mark_unmeasured_models(train_accuracy: Floats) -> Bools:
    """Mark models (m,) by the accuracy that their training measured, with that of their median.

    >>> mark_unmeasured_models(np.array([0.9, 0.88, 0.3])).tolist()
    [True, True, False]
    """
    return mark_converged_models(train_accuracy, 0.0)


def measure_loss_fidelity(found: References, subject: Subject) -> ReferenceFidelity:
    """Measure how like the target the reference models are, by their numbers on records new to both.

    `agreement` is the rank correlation. Of losses the accuracies are mean confidences; of a number
    of the user's own there are none.
    """
    stored = subject.stored_references
    if stored is None or stored.number is None:
        return measure_text_fidelity(found, subject)
    fleet, good = found.fleet, found.good
    agreement, distance = measure_likeness(found, _read_own_number(found, subject), subject.member)
    return ReferenceFidelity(
        models=len(good),
        failed=found.n_failed,
        records_per_model=round(float(fleet.inside.sum(axis=1).mean())),
        records_in_every_model=int(fleet.inside[good].all(axis=0).sum()),
        records_in_no_model=int((~fleet.inside[good]).all(axis=0).sum()),
        train_accuracy=_average_accuracy(stored.train_accuracy, good),
        held_out_accuracy=None,
        target_train_accuracy=None,
        target_held_out_accuracy=None,
        agreement=agreement,
        calibration_distance=distance,
        method=DESCRIPTIVE,
    )


def run_loss_reference_control(found: References, subject: Subject, confidence: float) -> Control:
    """Check that enough references were trained, and that training moves their numbers alike."""
    stored = subject.stored_references
    measured = stored is not None and stored.train_accuracy is not None
    own = _read_own_number(found, subject)
    return run_training_control(
        found,
        subject,
        own,
        measure_loss_fidelity(found, subject),
        replace(WORDS, too_weak=LESS_ACCURATE) if measured else WORDS,
        confidence=confidence,
        explain=lambda compared: _explain_other_gain(compared, float(own.std())),
        describe_gains=lambda compared: (
            f"training on a record moves its number by {compared.reference_gain:.2g}, of the "
            f"audited model by {compared.target_gain:.2g}"
        ),
    )


def _explain_other_gain(compared: TrainingComparison, spread: float) -> str | None:
    """Say in what references surely gain unlike the target; `spread` is the number's own.

    None where they gain alike, or where that cannot be told.
    """
    gain, target = compared.gain, max(compared.target_gain or 0.0, 0.0)
    allowed = ALLOWED * spread
    # Half as much is judged like twice as much
    if gain is None or (
        gain.high >= -max(target / 2, allowed) and gain.low <= max(target, 2 * allowed)
    ):
        return None
    return (
        f"move the number of a record by {compared.reference_gain:.2g} when they are trained on it, "
        f"where the audited model moves it by {compared.target_gain:.2g}"
    )


def _read_own_number(found: References, subject: Subject) -> Floats:
    """Read the target's number (n,), higher for likelier members."""
    stored = subject.stored_references
    if stored is None or stored.number is None or stored.target is None:
        return -found.observed[:, 0]
    return stored.number.sign * np.asarray(stored.target[:, 0, 0], dtype=np.float64)


def _average_accuracy(accuracy: Floats | None, good: Bools) -> float | None:
    """Average the training accuracy that is known of good models."""
    return None if accuracy is None or not good.any() else float(accuracy[good].mean())
