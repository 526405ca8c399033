"""The blind control: can members be told from non-members by the records alone, without the model?

If they can, an attack's success may be a difference between the two samples and says nothing about the model.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.auditing.crossfit import assign_folds
from memberscope.auditing.features import narrowed
from memberscope.auditing.parallel import each
from memberscope.auditing.result import Control
from memberscope.statistics import auc_difference, auc_interval, minimum_detectable_auc, within_fold
from memberscope.types import Bools, Floats, Ints

CONFIDENCE = 0.995  # two-sided, so that a clean audit is refused in about 0.25% of cases
MAX_RECORDS = 20_000  # a side; enough to see an AUC of 0.51
FOLDS = 5


def blind_control(
    features: Floats | None, labels: Ints, member: Bools, strongest: Floats | None, rng: np.random.Generator
) -> Control:
    """Cross-fitted AUC of a classifier that sees features (n, f) and labels (n,) only.

    `strongest` (n,) are the strongest attack's comparable scores; its leakage beyond the blind classifier is reported.
    """
    if features is None:
        return Control(None, "The records were not given, so nothing could be told from them alone (blind control).")
    chosen = subsample(member, rng)
    scores = blind_scores(features[chosen], labels[chosen], member[chosen], rng)
    truth = member[chosen]
    interval = auc_interval(scores, truth, CONFIDENCE)
    n_members, n_others = int(truth.sum()), int((~truth).sum())
    smallest = minimum_detectable_auc(n_members, n_others, confidence=CONFIDENCE)
    details: dict[str, Any] = {"n_members": n_members, "n_non_members": n_others, "confidence": CONFIDENCE}
    if strongest is not None:
        beyond = auc_difference(strongest[chosen], scores, truth, 0.95)
        details["beyond_blind"] = {"auc_difference": beyond.value, "low": beyond.low, "high": beyond.high}
    passed = interval.low <= 0.5
    found = f"AUC {interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
    if passed:
        why = f"A classifier that never asks the model does not tell members apart: {found}; it would have seen {smallest:.3f}."
    else:
        why = f"A classifier that never asks the model tells members from non-members: {found}; the samples differ."
    return Control(passed, why, interval.value, interval.low, interval.high, smallest, details)


def subsample(member: Bools, rng: np.random.Generator) -> Ints:
    """Positions of at most `MAX_RECORDS` members and as many non-members, in order."""
    sides = []
    for side in (True, False):
        where = np.flatnonzero(member == side)
        sides.append(where if len(where) <= MAX_RECORDS else rng.choice(where, MAX_RECORDS, replace=False))
    return np.sort(np.concatenate(sides))


def blind_scores(features: Floats, labels: Ints, member: Bools, rng: np.random.Generator) -> Floats:
    """Cross-fitted scores (n,): the mean position under a linear model and under boosted trees, each within its fold."""
    fold = assign_folds(member, FOLDS, rng)
    wide = np.column_stack([np.nan_to_num(features - np.nanmean(features, axis=0)), one_hot(labels)])
    narrow = np.column_stack([narrowed(features, rng), labels])
    jobs = [(linear_model, wide), (tree_model, narrow)]
    linear, trees = each(lambda job: cross_predicted(job[0], job[1], member, fold), jobs)
    both: Floats = (within_fold(linear, member, fold) + within_fold(trees, member, fold)) / 2
    return both


def one_hot(labels: Ints) -> Floats:
    """Labels (n,) as indicator columns (n, k) of at most a hundred classes; none beyond that."""
    values = np.unique(labels)
    if len(values) > 100:
        return np.empty((len(labels), 0))
    columns: Floats = (labels[:, None] == values).astype(np.float64)
    return columns


def cross_predicted(make: Any, inputs: Floats, member: Bools, fold: Ints) -> Floats:
    """Log-odds (n,) of membership from models fitted on the other folds."""
    scores = np.empty(len(member))
    for f in range(FOLDS):
        model = make().fit(inputs[fold != f], member[fold != f])
        scores[fold == f] = model.decision_function(inputs[fold == f])
    return scores


def linear_model() -> Any:
    """Ridge classifier on standardised inputs."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0))


def tree_model() -> Any:
    """A small boosted-tree classifier, deterministic."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=40, max_leaf_nodes=8, min_samples_leaf=20, learning_rate=0.1, early_stopping=False
    )
