"""Attacks that compare one number for each record with a threshold.

The numbers are correctness, loss, confidence, entropy, margin and gradient norm. Each has one
global threshold, or with `thresholds="per_class"` one for each class, learned on known members and
non-members [2].

References:
    [1] S. Yeom, I. Giacomelli, M. Fredrikson, S. Jha, "Privacy Risk in Machine Learning: Analyzing
        the Connection to Overfitting", CSF 2018, arXiv:1709.01604.
    [2] L. Song, P. Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning Models",
        USENIX Security 2021, arXiv:2003.10595.
    [3] A. Salem, Y. Zhang, M. Humbert, P. Berrang, M. Fritz, M. Backes, "ML-Leaks: Model and Data
        Independent Membership Inference Attacks and Defenses on Machine Learning Models", NDSS
        2019, arXiv:1806.01246.
    [4] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis, F. Tramer, "Membership Inference Attacks
        From First Principles", IEEE S&P 2022, arXiv:2112.03570.
    [5] M. Nasr, R. Shokri, A. Houmansadr, "Comprehensive Privacy Analysis of Deep Learning", IEEE
        S&P 2019, arXiv:1812.00910.
    [6] S. Rezaei, X. Liu, "On the Difficulty of Membership Inference Attacks", CVPR 2021,
arXiv:2005.13702.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from memberscope._numerics import round_to_40_bits
from memberscope.attacks._class_thresholds import (
    FoldedStatistic,
    Thresholds,
    build_threshold_needs,
    name_attack,
    score_statistic,
)
from memberscope.attacks._inputs import (
    class_log_probabilities,
    mask_true_class,
    read_first_view,
    score_correctness,
    take_true_class,
    true_class_log_probability,
    true_class_logit,
    true_class_margin,
    true_class_probability,
)
from memberscope.attacks.quantile import FeatureBins, FoldedQuantile, Quantile
from memberscope.types import Access, Attack, Evidence, Floats, Needs, Signal, SignalSpec, Task

PROBABILITIES: tuple[Signal, ...] = ("probabilities", "logits")


def _negative_entropy(evidence: Evidence) -> Floats:
    """Sum p log p over the classes, as (n,); zero at certainty, -log k when uniform."""
    # As logarithms, which keep small probabilities
    log_p = class_log_probabilities(evidence)
    # Equal answers whose classes were summed in another order must tie
    return round_to_40_bits((np.exp(log_p) * log_p).sum(axis=1))


def _log_complements(p: Floats) -> Floats:
    """Compute log(1 - p_j) of `p` (n, k) as (n, k), clipped at 1e-30 as published.

    For the top class 1 - p_j is summed from the other classes, since the difference would cancel.
    """
    rest = 1.0 - p
    # Only the top class can be close to one
    rows, top = np.arange(len(p)), p.argmax(axis=1)
    others = p.copy()
    others[rows, top] = 0.0
    rest[rows, top] = others.sum(axis=1)
    return np.log(np.maximum(rest, 1e-30))


def _negative_modified_entropy(evidence: Evidence) -> Floats:
    """Compute (1 - p_y) log p_y + sum over other classes of p_j log(1 - p_j), as (n,).

    It is zero where the model is certain and right.
    """
    p = np.exp(class_log_probabilities(evidence))
    log_rest = _log_complements(p)
    # The true class has a term of its own
    p_true = take_true_class(p, evidence)
    wrong = mask_true_class(p, evidence, 0.0)
    # Clipped as published, so that a probability of zero stays finite
    score: Floats = (1.0 - p_true) * np.log(np.maximum(p_true, 1e-30)) + (wrong * log_rest).sum(
        axis=1
    )
    # Equal answers whose classes were summed in another order must tie
    return round_to_40_bits(score)


def _first_number(evidence: Evidence) -> Floats:
    """Take the first number of the first view, as (n,)."""
    return read_first_view(evidence)[:, 0]


@dataclass(frozen=True)
class _OneStatistic(ABC):
    """Attack whose score is `_statistic` of the evidence.

    The score is shifted by the class's threshold if that is asked for.
    """

    thresholds: Thresholds = "global"
    version: ClassVar[int] = 1
    _base: ClassVar[str] = ""
    _access: ClassVar[Access] = Access.PROBABILITIES
    _signals: ClassVar[tuple[Signal, ...]] = PROBABILITIES
    _tasks: ClassVar[tuple[Task, ...]] = ("classification",)

    @property
    def name(self) -> str:
        """Name of the attack, with `_per_class` when each class has its own threshold."""
        return name_attack(self._base, self.thresholds)

    @property
    def needs(self) -> Needs:
        """One query for each record; known members and non-members only for thresholds by class."""
        return build_threshold_needs(self.thresholds, self._access, self._signals, self._tasks)

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the statistic as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal or the known records.
        """
        return score_statistic(self._statistic, self, evidence)

    @abstractmethod
    def _statistic(self, evidence: Evidence) -> Floats:
        """Give the number (n,) of each record; higher for likelier members."""


