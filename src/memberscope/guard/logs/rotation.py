"""Files put aside day by day (UTC).

`access.jsonl.20260131T000000Z` is what `access.jsonl` held from then on.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

DAY, STAMP = 86400.0, "%Y%m%dT%H%M%SZ"


def name_day_file(path: Path, begin: float) -> Path:
    """The name of a file that begins at a time in seconds since 1970.

    >>> name_day_file(Path("access.jsonl"), 0.0).name
    'access.jsonl.19700101T000000Z'
    """
    return Path(f"{path}.{datetime.fromtimestamp(begin, UTC):{STAMP}}")


def is_day_expired(begin: float, days: float, now: float) -> bool:
    """Whether the day of `begin` ended more than so many days before `now`.

    >>> is_day_expired(0.0, 1, 2 * DAY), is_day_expired(0.0, 1, 2 * DAY + 1)
    (False, True)
    """
    return (begin // DAY + 1) * DAY < now - days * DAY


def remove_expired_files(path: Path, days: float, now: float) -> None:
    """Remove the files put aside for `path` whose day ended more than so many days ago.

    Raises:
        OSError: The folder cannot be written.
    """
    for file in path.parent.glob(f"{path.name}.*Z"):
        with suppress(ValueError, FileNotFoundError):
            begin = datetime.strptime(file.name[-16:], STAMP).replace(tzinfo=UTC).timestamp()
            if is_day_expired(begin, days, now):
                file.unlink()
