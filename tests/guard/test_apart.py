"""The monitor in a process of its own.

The same verdicts, and what happens when either process ends.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from watching import START, Live, population, prepared, script

from memberscope.errors import InputError
from memberscope.guard import GuardPolicy, parse_guard_policy, read_policy
from memberscope.guard.detectors.snapshot import take_snapshot
from memberscope.guard.hashing.secret_key import read_secret
from memberscope.guard.monitor import child_process as module
from memberscope.guard.monitor.artifacts import load_monitor_artifacts
from memberscope.guard.monitor.child_process import ChildMonitor
from memberscope.guard.monitor.frames import MessageError
from memberscope.guard.monitor.ipc import LONG, Begin, Look, encode_question, read_question
from memberscope.guard.monitor.query_queue import Waiting, split_into_pieces
from memberscope.guard.query_event import QueryEvent
from memberscope.guard.replay.log_reader import Log, list_log_files
from memberscope.guard.replay.replay import build_fresh_monitor, collect_alarms
from memberscope.guard.server.worker import find_loop_factory
from memberscope.guard.state.interface import ActiveResponse
from memberscope.wire.batch import Batch

PATIENCE = 60.0


class LiveApart(Live):
    """The guard of the other tests, with the monitor's process in place of its own."""

    def __init__(self, policy) -> None:
        super().__init__(policy)
        self.worker = self.apart = ChildMonitor(
            policy, read_secret(policy.path("guard.key")).id, self.metrics, self.state
        )
        self.apart.queue.clock = self.clock
        self.guard.queries.watch = self.apart.watch

    async def settled(self) -> None:
        """Wait until all was judged."""
        await self.apart.queue.finished(PATIENCE)
        assert not self.apart.queue.waiting and not self.apart.queue.busy


async def until(true) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


def replayed(file: Path):
    policy = read_policy(file)
    equipment = load_monitor_artifacts(policy)
    monitor = build_fresh_monitor(equipment, policy)
    return collect_alarms(
        monitor, Log(list_log_files([policy.path(policy.monitor.log)]), policy, equipment.sketcher)
    )[0], monitor


def test_its_verdicts_are_those_of_a_replay_and_its_responses_come_back(tmp_path):
    file = prepared(tmp_path)

    async def run():
        live = LiveApart(read_policy(file))
        await live.worker.start()
        answers = []
        for place, (seconds, client, records) in enumerate(script()):
            live.clock.now = START + seconds
            answers.append(await live.ask(client, records))
            if place % 20 == 0:
                await live.settled()
        await live.settled()
        told = live.count("alarms_total")
        await live.worker.stop()
        return live, answers, told

    live, answers, told = asyncio.run(run())
    alarms, monitor = replayed(file)
    assert monitor.queries == sum(len(records) for _, _, records in script())
    assert take_snapshot(monitor) == (file.parent / "memory.safetensors").read_bytes()
    assert {"probing", "membership"} <= {alarm.detector for alarm in alarms}
    lines = [json.loads(line) for line in (file.parent / "alerts.jsonl").read_text().splitlines()]
    plain = [alarm for alarm in alarms if alarm.detector != "membership"]
    assert [line["subject"] for line in lines if line["detector"] != "membership"] == [
        alarm.subject for alarm in plain
    ]
    assert told == len(plain)
    assert live.count("monitor_clients") == len(monitor.rows) and live.count("faults_total") == 0
    coarse = [
        body
        for (_, client, _), (_, body) in zip(script(), answers, strict=True)
        if client == "10.0.1.1"
    ]
    assert "{" in coarse[0].decode()[1:-1] and set(json.loads(coarse[-1])["predictions"]) <= {
        0,
        1,
        2,
    }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_one_that_dies_or_hangs_is_counted_and_followed_by_another_that_goes_on(
    tmp_path, monkeypatch, number
):
    file = prepared(tmp_path)
    if number == signal.SIGSTOP:
        monkeypatch.setattr(module, "PATIENCE", 20.0)
        monkeypatch.setattr(module, "ENDED", 0.5)

    async def run():
        live = LiveApart(read_policy(file))
        await live.worker.start()
        first = live.apart.link.process
        os.kill(first.pid, number)
        live.clock.now += 7.0
        await live.ask("10.0.0.1", population(5))
        await asyncio.sleep(0.1)
        live.clock.now += 90.0
        live.apart.tell()
        late = live.count("monitor_lag_seconds")
        await until(
            lambda: live.apart.link is not None and live.apart.link.process.pid != first.pid
        )
        lost, faults = (
            live.count("monitor_dropped_total"),
            live.count('faults_total{which="watch"}'),
        )
        await live.ask("10.0.0.2", population(7))
        await live.settled()
        await live.worker.stop()
        return late, lost, faults

    with asyncio.Runner(loop_factory=find_loop_factory()) as runner:
        late, lost, faults = runner.run(run())
    _, monitor = replayed(file)
    assert faults == 1 and lost + monitor.queries == 12 and monitor.queries >= 7
    assert number != signal.SIGSTOP or late == 90.0


