"""Groups by length, and attacks that detect length."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from memberscope.auditing.controls.text_length import (
    correlate_ranks,
    find_length_detectors,
    limit_rank_correlation,
)
from memberscope.auditing.subject.texts import add_length_group
from memberscope.types import Records

N = 400
MEMBER = np.arange(2 * N) < N


def _draw_lengths() -> tuple[np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(0)
    return rng.integers(20, 200, 2 * N), rng


def test_a_detector_of_length_is_named_whatever_its_direction():
    lengths, rng = _draw_lengths()
    noise = rng.normal(size=2 * N)
    scores = {"zlib": lengths / 50 + noise / 5, "short": -lengths / 50.0, "loss": noise}
    warnings = find_length_detectors(scores, lengths, MEMBER)
    assert [warning.split()[3] for warning in warnings] == ["zlib", "short"]
    assert "-1.00" in warnings[1]


def test_only_non_members_count():
    """Training on long texts alone makes members' scores follow length, which is no fault."""
    lengths, rng = _draw_lengths()
    scores = np.where(MEMBER, lengths.astype(float), rng.normal(size=2 * N))
    assert find_length_detectors({"loss": scores}, lengths, MEMBER) == []


def test_a_correlation_that_may_be_small_is_not_told():
    lengths, rng = _draw_lengths()
    # A correlation of .55 whose interval reaches below one half
    scores = (lengths - 110) / 52 * 0.55 + rng.normal(size=2 * N) * 0.84
    assert find_length_detectors({"loss": scores}, lengths, MEMBER) == []
    assert find_length_detectors({"loss": scores}, lengths, MEMBER, limit=0.3) != []


def test_units_widen_the_interval_and_few_say_nothing():
    lengths, rng = _draw_lengths()
    scores = {"zlib": (lengths - 110) / 52 * 0.75 + rng.normal(size=2 * N) * 0.7}
    assert find_length_detectors(scores, lengths, MEMBER)
    unit = np.arange(2 * N) // 16
    assert find_length_detectors(scores, lengths, MEMBER, unit=unit) == []
    few = {"zlib": scores["zlib"][:10]}
    assert find_length_detectors(few, lengths[:10], np.zeros(10, bool)) == []


def test_missing_scores_and_ties_are_left_out():
    lengths, _ = _draw_lengths()
    scores = lengths.astype(float)
    scores[::2] = np.nan
    assert len(find_length_detectors({"a": scores, "b": np.ones(2 * N)}, lengths, MEMBER)) == 1


def test_rank_correlation_agrees_with_scipy_and_its_interval_covers():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 9, (2, 50))
    assert np.isclose(correlate_ranks(a.astype(float), b), spearmanr(a, b).statistic)
    # A normal pair of correlation r has the rank correlation 6/pi asin(r/2)
    true, covered = 6 / np.pi * np.arcsin(0.6 / 2), 0
    for _ in range(300):
        x, y = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 100).T
        low, high = limit_rank_correlation(correlate_ranks(x, y), 100, 0.9)
        covered += low <= true <= high
    assert 0.85 < covered / 300 < 0.95


def test_lengths_fall_into_quarters_of_both_sides_together():
    texts = np.array(["x" * n for n in range(1, 101)], dtype=object)
    records = Records(texts, np.zeros(100, np.int64), np.arange(100).astype(str))
    groups = add_length_group(records).groups["length"]
    names, counts = np.unique(groups, return_counts=True)
    assert names.tolist() == [
        "1: up to 25 characters",
        "2: 26 to 50 characters",
        "3: 51 to 75 characters",
        "4: 76 to 100 characters",
    ]
    assert counts.tolist() == [25] * 4
    tokens = add_length_group(records, np.full(100, 7) + (np.arange(100) >= 90))
    # Seven in ten quarters and more are of one length
    assert np.unique(tokens.groups["length"]).tolist() == ["1: up to 7 tokens", "2: 8 tokens"]


def test_records_of_one_length_and_own_groups_stay():
    records = Records(["ab", "cd"], np.zeros(2, np.int64), np.array(["a", "b"]))
    assert add_length_group(records) is records
    own = Records(["a", "bb"], records.y, records.ids, {"length": np.array(["s", "l"])})
    assert add_length_group(own) is own
