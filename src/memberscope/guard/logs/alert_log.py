"""The log of alerts: one JSON object a line, appended, readable by its owner alone.

And kept no longer than the policy says.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from memberscope.guard.logs.rotation import DAY, name_day_file, remove_expired_files


class AlertLog:
    r"""Appends lines to `path`, a new file each day (UTC).

    Older ones end with the time of their first line and leave after `days`.

    Several processes may write the same file: each line is one write at the end of the file.

    >>> import tempfile
    >>> log = AlertLog(Path(tempfile.mkdtemp()) / "alerts.jsonl", days=30)
    >>> log.write({"told": 0.0, "text": "two lines\nin one"})
    >>> log.path.read_text()
    '{"told":0.0,"text":"two lines\\nin one"}\n'
    """

    def __init__(self, path: Path, days: float) -> None:
        self.path, self.days = path, days
        self.torn = False  # the last line was cut short, as on a full disk

    def write(self, document: dict[str, Any]) -> None:
        """Append one line; `told` in it is the time now, in seconds since 1970.

        Raises:
            OSError: The disk is full or the file cannot be written.
        """
        self._turn(float(document["told"]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if stat.S_ISREG(os.fstat(handle).st_mode):
                os.fchmod(handle, 0o600)
            line = ("\n" if self.torn else "") + format_alert_line(document) + "\n"
            self.torn = os.write(handle, line.encode("ascii")) < len(line)
        finally:
            os.close(handle)
        if self.torn:
            raise OSError("the line was cut short")

    def tidy(self, now: float) -> None:
        """Move an earlier day's file aside, and remove files whose last line is older than `days`.

        Raises:
            OSError: The folder cannot be written.
        """
        self._turn(now)
        remove_expired_files(self.path, self.days, now)

    def _turn(self, now: float) -> None:
        started = _read_first_time(self.path)
        if started is not None and started // DAY != now // DAY:
            put = name_day_file(self.path, started)
            try:
                os.link(self.path, put)  # unlike a rename it fails where another process was faster
                self.path.unlink()
            except (FileExistsError, FileNotFoundError):
                pass
            except OSError:  # a file system without links
                os.replace(self.path, put)


def format_alert_line(document: dict[str, Any]) -> str:
    r"""A document as one line of printable ASCII.

    Whatever its texts hold, no control character is left.

    >>> format_alert_line({"subject": "a\n\x7f\u2028"})
    '{"subject":"a\\n\\u007f\\u2028"}'
    """
    return json.dumps(document, separators=(",", ":"), allow_nan=False).replace("\x7f", "\\u007f")


def _read_first_time(path: Path) -> float | None:
    """The time of a log's first line; None where there is none."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as stream:
            return float(json.loads(stream.readline(65536))["told"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, OverflowError):
        return None
