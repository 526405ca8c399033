"""The command line for tests: `run_command` gives what a command printed and its exit code.

Each command is a process of its own. All of them are forked from one that has imported the package
and scikit-learn, since importing these takes longer than most commands. A test about what a fresh
process does (hash seeds, import times, signals) starts one itself, with COMMAND.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

COMMAND = [sys.executable, "-c", "from memberscope.cli.main import run; run()"]
IMPORTED = [
    "memberscope.cli.main",
    "memberscope.auditing",
    "memberscope.reports",
    "memberscope.recipes",
    "memberscope.defences",
    "memberscope.targets.tables",
    "jinja2",
    "rich.progress",
    "safetensors.numpy",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.neural_network",
    "sklearn.tree",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "skops.io",
]


@cache
def _start_server(python: str, modules: tuple[str, ...]) -> subprocess.Popen[str]:
    """Start the process that commands are forked from; one for each set of imports."""
    script = Path(__file__).with_name("command_server.py")
    server = subprocess.Popen(
        [python, str(script), *modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(server.kill)
    return server


def run_command(
    *arguments: object,
    cwd: Path,
    stdin: str = "",
    imported: tuple[str, ...] = (),
    fresh: bool = False,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run `memberscope` with `arguments` in the folder `cwd`; `environment` adds to this process's.

    With `fresh` it is a new interpreter, whose hash seed is another.
    """
    own = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"} | environment
    argv = list(map(str, arguments))
    if fresh:
        return subprocess.run(
            [*COMMAND, *argv],
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            env=own,
            check=False,
        )
    code, *printed = fork_process(sys.executable, (*IMPORTED, *imported), argv, cwd, own, stdin)
    return subprocess.CompletedProcess([*COMMAND, *argv], code, *printed)


def fork_process(
    python: str,
    modules: tuple[str, ...],
    argv: list[str],
    cwd: Path,
    environment: dict[str, str],
    stdin: str = "",
    *,
    script: str | None = None,
) -> tuple[int, str, str]:
    """Run a command, or a script, in a fork of a `python` that has imported `modules`.

    The answer is its exit code and what it printed and complained about.
    """
    server = _start_server(python, modules)
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        files = {name: str(Path(folder) / name) for name in ("stdin", "stdout", "stderr")}
        Path(files["stdin"]).write_text(stdin)
        request = {"argv": argv, "cwd": str(cwd), "environment": environment, **files}
        request["script"] = script
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        assert answer, "the process that commands are forked from has ended"
        stdout, stderr = (
            Path(files[name]).read_text(errors="replace") if Path(files[name]).exists() else ""
            for name in ("stdout", "stderr")
        )
    return int(answer), stdout, stderr
