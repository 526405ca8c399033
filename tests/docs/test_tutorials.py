"""Each tutorial runs as a reader would run it: files are written, commands typed, output compared.

A code block with a caption is a file of that name. A block `console` has commands after `$ ` and,
below each, what it prints; `...` stands for any text. A command exits 0 unless a comment behind it
names another code, and one that ends with `&` goes on in the background.
"""

from __future__ import annotations

import doctest
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"
BLOCK = re.compile(
    r"^```(?:\{code-block\} )?(\w+)\n(?::caption: (\S+)\n)?(.*?)^```$", re.MULTILINE | re.DOTALL
)
NEEDS = {
    "scikit-learn": (),
    "lightgbm": ("lightgbm",),
    "pytorch": ("torch",),
    "hugging-face": ("transformers", "torch"),
    "endpoint": ("httpx2",),
}
PORT = "8765"  # of the service in the pages; another one that is free takes its place
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def split_commands(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what it is to print."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            command, printed = found[-1]
            found[-1] = command, f"{printed}{line}\n"
    return found


def read_exit_code(command: str) -> int:
    """The code that a command is to end with."""
    said = re.search(r"# exit code (\d)$", command)
    return int(said[1]) if said else 0


@contextmanager
def ending_in_the_end(started: list[subprocess.Popen[bytes]]):
    """Whatever was started in the background ends with the page."""
    try:
        yield
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the service ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the service does not listen")


def test_each_tutorial_is_run():
    pages = {page.stem for page in TUTORIALS.glob("*.md")} - {"index"}
    assert pages == NEEDS.keys()


@pytest.mark.parametrize("name", NEEDS)
def test_a_tutorial_does_what_it_says(name, tmp_path):
    for package in NEEDS[name]:
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    port = find_free_port()
    page = (TUTORIALS / f"{name}.md").read_text(encoding="utf-8").replace(PORT, str(port))
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MEMBERSCOPE_")}
    environment = kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "COLUMNS": "100",
        "HF_HUB_OFFLINE": "1",
        "HOME": str(tmp_path),
    }
    started: list[subprocess.Popen[bytes]] = []
    commands = 0
    with ending_in_the_end(started):
        for language, file, text in BLOCK.findall(page):
            if file:
                (tmp_path / file).write_text(text, encoding="utf-8")
            elif language == "console":
                for command, printed in split_commands(text):
                    commands += 1
                    if command.endswith("&"):
                        started.append(
                            subprocess.Popen(
                                command[:-1].split(),
                                cwd=tmp_path,
                                env=environment,
                                start_new_session=True,
                            )
                        )
                        wait_until_it_listens(port, started[-1])
                        continue
                    check_command(command, printed, tmp_path, environment)
    assert commands >= 2


def check_command(command: str, printed: str, folder: Path, environment: dict[str, str]) -> None:
    """Run a command and compare its exit code and its output with the page."""
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    said = f"$ {command}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == read_exit_code(command), said
    if printed.strip():
        found = doctest.OutputChecker().check_output(printed, done.stdout, FLAGS)
        assert found, f"{said}\nexpected:\n{printed}"
