"""`records.csv`: one line a record with its scores and posteriors; readable by its owner alone."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from memberscope._files import write_bytes
from memberscope.auditing import AuditArrays, hash_ids


def write_records(arrays: AuditArrays, path: Path) -> None:
    """Write id, the hash that reports show, membership, class and groups.

    And each attack's score and posterior.

    With reference models, each record's separation under them and its limits stand before the
    attacks.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    write_bytes(path, _build_records_csv(arrays), mode=0o600)


def is_records_file_current(arrays: AuditArrays, path: Path) -> bool:
    """Whether the file is the one that these arrays give; one that was never written is none."""
    return not path.is_file() or path.read_bytes() == _build_records_csv(arrays)


def _build_records_csv(arrays: AuditArrays) -> bytes:
    """The contents of `records.csv`."""
    names = list(arrays.posterior)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    groups = list(arrays.groups)
    scores = {entry.name: entry.scores for entry in arrays.scored}
    columns = [column for name in names for column in (f"score:{name}", f"risk:{name}")]
    own = (
        []
        if arrays.vulnerability is None
        else ["vulnerability", "vulnerability_low", "vulnerability_high"]
    )
    writer.writerow(["id", "hash", "member", *map(_escape_formula, groups), *own, *columns])
    hashes = hash_ids(arrays.ids)
    words = [
        [_escape_formula(arrays.group_values[name][code]) for code in arrays.groups[name]]
        for name in groups
    ]
    for i, name in enumerate(arrays.ids):
        numbers = [
            repr(float(value))
            for entry in names
            for value in (scores[entry][i], arrays.posterior[entry][i])
        ]
        numbers = (
            [] if arrays.vulnerability is None else [*map(repr, arrays.vulnerability[i].tolist())]
        ) + numbers
        writer.writerow(
            [
                _escape_formula(str(name)),
                hashes[i],
                int(arrays.member[i]),
                *(column[i] for column in words),
                *numbers,
            ]
        )
    return stream.getvalue().encode()


def _escape_formula(text: str) -> str:
    """Text that a spreadsheet will not take for a formula.

    >>> _escape_formula("=1+1"), _escape_formula("plain")
    ("'=1+1", 'plain')
    """
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
