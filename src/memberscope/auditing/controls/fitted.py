"""Check whether the answers about the members know anything of their classes.

A model that was never fitted, or is asked in another way than it was trained, tells nothing about
its members and would pass any policy. Answers are fitted if the members' accuracy is surely above
that of the best constant answer, or if the probability of the true class is surely higher than
labels that have nothing to do with the answers would give; the latter sees a classifier of rare
events, whose accuracy is that of a constant.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import bdtrc, ndtri

from memberscope._numerics import fill_hidden_probabilities
from memberscope.auditing.documents.access_levels import Level
from memberscope.auditing.documents.result import AuditArrays, Control
from memberscope.statistics import clopper_pearson
from memberscope.types import Access, Bools, Evidence, Floats, Ints

ALPHA = 0.01  # chance that unfitted answers are taken for fitted ones, by each of the two signs
NOT_FITTED = (
    "The answers look like an unfitted model's: it is right about {right} of its members, where "
    "always answering with one "
    "class is right about {constant}. Is this the fitted model, and does it get its records as in "
    "training?"
)


def run_fitted_control(
    predicted: Ints | None,
    probabilities: Floats | None,
    labels: Ints,
    member: Bools,
    unit: Ints | None = None,
) -> Control:
    """Check whether answers look like a fitted model's.

    They are top classes `predicted` (n,), and `probabilities` (n, k) where there are any. Without
    `predicted`, as with losses only, nothing can be told and nothing is withheld.
    """
    if predicted is None:
        return Control(None, "Losses alone do not tell whether the model is fitted.")
    y, hits = labels[member], predicted[member] == labels[member]
    constant = _find_best_constant(y)
    own = None if unit is None else unit[member]
    sure = is_better_than_constant(hits, y, own)
    # Probabilities are the second sign, for classifiers that rarely change their top class
    if not sure and probabilities is not None:
        sure = _can_predict_labels(fill_hidden_probabilities(probabilities[member]), y, own)
    low, high = clopper_pearson(int(hits.sum()), len(hits), 0.95)
    value, best = float(hits.mean()), float(constant.mean())
    details = {
        "constant_accuracy": best,
        "n_members": len(y),
        "probabilities": probabilities is not None,
    }
    if sure:
        why = f"The model knows its members' classes: right about {100 * value:.3g}% of them, where always answering with one class gets {100 * best:.3g}%."
    else:
        why = NOT_FITTED.format(right=f"{100 * value:.3g}%", constant=f"{100 * best:.3g}%")
    return Control(bool(sure), why, value, float(low), float(high), None, details)


def select_answers(evidence: Mapping[Level, Evidence]) -> tuple[Ints | None, Floats | None]:
    """Select top classes (n,) and probabilities (n, k) at the audited levels.

    None for what there is not.
    """
    labels = evidence.get(Level(Access.LABEL))
    predicted = None if labels is None else labels.target[:, 0, 0].astype(np.int64)
    # A restriction that is tried hides part of the probabilities
    open_levels = [
        level for level in evidence if level.access == Access.PROBABILITIES and level.declared
    ]
    seen = [evidence[level] for level in open_levels if evidence[level].signal == "probabilities"]
    return predicted, np.asarray(seen[0].target[:, 0, :], dtype=np.float64) if seen else None


def describe_unfitted_answers(
    evidence: Mapping[Level, Evidence], labels: Ints, member: Bools
) -> list[str]:
    """Describe answers that look unfitted, before scoring; nothing where they do not."""
    predicted, probabilities = select_answers(evidence)
    control = run_fitted_control(predicted, probabilities, labels, member)
    return [control.why] if control.passed is False else []


def _find_best_constant(labels: Ints) -> Bools:
    """Find where (n,) the constant answer is right that is right most often."""
    values, counts = np.unique(labels, return_counts=True)
    right: Bools = labels == values[counts.argmax()]
    return right


def is_better_than_constant(hits: Bools, labels: Ints, unit: Ints | None = None) -> bool:
    """Tell whether the model is surely right (`hits`, n) more often than any constant.

    This is the sign test of the differences.
    """
    constant = _find_best_constant(labels)
    # Records on which both are right, or both wrong, tell nothing
    if unit is None:
        gained, lost = int((hits & ~constant).sum()), int((constant & ~hits).sum())
        return bool(gained > lost and float(bdtrc(gained - 1, gained + lost, 0.5)) < ALPHA)
    return _is_surely_positive(hits.astype(np.float64) - constant, unit)


def _can_predict_labels(probabilities: Floats, labels: Ints, unit: Ints | None) -> bool:
    """Tell whether the true classes surely get more than in random order.

    The variance is Hoeffding's, over permutations [1].

    References:
        [1] W. Hoeffding, "A combinatorial central limit theorem", Annals of Mathematical Statistics
    22, 1951.
    """
    n = len(labels)
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    shares = counts / n
    # What a random order of the labels would give each record, and each class, is taken off
    centred = probabilities - (probabilities @ shares)[:, None]
    centred = centred - centred.mean(axis=0)
    gain = centred[np.arange(n), labels]
    if unit is not None:
        return _is_surely_positive(gain, unit)
    variance = float(((centred**2) @ counts).sum()) / max(n - 1, 1)
    return bool(variance > 0 and float(gain.sum()) > -float(ndtri(ALPHA)) * variance**0.5)


def _is_surely_positive(values: Floats, unit: Ints) -> bool:
    """Tell whether values (n,) have a mean surely above 0, by independent units (n,)."""
    sums = np.bincount(np.unique(unit, return_inverse=True)[1], values)
    spread = float((sums**2).sum()) ** 0.5
    return bool(spread > 0 and float(sums.sum()) > -float(ndtri(ALPHA)) * spread)


def read_correct_predictions(arrays: AuditArrays) -> Bools | None:
    """Read whether the model was right about each record (n,) from the gap attack's scores.

    None where it did not run.
    """
    scores = next(
        (entry.scores for entry in arrays.scored if entry.attack == "gap" and entry.declared), None
    )
    # The gap attack scores one where the model is right and zero elsewhere
    return None if scores is None else np.asarray(scores > 0.5)
