"""Thresholds by class from scores sorted once: the very numbers of curves built class by class."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.attacks import (
    Confidence,
    Entropy,
    Gap,
    Loss,
    Margin,
    ModifiedEntropy,
    build_fold_scorer,
)
from memberscope.errors import InputError
from memberscope.statistics import find_best_balanced_threshold, roc
from memberscope.types import Evidence

ATTACKS = (Gap, Loss, Confidence, Entropy, ModifiedEntropy, Margin)


def draw_evidence(seed, decimals):
    """Answers with ties; one class without known members, one without known records."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(40, 200))
    p = rng.dirichlet(np.ones(5), n).round(decimals) + 0.01
    labels = rng.integers(0, 5, n)
    known = rng.integers(-1, 2, n).astype(np.int8)
    known[(labels == 3) & (known == 1)] = 0
    known[labels == 4] = -1
    return Evidence("probabilities", (p / p.sum(axis=1, keepdims=True))[:, None], labels, known)


def shift_class_by_class(scores, evidence):
    """The scores minus thresholds that curves of the known records of each class give."""
    known, member = evidence.known >= 0, evidence.known == 1
    everywhere = find_best_balanced_threshold(roc(scores[known], member[known]))
    thresholds = np.full(len(scores), everywhere)
    for label in np.unique(evidence.labels):
        of_class = evidence.labels == label
        learn = of_class & known
        if member[learn].any() and not member[learn].all():
            thresholds[of_class] = find_best_balanced_threshold(roc(scores[learn], member[learn]))
    return np.where(evidence.hidden, scores - thresholds, np.nan)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("decimals", [1, 9])
def test_scores_are_those_of_curves_class_by_class(attack, decimals):
    for seed in range(5):
        evidence, rng = draw_evidence(seed, decimals), np.random.default_rng(0)
        nobody = np.full(len(evidence), -1, dtype=np.int8)
        plain = attack().score(
            Evidence("probabilities", evidence.target, evidence.labels, nobody), rng
        )
        found = attack("per_class").score(evidence, rng)
        np.testing.assert_array_equal(found, shift_class_by_class(plain, evidence))


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_scorer_of_folds_gives_the_scores_of_the_attack(attack):
    evidence, rng = draw_evidence(7, 1), np.random.default_rng(1)
    for thresholds in ("global", "per_class"):
        score = build_fold_scorer(attack(thresholds))
        for _ in range(4):
            known = rng.permutation(evidence.known)
            other = Evidence("probabilities", evidence.target, evidence.labels, known)
            expected = attack(thresholds).score(other, rng)
            np.testing.assert_array_equal(score(other, rng), expected)


def test_scores_without_a_place_are_refused():
    losses = np.array([0.1, np.nan, 0.3, 0.2])[:, None, None]
    known = np.array([1, 0, 0, -1], dtype=np.int8)
    evidence = Evidence("loss", losses, np.zeros(4, dtype=int), known)
    with pytest.raises(InputError, match="finite"):
        Loss("per_class").score(evidence, np.random.default_rng(0))
