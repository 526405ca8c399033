"""A monitor that has been taken over, and a guard that talks to it and goes on answering.

One guard runs as a process. It connects to a Unix socket at which these tests are its monitor, and
at the end to a real one.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running_guard import Process, ask, read_metric, running
from unruly import serving
from watching import population, prepared, upstream

from memberscope.errors import InputError
from memberscope.guard.alerting.prometheus import Metrics
from memberscope.guard.monitor.calls import LONGEST_ANSWER, Done, encode_done, read_done
from memberscope.guard.monitor.child_process import ChildMonitor
from memberscope.guard.monitor.frames import FRAME, MARK, MessageError, build_frame_head
from memberscope.guard.monitor.ipc import Begin, Look, read_question
from memberscope.guard.policy.config import parse_guard_policy
from memberscope.guard.server.monitor_service import _open_socket
from memberscope.guard.state.in_memory import MemoryState

SERVE = "from memberscope.cli.guard.run import serve_monitor_process; import typer; app = typer.Typer(); app.command()(serve_monitor_process); app()"


class Touching:
    """The classic: unpickling it runs a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


class Fake:
    """What stands in the place of the monitor: it answers looks with whatever it is told."""

    def __init__(self, path: Path) -> None:
        self.listening = _open_socket(path)
        self.listening.settimeout(60)

    def meet(self) -> None:
        """Take the guard's connection, and say that all is well."""
        self.connection, _ = self.listening.accept()
        self.connection.settimeout(60)
        self.stream = self.connection.makefile("rb")
        self.begin = read_question(self.stream)
        assert isinstance(self.begin, Begin)
        self.connection.sendall(encode_done(Done((("begun", ()),))))

    def answer(self, data: bytes) -> Look:
        """Answer the next look."""
        look = read_question(self.stream)
        assert isinstance(look, Look)
        self.connection.sendall(data)
        return look

    def is_left(self) -> bool:
        """Whether the guard has hung up, and asked for nothing more."""
        try:
            return read_question(self.stream) is None
        finally:
            self.stream.close()
            self.connection.close()


class Attacked:
    """The guard and its fake monitor."""

    def __init__(self, guard: Process, fake: Fake, folder: Path) -> None:
        self.guard, self.fake, self.folder = guard, fake, folder
        fake.meet()
        self.ports = guard.said("serving")

    def score(self, n: int = 1) -> int:
        body = {"records": population(n).tolist()}
        return ask(self.ports["port"], "POST", "/score", body)[0]

    def metric(self, name: str) -> float:
        return read_metric(self.ports["admin_port"], name)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    folder = tmp_path_factory.mktemp("monitor")
    prepared(folder, monitor='socket = "monitor.sock"')
    fake = Fake(folder / "monitor.sock")
    with serving(upstream) as url, running(folder, url) as (guard, _):
        yield Attacked(guard, fake, folder)
        for each in (fake.listening, fake.stream, fake.connection):
            each.close()


def framed(data: bytes) -> bytes:
    return build_frame_head(len(data), 0) + data


def calls(*found: Any) -> bytes:
    return framed(json.dumps(found).encode())


CLIENT = "00000000000000ff"
STAND = ["stand", CLIENT, "coarsen", "probing", 3600.0]
MALFORMED = {
    "a list of something": framed(b"[1]"),
    "no JSON": framed(b"\x80\x04\x95"),
    "another mark": b"HTTP" + calls()[4:],
    "longer than allowed": FRAME.pack(MARK, LONGEST_ANSWER + 1, 0),
    "endless": FRAME.pack(MARK, 2**63, 2**63),
    "bytes beside": build_frame_head(2, 8) + b"[]" + bytes(8),
    "any method": calls(["exposition"]),
    "a method of the object": calls(["__init__"]),
    "a beginning in the midst": calls(["begun"]),
    "a text for a number": calls(["dropped", "3"]),
    "a negative number": calls(["dropped", -1]),
    "not a number": framed(b'[["watched",1,NaN]]'),
    "another fault": calls(["fault", "x" * 40]),
    "an alarm with text": calls(["alarm", "probing", "client", "\n{}"]),
    "a client that is none": calls(["stand", "../../x", "coarsen", "probing", 60.0]),
    "a harder response": calls([*STAND[:2], "block", *STAND[3:]]),
    "for longer": calls([*STAND[:4], 1e9]),
    "for membership": calls([*STAND[:3], "membership", 60.0]),
    "for a detector that only alerts": calls([*STAND[:3], "volume", 60.0]),
    "too many": calls(*[["dropped", 0]] * 1001),
    "deep": framed(b"[" * 100_000),
}
# Each costs a second until the guard connects again: those that the types alone refuse are checked
# without it below
LIVE = ("no JSON", "longer than allowed", "any method", "a harder response", "for membership")


