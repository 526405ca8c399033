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
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import numpy as np

from memberscope import _check
from memberscope.attacks._inputs import require_needs
from memberscope.types import Access, Attack, Bools, Evidence, Floats, Ints, Needs, Signal

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


class SortedScores(NamedTuple):
    """Scores (n,) from high to low within each class, with the rows (n,) that they come from."""

    order: Ints
    scores: Floats
    classes: Ints


@dataclass(frozen=True, eq=False)
class RankedStatistic:
    """A statistic (n,) of all records, sorted once for every set of known records.

    Attributes:
        scores: The statistic (n,).
        classes: Code (n,) of each record's class.
    """

    scores: Floats
    classes: Ints

    @cached_property
    def _by_class(self) -> SortedScores:
        """Records class by class, the highest first."""
        order = np.lexsort((-self.scores, self.classes))
        return SortedScores(order, self.scores[order], self.classes[order])

    @cached_property
    def _together(self) -> SortedScores:
        """Records as of one class, the highest first."""
        order = np.argsort(-self.scores)
        return SortedScores(order, self.scores[order], np.zeros(len(order), dtype=np.int64))

    def learn_thresholds(self, known: Bools, member: Bools) -> Floats:
        """Learn a threshold (n,) for each record's class from the `known` records (n,).

        It is the strictest score with the best balanced accuracy. A class that lacks known members
        or known non-members gets the threshold of all classes.

        Raises:
            InputError: A known record's statistic is not finite, or one kind is missing.

        >>> ranked = RankedStatistic(np.array([4.0, 1.0, 3.0, 2.0]), np.array([0, 0, 1, 1]))
        >>> ranked.learn_thresholds(np.ones(4, bool), np.array([True, False, False, True])).tolist()
        [4.0, 4.0, 2.0, 2.0]
        """
        _check.check_binary_scores(self.scores[known], member[known])
        found = _find_best_thresholds(self._by_class, known, member)
        lacking = np.isnan(found)
        if lacking.any():
            found[lacking] = _find_best_thresholds(self._together, known, member)[0]
        thresholds: Floats = found[self.classes]
        return thresholds


def _find_best_thresholds(ranked: SortedScores, known: Bools, member: Bools) -> Floats:
    """Find the best threshold (c,) of each class; NaN where one kind of records is missing."""
    kept = known[ranked.order]
    scores, code = ranked.scores[kept], ranked.classes[kept]
    truth = member[ranked.order][kept]
    n_classes = int(ranked.classes[-1]) + 1
    n_known = np.bincount(code, minlength=n_classes)
    n_members = np.bincount(code[truth], minlength=n_classes)
    n_others = n_known - n_members
    # A vertex stands at the last record of each block of equal scores of a class
    differs = (scores[1:] != scores[:-1]) | (code[1:] != code[:-1])
    ends = np.flatnonzero(np.append(differs, True))
    of_end = code[ends]
    tp = np.cumsum(truth)[ends] - (np.cumsum(n_members) - n_members)[of_end]
    fp = ends + 1 - (np.cumsum(n_known) - n_known)[of_end] - tp
    # Whole numbers, so that equals are equal
    advantage = tp * n_others[of_end] - fp * n_members[of_end]
    starts = np.flatnonzero(np.append(True, of_end[1:] != of_end[:-1]))
    best = np.full(n_classes, -1)
    best[of_end[starts]] = np.maximum.reduceat(advantage, starts)
    found = np.full(n_classes, np.nan)
    # Backwards, so that the strictest of equals is written last
    at = np.flatnonzero(advantage == best[of_end])[::-1]
    found[of_end[at]] = scores[ends[at]]
    found[(n_members == 0) | (n_others == 0)] = np.nan
    return found


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
    if attack.thresholds == "per_class":
        return PreparedAttack(attack, statistic).score(evidence, np.random.default_rng(0))
    require_needs(attack, evidence)
    return np.where(evidence.hidden, statistic(evidence), np.nan)


class PreparedAttack:
    """An attack with a threshold for each class, for evidence of which only `known` changes.

    The statistic is computed and sorted once, at the first call.
    """

    def __init__(self, attack: Attack, statistic: Callable[[Evidence], Floats]) -> None:
        self._attack, self._statistic = attack, statistic
        self._ranked: RankedStatistic | None = None

    @property
    def name(self) -> str:
        """Name of the attack."""
        return self._attack.name

    @property
    def version(self) -> int:
        """Version of the attack."""
        return self._attack.version

    @property
    def needs(self) -> Needs:
        """What the attack needs."""
        return self._attack.needs

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the statistic (n,) above the threshold of the class; NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks what the attack needs.
        """
        require_needs(self._attack, evidence)
        if self._ranked is None:
            codes = np.unique(evidence.labels, return_inverse=True)[1]
            self._ranked = RankedStatistic(self._statistic(evidence), codes)
        scores = self._ranked.scores
        # Shifted, so that one threshold at zero serves all classes
        shift = self._ranked.learn_thresholds(evidence.known >= 0, evidence.known == 1)
        return np.where(evidence.hidden, scores - shift, np.nan)
