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
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from memberscope._check import check_binary_scores
from memberscope.attacks._inputs import require_needs
from memberscope.types import Access, Attack, Bools, Evidence, Floats, Ints, Needs, Signal, Task

Thresholds = Literal["global", "per_class"]


def name_attack(base: str, thresholds: Thresholds) -> str:
    """Name the attack after its kind of threshold.

    >>> name_attack("loss", "per_class")
    'loss_per_class'
    """
    return base if thresholds == "global" else f"{base}_per_class"


def build_threshold_needs(
    thresholds: Thresholds,
    access: Access,
    signals: tuple[Signal, ...],
    tasks: tuple[Task, ...] = ("classification",),
) -> Needs:
    """Declare what an attack needs with this kind of threshold.

    Known members and non-members, and models with classes, are needed only to learn a threshold for
    each class.
    """
    if thresholds == "global":
        return Needs(access, signals, tasks=tasks)
    return Needs(access, signals, known="both")


@dataclass(frozen=True, eq=False)
class RankedScores:
    """Scores (n,) with the places of the records from the highest score down.

    `order` (n,) are those of all records; `classes` has the code of each class, the places of its
    records and their scores in that order.
    """

    scores: Floats
    order: Ints
    classes: list[tuple[int, Ints, Floats]]


def _rank_scores(scores: Floats, labels: Ints) -> RankedScores:
    """Sort once what every choice of known records is compared by."""
    order = np.argsort(-scores)
    by_class = order[np.argsort(labels[order], kind="stable")]
    ends = np.cumsum(np.bincount(labels))
    parts = enumerate(np.split(by_class, ends[:-1]))
    return RankedScores(scores, order, [(k, own, scores[own]) for k, own in parts if len(own)])


def _find_balanced_threshold(scores: Floats, member: Bools) -> float:
    """Find the strictest threshold with the best balanced accuracy for scores that descend."""
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    tp = np.cumsum(member)[ends]
    n_members = int(tp[-1])
    # Whole numbers, so that equals are equal
    advantage = tp * (len(member) - n_members) - (ends + 1 - tp) * n_members
    return float(scores[ends[np.argmax(advantage)]])


def _shift_by_class(ranked: RankedScores, evidence: Evidence) -> Floats:
    """Subtract from each score (n,) the threshold of its class, learned from known records.

    A class that lacks known members or known non-members gets the global threshold.
    """
    scores, known = ranked.scores, evidence.known
    check_binary_scores(scores[known >= 0], known[known >= 0] == 1)
    thresholds = np.full(int(evidence.labels.max()) + 1, np.nan)
    for code, own, descending in ranked.classes:
        state = known[own]
        given = state >= 0
        member = state[given] == 1
        if member.any() and not member.all():
            thresholds[code] = _find_balanced_threshold(descending[given], member)
    without = [code for code, _, _ in ranked.classes if np.isnan(thresholds[code])]
    if without:
        learn = ranked.order[known[ranked.order] >= 0]
        thresholds[without] = _find_balanced_threshold(scores[learn], known[learn] == 1)
    # Shifted, so that one threshold at zero serves all classes
    shifted: Floats = scores - thresholds[evidence.labels]
    return shifted


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
        scores = _shift_by_class(_rank_scores(scores, evidence.labels), evidence)
    return np.where(evidence.hidden, scores, np.nan)


@dataclass(frozen=True, eq=False)
class FoldedStatistic:
    """A thresholded attack on one evidence, of which other records are known at each call.

    The statistic does not depend on who is known, so it is computed and sorted once.
    """

    attack: Any
    statistic: Callable[[Evidence], Floats]
    _kept: list[RankedScores] = field(default_factory=list, init=False)

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the shifted statistic (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks what the attack needs.
        """
        require_needs(self.attack, evidence)
        if not self._kept:
            self._kept.append(_rank_scores(self.statistic(evidence), evidence.labels))
        return np.where(evidence.hidden, _shift_by_class(self._kept[0], evidence), np.nan)