def build_fold_scorer(
    attack: Attack, bins: FeatureBins | None = None
) -> Callable[[Evidence, np.random.Generator], Floats]:
    """Build what scores one evidence several times as `attack` does, other records known each time.

    What does not depend on the known records is computed once, and what follows from the features
    alone once for all that share `bins`.

    >>> evidence = Evidence("labels", np.array([[[0.0]], [[1]], [[0]]]), np.zeros(3, int), np.array([1, 0, -1]))
    >>> build_fold_scorer(Gap("per_class"))(evidence, np.random.default_rng(0)).tolist()
    [nan, nan, 0.0]
    """
    if isinstance(attack, _OneStatistic) and attack.thresholds == "per_class":
        return FoldedStatistic(attack, attack._statistic).score
    if isinstance(attack, Quantile):
        return FoldedQuantile(attack, bins or FeatureBins()).score
    # Attacks in packages of their own say it themselves
    prepare = getattr(attack, "prepare_folds", None)
    return attack.score if prepare is None else prepare()


def build_fold_scorers(
    attacks: Sequence[Attack],
) -> list[Callable[[Evidence, np.random.Generator], Floats]]:
    """Build the fold scorer of each attack, which share what follows from the features alone.

    >>> len(build_fold_scorers([Gap(), Quantile()]))
    2
    """
    bins = FeatureBins()
    return [build_fold_scorer(attack, bins) for attack in attacks]


@dataclass(frozen=True)
class Gap(_OneStatistic):
    """Correctness as a score [1]: its advantage is the gap between training and test accuracy.

    >>> p = np.array([[[0.9, 0.1]], [[0.4, 0.6]]])
    >>> evidence = Evidence("probabilities", p, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> scores = Gap().score(evidence, np.random.default_rng(0))
    >>> bool(scores[0] > scores[1])
    True
    """

    _base: ClassVar[str] = "gap"
    _access: ClassVar[Access] = Access.LABEL
    _signals: ClassVar[tuple[Signal, ...]] = ("labels", *PROBABILITIES)

    def _statistic(self, evidence: Evidence) -> Floats:
        return score_correctness(evidence)


@dataclass(frozen=True)
class Loss(_OneStatistic):
    """Minus the cross-entropy loss on the true class [1], in nats.

    >>> p = np.array([[[0.9, 0.1]], [[0.4, 0.6]]])
    >>> evidence = Evidence("probabilities", p, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> scores = Loss().score(evidence, np.random.default_rng(0))
    >>> bool(scores[0] > scores[1])
    True
    """

    _base: ClassVar[str] = "loss"
    _signals: ClassVar[tuple[Signal, ...]] = ("loss", *PROBABILITIES)
    _tasks: ClassVar[tuple[Task, ...]] = ("classification", "text")

    def _statistic(self, evidence: Evidence) -> Floats:
        return true_class_log_probability(evidence)


