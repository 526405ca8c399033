"""One record's answer without arrays: to the last bit what the array form gives."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.outputs import Rounding, TopK


def list_kept(answer: np.ndarray) -> list[tuple[int, float]]:
    """What an answer (1, k) tells, the likeliest first, the first of equals before others."""
    row = answer[0].tolist()
    kept = [(column, value) for column, value in enumerate(row) if value == value]
    return sorted(kept, key=lambda pair: -pair[1])


def draw_scores(rng: np.random.Generator, n: int) -> np.ndarray:
    """Probabilities (n,), some of them with ties, zeros of both signs, or exact halves."""
    return [
        rng.dirichlet(np.full(n, 0.3)),
        rng.dirichlet(np.ones(n)).round(int(rng.integers(0, 4))),
        rng.integers(0, 9, n) / 8,
        np.where(rng.random(n) < 0.5, -0.0, rng.random(n) / 100),
    ][rng.integers(4)]


@pytest.mark.parametrize("n", [2, 3, 10, 64, 65, 300])
def test_top_classes_rounded_are_those_of_the_arrays(n):
    rng, told = np.random.default_rng(n), 0
    for _ in range(400):
        scores = draw_scores(rng, n)
        top, rounding = TopK(int(rng.integers(1, 10))), Rounding(int(rng.integers(16)))
        pairs = top.pick(scores.tolist())
        if pairs is None:
            assert top.k >= min(n, 9)
            continue
        told += 1
        # As text, so that signs of zeros count
        assert repr(pairs) == repr(list_kept(top(scores[None])))
        assert repr(rounding.round_pairs(pairs)) == repr(list_kept(rounding(top(scores[None]))))
    assert told > 40


@pytest.mark.parametrize(
    "scores",
    [
        [0.5, "0.25", 0.25],
        [0.5, None, 0.5],
        [[0.5], [0.5], [0.0]],
        [0.5, float("inf"), 0.0],
        ["0.5:0", "0.5:1", "0.0:2"],
    ],
)
@pytest.mark.parametrize("copies", [1, 30])
def test_what_may_be_no_scores_is_left_to_the_arrays(scores, copies):
    assert TopK(1).pick(scores * copies) is None


def test_what_is_no_probability_is_not_rounded():
    assert Rounding(2).round_pairs([(0, 1.5), (1, 0.5)]) is None
    assert Rounding(2).round_pairs([(0, 0.5), (1, -0.5)]) is None
