"""Write an append-only JSON Lines log, one file a day (UTC), readable by its owner alone.

`access.jsonl.20260131T000000Z` holds what `access.jsonl` held from that time on.
"""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

DAY, STAMP = 86400.0, "%Y%m%dT%H%M%SZ"
HEAD = 65536  # bytes of the first line in which its time is looked for


class DailyJsonl:
    r"""Append lines to `path`; rename the file when the first line of another day comes.

    `key` is the key of a line's time, in seconds since 1970. Files are renamed after the time of
    their first line, and removed `days` days after their day has ended. Several processes may write
    the same file. A line that a crash or a full disk cut off is followed by a line break.

    >>> import tempfile
    >>> log = DailyJsonl(Path(tempfile.mkdtemp()) / "access.jsonl", days=30)
    >>> log.write(['{"time":5.0}'], 5.0); log.write(['{"time":90000.0}'], 90_000.0)
    >>> sorted(file.name for file in log.path.parent.iterdir()), log.path.read_text()
    (['access.jsonl', 'access.jsonl.19700101T000005Z'], '{"time":90000.0}\n')
    """

    def __init__(self, path: Path, days: float, key: Literal["time", "told"] = "time") -> None:
        self.path, self.days = path, days
        # Not parsed as JSON: a line of thousands of records is long, and may be cut off.
        self._time = re.compile(rb'"%s":([0-9.eE+-]+)[,}]' % key.encode())
        self._day = -1.0  # of the last line, so that the first line is read once a day

    def write(self, lines: list[str], now: float) -> None:
        """Append lines at a time in seconds since 1970.

        Raises:
            OSError: The disk is full or the file cannot be written.
        """
        if now // DAY != self._day:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.tidy(now)
            self._day = now // DAY
        # Opened for each write, as another process may have renamed the file since
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            found = os.fstat(handle)
            torn = False
            # The path may also be a pipe or a device, which has no last byte
            if stat.S_ISREG(found.st_mode):
                os.fchmod(handle, 0o600)
                torn = found.st_size > 0 and os.pread(handle, 1, found.st_size - 1) != b"\n"
            # One write of whole lines, so that those of several processes do not mix.
            data = b"\n" * torn + "".join(f"{line}\n" for line in lines).encode()
            while data:
                data = data[os.write(handle, data) :]
        finally:
            os.close(handle)

    def tidy(self, now: float) -> None:
        """Rename an earlier day's file, and remove those whose day ended too long ago.

        Raises:
            OSError: The folder cannot be written.
        """
        self._rename_earlier_day(now)
        remove_expired_files(self.path, self.days, now)

    def _rename_earlier_day(self, now: float) -> None:
        later = 0  # seconds by which a name is moved on, where a file has it already
        while (
            begin := _read_begin(self.path, self._time)
        ) is not None and begin // DAY < now // DAY:
            put = name_day_file(self.path, begin + later)
            try:
                # Unlike a rename, a link fails where another process was faster
                os.link(self.path, put)
                self.path.unlink()
            except FileExistsError:
                # Another process is between its two steps
                if _is_same_file(self.path, put):
                    return
                later += 1
            except FileNotFoundError:
                return
            # A file system without links
            except OSError:
                os.replace(self.path, put)
                return


def name_day_file(path: Path, begin: float) -> Path:
    """Name the file of a day that begins at a time in seconds since 1970.

    >>> name_day_file(Path("access.jsonl"), 0.0).name
    'access.jsonl.19700101T000000Z'
    """
    return Path(f"{path}.{datetime.fromtimestamp(begin, UTC):{STAMP}}")


def is_day_expired(begin: float, days: float, now: float) -> bool:
    """Tell whether the day of `begin` ended more than `days` days before `now`.

    >>> is_day_expired(0.0, 1, 2 * DAY), is_day_expired(0.0, 1, 2 * DAY + 1)
    (False, True)
    """
    return (begin // DAY + 1) * DAY < now - days * DAY


def remove_expired_files(path: Path, days: float, now: float) -> None:
    """Remove the renamed files of `path` whose day ended more than `days` days ago.

    Raises:
        OSError: The folder cannot be written.
    """
    for file in path.parent.glob(f"{path.name}.*Z"):
        with suppress(ValueError, FileNotFoundError):
            # Another file that happens to match the pattern has no such time, and stays
            begin = datetime.strptime(file.name[-16:], STAMP).replace(tzinfo=UTC).timestamp()
            if is_day_expired(begin, days, now):
                file.unlink()


def format_alert_line(document: dict[str, object]) -> str:
    r"""Format a document as one line of printable ASCII, without control characters.

    >>> format_alert_line({"subject": "a\n\x7f\u2028"})
    '{"subject":"a\\n\\u007f\\u2028"}'
    """
    return json.dumps(document, separators=(",", ":"), allow_nan=False).replace("\x7f", "\\u007f")


def _read_begin(path: Path, time: re.Pattern[bytes]) -> float | None:
    """Read the time of a log's first line, but not beyond its last change; None for no file.

    A clock that was in the future for a while would else keep the file for as long.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return None
        with path.open("rb") as stream:
            line = time.search(stream.readline(HEAD))
    except FileNotFoundError:
        return None
    return found.st_mtime if line is None else max(0.0, min(float(line[1]), found.st_mtime))


def _is_same_file(one: Path, other: Path) -> bool:
    """Tell whether two names are of one file."""
    with suppress(FileNotFoundError):
        return one.samefile(other)
    return True
