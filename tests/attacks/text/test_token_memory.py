"""Memory of scoring texts: what is held beyond the signals does not grow with the number of texts."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from token_signals import draw_signals

from memberscope.attacks import TEXT_ATTACKS, compute_token_features
from memberscope.texts import TokenSignals
from memberscope.types import Evidence

ATTACKS = [
    attack
    for attack in TEXT_ATTACKS
    if attack.needs.spec.name == "tokens" and attack.needs.known == "none"
]
FEW, MANY = (draw_signals(np.full(n, 1000)) for n in (600, 1800))


def measure_peak(work, tokens: TokenSignals) -> int:
    tracemalloc.start()
    try:
        work(tokens)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def score(attack, tokens: TokenSignals) -> np.ndarray:
    n = len(tokens)
    evidence = Evidence(
        "tokens", np.zeros((n, 1, 1)), np.zeros(n, int), np.full(n, -1, np.int8), tokens=tokens
    )
    return attack.score(evidence, np.random.default_rng(0))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_scores_of_more_texts_take_no_more_memory(attack):
    few, many = (measure_peak(lambda part: score(attack, part), part) for part in (FEW, MANY))
    # 1.2 million tokens more, of which one float64 each would be ten megabytes
    assert many - few < 1e6


def test_features_of_more_texts_take_no_more_memory_than_they_fill():
    few, many = (measure_peak(compute_token_features, part) for part in (FEW, MANY))
    assert many - few < 2e6
