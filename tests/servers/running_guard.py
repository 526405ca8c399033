"""`memberscope guard run` in a process of its own, and requests to it."""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from forked_guard import ForkedGuard

SERVING = """
[serving]
protocol = "json"
path = "/score"
body = '{"records": "$records"}'
answer = "predictions"
n_classes = 3
"""
POLICY = f"""{SERVING}
[default]
restrict = "RESTRICT"
"""
START = "import sys; from memberscope.cli.guard.run import serve_guarded_model; import typer; app = typer.Typer(); app.command()(serve_guarded_model); app()"


class Process:
    """A guard in a process of its own, and the lines of its log.

    With `fresh` it is a new interpreter, whose hash seed is another.
    """

    def __init__(self, *options: str, fresh: bool = False) -> None:
        own = ["--port", "0", "--admin-port", "0", "--log-level", "debug", *options]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process: ForkedGuard | subprocess.Popen[bytes]
        if fresh:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, *own], stderr=subprocess.PIPE, env=environment
            )
        else:
            self.process = ForkedGuard(own, environment)
        self.lines: list[dict] = []
        self._queue: queue.Queue[dict] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._queue.put(json.loads(line))

    def said(self, event: str) -> dict:
        """The next line about `event`."""
        while True:
            self.lines.append(self._queue.get(timeout=120))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]


@contextmanager
def running(
    tmp_path: Path, upstream: str, *options: str, restrict: str = "label"
) -> Iterator[tuple[Process, Path]]:
    """The guard in front of an upstream, with a policy in `tmp_path` that may be there already."""
    file = tmp_path / "guard.toml"
    if not file.exists():
        file.write_text(POLICY.replace("RESTRICT", restrict))
    process = Process("--upstream", upstream, "--policy", str(file), *options)
    try:
        yield process, file
    finally:
        process.process.kill()
        process.process.wait()
        process.process.stderr.close()


def ask(
    port: int,
    method: str,
    path: str,
    body: object = None,
    context: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    **headers: str,
) -> tuple[int, bytes]:
    """Status and body of the answer to a request on a connection of its own."""
    if context is None:
        connection = http.client.HTTPConnection(host, port, timeout=30)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=30, context=context)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"content-type": "application/json"} | named)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def read_metric(admin_port: int, name: str) -> float:
    """A number of the guard's metrics; over all labels, unless `name` has them."""
    text = ask(admin_port, "GET", "/metrics")[1].decode()
    full, bare = f"memberscope_guard_{name}", f"memberscope_guard_{name.partition('{')[0]}"
    # A misspelt name is no zero
    assert f"# TYPE {bare} " in text or f"# TYPE {bare.removesuffix('_total')} " in text, name
    samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return sum(
        float(value)
        for label, _, value in samples
        if label == full or ("{" not in name and label.startswith(full + "{"))
    )


@contextmanager
def frozen(process: int) -> Iterator[None]:
    """A process that does nothing for a while."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)
