"""Scores of ranges of variants: naive references, planted clusters, and ranges without use."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberscope.errors import InputError
from memberscope.statistics import auc_value, estimate_auc, roc
from memberscope.statistics.sets import score_ranges
from memberscope.statistics.sets.range_scores import count_kept_variants, weight_ranks


@given(st.integers(1, 7), st.data())
def test_weights_are_those_of_all_draws(n, data):
    drawn = data.draw(st.integers(1, n))
    kept = data.draw(st.integers(1, drawn))
    draws = list(combinations(range(n), drawn))
    # The highest `kept` ranks of each draw, counted one by one
    naive = np.bincount([rank for draw in draws for rank in draw[-kept:]], minlength=n)
    expected = naive / (kept * len(draws))
    assert np.allclose(weight_ranks(n, drawn, kept), expected)


@given(st.integers(1, 50), st.floats(0, 0.99))
def test_something_is_always_kept(n, drop):
    assert 1 <= count_kept_variants(n, drop) <= n


def test_a_range_is_the_mean_of_its_best():
    rng = np.random.default_rng(0)
    scores, ranges = rng.normal(size=(60, 2)), rng.permutation(np.repeat(np.arange(6), 10))
    found = score_ranges(scores, ranges < 3, ranges, drop=0.7)
    naive = [np.sort(scores[ranges == k], axis=0)[-3:].mean(axis=0) for k in range(6)]
    assert np.allclose(found.values, naive) and found.kept == 3
    assert found.member.tolist() == [True] * 3 + [False] * 3


def test_more_variants_do_not_raise_a_range():
    rng = np.random.default_rng(1)
    sizes = np.where(np.arange(2000) < 1000, 20, 5)
    ranges = np.repeat(np.arange(2000), sizes)
    scores = rng.normal(size=(len(ranges), 1))
    found = score_ranges(scores, ranges < 1000, ranges, drop=0.75)
    inside, outside = (found.values[found.member == side, 0] for side in (True, False))
    assert (
        abs(inside.mean() - outside.mean()) < 4 * np.hypot(inside.std(), outside.std()) / 1000**0.5
    )
    # The best of all tells the large ranges from the small ones with an AUC of 20 / (20 + 5)
    best = np.maximum.reduceat(scores[:, 0], np.cumsum(sizes) - sizes)
    assert auc_value(roc(best, found.member)) == pytest.approx(0.8, abs=0.04)


def plant_clusters(rng, n, k, effect):
    """Scores (n k, 1) of k variants each: one that is not the first was used, of half the ranges."""
    ranges = np.repeat(np.arange(n), k)
    difficulty = np.repeat(rng.normal(size=n) * 0.3, k)
    scores = (difficulty + rng.normal(size=n * k)).reshape(n, k)
    scores[: n // 2, 1] += effect
    scores[: n // 2, 2:] += effect / 8
    return scores.reshape(-1, 1), ranges < n // 2, ranges


def test_a_point_in_the_range_shows_more_than_in_the_mean_or_the_centre():
    scores, member, ranges = plant_clusters(np.random.default_rng(2), 2000, 8, 3.0)
    suspect = np.arange(2000) < 1000
    trimmed, mean = (
        auc_value(roc(score_ranges(scores, member, ranges, drop=drop).values[:, 0], suspect))
        for drop in (0.75, 0.0)
    )
    centre = auc_value(roc(scores[::8, 0], suspect))
    assert trimmed > mean + 0.05 > centre + 0.05


@pytest.mark.parametrize("drop", [0.0, 0.5, 0.75, 0.9])
def test_ranges_without_use_hold_one_half(drop):
    scores, member, ranges = plant_clusters(np.random.default_rng(3), 3000, 8, 0.0)
    found = score_ranges(scores, member, ranges, drop=drop)
    # 99% for the four together
    limits = estimate_auc(found.values[:, 0], found.member).limits(1 - 0.01 / 4)
    assert limits.low <= 0.5 <= limits.high


def test_bad_ranges_are_refused():
    scores, ranges = np.zeros((4, 1)), np.array([0, 0, 1, 1])
    with pytest.raises(InputError, match="1 ranges with variants on both, the first is 1"):
        score_ranges(scores, np.array([True, True, True, False]), ranges)
    with pytest.raises(InputError, match="at least 0 and below 1, got 1"):
        score_ranges(scores, ranges == 0, ranges, drop=1)
    with pytest.raises(InputError, match="Expected finite scores"):
        score_ranges(scores * np.nan, ranges == 0, ranges)
