"""The monitor beside a serving guard.

What it logs gives the same alarms again, and what it keeps tells no input.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from watching import START, Clock, Live, call, model, population, prepared, script

from memberscope.guard import read_policy
from memberscope.guard.detectors.snapshot import take_snapshot
from memberscope.guard.logs.daily_jsonl import DailyJsonl
from memberscope.guard.monitor import query_queue
from memberscope.guard.monitor.artifacts import load_monitor_artifacts
from memberscope.guard.query_event import QueryEvent
from memberscope.guard.replay.log_reader import Log, list_log_files
from memberscope.guard.replay.replay import build_fresh_monitor, collect_alarms
from memberscope.guard.state.in_memory import MemoryState
from memberscope.wire.batch import Batch


def play(live: Live, steps) -> list[tuple[int, bytes]]:
    """Ask step by step, the monitor looking at each before the next."""

    async def run():
        await live.worker.start()
        answers = []
        for seconds, client, records in steps:
            live.clock.now = START + seconds
            answers.append(await live.ask(client, records))
            while live.sketched.waiting or live.sketched.busy:
                # Not 0, which would keep the interpreter's lock from the monitor's thread
                await asyncio.sleep(0.0005)
        await live.worker.stop()
        return answers

    with pytest.MonkeyPatch.context() as patch:
        # A query that is looked at before the next one has no others to wait for
        patch.setattr(query_queue, "GATHERED", 0.0)
        return asyncio.run(run())


def replayed(file: Path):
    policy = read_policy(file)
    equipment = load_monitor_artifacts(policy)
    log = Log(list_log_files([policy.path(policy.monitor.log)]), policy, equipment.sketcher)
    monitor = build_fresh_monitor(equipment, policy)
    return collect_alarms(monitor, log)[0], log, monitor


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A live run over the script, and all that it left."""
    file = prepared(tmp_path_factory.mktemp("live"))
    live = Live(read_policy(file))
    answers = play(live, script())
    return file, live, answers


def test_a_replay_raises_the_alarms_that_were_raised_live(played):
    file, live, _ = played
    alarms, log, monitor = replayed(file)
    assert log.skipped == log.foreign == 0 and monitor.queries == sum(
        len(records) for _, _, records in script()
    )
    assert alarms == live.alarms
    assert {"probing", "membership"} <= {alarm.detector for alarm in alarms}
    assert (
        take_snapshot(monitor)
        == take_snapshot(live.judge.monitor)
        == (file.parent / "memory.safetensors").read_bytes()
    )
    told = [json.loads(line) for line in (file.parent / "alerts.jsonl").read_text().splitlines()]
    keys = ("time", "detector", "scope", "subject", "statistic", "threshold", "queries")
    expected = [
        [getattr(alarm, key) for key in keys] for alarm in alarms if alarm.detector != "membership"
    ]
    assert [
        [line[key] for key in keys] for line in told if line["detector"] != "membership"
    ] == expected


def test_the_campaign_is_found_and_answered_and_the_command_says_the_same(played):
    file, live, answers = played
    probing = next(
        alarm for alarm in live.alarms if alarm.detector == "probing" and alarm.scope == "client"
    )
    assert (
        probing.subject == live.guard.names.client("network:10.0.1.1/32") and probing.queries < 40
    )
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
    plain = [
        body
        for (_, client, _), (_, body) in zip(script(), answers, strict=True)
        if client == "10.0.0.1"
    ]
    assert isinstance(json.loads(plain[-1])["predictions"][0], dict)
    out = file.parent / "out"
    code, said = call(
        "guard", "replay", file.parent / "logs" / "access.jsonl", "--policy", file, "--out", out
    )
    assert code == 1 and "campaigns.html" in said
    assert probing.subject in (out / "replay.json").read_text()


def test_no_input_is_left_in_any_file(tmp_path):
    file = prepared(tmp_path)
    live = Live(read_policy(file))
    marker = 31415.9265
    record = np.concatenate([[[marker]], population(1)[:, 1:]], axis=1)
    play(live, [(float(i), "10.9.8.7", record + 1e-4 * i * np.eye(6)[1]) for i in range(40)])
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".npz"]
    assert {"access.jsonl", "memory.safetensors", "alerts.jsonl"} <= {path.name for path in left}
    spelled = [b"31415", b"10.9.8.7", np.float32(marker).tobytes(), np.float64(marker).tobytes()]
    for path in left:
        data = path.read_bytes()
        assert not [text for text in spelled if text in data], path
        assert path.name in ("guard.toml", "tuned.json") or path.stat().st_mode & 0o077 == 0, path


class Noted:
    """A state that notes what is asked of it."""

    def __init__(self, state) -> None:
        self.state, self.asked = state, []

    def __getattr__(self, name):
        async def noted(*arguments):
            self.asked.append((name, repr(arguments)))
            return await getattr(self.state, name)(*arguments)

        return noted


