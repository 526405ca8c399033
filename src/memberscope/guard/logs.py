"""Logs to tune on and to replay: the guard's own, or any that tell time, client, request and answer; JSON lines or Parquet, of any size."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from memberscope.errors import InputError, MemberscopeError
from memberscope.guard.keys import Secret
from memberscope.guard.observations import FORMAT, Observations, joined, read_line
from memberscope.guard.policy import GuardPolicy
from memberscope.guard.sketches import Sketcher
from memberscope.targets.answers import outputs_of

SIZE = 4096


class Log:
    """Log files one after the other, as blocks of observations; to be read as often as wanted, and never whole in memory.

    A line of another kind than the guard's own is an object with `time` (seconds since 1970, or ISO 8601), `client`, `request` and, if
    it is known, `answer`: the documents that the server was sent and sent back. Those need the policy's [serving] and a sketch. Lines
    that cannot be read are left out and counted in `skipped`.

    Raises:
        InputError: There is no such file.
    """

    def __init__(self, paths: Sequence[Path], policy: GuardPolicy | None = None, sketcher: Sketcher | None = None) -> None:
        missing = [path for path in paths if not path.is_file()]
        if missing or not paths:
            raise InputError(
                f"Expected an access log, got {str(missing[0]) if missing else 'none'!r}, which is no file. Check the path."
            )
        self.paths, self.policy, self.sketcher = tuple(paths), policy, sketcher
        self.skipped = self.lines = 0

    def __iter__(self) -> Iterator[Observations]:
        self.skipped = self.lines = 0
        parts: list[Observations] = []
        n = 0
        for document in self._documents():
            self.lines += 1
            try:
                found = self._read(document)
            except (MemberscopeError, ValueError, KeyError, TypeError, OverflowError):
                self.skipped += 1
                continue
            if len(found):
                parts.append(found)
                n += len(found)
            if n >= SIZE:
                yield joined(parts)
                parts, n = [], 0
        if parts:
            yield joined(parts)

    def _documents(self) -> Iterator[Any]:
        for path in self.paths:
            if path.suffix == ".parquet":
                yield from rows_of(path)
            else:
                with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
                    yield from (line for line in stream if line.strip())

    def _read(self, document: Any) -> Observations:
        if isinstance(document, bytes) and FORMAT.encode() in document[:40]:
            return read_line(document)
        found = json.loads(document) if isinstance(document, bytes) else document
        if found.get("format") == FORMAT:
            return read_line(json.dumps(found))
        return self._sketched(found)

    def _sketched(self, found: Any) -> Observations:
        if self.policy is None or self.sketcher is None:
            raise InputError("Expected a guard's log, got another. Give --policy with [serving] and a sketch.")
        serving = self.policy.serving.endpoint("http://upstream")
        batch = serving.serving.records(opened(found["request"]))
        record, point, bins = self.sketcher.sketch(batch)
        labels = np.full(len(batch), -1, dtype=np.int64)
        if found.get("answer") is not None:
            labels = tops(outputs_of(serving.serving.answers(opened(found["answer"])), serving.declared))
        time = found["time"] if isinstance(found["time"], int | float) else datetime.fromisoformat(found["time"]).timestamp()
        client = np.full(len(batch), self.sketcher.secret.client(str(found["client"])), dtype=np.uint64)
        return Observations(np.full(len(batch), float(time)), client, record, point, bins, labels)


def tops(outputs: Any) -> Any:
    """The top class of each row (n, k), hidden classes left out; a label (n, 1) itself; -1 where all is hidden."""
    if outputs.shape[1] == 1:
        return outputs[:, 0].astype(np.int64)
    whole = ~np.isnan(outputs).all(axis=1)
    return np.where(whole, np.nan_to_num(outputs, nan=-np.inf).argmax(axis=1), -1)


def opened(document: Any) -> Any:
    """A document, read where it is text."""
    return json.loads(document) if isinstance(document, str | bytes) else document


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, a few thousand at a time.

    Raises:
        InputError: pyarrow is missing, or the file is none.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise InputError("Expected pyarrow to read Parquet, got none. Run pip install memberscope[parquet].") from error
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches(SIZE):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"Expected a Parquet file, got {str(path)!r}, which is damaged or none. Check the file.") from error


def ordered(paths: Sequence[Path]) -> list[Path]:
    """Log files, the parts put aside for a path before the path itself: `access.jsonl` stands for all its days."""
    found: list[Path] = []
    for path in paths:
        found += [*sorted(path.parent.glob(f"{path.name}.*Z")), path]
    return [path for path in dict.fromkeys(found) if path.is_file() or path in paths]


def key_of(secret: Secret | None) -> str | None:
    """A secret's name, where there is one."""
    return None if secret is None else secret.id
