"""Compare fine-tuned reference models with the audited language model, and judge them.

A reference model says something only if it was trained like the target. Loss shows it: on records
that both were trained on, and on records new to both, the two are equally good, and each gains as
much on its own records as the other. All three are compared record by record, so that how hard a
text is cancels.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from memberscope.auditing.collect.reference_models import References, mark_converged_models
from memberscope.auditing.collect.training_comparison import (
    TrainingComparison,
    TrainingWords,
    find_other_level,
    run_training_control,
)
from memberscope.auditing.documents.diagnostics import ReferenceFidelity
from memberscope.auditing.documents.result import Control
from memberscope.auditing.subject.subject import Subject
from memberscope.signals import Observed
from memberscope.statistics import DESCRIPTIVE
from memberscope.types import Bools, Floats

# A model is left out if a token is less than half as probable to it as to the others or the target
LEARNED = 0.5
# Share of the target's gain on its own records by which references may differ from it, and the
# nats a token by which they always may: `benchmarks/text_control.py` shows what these let pass
SHARE, ALLOWED = 0.5, 0.05
TEXTS = {"members": "texts that both were trained on", "others": "texts new to both"}
WORDS = TrainingWords(
    models="reference models",
    too_weak=f"a token of their own texts is less than {LEARNED:g} times as probable as to the "
    "others or the audited model",
    mistrained="they were trained in another way, such as for other epochs, on other data or with "
    "another template. Attacks with them say little; give the recipe the settings of the audited "
    "model.",
    alike="were trained like the audited model",
    unknown_gain="their gain on own texts cannot be told from this design",
)


def measure_text_accuracy(subject: Subject, observed: Observed) -> float:
    """Measure the target's geometric-mean probability of a token, averaged over its members."""
    return float(np.exp(-observed.outputs[subject.member, 0]).mean())


def mark_learned_models(train_accuracy: Floats, of_target: float) -> Bools:
    """Mark models (m,) whose own texts are not far less probable than to the median and the target.

    Whether they were trained as long as the target is judged apart from that.

    >>> mark_learned_models(np.array([0.03, 0.02, 0.001, np.nan]), 0.03).tolist()
    [True, True, False, False]
    """
    return mark_converged_models(train_accuracy, of_target, LEARNED)


def explain_other_training(found: TrainingComparison) -> str | None:
    """Say in what references were surely trained unlike the target; None if in nothing.

    >>> from memberscope.auditing.collect.training_comparison import Difference
    >>> same = Difference(0.0, -0.01, 0.01)
    >>> explain_other_training(TrainingComparison(same, same, 0.2, 0.2, same)) is None
    True
    >>> less = Difference(0.3, 0.28, 0.32)
    >>> explain_other_training(TrainingComparison(less, same, 0.2, 0.2, same)).split(" on ")[0]
    'lose 0.3 nats a token more than the audited model'
    """
    target = max(found.target_gain or 0.0, 0.0)
    allowed = max(SHARE * target, ALLOWED)
    other = find_other_level(found, allowed)
    if other is not None:
        difference, where = other
        more = "more" if difference.value > 0 else "less"
        lost = f"{abs(difference.value):.2g} nats a token {more}"
        return f"lose {lost} than the audited model on {TEXTS[where]}"
    gain = found.gain
    # Half as much is judged like twice as much
    if gain is None or (
        gain.high >= -max(SHARE * target, ALLOWED / 2) and gain.low <= max(target, ALLOWED)
    ):
        return None
    return (
        f"gain {found.reference_gain:.2g} nats a token on texts that they were trained on, where the "
        f"audited model gains {found.target_gain:.2g}"
    )


def run_text_reference_control(found: References, subject: Subject, confidence: float) -> Control:
    """Check that enough references were trained, and trained as the target was."""
    return run_training_control(
        found,
        subject,
        -found.observed[:, 0],
        measure_text_fidelity(found, subject),
        WORDS,
        confidence=confidence,
        explain=explain_other_training,
        describe_gains=lambda compared: (
            f"they gain {compared.reference_gain:.2g} nats a token on texts that they were trained "
            f"on, the audited model {compared.target_gain:.2g}"
        ),
    )


def measure_text_fidelity(found: References, subject: Subject) -> ReferenceFidelity:
    """Measure how like the target the reference models are.

    Accuracies are geometric-mean probabilities of a token. On records new to both, `agreement` is
    the rank correlation of their mean log-probabilities with the target's, and
    `calibration_distance` the difference of their means, in nats a token.
    """
    fleet, good, member = found.fleet, found.good, subject.member
    own = -found.observed[:, 0]
    agreement, distance = measure_likeness(found, own, member)
    return ReferenceFidelity(
        models=len(good),
        failed=found.n_failed,
        records_per_model=round(float(fleet.inside.sum(axis=1).mean())),
        records_in_every_model=int(fleet.inside[good].all(axis=0).sum()),
        records_in_no_model=int((~fleet.inside[good]).all(axis=0).sum()),
        train_accuracy=float(np.nanmean(fleet.train_accuracy[good])) if good.any() else None,
        held_out_accuracy=float(np.nanmean(fleet.held_out_accuracy[good])) if good.any() else None,
        target_train_accuracy=float(np.exp(own[member]).mean()),
        target_held_out_accuracy=float(np.exp(own[~member]).mean()),
        agreement=agreement,
        calibration_distance=distance,
        method=DESCRIPTIVE,
    )


def measure_likeness(found: References, own: Floats, member: Bools) -> tuple[float, float]:
    """Measure how like the target's numbers `own` (n,) the references' are, on records new to both.

    Give the mean rank correlation, and the distance of their means.
    """
    fleet, told = found.fleet, found.fleet.record_quality
    assert told is not None, "a fleet of which no number a record is known"
    agreements, distances = [], []
    for model in np.flatnonzero(found.good):
        new = ~fleet.inside[model] & ~member
        if new.sum() < 3:
            continue
        ranks = [rankdata(values[new]) for values in (own, told[model])]
        # All ranks tied have no correlation
        if min(rank.std() for rank in ranks) > 0:
            agreements.append(float(np.corrcoef(ranks)[0, 1]))
        distances.append(float((told[model] - own)[new].mean()))
    agreement = float(np.mean(agreements)) if agreements else 0.0
    return agreement, abs(float(np.mean(distances))) if distances else 0.0
