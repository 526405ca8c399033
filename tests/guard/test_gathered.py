"""Queries that are looked at together give what they give alone.

And the quick ways give what the plain ones do.
"""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memberscope.guard.alerting.prometheus import Metrics
from memberscope.guard.hashing.secret_key import Secret
from memberscope.guard.monitor.artifacts import MonitorArtifacts
from memberscope.guard.monitor.in_process import TURN, SketchQueue
from memberscope.guard.query_event import QueryEvent
from memberscope.guard.sketching.observations import read_line
from memberscope.guard.sketching.sketcher import Sketcher
from memberscope.outputs.rounding import WIDE, Rounding
from memberscope.outputs.top_k import TopK
from memberscope.wire.batch import Batch

RNG = np.random.default_rng(0)
SECRET = Secret("k", bytes(32))
ROWS = RNG.normal(size=(200, 6))
EQUIPMENT = MonitorArtifacts(SECRET, Sketcher.fit("tabular", Batch(ROWS), SECRET), None, None)


def seen(batch: Batch, client: int) -> QueryEvent:
    return QueryEvent(
        batch, "network:a", f"{client:016x}", "default", np.arange(len(batch)), 200, 0.001
    )


def observed(queries: list[QueryEvent], *, together: bool) -> list:
    async def run() -> list:
        sketched, found = SketchQueue(EQUIPMENT, Metrics(), clock=lambda: 5.0), []
        for query in queries:
            sketched.watch(query)
            if not together:
                found += await sketched.lines()
        while sketched.waiting:
            found += await sketched.lines()
        assert sketched.records == 0
        return found

    return asyncio.run(run())


def test_queries_looked_at_together_are_observed_as_alone():
    named = {f"c{j}": ROWS[:3, j] for j in range(6)}  # whose order the sketch does not know
    bad = Batch(ROWS[:2, :4])  # too few features: not sketched, and nothing else with it
    batches = [
        ROWS[:1],
        ROWS[1:4],
        ROWS[4:5].astype(np.int64),
        *(ROWS[k : k + 1] for k in range(9)),
        ROWS[: 3 * TURN + 1],
        ROWS[:2],
    ]
    queries = [seen(Batch(batch), client) for client, batch in enumerate(batches)]
    queries += [seen(bad, 90), seen(Batch(columns=named), 91), seen(Batch(ROWS[7:8]), 92)]
    both = [observed(queries, together=together) for together in (True, False)]
    assert len(both[0]) == len(both[1]) == len(queries) + 3
    for (one, line), (other, plain) in zip(*both, strict=True):
        for name in ("time", "client", "record", "bins", "label"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        if not len(one):
            assert line == plain
            continue
        np.testing.assert_allclose(one.point, other.point, atol=1e-6)
        assert json.loads(line) | {"point": 0} == json.loads(plain) | {"point": 0}
        np.testing.assert_array_equal(read_line(line).point, one.point)
    assert {int(one.client[0]) for one, _ in both[0] if len(one)} == {*range(len(batches)), 92}
    unread = [json.loads(line) for one, line in both[0] if not len(one)]
    assert [(int(line["client"], 16), line["unreadable"]) for line in unread] == [(90, 2), (91, 3)]


def sorted_tops(outputs: np.ndarray, k: int) -> np.ndarray:
    kept = outputs.copy()
    for row in kept:
        order = sorted(range(len(row)), key=lambda j: (-row[j] if row[j] == row[j] else np.inf, j))
        row[order[k:]] = np.nan
    return kept


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 8), st.integers(1, 9))
def test_the_likeliest_classes_are_those_of_a_stable_sort(seed, n, classes, k):
    rng = np.random.default_rng(seed)
    outputs = rng.integers(0, 4, (n, classes)) / 4.0
    outputs[rng.random(outputs.shape) < 0.3] = np.nan
    before = outputs.copy()
    np.testing.assert_array_equal(TopK(k)(outputs), sorted_tops(outputs, k))
    np.testing.assert_array_equal(outputs, before)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.sampled_from([2, 5, WIDE + 6]),
    st.sampled_from([0.0, 0.3, 0.97, 1.0]),
)
def test_rounding_hidden_classes_is_rounding_the_others(seed, n, classes, share):
    rng = np.random.default_rng(seed)
    outputs = rng.integers(0, 40, (n, classes)) / 40.0
    outputs[rng.random(outputs.shape) < share] = np.nan
    found = Rounding(1)(outputs)
    for row, rounded in zip(outputs, found, strict=True):
        told = ~np.isnan(row)
        np.testing.assert_array_equal(np.isnan(rounded), ~told)
        if told.any():
            np.testing.assert_array_equal(rounded[told], Rounding(1)(row[told][None])[0])
            assert np.nanargmax(rounded) == np.nanargmax(row)


@pytest.mark.parametrize(
    ("kind", "status", "label"),
    [("query", 200, "200"), ("query", 799, "other"), ("odd", 200, "200")],
)
def test_requests_are_counted_under_known_labels_however_often(kind, status, label):
    metrics = Metrics()
    for _ in range(3):
        metrics.request(kind, status, 0.5)
    word = "query" if kind == "query" else "other"
    assert (
        f'memberscope_guard_requests_total{{kind="{word}",status="{label}"}} 3.0'
        in metrics.exposition().decode()
    )
