"""What commands show on a terminal of 80 and of 120 columns, without colours, and in a pipe.

The screens are kept in tests/cli/screens and shown in docs/terminal.md. After a change that is meant,
`PYTHONPATH=tests/servers:tests/support python tests/support/screens.py` takes them again.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import tempfile
import termios
from pathlib import Path

from commands import COMMAND
from signal_files import write_signals

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "cli" / "screens"
PAGE = ROOT / "docs" / "terminal.md"
AUDIT = (
    "audit --signals signals.csv --features x0 --groups sex --attacks gap,loss,logit --policy demo "
    "--out out"
)
# Of each screen: the command, and the columns of its terminal; 0 for a pipe
SCREENS = {
    "help-80": ("--help", 80),
    "audit-help-80": ("audit --help", 80),
    "audit-pipe": (AUDIT, 0),
    "report-80": ("report out", 80),
    "report-120": ("report out", 120),
    "verbose-120": ("report out --verbose", 120),
    "mistake-80": ("audti", 80),
}
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def run_in_terminal(command: str, folder: Path, columns: int, **environment: str) -> str:
    """Run `memberscope` in a pseudo-terminal; what it shows, with its control sequences."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    own |= {"TERM": "xterm-256color", **environment}
    started = subprocess.Popen(
        [*COMMAND, *command.split()],
        cwd=folder,
        env=own,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 65536):
            shown += part
    except OSError:
        pass  # Linux says so where the last process has closed the terminal
    os.close(leader)
    started.wait()
    return shown.decode().replace("\r\n", "\n")


def run_in_pipe(command: str, folder: Path) -> str:
    """Run `memberscope` with pipes for its output; what comes out of both."""
    own = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    done = subprocess.run(
        [*COMMAND, *command.split()],
        cwd=folder,
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def take_screen(name: str, folder: Path) -> str:
    """Take one screen as text; a terminal is told to use no colours."""
    command, columns = SCREENS[name]
    if not columns:
        return run_in_pipe(command, folder)
    # Bold and dim letters are not colours, and text files have neither
    return COLOUR.sub("", run_in_terminal(command, folder, columns, NO_COLOR="1"))


def fill_page(text: str) -> str:
    """Put each screen into its place of the page, behind the mark that names it."""
    for name in SCREENS:
        screen = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
        block = f"% screen {name}\n```text\n{screen}```\n"
        found = re.compile(rf"% screen {name}\n```text\n.*?```\n", re.DOTALL)
        text = found.sub(lambda _, block=block: block, text)
    return text


def write_screens() -> None:
    """Take every screen again, and put them into the page."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_signals(folder / "signals.csv")
        for screen in SCREENS:
            text = take_screen(screen, folder)
            (FOLDER / f"{screen}.txt").write_text(text, encoding="utf-8")
    PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write_screens()
