"""Membership of reference models.

Exact sizes, balance over the references alone, groups and strata.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memberscope.errors import InputError
from memberscope.recipes import build_balanced_design, check_design


@given(st.integers(2, 60), st.integers(1, 20), st.data())
def test_sizes_are_exact_and_counts_differ_by_at_most_one(n, m, data):
    size = data.draw(st.integers(1, n - 1))
    inside = build_balanced_design(n, size, m, np.random.default_rng(n))
    assert (inside.sum(axis=1) == size).all()
    counts = inside.sum(axis=0)
    assert counts.max() - counts.min() <= 1


@settings(max_examples=30)
@given(st.integers(10, 80), st.integers(2, 12))
def test_strata_have_their_share_in_every_model(n, m):
    strata = np.arange(n) % 3
    inside = build_balanced_design(n, n // 2, m, np.random.default_rng(0), strata=strata)
    assert (inside.sum(axis=1) == n // 2).all()
    counts = inside.sum(axis=0)
    assert counts.max() - counts.min() <= 1
    for code in range(3):
        shares = inside[:, strata == code].sum(axis=1)
        assert np.abs(shares - (strata == code).sum() / 2).max() <= 2


def test_odd_and_rare_classes_leave_every_record_in_half_of_the_models():
    """A record in all or none of the models would keep the attacks from running at all."""
    strata = np.repeat(np.arange(6), [1, 3, 7, 51, 67, 71])
    for m in (2, 4, 8):
        inside = build_balanced_design(200, 100, m, np.random.default_rng(m), strata=strata)
        assert (inside.sum(axis=0) == m // 2).all() and (inside.sum(axis=1) == 100).all()
        for code in range(6):
            assert (
                np.abs(inside[:, strata == code].sum(axis=1) - (strata == code).sum() / 2).max()
                <= 2
            )


def test_strata_leave_each_record_an_equal_chance_of_one_model():
    strata = np.repeat(np.arange(3), [20, 9, 1])
    share = np.mean(
        [
            build_balanced_design(30, 15, 1, np.random.default_rng(seed), strata=strata)[0]
            for seed in range(6000)
        ],
        axis=0,
    )
    assert np.abs(share - 0.5).max() < 0.03  # 4.6 standard errors


def test_records_of_a_unit_are_in_the_same_models():
    people = np.array([f"person {i // 3}" for i in range(90)])
    inside = build_balanced_design(90, 45, 8, np.random.default_rng(0), unit=people)
    for person in np.unique(people):
        assert len({tuple(column) for column in inside[:, people == person].T}) == 1
    assert inside.sum(axis=1).tolist() == [45] * 8 and inside.sum(axis=0).tolist() == [4] * 90


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 40), st.integers(1, 12), st.integers(0, 1000))
def test_units_of_any_size_stay_whole_beside_strata(n_units, m, seed):
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(n_units), rng.geometric(0.3, n_units))
    own = unit % 2  # each unit of one stratum
    inside = build_balanced_design(len(unit), max(1, len(unit) // 2), m, rng, strata=own, unit=unit)
    of_units = np.stack([inside[:, unit == one].all(axis=1) for one in range(n_units)], axis=1)
    assert (of_units[:, unit] == inside).all()
    assert np.ptp(of_units.sum(axis=0)) <= 1
    for code in (0, 1):
        shares = of_units[:, np.arange(n_units) % 2 == code].sum(axis=1)
        assert (
            np.abs(
                shares - of_units[0].sum() / n_units * (np.arange(n_units) % 2 == code).sum()
            ).max()
            <= 2
        )


def test_pairs_of_records_are_in_models_independently():
    """Nothing ties one record to another.

    The share of models with both is that of two draws without replacement.
    """
    inside = build_balanced_design(40, 20, 4000, np.random.default_rng(0))
    both = (inside[:, :1] & inside[:, 1:]).mean(axis=0)
    assert abs(both.mean() - 0.5 * 19 / 39) < 0.003 and both.std() < 0.02


def test_even_models_of_half_the_records_give_each_record_exactly_half():
    for m in (2, 4, 16, 64):
        assert (
            build_balanced_design(101 * 2, 101, m, np.random.default_rng(m)).sum(axis=0) == m // 2
        ).all()


def test_impossible_designs_are_refused():
    rng = np.random.default_rng(0)
    for size in (0, 10, 11):
        with pytest.raises(InputError, match="Expected reference models of 1 to 9 records"):
            build_balanced_design(10, size, 4, rng)
    with pytest.raises(InputError, match="at least one reference model"):
        build_balanced_design(10, 5, 0, rng)
    with pytest.raises(InputError, match="at least two units, got one"):
        build_balanced_design(10, 5, 2, rng, unit=np.array(["a"] * 10))


def test_the_users_own_design_is_checked():
    assert check_design(np.array([[1, 0, 1], [0, 1, 0]]), 3).dtype == bool
    for bad, words in (
        (np.ones((2, 4)), "shape"),
        (np.array([[0, 2, 1]]), "zeros and ones"),
        (np.array([[1, 1, 1]]), "none or all"),
    ):
        with pytest.raises(InputError, match=words):
            check_design(bad, 3)
    own = np.array(["a", "a", "b"])
    assert check_design(np.array([[1, 1, 0], [0, 0, 1]]), 3, own).any()
    with pytest.raises(
        InputError,
        match="all records of a unit in the same models of the design, got 'a' in some of them only in part",
    ):
        check_design(np.array([[1, 1, 0], [0, 1, 1]]), 3, own)
