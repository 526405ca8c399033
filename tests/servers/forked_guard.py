"""A guard that is forked from a process which has imported it, with the methods of a Popen.

Most tests start guards, and importing takes a guard ten times as long as starting. What a fresh
process does otherwise, such as other hash seeds, tests of a `fresh` one show.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

_one_at_a_time = threading.Lock()


@cache
def _start_server() -> socket.socket:
    """Start the process that guards are forked from."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    script = Path(__file__).with_name("guard_server.py")
    server = subprocess.Popen(
        [sys.executable, str(script), str(there.fileno())], pass_fds=[there.fileno()]
    )
    there.close()
    atexit.register(server.wait)
    atexit.register(here.close)
    return here


def _request(message: dict[str, Any], *descriptors: int) -> Any:
    server = _start_server()
    with _one_at_a_time:
        socket.send_fds(server, [json.dumps(message).encode()], descriptors)
        answer = server.recv(2**16)
    assert answer, "the process that guards are forked from has ended"
    return json.loads(answer)


class ForkedGuard:
    """`memberscope guard run` with these options; its log is read from `stderr`."""

    def __init__(self, options: list[str], environment: dict[str, str]) -> None:
        read, write = os.pipe()
        request = {"argv": options, "environment": environment, "cwd": os.getcwd()}
        self.pid: int = _request(request, write)
        os.close(write)
        self.stderr = os.fdopen(read, "rb")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, or nothing while the process runs."""
        if self.returncode is None:
            self.returncode = _request({"wait": self.pid})
        return self.returncode

    def wait(self, timeout: float = 120.0) -> int:
        """The exit code, once there is one."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("guard", timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask the process to end."""
        self.send_signal(signal.SIGTERM)