def test_answers_and_state_do_not_depend_on_fingerprints(tmp_path):
    file = prepared(tmp_path)
    text = (
        file.read_text()
        .replace('"top:2+round:2"', '"top:2+round:2"\nper_record = "3/h"')
        .replace('log = "logs/access.jsonl"\n', "")
    )
    found = []
    for fingerprints in ('fingerprints = "members.safetensors"\n', ""):
        (tmp_path / "memory.safetensors").unlink(missing_ok=True)
        file.write_text(text.replace('fingerprints = "members.safetensors"\n', fingerprints))
        # A small table of records, since each step of the clock sweeps a part of it
        clock = Clock()
        state = MemoryState(500, clock=clock, record_bytes=2**20)
        live = Live(read_policy(file), clock, state)
        live.guard.queries.state = live.judge.state = noted = Noted(live.state)
        found.append(
            (play(live, script(700)), noted.asked, {alarm.detector for alarm in live.alarms})
        )
    with_them, without = found
    assert with_them[:2] == without[:2]
    assert with_them[2] - without[2] == {"membership"}


def test_a_restart_goes_on_as_if_there_had_been_none(tmp_path):
    steps, both = script(600), []
    for pieces in ([steps], [steps[:350], steps[350:]]):
        file = prepared(tmp_path / str(len(pieces)))
        if both:  # the same key, so that hashes can be compared
            for name in ("guard.key", "sketch.safetensors", "members.safetensors", "tuned.json"):
                (file.parent / name).write_bytes((tmp_path / "1" / name).read_bytes())
        alarms = []
        for piece in pieces:
            live = Live(read_policy(file))
            play(live, piece)
            alarms += live.alarms
        both.append((alarms, take_snapshot(live.judge.monitor)))
    assert both[0] == both[1] and both[0][0]


def test_a_stop_loses_nothing_that_was_answered(tmp_path):
    file = prepared(tmp_path)
    live = Live(read_policy(file))

    async def run():
        await live.worker.start()
        await asyncio.gather(*(live.ask("10.0.0.1", population(50, seed=i)) for i in range(20)))
        await live.worker.stop()

    asyncio.run(run())
    monitor = replayed(file)[2]
    assert monitor.queries == live.judge.monitor.queries == 1000


def test_the_queue_is_bound_in_records_and_in_bytes_and_what_is_dropped_is_counted(
    tmp_path, monkeypatch
):
    from memberscope.guard.monitor import query_queue as module

    live = Live(read_policy(prepared(tmp_path)))
    monkeypatch.setattr(module, "WAITING", 100)
    seen = QueryEvent(Batch(population(30)), "a", "0a", "default", np.full(30, -1), 200, 0.0)
    for _ in range(10):
        live.sketched.watch(seen)
    assert live.sketched.records == 90 and len(live.sketched.waiting) == 3
    assert live.count("monitor_dropped_total") == 210
    monkeypatch.setattr(module, "WAITING", 10**6)
    text = np.array([["x" * 1_000_000]], dtype=object)
    for _ in range(100):
        live.sketched.watch(QueryEvent(Batch(text), "a", "0a", "default", np.array([-1]), 200, 0.0))
    assert 60e6 < live.sketched.weight <= module.WEIGHT
    live.judge.alerter.close()


