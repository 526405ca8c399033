"""Start guards, each in a process forked from this one, which has imported what they import.

Reads one JSON object a message. `argv`, `environment`, the working directory and a descriptor for
standard error start a guard, and the answer is its process number; `wait` asks how such a process
ended, and the answer is its exit code, or nothing while it runs.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
from typing import Any

IMPORTED = [
    "memberscope.cli.guard.run",
    "memberscope.guard.server.serve",
    "memberscope.guard.server.monitor_service",
    "memberscope.guard.server.telemetry",
    "memberscope.guard.monitor.child_process",
    "memberscope.guard.state.budget_folder",
    "aiohttp",
    "cryptography.x509",
    "httptools",
    "jwt",
    "orjson",
    "prometheus_client",
    "redis.asyncio",
    "scipy.special",
    "starlette.applications",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
]


def become_guard(request: dict[str, Any], stderr: int) -> None:
    """Take over the streams, folder, environment and arguments that a fresh process would have."""
    os.dup2(stderr, 2)
    os.close(stderr)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["-c", *request["argv"]]
    # As for a script given on the command line, so that spawned workers do not read this file
    del sys.modules["__main__"].__file__


def serve_requests(asked: socket.socket) -> None:
    """Start and wait for guards until the other side closes; in a new guard, return."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(asked, 2**18, 1)
        if not data:
            os._exit(0)
        request = json.loads(data)
        if "wait" in request:
            ended, status = os.waitpid(request["wait"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        else:
            answer = os.fork()
            if answer == 0:
                asked.close()
                become_guard(request, *descriptors)
                return
            os.close(*descriptors)
        asked.sendall(json.dumps(answer).encode())


if __name__ == "__main__":
    # The folder of this script, which a guard does not have there
    sys.path.pop(0)
    for name in IMPORTED:
        importlib.import_module(name)
    serve_requests(socket.socket(fileno=int(sys.argv[1])))

    import typer

    from memberscope.cli.guard.run import serve_guarded_model

    app = typer.Typer()
    app.command()(serve_guarded_model)
    app()
