"""Score a record with several labels by how right, or how sure, the model is about them.

References:
    [1] S. Yeom, I. Giacomelli, M. Fredrikson, S. Jha, "Privacy Risk in Machine Learning: Analyzing
        the Connection to Overfitting", CSF 2018, arXiv:1709.01604.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from memberscope._numerics import round_to_40_bits
from memberscope.attacks.outputs._blocks import Convert, find_resolution
from memberscope.attacks.outputs._output_score import OutputScore
from memberscope.types import Evidence, Floats, Signal


@dataclass(frozen=True)
class LabelLoss(OutputScore):
    """Log-probability of the true labels, summed over them: minus the loss [1], in nats.

    >>> p = np.array([[[0.5, 0.5]], [[0.5, 0.25]]])
    >>> evidence = Evidence("label_probabilities", p, np.array([[1, 0], [0, 1]]), np.full(2, -1, dtype=np.int8))
    >>> LabelLoss().score(evidence, np.random.default_rng(0)).round(4).tolist()
    [-1.3863, -2.0794]
    """

    _base: ClassVar[str] = "label_loss"
    _signal: ClassVar[Signal] = "label_probabilities"

    def _measure(self, evidence: Evidence, outputs: Floats, truth: Floats) -> Floats:
        logits = build_logit_reader(evidence)(outputs, truth)
        return np.asarray(-np.logaddexp(0, -logits).sum(axis=1))


@dataclass(frozen=True)
class LabelGap(OutputScore):
    """Share of a record's labels that are right: its advantage is the gap in accuracy [1].

    >>> p = np.array([[[0.9, 0.1]], [[0.2, 0.1]]])
    >>> evidence = Evidence("label_probabilities", p, np.array([[1, 0], [1, 0]]), np.full(2, -1, dtype=np.int8))
    >>> LabelGap().score(evidence, np.random.default_rng(0)).tolist()
    [1.0, 0.5]
    """

    _base: ClassVar[str] = "label_gap"
    _signal: ClassVar[Signal] = "label_probabilities"

    def _measure(self, evidence: Evidence, outputs: Floats, truth: Floats) -> Floats:
        return np.asarray(((outputs >= 0.5) == (truth > 0.5)).mean(axis=1))


def build_logit_reader(evidence: Evidence) -> Convert:
    """Build what reads the logit of each true label's probability, of target and references alike.

    >>> p, y = np.array([[0.8, 0.2]]), np.array([[1, 0]])
    >>> evidence = Evidence("label_probabilities", p[:, None], y, np.full(1, -1, dtype=np.int8))
    >>> build_logit_reader(evidence)(p, y).round(6).tolist()
    [[1.386294, 1.386294]]
    """
    stored = evidence.target if evidence.references is None else evidence.references
    least = find_resolution(stored)
    own = _find_floor(np.asarray(evidence.target[:, 0, :], dtype=np.float64), least)
    floors = np.empty((evidence.n_references, 1, 1))
    for model in range(evidence.n_references):
        assert evidence.references is not None
        answers = np.asarray(evidence.references[model, :, 0, :], dtype=np.float64)
        floors[model] = _find_floor(answers, least)
    return partial(_read_true_logits, own, floors)


def _find_floor(outputs: Floats, least: float) -> float:
    """Find what a probability of 0 is read as among answers (n, k) of one model.

    Half the smallest positive probability of a label or of its absence, as for classes: trees count
    in votes, and servers round. What is as near to 0 or 1 as `least`, the resolution of the numbers,
    counts as 0 or 1.

    >>> _find_floor(np.array([[0.0, 0.8]]), 1e-9)
    0.1
    """
    both = np.concatenate([outputs, 1.0 - outputs])
    return 0.5 * round(float(both[both > 2 * least].min()), 12)


def _read_true_logits(own: float, floors: Floats, outputs: Floats, truth: Floats) -> Floats:
    """Read log p - log(1 - p) of each true label; a probability of 0 is read as the model's floor.

    That is `own` of the target's answers (n, k), and `floors` (m, 1, 1) of those of the references
    (m, b, k). Rounded and summed as for a class, so that one label gives what a class of two gives.
    """
    floor = floors if outputs.ndim == 3 else own
    positive = truth > 0.5
    right = np.where(positive, outputs, 1.0 - outputs)
    wrong = round_to_40_bits(np.where(positive, 1.0 - outputs, outputs))
    logit: Floats = np.log(np.maximum(right, floor)) - np.log(np.maximum(wrong, floor))
    return logit
