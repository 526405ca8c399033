"""The access log of hashes and sketches.

Appended, a file a day, readable by its owner alone, and kept no longer than the policy says.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from memberscope.guard.logs.rotation import DAY, is_day_expired, name_day_file, remove_expired_files


class AccessLog:
    r"""Appends lines to `path`; at the first line of another day (UTC) the file is put aside.

    Named by its day, for `days` days.

    A file that was cut off by a crash is gone on with on a new line. Where the clock stepped back
    over midnight a day has several files.

    >>> import tempfile
    >>> log = AccessLog(Path(tempfile.mkdtemp()) / "access.jsonl", days=30)
    >>> log.write(["a"], 0.0); log.write(["b"], 90_000.0)
    >>> sorted(file.name for file in log.path.parent.iterdir()), log.path.read_text()
    (['access.jsonl', 'access.jsonl.19700101T000000Z'], 'b\n')
    """

    def __init__(self, path: Path, days: float) -> None:
        self.path, self.days = path, days
        self.day = -1.0

    def write(self, lines: list[str], now: float) -> None:
        """Append lines, at a time in seconds since 1970.

        Raises:
            OSError: The disk is full or the file cannot be written.
        """
        if now // DAY != self.day:
            self._turn(now)
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            data = ("\n" if torn else "").encode() + "".join(f"{line}\n" for line in lines).encode()
            while data:
                data = data[os.write(handle, data) :]
        finally:
            os.close(handle)

    def _turn(self, now: float) -> None:
        """Put an earlier day's file aside, and remove those that are too old."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            last = self.path.stat().st_mtime if self.day < 0 else self.day * DAY
            if last // DAY < now // DAY:
                os.replace(self.path, self._aside(last // DAY * DAY))
        self.tidy(now)
        self.day = now // DAY

    def _aside(self, begin: float) -> Path:
        """A name that no file has, for a day's file."""
        for second in range(int(DAY)):
            path = name_day_file(self.path, begin + second)
            if not path.exists():
                return path
        raise OSError("too many files of one day")

    def tidy(self, now: float) -> None:
        """Remove the files of days that ended more than `days` before `now`.

        Also the newest one, where no line has come since.

        Raises:
            OSError: The folder cannot be written.
        """
        with suppress(FileNotFoundError):
            if is_day_expired(self.path.stat().st_mtime, self.days, now):
                self.path.unlink()
        remove_expired_files(self.path, self.days, now)