@pytest.mark.parametrize(("hangs", "ended", "silence"), [(False, 60.0, 50.0), (True, 3.0, 2.0)])
def test_a_stop_waits_for_a_monitor_that_saves_and_not_for_one_that_hangs(
    tmp_path, monkeypatch, hangs, ended, silence
):
    monkeypatch.setattr(module, "ENDED", ended)
    monkeypatch.setattr(module, "HANGS", silence)
    waited, close = [], module.ChildLink.close

    async def closed(link, seconds) -> None:
        waited.append(seconds)
        await close(link, seconds)

    monkeypatch.setattr(module.ChildLink, "close", closed)

    async def run() -> int:
        live = LiveApart(read_policy(prepared(tmp_path)))
        await live.worker.start()
        await live.ask("10.0.0.1", population(1))
        await live.settled()
        if hangs:
            os.kill(live.apart.link.process.pid, signal.SIGSTOP)
            await live.ask("10.0.0.1", population(2))
        await live.worker.stop()
        return live.apart.link.process.returncode

    assert asyncio.run(run()) == (-signal.SIGKILL if hangs else 0) and waited == [
        0.0 if hangs else ended
    ]
    assert (tmp_path / "memory.safetensors").exists() is not hangs


def test_a_policy_that_is_read_again_is_followed_also_by_the_next_process(tmp_path):
    file = prepared(tmp_path)
    policy = read_policy(file)
    blocking = policy.model_copy(
        update={"respond": policy.respond.model_copy(update={"probing": "block"})}
    )
    records = population(3)

    async def run():
        live = LiveApart(policy)
        found = []
        await live.worker.start()
        for place, client in enumerate(("10.0.2.1", "10.0.2.2", "10.0.2.3")):
            if place == 1:
                live.apart.follow(blocking)
            if place == 2:
                pid = live.apart.link.process.pid
                os.kill(pid, signal.SIGKILL)
                await until(
                    lambda pid=pid: (
                        live.apart.link is not None and live.apart.link.process.pid != pid
                    )
                )
            for step in range(60):
                live.clock.now += 30.0
                await live.ask(client, records[place : place + 1] + 1e-4 * step)
            await live.settled()
            found.append(await live.state.standing(live.guard.names.client(f"network:{client}/32")))
        await live.worker.stop()
        return found

    assert asyncio.run(run()) == [
        ActiveResponse(word, "probing") for word in ("coarsen", "block", "block")
    ]


def test_what_cannot_be_sketched_is_counted_and_the_others_are_not_lost(tmp_path):
    file = prepared(tmp_path)

    async def run():
        live = LiveApart(read_policy(file))
        await live.worker.start()
        for records in (population(3), population(2)[:, :4], population(300)):
            seen = len(records)
            assert seen
            await live.ask("10.0.0.1", population(1))
            live.apart.watch(seen_of(live, records))
        await live.settled()
        await until(lambda: live.count("unreadable_total") == 2)
        await live.worker.stop()

    asyncio.run(run())
    assert replayed(file)[1].queries == 3 + 300 + 3


def seen_of(live: Live, records):
    """What the middleware would tell of a query about such records."""
    labels = np.zeros(len(records), dtype=np.int64)
    return QueryEvent(
        Batch(records),
        "network:x",
        live.guard.names.client("network:x"),
        "default",
        labels,
        200,
        0.001,
    )


