"""The simulated traffic and campaigns.

What they promise about order, members, repetition and records decided.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from benchmark_scripts import load_benchmark

from memberscope.signals.label_oracle import ask_top_labels
from memberscope.targets import FunctionTarget

attacks = load_benchmark("guard_campaigns")
traffic = load_benchmark("guard_traffic")


def served(kind: str = "tabular") -> Any:
    rng = np.random.default_rng(0)
    x = rng.random((3000, 12) if kind == "tabular" else (3000, 1, 8, 8)).astype(np.float32)

    def answer(z):
        right = np.asarray(z).reshape(len(z), -1)[:, :3].sum(axis=1) > 1.5
        return np.column_stack([~right, right]).astype(float)

    target = FunctionTarget(answer, n_classes=2)
    return traffic.Deployment(
        "adult", kind, target, x, ask_top_labels(target, x), np.arange(3000) < 900
    )


@pytest.mark.parametrize("kind", ["tabular", "image"])
def test_a_stream_is_in_order_and_answered_by_the_model(kind):
    deployment = served(kind)
    stream = traffic.benign(deployment, 1, 60, 7)
    assert (np.diff(stream.time) >= 0).all() and stream.time[0] >= traffic.START
    pool, labels = deployment.pool(), deployment.labels()
    assert len(pool) == len(labels) == deployment.size > stream.row.max() >= deployment.n
    np.testing.assert_array_equal(labels, ask_top_labels(deployment.target, pool))
    assert {traffic.kind_of(name) for name in stream.names} == set(traffic.KINDS)


def test_streams_depend_on_the_seed_alone():
    a, b, other = (traffic.benign(served(), seed, 40, 7) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.time, b.time)
    np.testing.assert_array_equal(a.row, b.row)
    assert not set(a.names) & set(other.names) and len(other) != len(a)


def test_clients_ask_about_members_at_their_base_rate():
    deployment = served()
    stream = traffic.benign(deployment, 3, 200, 14)
    kinds = np.array([traffic.kind_of(name) for name in stream.names])[stream.client]
    own = stream.row < deployment.n
    for kind, low, high in (("interactive", 0.03, 0.07), ("owner", 0.7, 0.9)):
        mine = own & (kinds == kind)
        assert low < deployment.member[stream.row[mine]].mean() < high


def test_two_streams_merge_in_order_of_time():
    a, b = (traffic.benign(served(), seed, 30, 7) for seed in (1, 2))
    both = traffic.merged([a, b])
    assert len(both) == len(a) + len(b) and (np.diff(both.time) >= 0).all()
    assert both.client_days() == a.client_days() + b.client_days()
    for stream in (a, b):
        mine = np.isin(both.names[both.client], stream.names)
        np.testing.assert_array_equal(both.names[both.client[mine]], stream.names[stream.client])
        np.testing.assert_array_equal(both.row[mine], stream.row)


def test_a_dashboard_repeats_its_list_in_order():
    deployment = served()
    time, row = traffic.dashboard(deployment, np.random.default_rng(0), np.arange(5), 0.05)
    n = len(np.unique(row))
    assert n < 20 and (row.reshape(-1, n) == row[:n]).all() and len(time) == len(row)


def test_recorded_queries_are_those_that_the_attack_sent():
    deployment = served()
    field = attacks.arena(deployment)
    found = field.recorded("noise")
    pool = deployment.pool()
    for place in (0, 7, 299):
        mine = found.row[found.owner == place]
        assert mine[0] == field.attacked[place]  # the first query is the record itself
        assert (
            len(mine) > 8
            and (pool[mine[1:]] != deployment.x[field.attacked[place]]).any(axis=1).mean() > 0.9
        )
    assert deployment.member[field.attacked].mean() == 0.5


def test_records_are_decided_by_their_last_query():
    field = attacks.arena(served())
    rng = np.random.default_rng(0)
    for name, make in attacks.campaigns().items():
        if name.startswith(("augmentation", "hopskipjump")):
            continue
        found = make(field, rng, 1.4)
        assert (np.diff(found.stream.time) >= 0).all() and (np.diff(found.decided) >= 0).all()
        assert found.decided[-1] == found.n_records and len(found.decided) == len(found.stream)
    ordered = attacks.probing(field, rng, 1.0, name="noise", attack="noise")
    lockstep = attacks.probing(field, rng, 1.0, name="noise", attack="noise", ordered=False)
    half = len(ordered.stream) // 2
    assert ordered.decided[half] > 10 and lockstep.decided[len(lockstep.stream) // 2] == 0


def test_the_knowing_attacker_mixes_in_as_many_ordinary_records():
    field = attacks.arena(served())
    found = attacks.knowing(field, np.random.default_rng(1), 2.0)
    days = np.unique(found.stream.client * 1000 + found.stream.days(), return_counts=True)[1]
    assert found.n_records == len(found.stream) // 2 and days.mean() < 12
    assert len(found.stream.names) == 30
