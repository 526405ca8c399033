"""Name clients and records by keyed hashes of 64 bits, for budgets and the state."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from memberscope.guard.hashing.canonical import canonicalise_records, encode_canonical_records
from memberscope.wire import Batch

LONGEST = 300  # characters of a client's text that is remembered


class Names(Protocol):
    """Keyed hashes. Workers that share a state need the same key.

    `older` are those of keys that were rotated away, while budgets are still kept under them.
    """

    older: Sequence[Names]

    def client(self, text: str) -> str:
        """Hash a client's `kind:subject`, as 16 hexadecimal digits."""
        ...

    def records(self, batch: Batch) -> Sequence[int]:
        """Hash each record; equal records have equal hashes."""
        ...


class KeyedHasher:
    """Names by a key that lives as long as this process, unless one is given.

    >>> import numpy as np
    >>> names = KeyedHasher(bytes(32))
    >>> names.records(Batch(np.array([[1.0, 0.0], [1.0, -0.0]])))[0] == names.records(Batch(np.array([[[1.0, 0.0]]])))[0]
    True
    """

    def __init__(self, key: bytes | None = None) -> None:
        """Take the key, or draw one."""
        self.older: Sequence[Names] = ()
        self._key = os.urandom(32) if key is None else key
        self._known = lru_cache(maxsize=8192)(self._client)
        # Set up once: copying it is faster than setting up the key for each record
        self._start = hashlib.blake2b(digest_size=8, key=self._key, person=b"record")

    def client(self, text: str) -> str:
        """Hash a client's `kind:subject`, as 16 hexadecimal digits."""
        # Long texts are not remembered, so that no client can fill the memory
        return self._known(text) if len(text) <= LONGEST else self._client(text)

    def _client(self, text: str) -> str:
        found = hashlib.blake2b(
            text.encode(errors="replace"), digest_size=8, key=self._key, person=b"client"
        ).digest()
        return f"{int.from_bytes(found, 'little'):016x}"

    def records(self, batch: Batch) -> Sequence[int]:
        """Hash each record by its values in canonical form, whatever the shape."""
        found = []
        for text in encode_canonical_records(canonicalise_records(batch)):
            one = self._start.copy()
            one.update(text)
            found.append(int.from_bytes(one.digest(), "little"))
        return found