def test_whatever_fails_in_sending_or_reading_ends_neither_side(tmp_path, monkeypatch):
    file = prepared(tmp_path)

    def broken(taken, turn):
        monkeypatch.undo()
        raise RuntimeError("odd")

    async def run():
        live = LiveApart(read_policy(file))
        await live.worker.start()
        monkeypatch.setattr(module, "split_into_pieces", broken)
        live.apart.watch(seen_of(live, population(2)))
        await until(lambda: live.count("monitor_dropped_total") == 2)
        await until(lambda: live.apart.link is not None)
        one = seen_of(live, population(1))._replace(
            answer=b"[" * 5000, serving=live.guard.rules.policy.serving
        )
        live.apart.watch(one)
        live.apart.watch(one._replace(answer=b'{"predictions": [[0.1, 0.2, 0.7]]}'))
        await live.settled()
        await live.worker.stop()

    asyncio.run(run())
    lines = [
        json.loads(line)["label"]
        for line in (tmp_path / "logs" / "access.jsonl").read_text().splitlines()
    ]
    assert lines == [[-1], [2]]


def test_another_key_is_refused_by_the_next_process_and_the_pause_grows(
    tmp_path, monkeypatch, caplog
):
    file = prepared(tmp_path)
    monkeypatch.setattr(module, "RESTED", 0.1)

    async def run():
        live = LiveApart(read_policy(file))
        await live.worker.start()
        prepared(tmp_path / "other")
        for name in ("guard.key", "sketch.safetensors", "members.safetensors", "tuned.json"):
            os.replace(tmp_path / "other" / name, tmp_path / name)
        os.kill(live.apart.link.process.pid, signal.SIGKILL)
        await until(lambda: live.count('faults_total{which="watch"}') >= 3)
        await live.worker.stop()

    asyncio.run(run())
    said = [getattr(record, "fields", {}).get("said", "") for record in caplog.records]
    assert sum("that the guard began with" in text for text in said) >= 2


def test_modules_in_the_working_directory_are_none_of_the_monitors(tmp_path, monkeypatch):
    file = prepared(tmp_path)
    (tmp_path / "queue.py").write_text("raise SystemExit('the wrong queue')")
    monkeypatch.chdir(tmp_path)

    async def run():
        live = LiveApart(read_policy(file))
        await live.worker.start()
        await live.worker.stop()

    asyncio.run(run())


def test_a_process_that_ends_at_once_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PYTHON", ("/bin/false",))
    with pytest.raises(InputError, match="Expected the monitor's process to start"):
        asyncio.run(LiveApart(read_policy(prepared(tmp_path))).worker.start())


def test_files_that_are_not_usable_are_told_before_anything_is_served(tmp_path):
    file = prepared(tmp_path)
    (tmp_path / "sketch.safetensors").write_bytes(b"no sketch")

    async def run():
        live = LiveApart.__new__(LiveApart)
        live.apart = ChildMonitor(read_policy(file), "", None, None)
        await live.apart.start()

    with pytest.raises(InputError, match="Expected a sketch in"):
        asyncio.run(run())


