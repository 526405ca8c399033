"""Write `records.csv`: one line a record with its scores and posteriors.

It is readable by its owner alone.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from memberscope._files import write_bytes
from memberscope.auditing import AuditArrays, hash_ids
from memberscope.types import Floats


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
    writer.writerow(["id", "hash", "member", *map(escape_formula, groups), *own, *columns])
    hashes = hash_ids(arrays.ids)
    words = [
        [escape_formula(arrays.group_values[name][code]) for code in arrays.groups[name]]
        for name in groups
    ]
    numbers = [] if arrays.vulnerability is None else [*arrays.vulnerability.T]
    numbers += [column for entry in names for column in (scores[entry], arrays.posterior[entry])]
    # By columns, as building each line from single numbers takes seconds for many records
    writer.writerows(
        zip(
            map(escape_formula, map(str, arrays.ids)),
            hashes,
            arrays.member.astype(int).tolist(),
            *words,
            *map(_write_numbers, numbers),
            strict=True,
        )
    )
    return stream.getvalue().encode()


def _write_numbers(column: Floats) -> list[str]:
    """Write numbers (n,) out in full, so that they read back to the same number.

    >>> _write_numbers(np.array([0.1, -0.0, 0.1]))
    ['0.1', '-0.0', '0.1']
    """
    # Each number once, since posteriors repeat; by their bits, as -0.0 equals 0.0
    bits = np.ascontiguousarray(column, dtype=np.float64).view(np.int64)
    values, inverse = np.unique(bits, return_inverse=True)
    words = np.array([*map(repr, values.view(np.float64).tolist())], dtype=object)
    found: list[str] = words[inverse].tolist()
    return found


def escape_formula(text: str) -> str:
    """Escape text that a spreadsheet would take for a formula.

    >>> escape_formula("=1+1"), escape_formula("plain")
    ("'=1+1", 'plain')
    """
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
