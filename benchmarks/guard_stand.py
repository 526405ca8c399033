"""A guard as operators run it, between a model's server and its clients.

All on the loopback interface.

Benchmarks of the guard start it with `memberscope guard run` in a process of its own. `python
benchmarks/guard_stand.py fixed 1000` serves precomputed answers over 1,000 classes, so that what is
measured is the guard and not a model.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memberscope.guard.calibration.thresholds import Tuned
from memberscope.guard.calibration.thresholds_file import write_tuned
from memberscope.guard.detectors.monitor import STREAMS, DetectorSettings
from memberscope.guard.detectors.near_copies import Probing
from memberscope.guard.hashing.secret_key import Secret, write_secrets
from memberscope.guard.sketching.fingerprints import Fingerprints, write_fingerprints
from memberscope.guard.sketching.sketcher import Sketcher, write_sketcher
from memberscope.wire.batch import Batch

CLASSES, ANSWERS = 1000, 64
NEVER = 1e12  # a threshold that no statistic reaches: detectors work, and nothing changes an answer
WATCHED = """
[monitor]
key = "guard.key"
sketch = "sketch.safetensors"
fingerprints = "fingerprints.safetensors"
tuned = "tuned.json"
log = "access.jsonl"
[respond]
probing = "coarsen"
boundary = "coarsen"
[alerts]
log = "alerts.jsonl"
"""


@dataclass(frozen=True)
class Served:
    """A server that runs: its port, its processes, and where operators ask."""

    port: int
    pids: tuple[int, ...]
    admin_port: int = 0
    first: int = 0  # the process that was started

    @property
    def url(self) -> str:
        """Where clients ask."""
        return f"http://127.0.0.1:{self.port}"


def equip(folder: Path, records: np.ndarray, members: np.ndarray | None = None) -> None:
    """What the monitor of a policy in `folder` needs, fitted to ordinary `records` (n, d).

    The first tenth or `members` are fingerprinted.
    """
    secret = Secret.new()
    write_secrets(folder / "guard.key", [secret])
    sketcher = Sketcher.fit("tabular", Batch(records), secret)
    write_sketcher(folder / "sketch.safetensors", sketcher)
    inside = sketcher.records(Batch(records[: len(records) // 10] if members is None else members))
    write_fingerprints(
        folder / "fingerprints.safetensors", Fingerprints.of(inside, inside[:0], secret.id)
    )
    settings = DetectorSettings(
        dict.fromkeys(STREAMS, NEVER), sketcher.radius, probing=Probing(level=7)
    )
    write_tuned(folder / "tuned.json", Tuned(settings, 1e-3, 0, 0, 0, 0, 0.0, 1.0, secret.id))


@contextmanager
def guard(policy: Path, upstream: str, workers: int = 1) -> Iterator[Served]:
    """`memberscope guard run` with this policy, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        admin_port = int(taken.getsockname()[1])
    program = [sys.executable, "-c", "from memberscope.cli.main import run; run()", "guard", "run"]
    ports = ["--port", "0", "--admin-port", str(admin_port), "--workers", str(workers)]
    process = subprocess.Popen(
        [*program, "--upstream", upstream, "--policy", str(policy), *ports], stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        said: list[dict] = []
        while len(said) < workers:
            line = process.stderr.readline()
            if not line:
                raise SystemExit("the guard ended before it served")
            found = json.loads(line)
            said += [found] if found["event"] == "serving" else []
        threading.Thread(target=drain, args=(process.stderr,), daemon=True).start()
        pids = tuple(pid for found in said for pid in family(found["process"]))
        yield Served(said[0]["port"], pids, said[0]["admin_port"], process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def family(pid: int) -> tuple[int, ...]:
    """A process and those that it has started, such as a monitor's, as of now.

    By the parent that each process names: the kernel's lists of children may lack some.
    """
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        # Others end meanwhile
        with suppress(OSError):
            parent = file.read_text().rsplit(")", 1)[1].split()[1]
            found += [int(file.parent.name)] if int(parent) == pid else []
    return (pid, *sorted(found))


def drain(stream: object) -> None:
    """Read what a process says, so that it never waits for room."""
    for _ in stream:  # type: ignore[attr-defined]
        pass


@contextmanager
def program(*words: str) -> Iterator[Served]:
    """A Python program that prints the port it serves on, until the block ends."""
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Served(int(process.stdout.readline()), (process.pid,))
        finally:
            process.kill()


@contextmanager
def redis() -> Iterator[str]:
    """A Redis of this run alone, and its address, until the block ends.

    One of another session may be scheduled far behind the load: on a machine that was full, a
    waiting Redis did not run for half a second.
    """
    found = shutil.which("redis-server")
    if found is None:
        raise SystemExit("Expected redis-server on the path, got none. Install it.")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    words = [found, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(100):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.kill()


def resident(pids: tuple[int, ...]) -> float:
    """Megabytes of memory that processes hold."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def answers(n: int, classes: int = CLASSES) -> list[bytes]:
    """Whole HTTP answers in the Open Inference Protocol, of models that are rather sure."""
    rng, found = np.random.default_rng(0), []
    for _ in range(n):
        logits = rng.normal(size=classes) * 3
        p = np.exp(logits - logits.max())
        tensor = {
            "name": "p",
            "shape": [1, classes],
            "datatype": "FP64",
            "data": (p / p.sum()).tolist(),
        }
        body = json.dumps({"model_name": "m", "outputs": [tensor]}, separators=(",", ":")).encode()
        head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % len(body)
        )
        found.append(head + body)
    return found


class Fixed(asyncio.Protocol):
    """Answers each request at once with the next of the precomputed answers."""

    def __init__(self, told: list[bytes]) -> None:
        self.told, self.next, self.left = told, 0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Part of its requests."""
        self.left += data
        while (end := self.left.find(b"\r\n\r\n")) >= 0:
            head = self.left[:end].lower()
            at = head.find(b"content-length:")
            size = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.left) < end + 4 + size:
                return
            self.left = self.left[end + 4 + size :]
            self.transport.write(self.told[self.next % len(self.told)])  # type: ignore[attr-defined]
            self.next += 1


async def fixed(classes: int) -> None:
    """Serve until killed; the port is printed."""
    told = answers(ANSWERS, classes)
    server = await asyncio.get_running_loop().create_server(lambda: Fixed(told), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    from memberscope.guard.server.worker import find_loop_factory

    assert sys.argv[1] == "fixed"
    with asyncio.Runner(loop_factory=find_loop_factory()) as runner:
        runner.run(fixed(int(sys.argv[2])))