ORPHAN = """
import asyncio, os, sys
from memberscope.guard.monitor.child_process import ChildMonitor
from memberscope.guard.hashing.secret_key import read_secret
from memberscope.guard.state.in_memory import MemoryState
from memberscope.guard.alerting.prometheus import Metrics
from memberscope.guard.policy.config import read_policy

async def run():
    policy = read_policy(sys.argv[1])
    apart = ChildMonitor(policy, read_secret(policy.path("guard.key")).id, Metrics(), MemoryState(10))
    await apart.start()
    print(apart.link.process.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(run())
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_serving_process_that_is_killed_leaves_a_monitor_that_saves_and_ends(tmp_path):
    file = prepared(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(file)], stdout=subprocess.PIPE
    ) as process:
        pid = int(process.stdout.readline())
        os.kill(pid, signal.SIGTERM)  # which it leaves to the serving process
        time.sleep(0.2)
        assert alive(pid)
        process.kill()
    asyncio.run(until(lambda: not alive(pid)))
    assert (tmp_path / "memory.safetensors").is_file()


def sent(message: Begin | Look) -> bytes:
    return b"".join(encode_question(message))


WORDS = np.array([["a", None], [2.5, float("nan")], ["\ud800", 10**30]], dtype=object)
BATCHES = [
    Batch(np.arange(6, dtype=np.float32).reshape(2, 3)),
    Batch(np.eye(300)),
    Batch(WORDS),
    Batch(np.array([True, False])),
    Batch(columns={"age": np.array([30, 40]), "\ud800": np.array(["cook", None], dtype=object)}),
    Batch(
        columns={"day": np.array(["2026-01-01", "NaT"], dtype="M8[D]"), "w": np.array(["a", "b"])}
    ),
]


@pytest.mark.parametrize("batch", BATCHES)
def test_records_arrive_as_they_were(batch):
    seen = seen_with(b"")._replace(batch=batch, labels=np.arange(len(batch)))
    (piece,) = read_question(
        io.BytesIO(sent(Look(tuple(split_into_pieces([Waiting(seen, 1.0, 0)], 1000)))))
    ).taken
    assert piece.asked[0][:5] == (1.0, "00", "default", 200, len(batch))
    np.testing.assert_array_equal(piece.labels, np.arange(len(batch)))
    for old, new in zip(parts_of(batch), parts_of(piece.batch), strict=True):
        assert (old.dtype, old.shape) == (new.dtype, new.shape)
        assert repr(old.tolist()) == repr(new.tolist())


def parts_of(batch: Batch) -> list[np.ndarray]:
    return [batch.array] if batch.columns is None else list(batch.columns.values())


def test_a_message_that_is_cut_off_is_none_and_one_of_another_schema_is_refused():
    taken = tuple(split_into_pieces([Waiting(seen_with(b"x" * 3000), 1.0, 0)], 2))
    data = sent(Look(taken))
    for size in range(len(data)):
        assert read_question(io.BytesIO(data[:size])) is None
    for old, new in (
        (b"MSM1", b"MSM2"),
        (b"<f8", b"|O8"),
        (b"[1,1]", b"[1,2]"),
        (b'"look"', b'"lock"'),
        (b'"sizes":[', b'"sizes":[-'),
    ):
        assert old in data
        with pytest.raises(MessageError):
            read_question(io.BytesIO(data.replace(old, new)))


def test_answers_come_whole_and_are_not_copied_into_the_message():
    answers = [b"", b"short", b"x" * LONG, bytes(range(256)) * 400]
    serving = read_policy_table().serving
    taken = [Waiting(seen_with(answer)._replace(serving=serving), 1.0, 0) for answer in answers]
    message = Look(tuple(split_into_pieces(taken, 2)))
    parts = encode_question(message)
    assert [part for part in parts if any(part is answer for answer in answers)] == answers[2:]
    assert all(len(part) for each in (message, Look()) for part in encode_question(each))
    found = read_question(io.BytesIO(b"".join(parts)))
    assert [bytes(one.answer) for piece in found.taken for one in piece.asked] == answers
    assert found.taken[-1].asked[-1].serving == serving


def read_policy_table(**tables: object) -> GuardPolicy:
    return parse_guard_policy({"serving": {"protocol": "mlflow", "n_classes": 3}} | tables)


def test_the_monitor_is_told_no_credential_and_no_address_of_redis():
    policy = read_policy_table(
        identity={"by": ["api_key"], "keys": [{"name": "partner", "sha256": "ab" * 32}]},
        state={"redis": "redis://:p4ssword@localhost/0"},
        respond={"throttle": "7/d", "probing": "throttle"},
        guard={"total": "5/s"},
    )
    data = sent(Begin(policy, "key", 20))
    assert b"ab" * 16 not in data and b"p4ssword" not in data
    found = read_question(io.BytesIO(data))
    assert (found.policy.respond, found.policy.serving) == (policy.respond, policy.serving)
    assert sent(Look((), policy)) and (found.key, found.log_level) == ("key", 20)


def test_its_environment_holds_no_secrets_but_its_own(tmp_path, monkeypatch):
    file = prepared(tmp_path)
    file.write_text(file.read_text().replace("[alerts]", '[alerts]\nwebhook_secret_env = "HOOK"'))
    for name in ("REDIS_PASSWORD", "HOOK"):
        monkeypatch.setenv(name, "s3cret")

    async def run():
        live = LiveApart(read_policy(file))
        await live.worker.start()
        found = Path(f"/proc/{live.apart.link.process.pid}/environ").read_bytes()
        await live.worker.stop()
        return found

    found = asyncio.run(run())
    assert b"HOOK=s3cret" in found and b"REDIS_PASSWORD" not in found


def seen_with(answer: bytes) -> QueryEvent:
    """A query whose answer is still to be read."""
    return QueryEvent(
        Batch(np.eye(1)), "network:x", "00", "default", np.array([-1]), 200, 0.001, answer
    )
