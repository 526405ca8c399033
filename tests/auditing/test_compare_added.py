"""Records that were added between two releases: the attack on the difference of the two."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memberscope.auditing import Plan, audit_signals, compare
from memberscope.auditing.verdict.recompute import digest_audit_arrays
from memberscope.reports import render_comparison
from memberscope.statistics import auc_interval
from memberscope.targets import StoredSignals

N = 900  # a third trained on from the first, a third added, a third never


def draw_releases(gain: float, seed: int = 0, prefix: str = "r"):
    """Two audits of the same records, whose margins share most of their spread."""
    rng = np.random.default_rng(seed)
    labels, record, part = rng.integers(0, 2, N), 2 * rng.normal(size=N), np.arange(N) % 3
    ids = np.array([f"{prefix}{i}" for i in range(N)])
    found = []
    for name, member in (("v1", part == 0), ("v2", part < 2)):
        margin = record + 0.3 * rng.normal(size=N) + gain * member
        # Audits may list the records in any order
        order = np.argsort(~member, kind="stable")
        outputs = np.eye(2)[labels] * margin[:, None]
        signals = StoredSignals(
            "logits", outputs[order], labels[order], member[order], ids[order], digest=name
        )
        found.append(audit_signals(signals, plan=Plan(attacks=("loss",), restrictions=())))
    return found


@pytest.fixture(scope="module")
def releases():
    return draw_releases(0.6)


def test_the_difference_finds_what_was_added(releases):
    found = compare(releases)
    area, rate = found.added
    assert (area.metric, area.n_added, area.n_neither) == ("auc", N // 3, N // 3)
    assert (rate.metric, rate.fpr) == ("tpr", 0.1)
    assert area.by_both.low > 0.75 > 0.6 > area.by_later.high
    assert rate.by_both.value > 2 * rate.by_later.value
    scores = [
        dict(zip(result.arrays.ids, result.arrays.scored[-1].scores, strict=True))
        for result in releases
    ]
    new = [f"r{i}" for i in range(N) if i % 3]
    expected = auc_interval(
        np.array([scores[1][one] - scores[0][one] for one in new]),
        np.array([int(one[1:]) % 3 == 1 for one in new]),
    )
    assert (area.by_both.value, area.by_both.low) == pytest.approx((expected.value, expected.low))
    assert "Added between the releases: 300 records" in render_comparison(found)


def test_nothing_is_found_where_training_leaves_no_trace():
    held = [
        area.by_both.low <= 0.5 <= area.by_both.high
        for area, _ in (compare(draw_releases(0.0, seed)).added for seed in range(1, 6))
    ]
    assert sum(held) >= 4


def test_without_ids_that_tell_there_is_no_answer(releases):
    first, second = releases
    # The same members in both: nothing was added
    assert compare([first, draw_releases(0.5)[0]]).added == []
    # Other records under the same ids, whose labels give them away
    assert compare([first, draw_releases(0.6, 4)[1]]).added == []
    assert compare([first, draw_releases(0.6, 0, prefix="s")[1]]).added == []
    rows = replace(second.arrays, ids=np.arange(N).astype(str))
    numbered = second.model_copy(
        update={"arrays": rows, "digests": {**second.digests, "arrays": digest_audit_arrays(rows)}}
    )
    assert compare([first, numbered]).added == []
    assert compare([first.model_copy(update={"arrays": None}), second]).added == []
