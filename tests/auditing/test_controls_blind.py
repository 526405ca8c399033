"""The blind control: valid at every rate of a policy, by unit.

And whatever the order of the records.
"""

from __future__ import annotations

import numpy as np
import pytest
from scenes import gaussian_signals
from scipy.stats import binom

from memberscope.auditing import Plan, audit_signals
from memberscope.auditing.controls import blind
from memberscope.auditing.controls.blind import (
    compute_null_distribution,
    count_expected_above,
    estimate_found_share,
    run_blind_control,
    stratified_auc,
)
from memberscope.auditing.controls.linear_walk import predict_linear_by_block

FPRS = (0.01,)


def drawn(n: int, seed: int, n_features: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, n])
    return rng.normal(size=(2 * n, n_features)), rng.integers(0, 3, 2 * n), np.arange(2 * n) < n


def test_known_answers():
    np.testing.assert_allclose(compute_null_distribution(2, 1, 1), [1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(compute_null_distribution(1, 3, 2), [0.5, 0.5])
    assert count_expected_above(np.array([5.0, 4, 3]), np.array([3.5, 1, 0]), 1) == 2
    auc, error = stratified_auc([(np.array([1.0, 3]), np.array([0.0, 2]))])
    assert auc == 0.75 and error == pytest.approx((5 / 48) ** 0.5)
    tied = stratified_auc([(np.array([1.0, 1]), np.array([1.0, 1]))])
    assert tied[0] == 0.5 and tied[1] < 1e-5
    assert estimate_found_share([(np.arange(4.0), np.arange(4.0) - 10)], 0.01) == (
        1.0,
        pytest.approx(1 / 70),
    )


@pytest.mark.parametrize("coarse", [False, True])
def test_shares_found_have_valid_p_values(coarse):
    """Scores without any difference.

    P below .05 and .01 at most that often, in blocks of unequal size, with and without ties.
    """
    rng = np.random.default_rng(3)
    runs, p_values = 1500, []
    for _ in range(runs):
        blocks = []
        for n1, n0 in ((40, 60), (80, 30)):
            scores = rng.normal(size=n1 + n0)
            blocks.append(np.split(np.round(scores) if coarse else scores, [n1]))
        p_values.append(estimate_found_share([(a, b) for a, b in blocks], 0.05)[1])
    for level in (0.05, 0.01):
        assert (np.array(p_values) <= level).sum() <= binom.ppf(0.999, runs, level)
    assert (np.array(p_values) <= 0.2).mean() > 0.05


def test_a_mark_on_one_member_in_twenty_is_found_where_its_auc_says_nothing():
    for seed in range(6):
        x, y, member = drawn(1000, seed)
        x[:, 0] = 0
        x[:50, 0] = 1
        control = run_blind_control(x, y, member, None, fprs=FPRS)
        assert control.passed is False and "errs on 1% of the others" in control.why, seed
        assert control.details["p_value"] < 1e-3


def test_clean_records_seldom_alarm_on_either_side():
    runs, alarms, below = 40, 0, 0
    for seed in range(runs):
        x, y, member = drawn(150, seed)
        control = run_blind_control(x, y, member, None, fprs=(0.01, 0.05))
        alarms += control.passed is False
        below += control.details["below"]
    assert alarms <= binom.ppf(0.999, runs, 0.005) and below <= binom.ppf(0.999, runs, 0.0025)


def test_the_outcome_depends_neither_on_the_order_of_the_records_nor_on_the_seed():
    x, y, member = drawn(400, 1)
    x[:400, 0] += 0.25
    first = run_blind_control(x, y, member, None, fprs=FPRS)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(member))
        again = run_blind_control(x[order], y[order], member[order], None, fprs=FPRS)
        assert (again.passed, again.value, again.details) == (
            first.passed,
            first.value,
            first.details,
        )
    results = [
        audit_signals(
            gaussian_signals(200, 0.0, n_features=3, feature_shift=0.3),
            plan=Plan(attacks=("gap",), seed=seed),
        )
        for seed in (0, 1)
    ]
    assert results[0].controls["blind"].value == results[1].controls["blind"].value


def test_rows_of_one_person_count_once():
    """Persons are alike on both sides, yet 60 rows of each.

    Rows taken as independent raise an alarm, units do not.
    """
    alarms = {"rows": 0, "units": 0}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        unit = np.repeat(np.arange(60), 30)
        x = rng.normal(size=(60, 3))[unit] + 0.2 * rng.normal(size=(1800, 3))
        member, labels = unit < 30, np.zeros(1800, dtype=np.int64)
        alarms["rows"] += run_blind_control(x, labels, member, None, fprs=(0.05,)).passed is False
        alarms["units"] += (
            run_blind_control(x, labels, member, None, fprs=(0.05,), unit=unit).passed is False
        )
        assert (
            run_blind_control(x + 3.0 * member[:, None], labels, member, None, unit=unit).passed
            is False
        )
    assert alarms["units"] == 0 and alarms["rows"] >= 3


def test_few_records_are_not_judged():
    x, y, member = drawn(6, 0)
    assert run_blind_control(x, y, member, None).passed is None


def test_the_linear_model_of_many_columns_is_ridge_regression_on_standardised_inputs():
    """Held against scikit-learn.

    With a constant column, one constant but for a later block, and one of large numbers.
    """
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    x, member = rng.normal(size=(300, 40)), rng.random(300) < 0.4
    block = rng.integers(0, 4, 300)
    x[:, 0], x[:, 1], x[:, 2] = 5.0, block == 3, 1e9 + 1e3 * x[:, 2]
    found = predict_linear_by_block(x, member, block)
    for b in (1, 2, 3):
        model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0))
        model.fit(x[block < b], member[block < b])
        expected = model.decision_function(x[block == b])
        np.testing.assert_allclose(found[block == b], expected, rtol=1e-6, atol=1e-6)
    assert np.isnan(found[block == 0]).all()


def test_many_columns_change_nothing_about_the_outcome(monkeypatch):
    """The sums of products decide as scikit-learn's ridge classifier does, number for number."""
    x, y, member = drawn(300, 2, 70)
    x[:300, :9] += 0.15
    fast = run_blind_control(x, y, member, None, fprs=FPRS)

    def slowly(wide, side, block):
        return blind._predict_by_block(blind._make_linear_model, wide, side, block)

    monkeypatch.setattr(blind, "predict_linear_by_block", slowly)
    slow = run_blind_control(x, y, member, None, fprs=FPRS)
    assert (fast.passed, fast.details["tpr"]) == (slow.passed, slow.details["tpr"])
    assert fast.value == pytest.approx(slow.value, abs=1e-9)


@pytest.mark.parametrize(("n_members", "kept"), [(60, (60, 140)), (150, (100, 100))])
def test_many_records_are_drawn_by_their_content(monkeypatch, n_members, kept):
    """At most so many of both sides together, whatever their order, and the control says so."""
    x, y, _ = drawn(150, 3)
    member = np.arange(300) < n_members
    whole = run_blind_control(x, y, member, None)
    assert "drawn_from" not in whole.details
    monkeypatch.setattr(blind, "MAX_RECORDS", 200)
    first = run_blind_control(x, y, member, None)
    assert (first.details["n_members"], first.details["n_non_members"]) == kept
    assert first.details["drawn_from"] == 300
    order = np.random.default_rng(0).permutation(300)
    assert run_blind_control(x[order], y[order], member[order], None) == first
    # No more records than are compared are all looked at
    monkeypatch.setattr(blind, "MAX_RECORDS", 300)
    assert run_blind_control(x, y, member, None) == whole
