"""Write and read observations of queries: keyed hashes and sketches, never an input.

A live monitor, a replayed log and a simulation all feed the same detectors with these arrays.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.guard.hashing.canonical import CANONICAL_VERSION
from memberscope.types import Floats, Ints

POINT, BINS = 16, 8  # numbers in a sketch
FORMAT = f"memberscope-access/{CANONICAL_VERSION}"
LATEST = 253_402_300_799.0  # the end of the year 9999, in seconds since 1970


@dataclass(frozen=True, eq=False)
class Observations:
    """Queries (n,) in the order in which they were answered; one query is about one record.

    `time` (n,) is in seconds since 1970 and never falls. `client` (n,) uint64 is the keyed hash of
    who asked, `record` (n,) uint64 that of the record asked about: equal records have equal hashes.
    `point` (n, 16) float32 is the record's keyed projection: near records have near points. `bins`
    (n, 8) uint8 is where the record lies, 0 to 31, on eight features. `label` (n,) is the answered
    top class, or -1.
    """

    time: Floats
    client: NDArray[np.uint64]
    record: NDArray[np.uint64]
    point: NDArray[np.float32]
    bins: NDArray[np.uint8]
    label: Ints

    def __len__(self) -> int:
        return len(self.time)

    def take(self, where: Any) -> Observations:
        """Select the observations at positions, or where a mask holds."""
        return Observations(*(getattr(self, name)[where] for name in self.__dataclass_fields__))


EMPTY = Observations(
    np.zeros(0),
    np.zeros(0, np.uint64),
    np.zeros(0, np.uint64),
    np.zeros((0, POINT), np.float32),
    np.zeros((0, BINS), np.uint8),
    np.zeros(0, np.int64),
)


def join_observations(parts: Sequence[Observations]) -> Observations:
    """Join observations in order."""
    return Observations(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in Observations.__dataclass_fields__
        )
    )


def format_access_line(
    seen: Observations, *, kind: str = "default", key: str = "", status: int = 200
) -> str:
    """Format one request's observations as a line of the access log (JSON).

    >>> format_access_line(make_example_observations(2))[:60]
    '{"format":"memberscope-access/2","time":1700000000.0,"client'
    """
    # Hashes as hexadecimal text, as JSON's readers may lose bits of numbers of 64 bits
    document = {
        "format": FORMAT,
        "time": float(seen.time[0]),
        "client": f"{int(seen.client[0]):016x}",
        "class": kind,
        "key": key,
        "status": status,
        "record": [f"{int(value):016x}" for value in seen.record],
        "point": _encode_base64_array(seen.point.astype("<f4")),
        "bins": _encode_base64_array(seen.bins),
        "label": seen.label.tolist(),
    }
    return orjson.dumps(document).decode()


def format_unsketched_line(
    time: float, client: str, n: int, *, kind: str = "default", key: str = "", status: int = 200
) -> str:
    """Format one request about `n` records that the sketch cannot read, as a line of the log.

    >>> format_unsketched_line(1.7e9, "00000000000000ff", 3)[:79]
    '{"format":"memberscope-access/2","time":1700000000.0,"client":"00000000000000ff'
    """
    document = {
        "format": FORMAT,
        "time": time,
        "client": client,
        "class": kind,
        "key": key,
        "status": status,
        "unreadable": n,
    }
    return orjson.dumps(document).decode()


def mark_access_line(line: str, id: str) -> str:
    """Add the ID of its stream to a line of the access log.

    Where a line stands twice in a log, since one process died and another went on, its ID is the
    same.

    >>> mark_access_line('{"format":"memberscope-access/2"}', "1700000000000-0/42")
    '{"format":"memberscope-access/2","line":"1700000000000-0/42"}'
    """
    return f'{line[:-1]},"line":{orjson.dumps(id).decode()}}}'


def read_line(line: str | bytes) -> Observations:
    """Parse the observations of a line of the access log; none where nothing was sketched.

    Raises:
        InputError: It is none.

    >>> len(read_line(format_access_line(make_example_observations(2))))
    2
    """
    try:
        found = json.loads(line)
        if found["format"] != FORMAT:
            raise ValueError(found["format"])
        if found.get("unreadable"):
            return EMPTY
        # One line is one request, whose records share its time and its client
        n = len(found["record"])
        return Observations(
            np.full(n, require_log_time(found["time"])),
            np.full(n, int(found["client"], 16), dtype=np.uint64),
            np.array([int(value, 16) for value in found["record"]], dtype=np.uint64),
            require_finite_log_values(
                _decode_base64_array(found["point"], "<f4", n, POINT).astype(np.float32)
            ),
            _decode_base64_array(found["bins"], "u1", n, BINS),
            np.array(found["label"], dtype=np.int64).reshape(n),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        start = (line if isinstance(line, str) else line.decode(errors="replace"))[:40]
        raise InputError(
            f"Expected a line of a guard's access log, got {start!r}. Replay the log that the "
            "guard wrote."
        ) from error


def _encode_base64_array(values: NDArray[Any]) -> str:
    """Encode numbers as text."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _decode_base64_array(text: str, kind: str, n: int, width: int) -> NDArray[Any]:
    """Decode numbers (n, width) from text."""
    return np.frombuffer(base64.b64decode(text, validate=True), dtype=kind).reshape(n, width)


def require_finite_log_values(value: Any) -> Any:
    """Give a number, or numbers, if none is infinite or NaN.

    Raises:
        ValueError: One is.
    """
    # A truth value is a number to NumPy, and text may be read as one
    if isinstance(value, bool | str) or not np.isfinite(value).all():
        raise ValueError(value)
    return value


def require_log_time(value: Any) -> float:
    """Give a time in seconds since 1970, if it is one that a log may hold.

    A time far from all others would stretch the days that a baseline counts.

    Raises:
        ValueError: It is before 1970, after the year 9999, or no number.
    """
    found = float(require_finite_log_values(value))
    if not 0 <= found <= LATEST:
        raise ValueError(value)
    return found


def require_format(path: str, found: str, wanted: str, what: str) -> None:
    """Refuse a file of another version, whose hashes match none of this one's.

    Raises:
        InputError: It is.
        ValueError: It is no such file.
    """
    if found == wanted:
        return
    if found.partition("/")[0] != wanted.partition("/")[0]:
        raise ValueError(found)
    raise InputError(
        f"Expected {what} of this version ({wanted}) in {path!r}, got {found[:40]!r}. Make them "
        "anew with memberscope guard prepare."
    )


def make_example_observations(n: int) -> Observations:
    """Make some queries, for examples in documents."""
    rng = np.random.default_rng(0)
    return Observations(
        np.full(n, 1.7e9),
        np.full(n, 7, dtype=np.uint64),
        rng.integers(0, 2**63, n).astype(np.uint64),
        rng.normal(size=(n, POINT)).astype(np.float32),
        rng.integers(0, 32, (n, BINS)).astype(np.uint8),
        rng.integers(0, 3, n),
    )
