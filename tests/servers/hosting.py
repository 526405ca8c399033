"""The servers of docs/guard-hosts.md, started with the very lines that stand there."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "hosts"
CLUSTERS = ROOT / "tests" / "clusters"
BIN = ROOT / ".venv-hosts" / "bin"
PAGE = ROOT / "docs" / "guard-hosts.md"
QUIET = {
    "OMP_NUM_THREADS": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONUNBUFFERED": "1",
}
PATIENCE = 180.0  # seconds that a server may take to answer at all


@dataclass(frozen=True)
class Host:
    """A section of the page; what tells that its server is up, the path of queries.

    What its command needs besides, and what ends it.
    """

    section: str
    ready: str
    path: str = "/predict"
    more: tuple[str, ...] = ()
    program: str | None = None  # instead of the command's own, with the port
    end: signal.Signals = signal.SIGTERM
    bin: Path = BIN

    def command(self, port: int) -> tuple[dict[str, str], list[str]]:
        """The environment and the words of the page's command, for a port."""
        words = block(self.section, "console").removeprefix("$ ").split()
        settings = dict(word.split("=") for word in words if re.fullmatch("[A-Z_]+=.*", word))
        words = [str(port) if word == "8000" else word for word in words[len(settings) :]]
        if self.program is not None:
            words = ["python", self.program, str(port)]
        return settings, [str(self.bin / words[0]), *words[1:], *self.more]


def block(section: str, language: str) -> str:
    """The section's first block of code in a language."""
    _, _, text = PAGE.read_text().partition(f"# {section}\n")
    found = re.search(rf"^```{language}\n(.*?)^```$", text.partition("\n## ")[0], re.S | re.M)
    assert found is not None, f"{section} has no {language}"
    return found[1]


class Hosted:
    """A server that carries the guard."""

    def __init__(
        self, host: Host, port: int, folder: Path, process: subprocess.Popen[bytes]
    ) -> None:
        self.host, self.port, self.folder, self.log, self.process = (
            host,
            port,
            folder,
            folder / "log",
            process,
        )

    def ask(
        self, method: str, path: str, body: Any = None, source: str = "127.0.0.1", **headers: str
    ) -> tuple[int, Any]:
        """Status and document of the answer to a client at an address of the loopback interface."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=60, source_address=(source, 0)
        )
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"content-type": "application/json"} | named)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def workers(self) -> list[int]:
        """The processes that multiprocessing began for it."""
        children = psutil.Process(self.process.pid).children()
        return [
            child.pid for child in children if any("spawn_main" in word for word in child.cmdline())
        ]

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait, but not for ever, and not for a server that has ended."""
        end = time.monotonic() + PATIENCE
        while not reached():
            assert self.process.poll() is None, (
                f"{self.host.section} ended: {self.log.read_text()[-3000:]}"
            )
            assert time.monotonic() < end, (
                f"{self.host.section} keeps waiting: {self.log.read_text()[-3000:]}"
            )
            time.sleep(0.1)

    def up(self) -> bool:
        """Whether it serves."""
        with suppress(OSError, http.client.HTTPException):
            return self.ask("GET", self.host.ready)[0] == 200
        return False


@contextmanager
def hosted(host: Host, port: int, folder: Path) -> Iterator[Hosted]:
    """The server with what is in `folder`.

    At the end it is asked to end, and killed with all that it started if it does not.
    """
    settings, command = host.command(port)
    with (
        tempfile.TemporaryDirectory(prefix="h", ignore_cleanup_errors=True) as home,
        (folder / "log").open("w") as log,
    ):  # short: paths of sockets
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "RAY_ADDRESS", "FORWARDED_ALLOW_IPS")
        }
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=kept
            | {"HOME": home, "TMPDIR": home, "PATH": f"{host.bin}:{os.environ['PATH']}"}
            | QUIET
            # A program of the tests finds their modules and the application, as the command does
            | ({"PYTHONPATH": f"{CLUSTERS}{os.pathsep}{folder}"} if host.program else {})
            | settings,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        server = Hosted(host, port, folder, process)
        try:
            server.until(server.up)
            yield server
            process.send_signal(host.end)
            process.wait(60)
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process with all that it began, also what has left its group.

    As BentoML's workers have.
    """
    begun = []
    with suppress(psutil.NoSuchProcess):
        begun = psutil.Process(process.pid).children(recursive=True)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for child in begun:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()