@dataclass(frozen=True)
class Confidence(_OneStatistic):
    """Probability of the true class [2].

    >>> p = np.array([[[0.9, 0.1]], [[0.4, 0.6]]])
    >>> evidence = Evidence("probabilities", p, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> scores = Confidence().score(evidence, np.random.default_rng(0))
    >>> bool(scores[0] > scores[1])
    True
    """

    _base: ClassVar[str] = "confidence"

    def _statistic(self, evidence: Evidence) -> Floats:
        return true_class_probability(evidence)


@dataclass(frozen=True)
class Entropy(_OneStatistic):
    """Minus the entropy of the predicted distribution [3], in nats; it does not use the true label.

    >>> p = np.array([[[0.9, 0.1]], [[0.5, 0.5]]])
    >>> evidence = Evidence("probabilities", p, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> scores = Entropy().score(evidence, np.random.default_rng(0))
    >>> bool(scores[0] > scores[1])
    True
    """

    _base: ClassVar[str] = "entropy"

    def _statistic(self, evidence: Evidence) -> Floats:
        return _negative_entropy(evidence)


@dataclass(frozen=True)
class ModifiedEntropy(_OneStatistic):
    """Minus the modified entropy of Song and Mittal [2], in nats.

    A confident wrong prediction counts against membership.

    >>> p = np.array([[[0.9, 0.1]], [[0.4, 0.6]]])
    >>> evidence = Evidence("probabilities", p, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> scores = ModifiedEntropy().score(evidence, np.random.default_rng(0))
    >>> bool(scores[0] > scores[1])
    True
    """

    _base: ClassVar[str] = "modified_entropy"

    def _statistic(self, evidence: Evidence) -> Floats:
        return _negative_modified_entropy(evidence)


@dataclass(frozen=True)
class Margin(_OneStatistic):
    """Hinge margin of the true class [4]: z_y - max of the other logits, or of log-probabilities.

    >>> p = np.array([[[0.9, 0.1]], [[0.4, 0.6]]])
    >>> evidence = Evidence("probabilities", p, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> scores = Margin().score(evidence, np.random.default_rng(0))
    >>> bool(scores[0] > scores[1])
    True
    """

    _base: ClassVar[str] = "margin"

    def _statistic(self, evidence: Evidence) -> Floats:
        return true_class_margin(evidence)


@dataclass(frozen=True)
class Logit(_OneStatistic):
    """Logit-scaled confidence of the true class [4], log p_y - log(1 - p_y).

    It is the statistic of LiRA with one global threshold.

    >>> p = np.array([[[0.9, 0.1]], [[0.4, 0.6]]])
    >>> evidence = Evidence("probabilities", p, np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8))
    >>> scores = Logit().score(evidence, np.random.default_rng(0))
    >>> bool(scores[0] > scores[1])
    True
    """

    _base: ClassVar[str] = "logit"

    def _statistic(self, evidence: Evidence) -> Floats:
        return true_class_logit(evidence)


@dataclass(frozen=True)
class GradientNorm(_OneStatistic):
    """Minus the log norm of the gradient of the record's loss in all trained parameters [5, 6].

    >>> evidence = Evidence("gradient_norm", np.array([3.0, -1.0])[:, None, None], np.zeros(2, dtype=int),
    ...                     np.full(2, -1, dtype=np.int8))
    >>> GradientNorm().score(evidence, np.random.default_rng(0)).tolist()
    [3.0, -1.0]
    """

    _base: ClassVar[str] = "gradient_norm"
    _access: ClassVar[Access] = Access.WHITE_BOX
    _signals: ClassVar[tuple[Signal, ...]] = ("gradient_norm",)
    _tasks: ClassVar[tuple[Task, ...]] = ("classification", "text")

    @property
    def needs(self) -> Needs:
        """The model's parameters; known members and non-members only for thresholds by class."""
        # Measured on the model, unlike the other statistics
        return replace(super().needs, spec=SignalSpec("gradient_norm"))

    def _statistic(self, evidence: Evidence) -> Floats:
        return _first_number(evidence)
