"""Write `records.csv`: one line a record with its scores and posteriors.

It is readable by its owner alone.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from memberscope._files import write_bytes
from memberscope.auditing import AuditArrays, hash_ids


def write_records(arrays: AuditArrays, path: Path) -> None:
    """Write id, hash, membership, class and groups, and each attack's score and posterior.

    With reference models, each record's separation under them and its limits stand before the
    attacks.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    # The file holds ids and membership, which are what an attacker is after
    write_bytes(path, _build_records_csv(arrays), mode=0o600)


def is_records_file_current(arrays: AuditArrays, path: Path) -> bool:
    """Tell whether the file is the one that these arrays give, or was never written."""
    return not path.is_file() or path.read_bytes() == _build_records_csv(arrays)


def _build_records_csv(arrays: AuditArrays) -> bytes:
    """Build the contents of `records.csv`."""
    # Attacks without a posterior were tried beside the declared level, and have no column
    names = list(arrays.posterior)
    stream = io.StringIO()
    # One line end on all systems, so that equal arrays give equal bytes
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
        # Written out in full, so that they read back to the same number
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
    """Escape text that a spreadsheet would take for a formula.

    >>> _escape_formula("=1+1"), _escape_formula("plain")
    ("'=1+1", 'plain')
    """
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
