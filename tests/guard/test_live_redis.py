"""Several monitors on one Redis.

Every line once and in order, whoever holds the lease, and through a Redis that dies.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path

import pytest
from watching import START, Clock, Live, population, prepared, script

from memberscope.guard import read_policy
from memberscope.guard.monitor import in_process as module
from memberscope.guard.monitor.artifacts import load_monitor_artifacts
from memberscope.guard.monitor.in_process import SharedMonitor, cancel_tasks
from memberscope.guard.replay.log_reader import Log, list_log_files
from memberscope.guard.replay.replay import build_fresh_monitor, collect_alarms
from memberscope.guard.server.assembly import build_state
from memberscope.guard.state.stream_lease import Consumer


class Worker(Live):
    """One of several."""

    def __init__(
        self, file: Path, clock: Clock, lease: float = 0.5, on_fault: str = "closed"
    ) -> None:
        policy = read_policy(file)
        super().__init__(policy, clock)
        self.state = self.guard.queries.state = self.judge.state = build_state(policy, self.metrics)
        stored = policy.state
        self.consumer = Consumer(
            stored.redis, stored.prefix, stored.timeout, lease=lease, poll=0.01
        )
        self.worker = SharedMonitor(self.sketched, self.judge, self.consumer, self.state)

    async def die(self) -> None:
        """End as a process that was killed: nothing is stored, and the lease ends by itself."""
        await cancel_tasks(self.worker.tasks, asyncio.Lock())
        # Its time is over, however long it was
        await self.consumer._link.redis.delete(self.consumer._keys[0])
        await self.consumer._link.close()
        await self.state.close()
        self.judge.alerter.close()

    async def end(self) -> None:
        """End in order."""
        await self.worker.stop()
        await self.state.close()


def shared(folder: Path, redis, *, open: bool = False, timeout: float = 5.0) -> Path:
    state = f'redis = "{redis.url}"\nprefix = "t{uuid.uuid4().hex}"\ntimeout = {timeout}'
    file = prepared(folder, state=state)
    file.write_text(
        ('[guard]\non_fault = "open"\n' if open else "")
        + file.read_text().replace(
            'restrict = "top:2+round:2"', 'restrict = "top:2+round:2"\nper_client = "100000/d"'
        )
    )
    return file


async def until(condition, limit: float = 120.0) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.01)


def logged(file: Path):
    policy = read_policy(file)
    equipment = load_monitor_artifacts(policy)
    log = Log(list_log_files([policy.path(policy.monitor.log)]), policy, equipment.sketcher)
    monitor = build_fresh_monitor(equipment, policy)
    return monitor, collect_alarms(monitor, log)[0]


def queries(worker: Worker) -> int:
    return worker.judge.monitor.queries


def test_a_holder_that_dies_is_followed_by_another_and_each_line_is_logged_once(
    tmp_path, redis_here, monkeypatch
):
    monkeypatch.setattr(module, "CHECKED", 0.2)
    file, clock, steps = shared(tmp_path, redis_here), Clock(), script(400)
    n = [sum(len(records) for _, _, records in steps[:end]) for end in (200, 400)]

    async def run():
        # So long that a busy machine cannot end it
        one, two = (Worker(file, clock, lease=300.0) for _ in range(2))
        await one.worker.start()
        await until(lambda: one.consumer._token)
        await two.worker.start()
        for i, (seconds, client, records) in enumerate(steps):
            clock.now = START + seconds
            if i == 200:
                await until(lambda: queries(one) == n[0])
                assert queries(two) == 0
                await one.die()
            worker = (one, two)[i % 2 if i < 200 else 1]
            asked = queries(one) + len(records)
            assert (await worker.ask(client, records))[0] == 200
            if i < 200:  # so that the order of the lines is that of the script
                await until(lambda asked=asked: queries(one) == asked)
        await until(lambda: queries(two) == n[1])
        await two.end()
        return one, two

    one, two = asyncio.run(run())
    monitor, alarms = logged(file)
    assert monitor.queries == queries(two) == n[1]
    told = [*one.alarms, *two.alarms]
    assert set(told) == set(alarms) and alarms
    assert len(told) <= len(alarms) + len(
        one.alarms
    )  # what came after the last checkpoint is told again


@pytest.mark.parametrize("stored", [False, True], ids=["before it is stored", "before it is told"])
def test_no_line_is_lost_where_a_holder_dies_in_a_checkpoint(
    tmp_path, redis_here, monkeypatch, stored
):
    """Between the log and the stored checkpoint, or before its answer has come."""
    monkeypatch.setattr(module, "CHECKED", 0.05)
    file, clock = shared(tmp_path, redis_here), Clock()

    async def run():
        one, two = (Worker(file, clock, lease=300.0) for _ in range(2))
        await one.worker.start()
        await until(lambda: one.consumer._token)
        await two.worker.start()
        checkpoint, reached = one.consumer.checkpoint, asyncio.Event()

        async def cut(id, snapshot):
            if stored:
                await checkpoint(id, snapshot)
            reached.set()
            await asyncio.Event().wait()

        for i in range(20):
            if i == 10:
                await until(lambda: queries(one) == 20 and not one.worker.last)
                monkeypatch.setattr(one.consumer, "checkpoint", cut)
            await one.ask("10.0.0.1", population(2, seed=i))
        await reached.wait()
        # What was answered and not yet published is lost with its worker
        await one.sketched.finished(20.0)
        await one.die()
        await until(lambda: queries(two) == 40)
        await two.end()

    asyncio.run(run())
    policy = read_policy(file)
    log = Log(list_log_files([policy.path(policy.monitor.log)]), policy)
    assert sum(map(len, log)) == 40
    # What stands behind the last stored checkpoint was written by both
    assert (log.repeated == 0) == stored and log.lines == 20 + log.repeated


def test_a_stop_hands_over_all_that_was_judged(tmp_path, redis_here):
    file, clock = shared(tmp_path, redis_here), Clock()

    async def run():
        counts = []
        for _ in range(3):
            worker = Worker(file, clock)
            await worker.worker.start()
            for _ in range(10):
                await worker.ask("10.0.0.1", population(5, seed=len(counts)))
            await until(lambda worker=worker: queries(worker) == 50 * (len(counts) + 1))
            await worker.end()
            counts.append(logged(file)[0].queries)
        return counts

    assert asyncio.run(run()) == [50, 100, 150]


@pytest.mark.parametrize("open", [True, False], ids=["open", "closed"])
def test_a_redis_that_dies_in_mid_load_and_comes_back(tmp_path, own_redis, open):
    file, clock = shared(tmp_path, own_redis, open=open, timeout=0.5), Clock()

    asked, read = [], []

    async def ask(worker) -> int:
        asked.append(2)
        status = (await worker.ask("10.0.0.1", population(2, seed=len(asked))))[0]
        # Without its state a closed guard refuses before it reads
        read.append(2 if open or status == 200 else 0)
        return status

    async def run():
        worker = Worker(file, clock)
        await worker.worker.start()
        statuses = [[await ask(worker) for _ in range(10)]]
        await until(lambda: queries(worker) == 20)
        own_redis.kill()
        statuses.append([await ask(worker) for _ in range(10)])
        await worker.sketched.finished(20.0)
        own_redis.start()
        end = time.monotonic() + 20
        while await ask(worker) != 200 or queries(worker) <= 20:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        statuses.append([await ask(worker) for _ in range(10)])
        end = time.monotonic() + 10
        while queries(worker) + worker.count("monitor_dropped_total") < sum(read):
            assert time.monotonic() < end, (
                queries(worker),
                worker.count("monitor_dropped_total"),
                sum(read),
            )
            await asyncio.sleep(0.05)
        await worker.end()
        return statuses, worker

    statuses, worker = asyncio.run(run())
    assert statuses[0] == statuses[2] == [200] * 10
    assert statuses[1] == [200 if open else 503] * 10
    # What could not be published is counted
    assert queries(worker) > 30 and worker.count("monitor_dropped_total") >= (10 if open else 0)
    assert logged(file)[0].queries == queries(worker)


def test_a_line_that_cannot_be_judged_does_not_stop_the_others(tmp_path, redis_here, monkeypatch):
    file, clock = shared(tmp_path, redis_here), Clock()

    async def run():
        worker = Worker(file, clock)
        observe, asked = worker.judge.equipment.monitor, []

        def broken(clients):
            monitor = observe(clients)
            inner = monitor.observe

            def once(seen):
                asked.append(len(seen))
                if len(asked) == 3:
                    raise ZeroDivisionError
                return inner(seen)

            monitor.observe = once
            return monitor

        monkeypatch.setattr(
            type(worker.judge.equipment), "monitor", lambda self, clients: broken(clients)
        )
        await worker.worker.start()
        for i in range(6):
            await worker.ask("10.0.0.1", population(1, seed=i))
        await until(lambda: len(asked) == 6)
        await worker.end()
        return worker

    worker = asyncio.run(run())
    assert queries(worker) == 5 and worker.count('faults_total{which="watch"}') == 1


def test_a_checkpoint_that_takes_long_comes_seldom(tmp_path, redis_here, monkeypatch):
    file, clock = shared(tmp_path, redis_here), Clock()
    stored = []

    async def run():
        worker = Worker(file, clock)
        monkeypatch.setattr(module, "CHECKED", 0.0)

        async def slow(id, data):
            stored.append(time.monotonic())
            await asyncio.sleep(0.02)

        await worker.worker.start()
        await until(lambda: worker.consumer._token)
        monkeypatch.setattr(worker.consumer, "checkpoint", slow)
        begin = time.monotonic()
        for i in range(100):
            await worker.ask("10.0.0.1", population(1, seed=i))
        await until(lambda: queries(worker) == 100)
        took = time.monotonic() - begin
        await worker.end()
        return took

    took = asyncio.run(run())
    assert 1 <= len(stored) <= 2 + took / (module.SHARE * 0.02)
