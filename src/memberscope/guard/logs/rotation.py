"""Files put aside day by day (UTC): `access.jsonl.20260131T000000Z` is what `access.jsonl` held from then on."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

DAY, STAMP = 86400.0, "%Y%m%dT%H%M%SZ"


def aside(path: Path, begin: float) -> Path:
    """The name of a file that begins at a time in seconds since 1970.

    >>> aside(Path("access.jsonl"), 0.0).name
    'access.jsonl.19700101T000000Z'
    """
    return Path(f"{path}.{datetime.fromtimestamp(begin, UTC):{STAMP}}")


def over(begin: float, days: float, now: float) -> bool:
    """Whether the day of `begin` ended more than so many days before `now`.

    >>> over(0.0, 1, 2 * DAY), over(0.0, 1, 2 * DAY + 1)
    (False, True)
    """
    return (begin // DAY + 1) * DAY < now - days * DAY


def forget(path: Path, days: float, now: float) -> None:
    """Remove the files put aside for `path` whose day ended more than so many days ago.

    Raises:
        OSError: The folder cannot be written.
    """
    for file in path.parent.glob(f"{path.name}.*Z"):
        with suppress(ValueError, FileNotFoundError):
            begin = datetime.strptime(file.name[-16:], STAMP).replace(tzinfo=UTC).timestamp()
            if over(begin, days, now):
                file.unlink()
