"""AUC: the known answers of its interval, coverage where sides are lopsided or scores extreme.

And units of several records.
"""

from __future__ import annotations

import numpy as np
import pytest
from families import people, quantiles
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from memberscope.errors import InputError
from memberscope.statistics import (
    auc_difference,
    auc_interval,
    cluster_sides,
    design_effect,
    kish_size,
)

RUNS = 400


def holds(hits: int, runs: int = RUNS, nominal: float = 0.94) -> bool:
    """Whether `hits` of `runs` are consistent with a coverage of `nominal`, one-sided at 0.1%."""
    return hits >= binom.ppf(0.001, runs, nominal)


EVERY = np.arange(200)


@pytest.mark.parametrize(
    ("sizes", "shift", "answer"),
    [
        ((50, 50), 99.0, (1, 0.96034428, 1)),
        ((30, 1000), 3.29, (0.99133333, 0.95063070, 0.99701256)),
        ((200, 200), 1.0, (0.76015, 0.71060003, 0.80356146)),
    ],
)
def test_known_answers(sizes, shift, answer):
    assert auc_interval(*quantiles(*sizes, shift))[:3] == pytest.approx(answer, abs=5e-9)


def test_known_answer_of_eight_records():
    found = auc_interval(np.array([0.0, 4, 6, 7, 1, 2, 3, 5]), np.arange(8) < 4)
    assert found[:3] == pytest.approx((0.6875, 0.06919575, 0.98487289), abs=5e-9)


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ((37 * EVERY % 200) // 10, (0.76015, 0.73087520, 0.78716767)),
        (EVERY // 5, (0.76015, 0.63883941, 0.85026407)),
    ],
)
def test_known_answers_by_unit(code, answer):
    scores, member = quantiles(200, 200, 1.0)
    unit = np.concatenate([code, code + 1000])
    assert auc_interval(scores, member, unit=unit)[:3] == pytest.approx(answer, abs=5e-9)


def test_the_mirror_image_has_mirrored_limits():
    scores, member = quantiles(30, 1000, 3.29)
    one, other = auc_interval(scores, member), auc_interval(-scores, member)
    assert other[:3] == pytest.approx((1 - one.value, 1 - one.high, 1 - one.low))


@pytest.mark.parametrize("spread", [1.0, 2.0])
@pytest.mark.parametrize(
    ("n1", "n0", "auc"), [(30, 5000, 0.96), (50, 500, 0.99), (100, 1000, 0.98)]
)
def test_lopsided_sides_near_one(n1, n0, auc, spread):
    """Where the interval of version 467bde6 held the truth in 83% to 93% of runs."""
    rng, member = np.random.default_rng([n1, n0, int(spread)]), np.arange(n1 + n0) < n1
    shift, low, high = float(ndtri(auc)) * (1 + spread**2) ** 0.5, 0, 0
    for _ in range(RUNS):
        found = auc_interval(
            np.concatenate([shift + spread * rng.standard_normal(n1), rng.standard_normal(n0)]),
            member,
        )
        low, high = low + (found.low > auc), high + (found.high < auc)
    assert holds(RUNS - low - high)
    assert max(low, high) <= binom.ppf(0.999, RUNS, 0.045), (
        "the upper side of the lopsided cells may miss 4%"
    )


def test_rounded_scores_near_one():
    rng, member, hits = np.random.default_rng(1), np.arange(2200) < 200, 0
    shift, grid = float(ndtri(0.99)) * 2**0.5, np.arange(-12, 13)
    outside = ndtr(grid + 0.5) - ndtr(grid - 0.5)
    truth = float(np.sum(outside * (ndtr(shift - grid - 0.5) + ndtr(shift - grid + 0.5)) / 2))
    for _ in range(RUNS):
        found = auc_interval(np.round(rng.standard_normal(2200) + shift * member), member)
        hits += found.low <= truth <= found.high
    assert truth == pytest.approx(0.985, abs=1e-3) and holds(hits)


@pytest.mark.parametrize("correlation", [0.1, 0.8])
@pytest.mark.parametrize(("n", "rows"), [(20, 10), (100, 10)])
@pytest.mark.parametrize("auc", [0.5, 0.9])
def test_records_in_units(n, rows, correlation, auc):
    """Taken as independent, two hundred people of ten records have an interval that holds in 52% to 84% of runs."""
    rng, hits, naive = np.random.default_rng([n, int(10 * correlation), int(10 * auc)]), 0, 0
    for _ in range(RUNS):
        scores, member, unit = people(n, rows, correlation, float(ndtri(auc)) * 2**0.5, rng)
        found, alone = auc_interval(scores, member, unit=unit), auc_interval(scores, member)
        hits, naive = (
            hits + (found.low <= auc <= found.high),
            naive + (alone.low <= auc <= alone.high),
        )
    assert holds(hits, nominal=0.935 if n == 20 else 0.94)
    assert not holds(naive) and naive < 0.93 * RUNS


def test_a_difference_by_unit():
    rng, hits, naive = np.random.default_rng(3), 0, 0
    for _ in range(RUNS):
        (first, member, unit), (second, _, _) = (
            people(60, 8, 0.5, 0.7, rng),
            people(60, 8, 0.5, 0.7, rng),
        )
        found, alone = (
            auc_difference(first, second, member, unit=unit),
            auc_difference(first, second, member),
        )
        hits, naive = hits + (found.low <= 0 <= found.high), naive + (alone.low <= 0 <= alone.high)
    assert holds(hits) and naive < 0.85 * RUNS


def test_units_of_one_record_change_nothing():
    scores, member = quantiles(40, 60, 0.5)
    unit = np.random.default_rng(0).permutation(100)
    assert auc_interval(scores, member, unit=unit)[:3] == pytest.approx(
        auc_interval(scores, member)[:3], rel=1e-12
    )
    assert design_effect(scores > 0, unit) == 1.0


def test_the_order_and_names_of_units_change_nothing():
    rng = np.random.default_rng(0)
    scores, member, unit = people(30, 4, 0.5, 0.5, rng)
    order, names = rng.permutation(len(unit)), rng.permutation(60)
    found = auc_interval(scores[order], member[order], unit=names[unit][order])
    assert found[:3] == pytest.approx(auc_interval(scores, member, unit=unit)[:3], rel=1e-12)


def test_every_record_twice_in_a_unit_tells_as_much_as_once():
    scores, member = quantiles(80, 90, 0.8)
    once = auc_interval(scores, member)
    twice = auc_interval(
        np.repeat(scores, 2), np.repeat(member, 2), unit=np.repeat(np.arange(170), 2)
    )
    assert twice[:3] == pytest.approx(once[:3], rel=1e-9)


def test_a_side_of_one_unit_has_an_interval_and_units_of_both_kinds_are_counted():
    scores, member = quantiles(20, 20, 1.0)
    lone = auc_interval(scores, member, unit=np.where(member, 0, np.arange(40)))
    assert lone.method == "Newcombe, by unit" and lone.low < 0.5 and lone.high > lone.value
    both = cluster_sides(member, np.arange(40) % 20)
    assert both.is_shared and both.n_units == (20, 20, 20) and both.sizes == (20.0, 20.0)
    shared = auc_interval(scores, member, unit=np.arange(40) % 20)
    assert shared.high - shared.low < 0.5 * (lone.high - lone.low)


def test_effective_sizes_and_lengths():
    assert kish_size(np.array([5, 5, 5, 5])) == 4.0 and kish_size(np.array([0, 7])) == 1.0
    with pytest.raises(InputError, match="one length"):
        auc_interval(np.arange(4.0), np.arange(4) < 2, unit=np.arange(3))
