"""The access log of hashes and sketches: appended, a file a day, readable by its owner alone, and kept no longer than the policy says."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

DAY, STAMP = 86400.0, "%Y%m%dT%H%M%SZ"


class AccessLog:
    r"""Appends lines to `path`; at the first line of another day (UTC) the file is put aside, named by its day, for `days` days.

    A file that was cut off by a crash is gone on with on a new line.

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
                day = datetime.fromtimestamp(last // DAY * DAY, UTC)
                os.replace(self.path, f"{self.path}.{day:{STAMP}}")
        for file in self.path.parent.glob(f"{self.path.name}.*Z"):
            with suppress(ValueError, FileNotFoundError):
                day = datetime.strptime(file.name[-16:], STAMP).replace(tzinfo=UTC)
                if day.timestamp() + DAY < now - self.days * DAY:
                    file.unlink()
        self.day = now // DAY
