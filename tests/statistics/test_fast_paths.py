"""Fast paths give the very numbers of the plain ones: sorted once, merged, or looked up sorted."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.statistics import (
    cluster_sides,
    estimate_auc,
    minimum_detectable_tpr,
    power,
    ranks_for_lower_limit,
    ranks_within_fold,
)
from memberscope.statistics.curves.auc import compute_placements
from memberscope.statistics.units import sum_by_unit


def draw(seed, decimals):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(30, 200))
    member = np.arange(n) < n // 2
    scores = (rng.normal(size=n) + member).round(decimals)
    return scores, member, rng.permutation(n) % 3, np.where(member, 0, n) + np.arange(n) // 4


CASES = [(seed, decimals) for seed in range(8) for decimals in (0, 1, 9)]


@pytest.mark.parametrize(("seed", "decimals"), CASES)
def test_ranks_within_folds_are_those_counted_record_by_record(seed, decimals):
    scores, member, fold, _ = draw(seed, decimals)
    ranks, lower = np.empty(len(scores)), np.empty(len(scores))
    for i, score in enumerate(scores):
        others = scores[(fold == fold[i]) & ~member]
        n, above, tied = len(others), (others > score).sum(), (others == score).sum()
        ranks[i] = 1 - (2 * above + tied + 1) / (2 * (n + 1))
        below = others[others <= score]
        lower[i] = -((others >= below.max()).sum() if len(below) else n + 1) / n
    assert (ranks_within_fold(scores, member, fold) == ranks).all()
    assert (ranks_for_lower_limit(scores, member, fold) == lower).all()


@pytest.mark.parametrize(("seed", "decimals"), CASES)
def test_the_auc_of_a_curve_is_that_of_placements_record_by_record(seed, decimals):
    scores, member, _, unit = draw(seed, decimals)
    for codes in (None, unit):
        inside, outside = compute_placements(scores, member)
        value, sides = float(np.sort(inside).mean()), cluster_sides(member, codes)
        found = estimate_auc(scores, member, codes)
        assert (found.value, found.sizes) == (value, sides.sizes)
        plain = sides.variance_of_mean(inside - value, outside - value)
        assert (found.variance, found.freedom) == plain


def test_codes_that_occur_once_are_summed_without_sorting():
    rng = np.random.default_rng(0)
    codes, values = rng.permutation(50)[:30], rng.normal(size=30)
    plain = np.bincount(codes, weights=values, minlength=50)
    assert (sum_by_unit(values, codes, 50) == plain).all()
    twice, many = np.append(codes, codes[0]), np.append(values, 1.0)
    assert sum_by_unit(many, twice, 50)[codes[0]] == pytest.approx(values[0] + 1)


def test_non_members_above_every_rank_may_be_drawn_as_one(monkeypatch):
    """Drawn one by one it is the same law, so that the answers differ by the simulation alone."""
    find = minimum_detectable_tpr.__wrapped__
    one_by_one = find(3000, 3000, 0.1, 0.15, n_folds=3)
    monkeypatch.setattr(power, "MANY", 1)
    merged = find(3000, 3000, 0.1, 0.15, n_folds=3)
    assert merged == pytest.approx(one_by_one, rel=0.01) and merged != one_by_one


@pytest.mark.parametrize(
    ("n", "fpr", "limit", "more"),
    [
        (300, 0.1, 0.15, {}),
        (2000, 0.01, 0.03, {}),
        (400, 0.1, 0.1, {"n_folds": 4}),
        (500, 0.1, 0.15, {"blocks": (20.0, 60.0, 200.0)}),
        (20_000, 0.001, 0.002, {"n_candidates": 20}),
        (300, 0.05, 0.05, {"power": 0.5}),
        (200, 0.01, 0.9, {}),
    ],
)
def test_few_audits_decide_as_all_of_them_do(n, fpr, limit, more, monkeypatch):
    find = minimum_detectable_tpr.__wrapped__
    found = find(n, n, fpr, limit, **more)
    monkeypatch.setattr(power, "DOUBT", 0.0)
    assert find(n, n, fpr, limit, **more) == found
