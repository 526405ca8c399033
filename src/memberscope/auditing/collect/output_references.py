"""Compare reference models with a target that predicts numbers, or several labels a record.

How right a model is about each record (`measure_output_quality`) shows whether references were
trained like the target: on records that both were trained on, and on records new to both, the two
are equally right, and each gains as much on its own records as the other.
"""

from __future__ import annotations

import numpy as np

from memberscope.auditing.collect.reference_models import References
from memberscope.auditing.collect.training_comparison import (
    TrainingComparison,
    TrainingWords,
    find_other_level,
    run_training_control,
)
from memberscope.auditing.documents.diagnostics import ReferenceFidelity
from memberscope.auditing.documents.result import Control
from memberscope.auditing.subject.subject import Subject
from memberscope.signals import Observed, measure_output_quality
from memberscope.statistics import DESCRIPTIVE
from memberscope.types import Bools, Floats

# A model is left out if it explains less than this share of what the others, or the target, do
FITTED = 0.5
# Share of the target's gain on its own records by which references may differ from it, and the
# part of the variance, or of the labels, by which they always may
SHARE, ALLOWED = 0.5, 0.05
RECORDS = {"members": "records that both were trained on", "others": "records new to both"}
WORDS = TrainingWords(
    models="reference models",
    too_weak=f"they explain less than {FITTED:g} of what the others or the audited model do",
    mistrained="they were trained in another way. Attacks with them say little; give the recipe the "
    "settings of the audited model.",
    alike="were trained like the audited model",
    unknown_gain="their gain on own records cannot be told from this design",
)


def measure_mean_quality(subject: Subject, observed: Observed) -> float:
    """Measure how right the target is about its members, on average."""
    quality = measure_own_quality(subject, observed.outputs)
    return float(quality[subject.member].mean())


def mark_fitted_models(train_accuracy: Floats, of_target: float) -> Bools:
    """Mark models (m,) that are half as right about their own records as the median and the target.

    Where these explain nothing themselves, every model that answers is kept.

    >>> mark_fitted_models(np.array([0.9, 0.8, 0.1, np.nan]), 0.9).tolist()
    [True, True, False, False]
    """
    finite = train_accuracy[np.isfinite(train_accuracy)]
    expected = max(float(np.median(finite)) if len(finite) else 0.0, of_target)
    least = FITTED * expected if expected > 0 else -np.inf
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(train_accuracy) & (train_accuracy >= least))


def run_output_reference_control(found: References, subject: Subject, confidence: float) -> Control:
    """Check that enough references were trained, and trained as the target was."""
    what = "labels" if subject.target.signal == "label_probabilities" else "variance"
    return run_training_control(
        found,
        subject,
        measure_own_quality(subject, found.observed),
        measure_output_fidelity(found, subject),
        WORDS,
        confidence=confidence,
        explain=lambda compared: explain_other_fit(compared, what),
        describe_gains=lambda compared: (
            f"they gain {100 * (compared.reference_gain or 0.0):.3g}% of the {what} on records that "
            f"they were trained on, the audited model {100 * (compared.target_gain or 0.0):.3g}%"
        ),
    )


def explain_other_fit(found: TrainingComparison, what: str) -> str | None:
    """Say in what references were surely trained unlike the target; None if in nothing.

    `what` they are right about is the variance or the labels.

    >>> from memberscope.auditing.collect.training_comparison import Difference
    >>> same = Difference(0.0, -0.01, 0.01)
    >>> explain_other_fit(TrainingComparison(same, same, 0.2, 0.2, same), "variance") is None
    True
    >>> less = Difference(-0.4, -0.45, -0.35)
    >>> explain_other_fit(TrainingComparison(same, same, 0.5, 0.1, less), "variance").split(",")[0]
    'gain 10% of the variance on records that they were trained on'
    """
    target = max(found.target_gain or 0.0, 0.0)
    allowed = max(SHARE * target, ALLOWED)
    other = find_other_level(found, allowed)
    if other is not None:
        difference, where = other
        more = "less" if difference.value > 0 else "more"
        share = 100 * abs(difference.value)
        return (
            f"are right about {share:.2g}% of the {what} {more} than the audited model on "
            f"{RECORDS[where]}"
        )
    gain = found.gain
    if gain is None or (gain.high >= -allowed and gain.low <= max(target, ALLOWED)):
        return None
    return (
        f"gain {100 * (found.reference_gain or 0.0):.3g}% of the {what} on records that they were "
        f"trained on, where the audited model gains {100 * target:.3g}%"
    )


def measure_output_fidelity(found: References, subject: Subject) -> ReferenceFidelity:
    """Measure how like the target the reference models are.

    Accuracies are the mean of how right a model is. On records new to both, `agreement` is the
    correlation of that with the target's, and `calibration_distance` the difference of the means.
    """
    fleet, good, member = found.fleet, found.good, subject.member
    theirs, own = fleet.record_quality, measure_own_quality(subject, found.observed)
    assert theirs is not None, "a fleet of real outputs without how right they are"
    agreements, distances = [], []
    for model in np.flatnonzero(good):
        new = ~fleet.inside[model] & ~member
        if new.sum() < 3:
            continue
        if min(own[new].std(), theirs[model][new].std()) > 0:
            agreements.append(float(np.corrcoef(own[new], theirs[model][new])[0, 1]))
        distances.append(float((theirs[model] - own)[new].mean()))
    return ReferenceFidelity(
        models=len(good),
        failed=found.n_failed,
        records_per_model=round(float(fleet.inside.sum(axis=1).mean())),
        records_in_every_model=int(fleet.inside[good].all(axis=0).sum()),
        records_in_no_model=int((~fleet.inside[good]).all(axis=0).sum()),
        train_accuracy=float(np.nanmean(fleet.train_accuracy[good])) if good.any() else None,
        held_out_accuracy=float(np.nanmean(fleet.held_out_accuracy[good])) if good.any() else None,
        target_train_accuracy=float(own[member].mean()),
        target_held_out_accuracy=float(own[~member].mean()),
        agreement=float(np.mean(agreements)) if agreements else 0.0,
        calibration_distance=abs(float(np.mean(distances))) if distances else 0.0,
        method=DESCRIPTIVE,
    )


def measure_own_quality(subject: Subject, outputs: Floats) -> Floats:
    """Measure how right the target is about each record (n,)."""
    return measure_output_quality(subject.target.signal, outputs, subject.records.y)
