"""Quantile regression on features that are missing, infinite, constant or all alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memberscope.attacks import Quantile, build_fold_scorer, build_fold_scorers
from memberscope.types import Evidence


def build_evidence(features: np.ndarray, known: np.ndarray) -> Evidence:
    p = np.random.default_rng(0).uniform(0.2, 0.8, len(known))
    outputs = np.stack([p, 1 - p], axis=1)[:, None, :]
    labels = np.zeros(len(known), dtype=int)
    return Evidence("probabilities", outputs, labels, known, features=features)


@pytest.mark.parametrize("model", ["gaussian", "pinball"])
@pytest.mark.parametrize("column", ["missing", "missing among known", "infinite", "constant"])
def test_a_column_that_tells_nothing_changes_nothing(model, column):
    known = np.where(np.arange(200) < 120, 0, -1).astype(np.int8)
    useful = np.random.default_rng(1).normal(size=(200, 2))
    odd = {
        "missing": np.full(200, np.nan),
        "missing among known": np.where(known == 0, np.nan, useful[:, 0]),
        "infinite": np.full(200, np.inf),
        "constant": np.ones(200),
    }[column]
    rng = np.random.default_rng
    attack = Quantile(model=model)
    with_it = attack.score(build_evidence(np.column_stack([useful, odd]), known), rng(0))
    without = attack.score(build_evidence(useful, known), rng(0))
    np.testing.assert_array_equal(with_it, without)


def test_what_is_kept_between_folds_changes_no_score():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(200, 3))
    features[rng.random((200, 3)) < 0.1] = np.nan
    score = build_fold_scorer(Quantile())
    for hidden in (0, 1):
        known = np.where(np.arange(200) % 2 == hidden, -1, 0).astype(np.int8)
        evidence = build_evidence(features, known)
        alone = Quantile().score(evidence, np.random.default_rng(0))
        np.testing.assert_array_equal(score(evidence, np.random.default_rng(0)), alone)


def test_scorers_that_share_bins_score_as_alone():
    rng = np.random.default_rng(3)
    features, known = rng.normal(size=(200, 3)), np.where(np.arange(200) % 2, -1, 0).astype(np.int8)
    first = build_evidence(features, known)
    # Another level has other answers about the same records, a third has other records
    second = replace(first, target=first.target[::-1])
    third = build_evidence(rng.normal(size=(200, 3)), known)
    attacks = [Quantile(), Quantile(), Quantile(), Quantile(max_bins=5)]
    evidence = [first, second, third, first]
    for attack, score, seen in zip(attacks, build_fold_scorers(attacks), evidence, strict=True):
        alone = attack.score(seen, np.random.default_rng(0))
        np.testing.assert_array_equal(score(seen, np.random.default_rng(0)), alone)