def test_lines_that_are_torn_damaged_or_poisonous_are_left_out_and_counted(played, tmp_path):
    file, live, _ = played
    policy = read_policy(file)
    lines = b"".join(
        path.read_bytes() for path in list_log_files([policy.path(policy.monitor.log)])
    ).splitlines()
    good = json.loads(lines[10])
    bad = [
        b"{",
        b"[1]",
        b"7",
        b"null",
        b'"' + b"x" * 99,
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps(good | {"time": "NaN"}).encode(),
        json.dumps(good).replace(str(good["time"]), "NaN").encode(),
        json.dumps(good).replace(str(good["time"]), "1e999").encode(),
        json.dumps(
            good
            | {
                "point": "//9///9///9///9///9///9///9///9///9///9///9///9///9///9///9///9///9///9///9///9/fw=="
            }
        ).encode(),
        json.dumps(good | {"label": [1, 2]}).encode(),
        lines[11][: len(lines[11]) // 2],
    ]
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_bytes(b"\n".join([*lines[:300], *bad, b"", *lines[300:], lines[5][:50]]))
    equipment = load_monitor_artifacts(policy)
    log = Log([mixed], policy, equipment.sketcher)
    alarms, _ = collect_alarms(build_fresh_monitor(equipment, policy), log)
    assert alarms == live.alarms and log.skipped == len(bad) + 1


def test_the_log_goes_on_after_a_torn_line_and_keeps_days_apart(tmp_path):
    def line(word: str, time: float) -> str:
        return json.dumps({"time": time, "word": word}, separators=(",", ":"))

    def write(log: DailyJsonl, word: str, time: float) -> None:
        log.write([line(word, time)], time)

    path, day = tmp_path / "a.jsonl", 86400.0
    log = DailyJsonl(path, days=2)
    write(log, "one", 10 * day + 5)
    with path.open("ab") as stream:
        stream.write(b"torn")
    write(DailyJsonl(path, days=2), "two", 10 * day + 9)
    first, torn, second = path.read_text().splitlines()
    assert (first, torn, second) == (line("one", 10 * day + 5), "torn", line("two", 10 * day + 9))
    write(log, "three", 11 * day)
    write(log, "back", 10 * day + 86399)  # the clock steps back over midnight, and on again
    write(log, "four", 11 * day + 1)
    everything = "".join(file.read_text() for file in list_log_files([path]))
    words = [json.loads(found)["word"] for found in everything.split() if found != "torn"]
    assert "torn" in everything and sorted(words) == ["back", "four", "one", "three", "two"]
    log.tidy(13 * day)
    assert len(list(tmp_path.glob("*19700111*"))) == 1
    log.tidy(13 * day + 1)
    assert not list(tmp_path.glob("*19700111*"))
    for _ in range(3):
        write(log, "last", 20 * day)
    assert [file.name for file in tmp_path.iterdir()] == [
        "a.jsonl"
    ] and path.stat().st_mode & 0o777 == 0o600


def test_raw_logs_give_the_observations_of_the_guards_own(played, tmp_path):
    import pandas as pd

    file = played[0]
    policy = read_policy(file)
    equipment = load_monitor_artifacts(policy)
    own = [
        line
        for block in Log(
            list_log_files([policy.path(policy.monitor.log)]), policy, equipment.sketcher
        )
        for line in rows(block)
    ]
    raw = [
        {
            "time": START + seconds,
            "client": f"network:{client}/32",
            "request": {"records": records.tolist()},
            "answer": None,
        }
        for seconds, client, records in script()
    ]
    for entry in raw:
        entry["answer"] = {"predictions": model(np.array(entry["request"]["records"])).tolist()}
    iso = [
        entry | {"time": str(np.datetime64(int(entry["time"] * 1000), "ms")) + "Z"} for entry in raw
    ]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in raw))
    (tmp_path / "iso.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in iso))
    frame = pd.DataFrame(raw)
    for name in ("request", "answer"):
        frame[name] = [json.dumps(value) for value in frame[name]]
    frame.to_parquet(tmp_path / "raw.parquet")
    frame.assign(time=pd.to_datetime(frame["time"], unit="s")).to_parquet(
        tmp_path / "stamps.parquet"
    )
    for name in ("raw.jsonl", "iso.jsonl", "raw.parquet", "stamps.parquet"):
        log = Log([tmp_path / name], policy, equipment.sketcher)
        assert [line for block in log for line in rows(block)] == own, name
        assert log.skipped == 0


def rows(block) -> list[tuple]:
    parts = (
        block.time.round(3),
        block.client,
        block.record,
        block.point.round(4),
        block.bins,
        block.label,
    )
    return [
        tuple(map(str, entry)) for entry in zip(*(part.tolist() for part in parts), strict=True)
    ]


def test_a_log_larger_than_the_bound_is_never_whole_in_memory(played, tmp_path):
    import tracemalloc

    file, _, _ = played
    policy = read_policy(file)
    lines = b"".join(
        path.read_bytes() for path in list_log_files([policy.path(policy.monitor.log)])
    )
    big = tmp_path / "big.jsonl"
    with big.open("wb") as stream:
        for _ in range(40):
            stream.write(lines)
    tracemalloc.start()
    n = sum(len(block) for block in Log([big], policy, load_monitor_artifacts(policy).sketcher))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n == 40 * sum(len(records) for _, _, records in script())
    assert peak < 6e6 < big.stat().st_size


def test_a_clock_that_steps_back_raises_nothing_and_loses_nothing(tmp_path):
    file = prepared(tmp_path)
    live = Live(read_policy(file), Clock())
    steps = [
        (-86_400.0 * (i % 2) + 40.0 * i, client, records)
        for i, (_, client, records) in enumerate(script(120))
    ]
    play(live, steps)
    assert live.judge.monitor.queries == sum(len(records) for _, _, records in steps)
    assert replayed(file)[0] == live.alarms
    assert not {alarm.detector for alarm in live.alarms} & {"volume", "probing", "membership"}


def test_membership_is_told_in_digests_alone(played):
    file, live, _ = played
    assert [alarm for alarm in live.alarms if alarm.detector == "membership"]
    assert live.count('alarms_total{detector="membership"') == 0
    lines = (file.parent / "alerts.jsonl").read_text()
    assert '"detector":"membership"' not in lines  # no digest was due before the end
