"""Attempts on what outlives a process: late starts, other keys, clocks, disks without room, folders."""

from __future__ import annotations

import json
import resource
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from raw_guard import RawGuard, started, write_request
from running_guard import START, ask, read_metric
from unruly import Unruly, serving
from watching import call

from memberscope.guard.hashing import Secret, read_secrets, write_secrets
from memberscope.guard.sketching import Sketcher, write_sketcher
from memberscope.guard.state.budget_folder import AHEAD_AT, TIME_AT
from memberscope.wire import Batch

DAY = 86400.0
POLICY = """
[serving]
protocol = "json"
path = "/score"
body = '{"records": "$records"}'
answer = "predictions"
n_classes = 3
columns = ["x", "y"]
[default]
restrict = "label"
per_record = "1/DAYSd"
[monitor]
key = "guard.key"
"""
FOLDER = """
[state]
folder = "budgets"
record_megabytes = 1
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with serving(Unruly()) as url:
        yield url


def write_policy(folder: Path, days: int = 1, more: str = FOLDER) -> str:
    """A policy with a key file beside it."""
    write_secrets(folder / "guard.key", [Secret("first", bytes(range(32)))])
    return POLICY.replace("DAYS", str(days)) + more


def pretend_earlier(folder: Path, seconds: float, *, used: float | None = None) -> None:
    """Have the last rotation be so long ago, and the last use of the older key too."""
    file = folder / "guard.key"
    kept = [
        Secret(one.id, one.key, one.rotated and time.time() - seconds) for one in read_secrets(file)
    ]
    write_secrets(file, kept)
    if used is not None:
        noted = folder / "budgets" / "keys.json"
        document = json.loads(noted.read_text())
        document["used"]["first"] = time.time() - used
        noted.write_text(json.dumps(document))


def rotate(guard: RawGuard) -> None:
    assert call("guard", "keys", "rotate", "--policy", guard.files[0])[0] == 0


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "ended"])
def test_a_start_long_after_a_rotation_gives_nobody_a_fresh_budget(tmp_path, upstream, kill):
    """The guard went on by the older key for longer than a refill time and a week."""
    with started(tmp_path, upstream, write_policy(tmp_path)) as guard:
        rotate(guard)
        assert guard.score([1.0, 2.0]) == 200
        pretend_earlier(tmp_path, 30 * DAY)
        if kill:
            guard.kill()
        else:
            guard.process.process.terminate()
            guard.end()
        guard.start(fresh=True)
        assert [guard.score([1.0, 2.0]) for _ in range(2)] == [429, 429]


def test_a_key_that_was_used_long_ago_counts_no_longer(tmp_path, upstream):
    """Else every key would cost buckets for ever."""
    with started(tmp_path, upstream, write_policy(tmp_path)) as guard:
        rotate(guard)
        assert guard.score([1.0, 2.0]) == 200
        guard.kill()
        pretend_earlier(tmp_path, 30 * DAY, used=2 * DAY)
        guard.start()
        assert guard.score([1.0, 2.0]) == 200


def test_late_starts_of_workers_that_share_a_redis(tmp_path, upstream, redis_here):
    more = f'[state]\nredis = "{redis_here.url}"\nprefix = "late"\ntimeout = 5.0\n'
    with started(tmp_path, upstream, write_policy(tmp_path, more=more)) as guard:
        rotate(guard)
        assert guard.score([1.0, 2.0]) == 200
        pretend_earlier(tmp_path, 30 * DAY)
        guard.kill()
        guard.start()
        assert guard.score([1.0, 2.0]) == 429


def test_where_last_uses_cannot_be_read_every_key_counts(tmp_path, upstream):
    with started(tmp_path, upstream, write_policy(tmp_path)) as guard:
        rotate(guard)
        assert guard.score([1.0, 2.0]) == 200
        pretend_earlier(tmp_path, 30 * DAY)
        guard.kill()
        (tmp_path / "budgets" / "keys.json").write_text("{}")
        guard.start()
        assert guard.score([1.0, 2.0]) == 429


def test_a_key_file_without_the_key_of_the_budgets_is_told(tmp_path, upstream):
    with started(tmp_path, upstream, write_policy(tmp_path)) as guard:
        assert guard.score([1.0, 2.0]) == 200
        guard.kill()
        write_secrets(tmp_path / "guard.key", [Secret("other", bytes(32))])
        guard.start()
        told = [line for line in guard.process.lines if line["event"] == "older_key_missing"]
        assert [line["key"] for line in told] == ["first"]


def test_a_clock_that_stands_a_year_back_refills_no_budget(tmp_path, upstream):
    """Written as a guard would have kept it whose clock on the wall stood elsewhere."""
    with started(tmp_path, upstream, write_policy(tmp_path, 365)) as guard:
        assert guard.score([1.0, 2.0]) == 200
        guard.kill()
        file = tmp_path / "budgets" / "clock"
        data = bytearray(file.read_bytes())
        (now,) = struct.unpack_from("<d", data, TIME_AT)
        struct.pack_into("<d", data, AHEAD_AT, now - time.time() - 365 * DAY)
        file.write_bytes(data)
        guard.start()
        assert guard.score([1.0, 2.0]) == 429


@pytest.mark.parametrize(("number", "place"), [("inf", TIME_AT), ("nan", AHEAD_AT)])
def test_a_time_that_is_none_does_not_start(tmp_path, upstream, number, place):
    """Every budget would be full, or hold whatever is asked for."""
    with started(tmp_path, upstream, write_policy(tmp_path, 365)) as guard:
        guard.kill()
        file = tmp_path / "budgets" / "clock"
        data = bytearray(file.read_bytes())
        struct.pack_into("<d", data, place, float(number))
        file.write_bytes(data)
        command = [sys.executable, "-c", START, "--port", "0", "--admin-port", "0"]
        command += ["--upstream", upstream, "--policy", str(guard.files[0])]
        second = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert second.returncode and "Expected the time of the budgets" in second.stderr


def fill_disk(guard: RawGuard, *, full: bool = True) -> None:
    """Let no file of the guard and its monitor grow, or all again."""
    first = psutil.Process(guard.process.process.pid)
    for process in (first, *first.children(recursive=True)):
        _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0 if full else most, most))


def test_a_disk_without_room_loses_no_budget_and_stops_no_answer(tmp_path, upstream):
    """No file may grow: neither the access log nor what the monitor and the keys leave behind."""
    policy = write_policy(tmp_path, 365).replace(
        'key = "guard.key"',
        'key = "guard.key"\nsketch = "sketch"\nlog = "access.jsonl"\nmemory = "memory"',
    )
    rows = np.random.default_rng(0).normal(size=(60, 2))
    secret = read_secrets(tmp_path / "guard.key")[0]
    write_sketcher(tmp_path / "sketch", Sketcher.fit("tabular", Batch(rows), secret))
    with started(tmp_path, upstream, policy) as guard:
        assert guard.score([0.0, 1.0]) == 200
        fill_disk(guard)
        assert [guard.score([float(i), 2.0]) for i in range(5)] == [200] * 5
        assert [guard.score([float(i), 2.0]) for i in range(5)] == [429] * 5
        fill_disk(guard, full=False)
        assert guard.score([9.0, 2.0]) == 200
        guard.kill()
        guard.start()
        assert [guard.score([float(i), 2.0]) for i in range(5)] == [429] * 5


def test_a_table_that_cannot_be_made_refuses_and_gives_nothing_away(tmp_path, upstream):
    """A reload asks for a budget with another refill time while the disk has no room."""
    with started(tmp_path, upstream, write_policy(tmp_path, 365)) as guard:
        assert guard.score([1.0, 2.0]) == 200
        fill_disk(guard)
        guard.files[0].write_text(guard.files[0].read_text().replace("365d", "90d"))
        assert ask(guard.ports["admin_port"], "POST", "/reload")[0] in (200, 409)
        assert guard.score([3.0, 2.0]) in (429, 503)
        fill_disk(guard, full=False)
        assert [guard.score([3.0, 2.0]) for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("number", ["100001/d", "1/100000000d", "0/d", "1/0d", "1e9/d", "-1/d"])
def test_a_budget_that_could_not_be_counted_is_refused_before_it_is_served(tmp_path, number):
    text = write_policy(tmp_path).replace("1/1d", number)
    file = tmp_path / "guard.toml"
    file.write_text(text)
    code, said = call("guard", "check", file, "--upstream", "http://127.0.0.1:1")
    assert code in (1, 2) and "per_record" in said


def test_a_reload_that_fails_leaves_the_budgets_as_they_are(tmp_path, upstream):
    with started(tmp_path, upstream, write_policy(tmp_path, 365)) as guard:
        assert guard.score([1.0, 2.0]) == 200
        good = guard.files[0].read_text()
        for text in ("", "[", good.replace("label", "tip:3"), good.replace("[default]", "[x]")):
            guard.files[0].write_text(text)
            assert ask(guard.ports["admin_port"], "POST", "/reload")[0] == 409
            assert guard.score([1.0, 2.0]) == 429
        guard.files[0].write_text(good.replace("1/365d", "2/365d"))
        assert ask(guard.ports["admin_port"], "POST", "/reload")[0] == 200
        # What was all of the budget is all of a larger one
        assert [guard.score([1.0, 2.0]), guard.score([1.0, 3.0])] == [429, 200]
        assert read_metric(guard.ports["admin_port"], "policy_last_reload_good") == 1.0


def test_two_models_cannot_share_a_folder_by_another_name(tmp_path, upstream):
    text = write_policy(tmp_path)
    (tmp_path / "other").symlink_to(tmp_path / "budgets", target_is_directory=True)
    (tmp_path / "budgets").mkdir(0o700)
    files = []
    for prefix, name in (("/a", "budgets"), ("/b", "other")):
        files.append(tmp_path / f"{name}.toml")
        served = text.replace("[serving]", f'[serving]\nprefix = "{prefix}"')
        files[-1].write_text(served.replace('"budgets"', f'"{name}"'))
    code, said = call("guard", "check", files[0], "--model", files[1], "--upstream", upstream)
    assert code == 1 and "would share budgets" in said


def test_a_folder_of_budgets_that_others_can_write_is_refused(tmp_path, upstream):
    """Whoever may replace its files gives out fresh budgets."""
    (tmp_path / "budgets").mkdir()
    (tmp_path / "budgets").chmod(0o777)
    guard = RawGuard(tmp_path, upstream, write_policy(tmp_path))
    code, said = call("guard", "check", guard.files[0], "--upstream", upstream)
    assert code == 1 and "everybody can write" in said
    shutil.rmtree(tmp_path / "budgets")


def test_a_worker_hears_of_what_another_gave_back(tmp_path, redis_here):
    """It had found the budget spent meanwhile, and would refuse until a token refills: 122 days."""
    app = Unruly()
    more = f'[state]\nredis = "{redis_here.url}"\nprefix = "refund"\ntimeout = 5.0\n'
    text = write_policy(tmp_path, more=more)
    text = text.replace('per_record = "1/1d"', 'per_client = "3/365d"')
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "guard.key", tmp_path / "other")
    two = b'{"records": [[7, 1], [7, 2]]}'
    with serving(app) as url, started(tmp_path, url, text) as one:
        other = RawGuard(tmp_path / "other", url, text + "[limits]\nanswer_timeout = 10.0\n")
        other.start()
        try:
            assert one.score([1.0, 2.0]) == 200
            app.orders.append("hang")
            with other.connect() as connection:
                connection.sendall(write_request(two, last=True))
                while not app.active:
                    time.sleep(0.01)
                assert one.score([1.0, 3.0]) == 429
                assert connection.recv(12) == b"HTTP/1.1 504"
            end = time.monotonic() + 30
            while (status := one.score([1.0, 3.0])) != 200:
                assert status == 429 and time.monotonic() < end
                time.sleep(0.2)
            assert [one.score([1.0, float(i)]) for i in range(4, 6)] == [200, 429]
        finally:
            other.kill()
