"""Swapped, identical and overlapping files do not buy a PASS (cases `same-records-on-both-sides`)."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import joblib
import numpy as np
import pytest
from commands import run_command
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import memberscope
from memberscope.auditing import Plan

FAST = ("gap", "loss", "confidence", "logit")
N = 2000


def write_csv(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"f{i}" for i in range(x.shape[1])), "y"])
        writer.writerows(
            [*map(repr, map(float, row)), int(label)] for row, label in zip(x, y, strict=True)
        )


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, cwd=cwd, COLUMNS="200")


@pytest.fixture(scope="module")
def noise():
    """A forest that memorises random labels, with its records and as many others."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2 * N, 5)), rng.integers(0, 2, 2 * N)
    return RandomForestClassifier(30, random_state=0).fit(x[:N], y[:N]), x, y


def audited(
    noise, other: np.ndarray, policy: str = "standard", **planned: object
) -> memberscope.Result:
    model, x, y = noise
    plan = Plan(attacks=FAST, policy=memberscope.load_policy(policy), **planned)
    return memberscope.audit(model, (x[:N], y[:N]), (x[other], y[other]), plan=plan)


def test_the_training_file_as_hold_out_is_refused_on_the_command_line(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 5)), rng.integers(0, 2, 300)
    joblib.dump(RandomForestClassifier(10, random_state=0).fit(x, y), tmp_path / "same.pkl")
    write_csv(tmp_path / "same.csv", x, y)
    order = rng.permutation(300)
    write_csv(tmp_path / "shuffled.csv", x[order], y[order])
    for other in ("same.csv", "shuffled.csv"):
        sides = (
            "--members",
            "same.csv",
            "--non-members",
            other,
            "--label",
            "y",
            "--policy",
            "demo",
        )
        done = call("audit", "--model", "same.pkl", "--trust-code", *sides, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert (
            "the same 300 records as members and as non-members" in done.stderr
            and "Traceback" not in done.stderr
        )


def test_an_honest_hold_out_fails_with_its_controls_in_order(noise):
    result = audited(noise, np.arange(N, 2 * N))
    assert result.verdict == "FAIL"
    assert {
        name: result.controls[name].passed for name in ("overlap", "direction", "fitted", "blind")
    } == {
        "overlap": True,
        "direction": True,
        "fitted": True,
        "blind": True,
    }


def test_a_small_overlap_of_an_honest_fail_buys_nothing_and_can_be_dropped(noise):
    other = np.append(np.arange(N // 10), np.arange(N, 2 * N - N // 10))
    result = audited(noise, other)
    control = result.controls["overlap"]
    assert control.passed is False and N // 10 * 0.9 <= control.details["excess"] <= N // 10
    assert result.verdict in ("FAIL", "INCONCLUSIVE")
    dropped = audited(noise, other, drop_overlap=True)
    assert dropped.verdict == "FAIL" and dropped.controls["overlap"].passed is True
    assert dropped.diagnostics.n_members == dropped.diagnostics.n_non_members == N - N // 10


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_many_copies_never_pass(noise, share):
    count = int(N * share)
    other = np.append(np.arange(count), np.arange(N, 2 * N - count))
    if share == 1.0:
        other = other[: N - 100]  # the whole file would be refused
    result = audited(noise, other)
    assert result.controls["overlap"].passed is False
    assert result.verdict != "PASS"


def test_swapped_files_are_inconclusive_with_the_question():
    """Training accuracy below that of the hold-out: the roles were exchanged."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3000, 12))
    y = (x[:, 0] + 1.5 * rng.normal(size=3000) > 0).astype(int)
    model = RandomForestClassifier(30, random_state=0).fit(x[:1500], y[:1500])
    plan = Plan(attacks=FAST, policy=memberscope.load_policy("standard"))
    right = memberscope.audit(model, (x[:1500], y[:1500]), (x[1500:], y[1500:]), plan=plan)
    assert right.verdict != "PASS" and right.controls["direction"].passed is True
    swapped = memberscope.audit(model, (x[1500:], y[1500:]), (x[:1500], y[:1500]), plan=plan)
    assert swapped.controls["direction"].passed is False
    assert swapped.verdict == "INCONCLUSIVE" and "Are the two files swapped?" in swapped.reason


def test_a_mark_on_one_member_in_twenty_is_no_false_fail():
    """The model is clean; attacks with the records' features would find the mark.

    And so does the blind control.
    """
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3000, 6))
    x[:, 0] = 0.0
    x[:75, 0] = 1.0
    y = (x[:, 1] + rng.normal(size=3000) > 0).astype(int)
    y[:75] = 1
    model = LogisticRegression(C=100.0).fit(x[:1500], y[:1500])
    plan = Plan(attacks=FAST, policy=memberscope.load_policy("standard"))
    result = memberscope.audit(model, (x[:1500], y[:1500]), (x[1500:], y[1500:]), plan=plan)
    assert result.controls["blind"].passed is False and result.verdict == "INCONCLUSIVE"


def test_a_model_that_was_never_fitted_does_not_pass():
    from memberscope.targets import FunctionTarget

    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2 * N, 4)), rng.integers(0, 2, 2 * N)
    weights = rng.normal(size=4)
    target = FunctionTarget(
        lambda rows: np.column_stack([p := 1 / (1 + np.exp(rows @ weights)), 1 - p]),
        n_classes=2,
        signal="probabilities",
    )
    plan = Plan(attacks=FAST, policy=memberscope.load_policy("demo"))
    result = memberscope.audit(target, (x[:N], y[:N]), (x[N:], y[N:]), plan=plan)
    assert result.controls["fitted"].passed is False
    assert result.verdict == "INCONCLUSIVE" and "unfitted" in result.reason
