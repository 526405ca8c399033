"""Tests, shares and lists of collections: known answers, naive references, and simulated rates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, false_discovery_control, ttest_ind

from memberscope.errors import InputError
from memberscope.statistics.sets import (
    MeanDifference,
    bound_used_share,
    build_unit_features,
    combine_differences,
    compare_collections,
    compute_collection_power,
    compute_conformal_p_values,
    control_false_discoveries,
    find_smallest_effect,
    name_units,
    scale_by_non_members,
)
from memberscope.statistics.sets.collection_test import measure_welch_t

# Of unit normals whose AUC is .67, as of single texts under the difference from a base model
SHIFT = 0.622


def draw(rng, sizes, f, shift=0.0, share=1.0):
    """Scores (n, f) that share half of their variance, and which suspects were used."""
    n = sum(sizes)
    member = np.arange(n) < sizes[0]
    used = member & (rng.random(n) < share)
    common = rng.standard_normal((n, 1))
    scores = np.sqrt(0.5) * (common + rng.standard_normal((n, f)))
    return scores + shift * used[:, None], member, used


def count_rejections(sizes, f, shift, n_draws, *, unit=None, seed=0):
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(n_draws):
        scores, member, _ = draw(rng, sizes, f, shift)
        if unit is not None:
            scores = scores + 2 * rng.standard_normal((unit.max() + 1, 1))[unit]
        features = build_unit_features(scores, member, unit)
        found += compare_collections(features, rng, permutations=39).p_value <= 0.05
    return found


@pytest.mark.parametrize(
    ("sizes", "f"), [((10, 20), 6), ((30, 30), 1), ((60, 20), 12)], ids=["few", "one", "lopsided"]
)
def test_a_collection_that_was_not_used_is_seldom_called_used(sizes, f):
    n = 150
    assert count_rejections(sizes, f, 0.0, n) <= binom.ppf(0.999, n, 0.05)


def test_units_count_as_one_each():
    # Ten records of a unit share most of their score: taken as independent, one half would reject
    unit = np.repeat(np.arange(40), 10)
    n = 60
    assert count_rejections((200, 200), 3, 0.0, n, unit=unit) <= binom.ppf(0.999, n, 0.05)
    rng = np.random.default_rng(0)
    ignored = 0
    for _ in range(n):
        scores, member, _ = draw(rng, (200, 200), 3)
        scores = scores + 2 * rng.standard_normal((40, 1))[unit]
        features = build_unit_features(scores, member)
        ignored += compare_collections(features, rng, permutations=39).p_value <= 0.05
    assert ignored > n / 4


@pytest.mark.parametrize("q", [10, 20, 50])
def test_the_stated_power_is_that_of_the_test(q):
    n = 400
    found = count_rejections((q, q), 1, SHIFT, n, seed=q)
    stated = compute_collection_power(SHIFT, q, q)
    assert abs(found / n - stated) < 3.5 * np.sqrt(stated * (1 - stated) / n) + 0.02


def test_the_stated_power_is_near_what_was_measured_on_texts():
    # Measured with a small language model: .36, .64, .86 and .99
    stated = [compute_collection_power(SHIFT, q, q) for q in (10, 20, 50, 100)]
    assert np.abs(np.array(stated) - [0.36, 0.64, 0.86, 0.99]).max() < 0.07


def test_power_far_away_is_one_and_the_smallest_effect_has_its_power():
    assert compute_collection_power(5.0, 5000, 5000) == 1.0
    effect = find_smallest_effect(40, 80, power=0.8, spread=1.1)
    assert compute_collection_power(effect, 40, 80, spread=1.1) == pytest.approx(0.8, abs=1e-6)


def test_weights_find_the_attack_that_works():
    rng = np.random.default_rng(0)
    member = np.arange(400) < 200
    scores = rng.standard_normal((400, 12))
    scores[:, 7] += 0.5 * member
    found = compare_collections(build_unit_features(scores, member), rng)
    assert found.p_value <= 0.01 and 0.25 < found.effect < 0.75


def test_a_collection_that_looks_less_like_members_is_not_called_used():
    rng = np.random.default_rng(0)
    scores, member, _ = draw(rng, (200, 200), 5, -1.0)
    assert compare_collections(build_unit_features(scores, member), rng).p_value > 0.9


def test_the_limits_hold_the_effect():
    rng = np.random.default_rng(0)
    n, hits = 300, 0
    for _ in range(n):
        scores, member, _ = draw(rng, (50, 50), 1, 0.5)
        found = compare_collections(build_unit_features(scores, member), rng, permutations=99)
        hits += found.low <= 0.5 <= found.high
    # A tail of 2.5% is clipped, which moves the effect by one part in a hundred
    assert 0.84 <= hits / n <= 0.96


def test_t_is_that_of_welch():
    rng = np.random.default_rng(0)
    scores, member = rng.standard_normal((50, 4)) * 3 + 1e6, rng.random((50, 4)) < 0.4
    found = measure_welch_t(scores, member)
    for column in range(4):
        inside = member[:, column]
        naive = ttest_ind(scores[inside, column], scores[~inside, column], equal_var=False)
        assert found[column] == pytest.approx(naive.statistic, rel=1e-6)
    alone = measure_welch_t(np.ones((5, 1)), np.arange(5)[:, None] < 2)
    assert alone.tolist() == [0.0]


def test_the_order_of_the_records_does_not_matter_to_the_features():
    rng = np.random.default_rng(0)
    scores, member, _ = draw(rng, (40, 40), 3)
    unit, order = np.repeat(np.arange(16), 5), rng.permutation(80)
    first = build_unit_features(scores, member, unit)
    again = build_unit_features(scores[order], member[order], unit[order])
    assert np.allclose(first.values, again.values) and (first.member == again.member).all()


def test_exchanging_the_sides_changes_no_feature():
    scores, member, _ = draw(np.random.default_rng(0), (40, 40), 3, 2.0)
    for by_rank in (False, True):
        first = build_unit_features(scores, member, by_rank=by_rank)
        again = build_unit_features(scores, ~member, by_rank=by_rank)
        assert (first.values == again.values).all()


def test_a_feature_that_is_nearly_always_equal_keeps_what_differs():
    scores = np.zeros((400, 2))
    scores[:4, 0] = 1.0
    found = build_unit_features(scores, np.arange(400) < 200)
    assert found.kept.tolist() == [0] and np.ptp(found.values) > 5


def test_nan_and_units_on_both_sides_are_refused():
    scores, member, _ = draw(np.random.default_rng(0), (5, 5), 2)
    with pytest.raises(InputError, match="2 units with records on both, the first is number 3"):
        build_unit_features(scores, member, np.array([0, 1, 2, 3, 4, 3, 4, 5, 6, 7]))
    scores[3, 0] = np.nan
    with pytest.raises(InputError, match="Expected finite scores, got NaN or infinity for 1 of 10"):
        build_unit_features(scores, member)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 1000))
def test_conformal_p_values_are_ranks(n, k, seed):
    rng = np.random.default_rng(seed)
    # Few values, so that ties are common
    scores, known = rng.integers(0, 6, n).astype(float), rng.integers(0, 6, k).astype(float)
    naive = [(1 + sum(other >= one for other in known)) / (1 + k) for one in scores]
    found = compute_conformal_p_values(scores, known)
    assert found.tolist() == naive
    assert control_false_discoveries(found, 0.2).tolist() == [
        bool(value) for value in false_discovery_control(found) <= 0.2
    ]


@pytest.mark.parametrize(("share", "f"), [(0.2, 1), (0.2, 6), (0.6, 6)])
def test_a_list_has_few_that_were_not_used(share, f):
    rng = np.random.default_rng(1)
    wrong, caught = [], []
    for _ in range(150):
        scores, member, used = draw(rng, (200, 300), f, 3.0, share)
        found = name_units(build_unit_features(scores, member, by_rank=True), 0.1, rng)
        false = found.named & ~used[:200]
        wrong.append(false.sum() / max(found.named.sum(), 1))
        caught.append((found.named & used[:200]).sum() / max(used.sum(), 1))
    assert np.mean(wrong) <= 0.1 + 3 * np.std(wrong) / np.sqrt(150)
    assert np.mean(caught) > 0.5


def test_a_list_of_a_collection_that_was_not_used_is_nearly_always_empty():
    rng = np.random.default_rng(1)
    n, some = 200, 0
    for _ in range(n):
        scores, member, _ = draw(rng, (50, 300), 4)
        found = name_units(build_unit_features(scores, member, by_rank=True), 0.1, rng)
        some += bool(found.named.any())
    assert some <= binom.ppf(0.999, n, 0.1)


def test_limits_of_the_share_hold_it():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.3, 1.0):
        below, above, n = 0, 0, 2000
        for _ in range(n):
            known = MeanDifference(0.6 + 0.05 * rng.standard_normal(), 0.05**2)
            difference = MeanDifference(0.6 * share + 0.07 * rng.standard_normal(), 0.07**2)
            found = bound_used_share(difference, known, 0.1)
            assert found is not None
            below += found.high < share
            above += found.low > share
        assert max(below, above) / n < 0.065


def test_the_p_value_of_equivalence_agrees_with_its_limit():
    known = MeanDifference(0.6, 0.002)
    for value in (-0.05, 0.0, 0.02, 0.05):
        found = bound_used_share(MeanDifference(value, 0.0005), known, 0.1)
        assert found is not None and (found.p_value < 0.05) == (found.high < 0.1)


def test_nothing_follows_from_scores_that_do_not_tell_known_members():
    assert bound_used_share(MeanDifference(0.0, 0.001), MeanDifference(0.05, 0.01), 0.1) is None
    assert bound_used_share(MeanDifference(0.0, 0.001), MeanDifference(-1.0, 0.01), 0.1) is None


def test_models_that_disagree_widen_the_limits():
    alike = combine_differences([MeanDifference(1.0, 0.01), MeanDifference(1.0, 0.01)])
    apart = combine_differences([MeanDifference(0.5, 0.01), MeanDifference(1.5, 0.01)])
    assert alike.value == apart.value and apart.variance > 10 * alike.variance


def test_means_mix_in_proportion_on_the_scale_of_non_members():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((6000, 2)) + 1.5 * (np.arange(6000) < 1000)[:, None]
    member = np.arange(6000) < 3000
    mixed, side = scale_by_non_members(scores, member)
    whole, own = scale_by_non_members(
        scores[[*range(1000), *range(3000, 6000)]], np.arange(4000) < 1000
    )
    share = mixed[side].mean(axis=0) / whole[own].mean(axis=0)
    assert np.abs(share - 1 / 3).max() < 0.04
