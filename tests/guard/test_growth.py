"""What a guard keeps does not grow with the queries that it has answered.

Counted in objects, once all tables are full.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys

import numpy as np
import pytest
from watching import Live, population, prepared, write_limits

from memberscope.guard import read_policy
from memberscope.guard.detectors.monitor import STREAMS, DetectorSettings, Monitor
from memberscope.guard.detectors.snapshot import restore_monitor, take_snapshot
from memberscope.guard.hashing.secret_key import read_secret
from memberscope.guard.monitor.child_process import ChildMonitor
from memberscope.guard.sketching.near_duplicates import NearDuplicateIndex
from memberscope.guard.sketching.observations import Observations

N, RADIUS = 500, 0.1


def kept() -> int:
    """How many objects, of whatever kind, there are."""
    gc.collect()
    return sys.getallocatedblocks()


def beside(live: Live, policy) -> None:
    """Put the monitor into a process of its own."""
    live.worker = ChildMonitor(
        policy, read_secret(policy.path("guard.key")).id, live.metrics, live.state
    )
    live.sketched, live.guard.queries.watch = live.worker.queue, live.worker.watch


@pytest.mark.parametrize("apart", [False, True])
def test_as_many_queries_again_leave_no_objects(tmp_path, apart):
    file = prepared(tmp_path)
    file.write_text(
        file.read_text().replace(
            "[identity]", 'per_client = "9999/h"\nper_record = "999/h"\n[identity]'
        )
    )
    write_limits(file, dict.fromkeys(STREAMS, 1e12))
    policy, plain = read_policy(file), population(3 * N, seed=5)
    plain[9::10] = plain[8::10] + 1e-4  # variants

    async def run() -> list[int]:
        live = Live(policy)
        if apart:
            beside(live, policy)
        await live.worker.start()
        if not apart:
            live.judge.monitor.families = NearDuplicateIndex(
                live.judge.monitor.families.radius, N // 2
            )
        found = []
        for place, record in enumerate(plain):
            live.clock.now += 1.0
            assert (await live.ask(f"10.0.0.{place % 8}", record[None]))[0] == 200
            if (place + 1) % N == 0:
                await live.sketched.finished(60.0)
                found.append(kept())
        await live.worker.stop()
        return found

    found = np.diff(asyncio.run(run()))
    assert (found < N / 4).all(), found  # an object a query would be N
    assert len((tmp_path / "logs" / "access.jsonl").read_text().splitlines()) == 3 * N


def varied(n: int, start: int) -> Observations:
    """Records far from one another, every tenth a variant of the one before, by many clients."""
    point = np.random.default_rng(start).normal(size=(n, 16)).astype(np.float32)
    point[9::10] = point[8::10] + np.float32(1e-3)
    record = np.arange(start, start + n).astype(np.uint64)
    return Observations(
        1e9 + record.astype(float),
        record % 7,
        record,
        point,
        np.zeros((n, 8), np.uint8),
        np.zeros(n, np.int64),
    )


def test_the_clients_of_a_family_are_forgotten_with_it():
    monitor, found = Monitor(DetectorSettings({}, RADIUS, window=300)), []
    for block in range(4):
        monitor.observe(varied(1000, 1000 * block))
        families = monitor.families
        found.append(len(families.clients))
        assert set(families.clients) <= set(families.number.tolist())
        variants = families.variants[[family % 300 for family in families.clients]]
        assert (variants > 1).all() and (families.variants > 1).sum() == len(families.clients)
    assert len(set(found)) == 1 and 30 <= found[0] <= 35


def test_what_an_earlier_version_kept_of_families_that_are_gone_is_left():
    first, second = (Monitor(DetectorSettings({}, RADIUS, window=300)) for _ in range(2))
    first.observe(varied(1000, 0))
    whole = json.dumps([[family, clients] for family, clients in first.families.clients.items()])
    first.families.clients = {3: [4], 5: [6]} | first.families.clients
    restore_monitor(second, take_snapshot(first))
    assert (
        json.dumps([[family, clients] for family, clients in second.families.clients.items()])
        == whole
    )
