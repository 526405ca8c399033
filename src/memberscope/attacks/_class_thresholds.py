"""One global threshold, or one a class.

How a score is shifted so that a single cut decides for every class.

With a threshold a class the score is its distance from the threshold that best told known members
of that class from known non-members (Song and Mittal 2021), so that zero is the attack's own
decision boundary.

References:
    [1] L. Song, P. Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning Models",
        USENIX Security 2021, arXiv:2003.10595.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.types import Access, Attack, Bools, Evidence, Floats, Needs, Signal

Thresholds = Literal["global", "per_class"]


def name_attack(base: str, thresholds: Thresholds) -> str:
    """The attack's name with its kind of threshold.

    >>> name_attack("loss", "per_class")
    'loss_per_class'
    """
    return base if thresholds == "global" else f"{base}_per_class"


def build_threshold_needs(
    thresholds: Thresholds, access: Access, signals: tuple[Signal, ...]
) -> Needs:
    """Known members and non-members are needed only to learn a threshold a class."""
    return Needs(access=access, signals=signals, known="none" if thresholds == "global" else "both")


def _learn_threshold(scores: Floats, member: Bools) -> float:
    """Threshold with the best balanced accuracy for "member iff score >= threshold".

    The strictest of equals.

    >>> _learn_threshold(np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, True, False, False]))
    0.8
    """
    order = np.argsort(-scores)
    ranked, truth = scores[order], member[order]
    last_of_block = np.append(ranked[1:] != ranked[:-1], True)
    n_members = int(truth.sum())
    advantage = np.cumsum(truth) * (len(truth) - n_members) - np.cumsum(~truth) * n_members
    return float(ranked[last_of_block][np.argmax(advantage[last_of_block])])


def _learn_class_thresholds(scores: Floats, evidence: Evidence) -> Floats:
    """Threshold (n,) for each record's class, learned on known records.

    The global one where a kind lacks.
    """
    known, member = evidence.known >= 0, evidence.known == 1
    everywhere = _learn_threshold(scores[known], member[known])
    thresholds = np.full(len(scores), everywhere)
    for label in np.unique(evidence.labels):
        of_class = evidence.labels == label
        learn = of_class & known
        if member[learn].any() and not member[learn].all():
            thresholds[of_class] = _learn_threshold(scores[learn], member[learn])
    return thresholds


class Thresholded(Attack, Protocol):
    """An attack on one statistic with a choice of thresholds."""

    @property
    def thresholds(self) -> Thresholds:
        """One threshold, or one a class."""
        ...


def score_statistic(
    statistic: Callable[[Evidence], Floats], attack: Thresholded, evidence: Evidence
) -> Floats:
    """The statistic (n,), shifted by the class's threshold if the attack asks for it.

    NaN where a record is not hidden.

    Raises:
        UnmetNeedError: The evidence lacks what the attack needs.
    """
    require_needs(attack, evidence)
    scores = statistic(evidence)
    if attack.thresholds == "per_class":
        scores = scores - _learn_class_thresholds(scores, evidence)
    return np.where(evidence.hidden, scores, np.nan)
