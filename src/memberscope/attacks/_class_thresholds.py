"""Shift a score so that a single threshold decides for every class.

An attack has one global threshold, or one for each class.

With a threshold for each class the score is its distance from the threshold that best separates
known members of that class from known non-members (Song and Mittal 2021), so that zero is the
attack's own decision boundary.

References:
    [1] L. Song, P. Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning Models",
        USENIX Security 2021, arXiv:2003.10595.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.statistics import find_best_balanced_threshold, roc
from memberscope.types import Access, Attack, Evidence, Floats, Needs, Signal

Thresholds = Literal["global", "per_class"]


def name_attack(base: str, thresholds: Thresholds) -> str:
    """Name the attack after its kind of threshold.

    >>> name_attack("loss", "per_class")
    'loss_per_class'
    """
    return base if thresholds == "global" else f"{base}_per_class"


def build_threshold_needs(
    thresholds: Thresholds, access: Access, signals: tuple[Signal, ...]
) -> Needs:
    """Declare what an attack needs with this kind of threshold.

    Known members and non-members are needed only to learn a threshold for each class.
    """
    return Needs(access=access, signals=signals, known="none" if thresholds == "global" else "both")


def _learn_class_thresholds(scores: Floats, evidence: Evidence) -> Floats:
    """Learn a threshold (n,) for each record's class from known records.

    A class that lacks known members or known non-members gets the global threshold.
    """
    known, member = evidence.known >= 0, evidence.known == 1
    # Learned first: classes without known records of both kinds fall back on it
    everywhere = find_best_balanced_threshold(roc(scores[known], member[known]))
    thresholds = np.full(len(scores), everywhere)
    for label in np.unique(evidence.labels):
        of_class = evidence.labels == label
        learn = of_class & known
        if member[learn].any() and not member[learn].all():
            thresholds[of_class] = find_best_balanced_threshold(roc(scores[learn], member[learn]))
    return thresholds


class Thresholded(Attack, Protocol):
    """An attack on one statistic with a choice of thresholds."""

    @property
    def thresholds(self) -> Thresholds:
        """One global threshold, or one for each class."""
        ...


def score_statistic(
    statistic: Callable[[Evidence], Floats], attack: Thresholded, evidence: Evidence
) -> Floats:
    """Compute the statistic (n,), shifted by the class's threshold if the attack asks for it.

    It is NaN where a record is not hidden.

    Raises:
        UnmetNeedError: The evidence lacks what the attack needs.
    """
    require_needs(attack, evidence)
    scores = statistic(evidence)
    if attack.thresholds == "per_class":
        # Shifted, so that one threshold at zero serves all classes
        scores = scores - _learn_class_thresholds(scores, evidence)
    return np.where(evidence.hidden, scores, np.nan)
