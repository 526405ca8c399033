"""Fingerprint the training set, and honey records that nobody has a reason to ask about.

They are shortened on purpose: about one foreign record in `1 / false_rate` has a member's
fingerprint, so that a thief of the file and of the key cannot be sure of any single record.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memberscope._files import write_bytes
from memberscope.errors import InputError
from memberscope.guard.hashing.canonical import CANONICAL_VERSION
from memberscope.guard.hashing.secret_key import Secret
from memberscope.guard.sketching.observations import require_format

FORMAT = f"memberscope-fingerprints/{CANONICAL_VERSION}"
HONEY = 2  # what a honey record counts as; a member is 1


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Sorted fingerprints of `members` and `honey`, each a record's keyed hash modulo `range`.

    `key` names the secret.

    >>> found = Fingerprints.of(np.array([5, 9], dtype=np.uint64), np.array([7], dtype=np.uint64), "k")
    >>> found.hits(np.array([5, 6, 7], dtype=np.uint64)).tolist()
    [1, 0, 2]
    """

    members: NDArray[np.uint64]
    honey: NDArray[np.uint64]
    range: int
    key: str

    @classmethod
    def of(
        cls,
        members: NDArray[np.uint64],
        honey: NDArray[np.uint64],
        key: str,
        false_rate: float = 0.001,
    ) -> Fingerprints:
        """Shorten the records' keyed hashes; a foreign record hits with probability `false_rate`.

        Raises:
            InputError: There are no members, or the rate is not between 0 and 0.1.
        """
        if not 0 < false_rate <= 0.1:
            raise InputError(
                f"Expected a false rate above 0 and at most 0.1, got {false_rate}. Give 0.001."
            )
        if not len(members):
            raise InputError(
                "Expected at least one member to fingerprint, got none. Check --members."
            )
        # So many values that the members' take up the share `false_rate` of them
        size = max(int(len(members) / false_rate), 2)
        short = np.unique(members % np.uint64(size))
        # Honey records are no members, so that their hashes need not be shortened
        return cls(short, np.unique(honey), size, key)

    def hits(self, record: NDArray[np.uint64]) -> NDArray[np.int8]:
        """Look up each record's keyed hash (n,): 2 for honey, 1 for a fingerprint, else 0."""
        found = _match_fingerprints(self.members, record % np.uint64(self.range)).astype(np.int8)
        # Last, as a honey record may hit a member's shortened fingerprint too
        found[_match_fingerprints(self.honey, record)] = HONEY
        return found


def _match_fingerprints(known: NDArray[np.uint64], asked: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Test which of `asked` (n,) are in the sorted `known`."""
    if not len(known):
        return np.zeros(len(asked), dtype=bool)
    # Beyond the last one there is no place to compare with
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.asarray(known[place] == asked)


def write_fingerprints(path: str | Path, found: Fingerprints) -> None:
    """Write them as safetensors, readable by the owner alone."""
    from safetensors.numpy import save

    kept = {"format": FORMAT, "range": str(found.range), "key": found.key}
    write_bytes(
        Path(path),
        save({"members": found.members, "honey": found.honey}, metadata=kept),
        mode=0o600,
    )


def read_fingerprints(path: str | Path, secret: Secret) -> Fingerprints:
    """Read fingerprints that were made with `secret`.

    Raises:
        InputError: The file cannot be read, is none, is of another version, or was made with
            another secret.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            kept = file.metadata() or {}
            require_format(str(path), kept["format"], FORMAT, "fingerprints")
            found = Fingerprints(
                file.get_tensor("members"),
                file.get_tensor("honey"),
                int(kept["range"]),
                kept["key"],
            )
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            f"Expected fingerprints in {str(path)!r}, got none. Make them with memberscope guard "
            "prepare."
        ) from error
    if found.key != secret.id:
        raise InputError(
            f"Expected fingerprints made with the key {secret.id}, got {found.key[:40]!r}. Make "
            "them anew with memberscope guard prepare."
        )
    if (
        {found.members.dtype, found.honey.dtype} != {np.dtype("uint64")}
        or found.members.ndim != 1
        or found.range < 1
    ):
        raise InputError(
            f"Expected lists of whole numbers in {str(path)!r}, got something else. Make them anew."
        )
    return found
