"""Controls that fail when they must and seldom otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import gaussian_signals
from scipy.stats import binom

from memberscope.attacks import ATTACKS
from memberscope.auditing import Plan, audit_signals
from memberscope.auditing.controls.blind import run_blind_control
from memberscope.auditing.controls.overlap import run_overlap_control
from memberscope.auditing.scoring import crossfit as fitting
from memberscope.auditing.scoring.null_control import choose_pseudo_members, run_null_control
from memberscope.auditing.subject.duplicates import find_overlap
from memberscope.types import Evidence

SEED = np.random.SeedSequence(1)


def non_members(n: int, seed: int, classes: int = 10) -> Evidence:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    outputs = rng.normal(size=(n, classes))
    outputs[np.arange(n), labels] += 2
    return Evidence("logits", outputs[:, None, :], labels, np.full(n, -1, np.int8))


def names(n: int, seed: int = 0) -> np.ndarray:
    return np.array([f"{seed}-{i}" for i in range(n)])


def test_the_split_follows_from_ids_alone():
    ids = names(101)
    chosen = choose_pseudo_members(ids)
    assert chosen.sum() == 50
    order = np.random.default_rng(0).permutation(101)
    np.testing.assert_array_equal(choose_pseudo_members(ids[order]), chosen[order])


def test_null_control_sees_a_fitting_leak(monkeypatch):
    """Let fits see the truth of the records they score: the verdict must become INCONCLUSIVE."""

    def leaking(attack, evidence, member, fold, seed, **how):
        """Encode each record by the share of members among eight records, itself included."""
        if attack.needs.known == "none":
            return honest(attack, evidence, member, fold, seed, **how)
        group = np.arange(len(member)) // 8
        share = np.bincount(group, weights=member) / np.bincount(group)
        return fitting.CrossFit(share[group], np.tile(share[group], (int(fold.max()) + 1, 1)))

    honest = fitting.crossfit_attack
    assert (
        run_null_control(ATTACKS, lambda attack: non_members(600, 0), names(600), 5, SEED).passed
        is True
    )
    monkeypatch.setattr(fitting, "crossfit_attack", leaking)
    control = run_null_control(ATTACKS, lambda attack: non_members(600, 0), names(600), 5, SEED)
    assert control.passed is False and "the audit itself leaks" in control.why
    result = audit_signals(
        gaussian_signals(600, 0.0), plan=Plan(assume_exchangeable=True), policy="demo"
    )
    assert result.verdict == "INCONCLUSIVE" and "the audit itself leaks" in result.reason


def test_controls_together_seldom_raise_a_false_alarm():
    """At most 2% of clean audits.

    Rejected if 60 clean audits give more alarms than 2% would in all but 0.1% of cases.
    """
    runs, alarms = 60, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        clean = non_members(300, seed)
        null = run_null_control(
            ATTACKS, lambda attack, clean=clean: clean, names(300, seed), 5, SEED
        )
        member = np.arange(600) < 300
        x = np.column_stack([rng.normal(size=(600, 4)), rng.integers(0, 2, 600)])
        blind = run_blind_control(x, rng.integers(0, 3, 600), member, None, fprs=(0.05,))
        overlap = run_overlap_control(find_overlap(np.round(x[:, :3]), member), member)
        alarms += False in (null.passed, blind.passed, overlap.passed) or blind.details["below"]
    assert alarms <= binom.ppf(0.999, runs, 0.02)


def shifted(
    auc: float, n: int, n_features: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Records of which members have one feature moved, so that the best blind AUC is `auc`."""
    from scipy.special import ndtri

    member = np.arange(2 * n) < n
    x = rng.normal(size=(2 * n, n_features))
    x[:, 0] += 2**0.5 * ndtri(auc) * member
    return x, member


def test_a_planted_shift_is_seen():
    """A blind AUC of 0.6 at 1,000 + 1,000 records is seen in each of 25 runs.

    A share of 85% would fail in 98% of tests.
    """
    seen = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        x, member = shifted(0.6, 1000, 10, rng)
        seen += run_blind_control(x, rng.integers(0, 3, 2000), member, None).passed is False
    assert seen == 25


def test_a_shift_that_no_line_sees_is_seen_by_trees():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 4))
    member = np.arange(3000) < 1500
    x[member, 0] *= 2.0
    control = run_blind_control(x, np.zeros(3000, int), member, None)
    assert control.passed is False and control.value > 0.6


def test_a_shift_of_classes_alone_is_seen():
    rng = np.random.default_rng(0)
    member = np.arange(2000) < 1000
    labels = np.where(member, rng.random(2000) < 0.7, rng.random(2000) < 0.4).astype(int)
    assert run_blind_control(rng.normal(size=(2000, 3)), labels, member, None).passed is False


def test_a_failed_blind_control_makes_the_verdict_inconclusive():
    signals = gaussian_signals(800, 2.0, n_features=3, feature_shift=0.8)
    result = audit_signals(signals, policy="demo")
    assert result.verdict == "INCONCLUSIVE" and "never asks the model" in result.reason
    control = result.controls["blind"]
    assert control.passed is False and 0.5 < control.smallest_detectable < 0.6
    beyond = control.details["beyond_blind"]
    assert beyond["low"] <= beyond["auc_difference"] <= beyond["high"]


def test_without_features_exchangeability_must_be_declared():
    signals = gaussian_signals(800, 2.0)
    silent, declared = (
        audit_signals(signals, plan=Plan(assume_exchangeable=flag), policy="demo")
        for flag in (False, True)
    )
    assert silent.verdict == "INCONCLUSIVE" and silent.controls["blind"].passed is None
    assert declared.verdict == "FAIL"
    assert any("declares" in finding.advice for finding in declared.findings)


def test_missing_values_and_constant_features_are_no_obstacle():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    x[::7, 1] = np.nan
    x[:, 2] = 4.0
    assert run_blind_control(x, rng.integers(0, 2, 400), np.arange(400) < 200, None).passed is True


@pytest.mark.parametrize("n_features", [3, 100])
def test_exact_and_near_duplicates_are_found_and_others_are_not(n_features):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, n_features))
    member = np.arange(400) < 200
    x[300] = x[5]
    x[301] = x[6]
    x[302] = x[7] + 1e-4 * rng.normal(size=n_features)
    found = find_overlap(x, member)
    assert found.exact.tolist() == [[300, 5], [301, 6]]
    assert [302, 7] in found.near.tolist()
    assert len(found.near) <= 3
    assert set(found.non_members()) >= {300, 301, 302}


def test_binary_records_one_bit_apart_are_near_only_where_that_is_rare():
    rng = np.random.default_rng(0)
    x = (rng.random((300, 200)) < 0.3).astype(float)
    assert len(find_overlap(x, np.arange(300) < 150).near) == 0


@pytest.mark.parametrize("odd", [np.inf, -np.inf, 1e308])
def test_numbers_that_cannot_be_added_up_hide_no_duplicates(odd):
    x = np.random.default_rng(0).normal(size=(40, 3))
    x[[3, 5], 0] = odd
    x[30] = x[2]
    assert find_overlap(x, np.arange(40) < 20).exact.tolist() == [[30, 2]]