def survive(attacked: Attacked, data: bytes) -> None:
    """Send something in the place of an answer: the guard drops that monitor and goes on."""
    faults, dropped = attacked.metric("faults_total"), attacked.metric("monitor_dropped_total")
    assert attacked.score(3) == 200
    look = attacked.fake.answer(data)
    assert attacked.fake.is_left()
    assert attacked.score() == 200
    line = attacked.guard.said("monitor_ended")
    assert line["error"] == "MessageError" and "touch" not in json.dumps(line)
    assert attacked.metric("faults_total") == faults + 1
    assert attacked.metric('faults_total{which="watch"}') >= 1
    lost = sum(len(piece.labels) for piece in look.taken)
    assert attacked.metric("monitor_dropped_total") == dropped + lost
    attacked.fake.meet()


@pytest.mark.parametrize("framing", [True, False])
def test_a_pickle_from_the_monitor_runs_nothing(attacked, tmp_path, framing):
    data = pickle.dumps(Touching(tmp_path / "touched"))
    survive(attacked, framed(data) if framing else data + bytes(64))
    assert not (tmp_path / "touched").exists()
    pickle.loads(data)  # which a guard that read pickles would have done
    assert (tmp_path / "touched").exists()


@pytest.mark.parametrize("name", LIVE)
def test_what_no_monitor_sends_ends_that_monitor_alone(attacked, name):
    survive(attacked, MALFORMED[name])


@pytest.mark.parametrize("name", MALFORMED)
def test_what_no_monitor_sends_is_refused(name):
    table = {"serving": {"n_classes": 3}, "respond": {"probing": "coarsen"}}
    metrics, state = Metrics(), MemoryState(10)

    async def run() -> Any:
        monitor = ChildMonitor(parse_guard_policy(table), "", metrics, state)
        stream = asyncio.StreamReader()
        stream.feed_data(MALFORMED[name])
        stream.feed_eof()
        try:
            for method, given in (await read_done(stream)).calls:
                await monitor._do(method, given)
        finally:
            assert await state.standing(CLIENT) is None

    with pytest.raises(MessageError):
        asyncio.run(run())
    assert counted(metrics) == counted(Metrics())


def counted(metrics: Metrics) -> list[str]:
    lines = metrics.exposition().decode().splitlines()
    return [line for line in lines if "_created" not in line]


def test_what_a_monitor_may_say_is_done(attacked):
    dropped = attacked.metric("monitor_dropped_total")
    look = attacked.fake.answer(
        calls(["dropped", 7], ["alarm", "probing", "client", CLIENT], ["watched", 5, 0.5], STAND)
    )
    assert look.follow is None
    attacked.fake.answer(calls())
    assert attacked.metric("monitor_dropped_total") == dropped + 7
    assert attacked.metric("monitor_clients") == 5
    assert attacked.metric('alarms_total{detector="probing",scope="client"}') == 1


def test_a_monitor_of_its_own_judges_and_saves_where_its_own_policy_says(attacked, tmp_path):
    """The real one takes the place of the fake; the guard connects to it without a restart."""
    attacked.fake.listening.close()
    attacked.fake.connection.shutdown(socket.SHUT_RDWR)
    attacked.guard.said("monitor_ended")
    text = (attacked.folder / "guard.toml").read_text()
    for name in ("guard.key", "sketch.safetensors", "members.safetensors", "tuned.json"):
        text = text.replace(f'"{name}"', f'"{attacked.folder / name}"')
    own = tmp_path / "guard.toml"
    own.write_text(text.replace('"monitor.sock"', f'"{attacked.folder / "monitor.sock"}"'))
    command = [sys.executable, "-c", SERVE, "--policy", str(own)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as monitor:
        assert monitor.stderr is not None
        assert json.loads(monitor.stderr.readline())["event"] == "monitoring"
        assert oct((attacked.folder / "monitor.sock").stat().st_mode)[-3:] == "660"
        end = time.monotonic() + 60
        while not (tmp_path / "logs" / "access.jsonl").exists():
            assert attacked.score() == 200 and time.monotonic() < end
            time.sleep(0.1)
        monitor.send_signal(signal.SIGTERM)
        assert monitor.wait(30) == 0
    assert (tmp_path / "memory.safetensors").is_file()
    assert not (attacked.folder / "logs").exists() and attacked.score() == 200


def test_a_socket_that_anybody_could_have_put_there_gets_no_records(tmp_path):
    tmp_path.chmod(0o777)
    fake = Fake(tmp_path / "monitor.sock")
    table = {"serving": {"n_classes": 3}, "monitor": {"socket": "monitor.sock"}}
    policy = parse_guard_policy(table | {"home": str(tmp_path)})
    with pytest.raises(InputError, match="not everybody may write to"):
        asyncio.run(ChildMonitor(policy, "", Metrics(), MemoryState(10)).start())
    fake.listening.close()
