"""Read logs for calibration and replay.

They are the guard's own, or any with time, client, request and answer; JSON lines or Parquet of any
size.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from memberscope.errors import InputError, MemberscopeError
from memberscope.guard.policy.config import GuardPolicy
from memberscope.guard.sketching.observations import (
    EMPTY,
    FORMAT,
    Observations,
    join_observations,
    read_line,
    require_log_time,
)
from memberscope.guard.sketching.sketcher import Sketcher
from memberscope.wire import parse_outputs

# Observations in a block, and rows of Parquet that are read at once
SIZE = 4096
ACCESS = FORMAT.partition("/")[0] + "/"
LONGEST = 2**26  # bytes of a line
RECENT = 100_000  # lines among which one that stands twice is found
UNREADABLE = (
    MemberscopeError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    OverflowError,
    RecursionError,
)


class Log:
    """Log files in order, as blocks of observations.

    They can be read as often as wanted, and are never whole in memory.

    A line of another kind than the guard's own is an object with `time` (seconds since 1970, or ISO
    8601, in UTC unless it says otherwise), `client`, `request` and, if it is known, `answer`: the
    documents that the server was sent and sent back. Those need the policy's [serving] and a
    sketch. Lines that cannot be read are left out and counted in `skipped`; those of the guard's
    own that were made with another key than the sketch's, or by another version, in `foreign`:
    their hashes match none of this sketch's. Records without a sketch are counted in `unreadable`.
    A line with the ID of one of the `RECENT` before it stands there again, as the process that wrote
    it died, and is counted in `repeated` alone.

    Raises:
        InputError: There is no such file.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        policy: GuardPolicy | None = None,
        sketcher: Sketcher | None = None,
    ) -> None:
        missing = [path for path in paths if not path.is_file()]
        if missing or not paths:
            raise InputError(
                f"Expected an access log, got {str(missing[0]) if missing else 'none'!r}, which is "
                "no file. Check the path."
            )
        self.paths, self.policy, self.sketcher = tuple(paths), policy, sketcher
        self.skipped = self.lines = self.foreign = self.unreadable = self.repeated = 0

    def __iter__(self) -> Iterator[Observations]:
        self.skipped = self.lines = self.foreign = self.unreadable = self.repeated = 0
        self._recent: dict[int, None] = {}
        parts: list[Observations] = []
        n = 0
        for document in self._documents():
            self.lines += 1
            try:
                found = self._read(document)
            except UNREADABLE:
                self.skipped += 1
                continue
            if found is None:
                self.foreign += 1
            elif len(found):
                parts.append(found)
                n += len(found)
            if n >= SIZE:
                yield join_observations(parts)
                parts, n = [], 0
        if parts:
            yield join_observations(parts)

    def _documents(self) -> Iterator[Any]:
        for path in self.paths:
            yield from (
                _read_parquet_rows(path) if path.suffix == ".parquet" else _read_log_lines(path)
            )

    def _read(self, document: Any) -> Observations | None:
        """Read the observations of a line; None where it was made with another key."""
        found = json.loads(document) if isinstance(document, bytes) else document
        # Hashes of another version's canonical form match none of this one's
        if found.get("format") != FORMAT and str(found.get("format")).startswith(ACCESS):
            return None
        # Not the guard's own log: its records must be sketched first
        if found.get("format") != FORMAT:
            return self._sketched(found)
        # Hashes made with another key match none of this sketch's
        if self.sketcher is not None and found.get("key") not in (
            None,
            "",
            self.sketcher.secret.id,
        ):
            return None
        if self._is_repeated(found.get("line")):
            self.repeated += 1
            return EMPTY
        self.unreadable += int(found.get("unreadable", 0))
        return read_line(document if isinstance(document, bytes) else json.dumps(found))

    def _is_repeated(self, id: object) -> bool:
        """Tell whether a line with this ID was read lately, and remember it."""
        if not isinstance(id, str):
            return False
        # Hashes take less memory than the IDs
        place = hash(id)
        if place in self._recent:
            return True
        if len(self._recent) >= RECENT:
            del self._recent[next(iter(self._recent))]
        self._recent[place] = None
        return False

    def _sketched(self, found: Any) -> Observations:
        if self.policy is None or self.sketcher is None:
            raise InputError(
                "Expected a guard's log, got another. Give --policy with [serving] and a sketch."
            )
        # The endpoint only reads documents here: its address is never asked
        serving = self.policy.serving.endpoint("http://upstream")
        batch = serving.serving.records(_parse_logged_document(found["request"]))
        record, point, bins = self.sketcher.sketch(batch)
        # Without an answer labels are unknown, and detectors that need them see nothing
        labels = np.full(len(batch), -1, dtype=np.int64)
        if found.get("answer") is not None:
            labels = _find_visible_top_classes(
                parse_outputs(
                    serving.serving.answers(_parse_logged_document(found["answer"])),
                    serving.declared,
                )
            )
        client = np.full(
            len(batch), self.sketcher.secret.client(str(found["client"])), dtype=np.uint64
        )
        return Observations(
            np.full(len(batch), _parse_timestamp(found["time"])),
            client,
            record,
            point,
            bins,
            labels,
        )


def _parse_timestamp(time: Any) -> float:
    """Parse a time to seconds since 1970; without a zone it is UTC.

    Raises:
        ValueError: It is none.

    >>> _parse_timestamp(60), _parse_timestamp("1970-01-01T00:01:00"), _parse_timestamp("1970-01-01T01:01:00+01:00")
    (60.0, 60.0, 60.0)
    """
    if isinstance(time, int | float):
        return require_log_time(time)
    found = time if isinstance(time, datetime) else datetime.fromisoformat(time)
    return require_log_time((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def _find_visible_top_classes(outputs: Any) -> Any:
    """Find the top visible class of each row (n, k), or take a label (n, 1); -1 where none is."""
    if outputs.shape[1] == 1:
        return outputs[:, 0].astype(np.int64)
    # Hidden classes are NaN, and must not win
    whole = ~np.isnan(outputs).all(axis=1)
    return np.where(whole, np.nan_to_num(outputs, nan=-np.inf).argmax(axis=1), -1)


def _parse_logged_document(document: Any) -> Any:
    """Parse a document where it is text."""
    return json.loads(document) if isinstance(document, str | bytes) else document


def _read_log_lines(path: Path) -> Iterator[bytes]:
    """Read the non-empty lines of a file, decompressed where gzip made it.

    Lines longer than LONGEST are split and will fail to parse.

    Raises:
        InputError: The file cannot be read, or ends in the midst of what gzip made.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            while line := stream.readline(LONGEST):
                if line.strip():
                    yield line
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"Expected a log in {str(path)!r}, got a file that cannot be read to its end. Check "
            "the file."
        ) from error


def _read_parquet_rows(path: Path) -> Iterator[dict[str, object]]:
    """Read the rows of a Parquet file, a few thousand at a time.

    Raises:
        InputError: pyarrow is missing, or the file is none.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise InputError(
            "Expected pyarrow to read Parquet, got none. Run pip install memberscope[parquet]."
        ) from error
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(SIZE):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(
            f"Expected a Parquet file, got {str(path)!r}, which is damaged or none. Check the file."
        ) from error


def list_log_files(paths: Sequence[Path]) -> list[Path]:
    """List log files, the parts put aside for a path before the path itself.

    `access.jsonl` stands for all its days.
    """
    found: list[Path] = []
    for path in paths:
        # Names end with the time in UTC, so that their order is that of time
        found += [*sorted(path.parent.glob(f"{path.name}.*Z")), path]
    return [path for path in dict.fromkeys(found) if path.is_file() or path in paths]
