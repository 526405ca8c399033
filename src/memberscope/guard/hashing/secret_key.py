"""Create, read and use the secret behind all hashes and sketches.

Without it, hashes and sketches tell nothing about a record that one cannot already write down; with
it and the logs, whoever can write a record down can find out whether it was asked about.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memberscope._files import write_bytes
from memberscope.errors import InputError

FORMAT = "memberscope-key/1"
Purpose = Literal["client", "record", "word", "project"]


@dataclass(frozen=True)
class Secret:
    """Thirty-two secret bytes and the name that logs and fingerprints call them by.

    >>> secret = Secret("2026", bytes(32))
    >>> secret.client("api_key:shop") == secret.client("api_key:shop") != secret.client("api_key:other")
    True
    """

    id: str
    key: bytes

    def __repr__(self) -> str:
        # Without the key, which must not reach a log
        return f"Secret({self.id!r})"

    @classmethod
    def new(cls) -> Secret:
        """Create a secret from the system's source of randomness."""
        return cls(os.urandom(4).hex(), os.urandom(32))

    def hash64(self, purpose: Purpose, text: bytes) -> int:
        """Hash `text` to 64 keyed bits; the same text has other bits for another purpose."""
        return int.from_bytes(self._hash(purpose, text), "little")

    def hashes(self, purpose: Purpose, texts: Iterable[bytes]) -> NDArray[np.uint64]:
        """Hash each text (n,) to 64 keyed bits."""
        return np.frombuffer(
            b"".join(self._hash(purpose, text) for text in texts), dtype="<u8"
        ).astype(np.uint64)

    def wide(self, purpose: Purpose, texts: Iterable[bytes]) -> bytes:
        """Hash each text to 512 keyed bits, one after the other."""
        start = hashlib.blake2b(key=self.key, person=purpose.encode() + b"/wide")
        found = []
        for text in texts:
            one = start.copy()
            one.update(text)
            found.append(one.digest())
        return b"".join(found)

    def client(self, text: str) -> int:
        """Hash a client's identity."""
        return self.hash64("client", text.encode(errors="replace"))

    def generator(self, purpose: Purpose, text: bytes = b"") -> np.random.Generator:
        """Create a generator of numbers that only this secret gives."""
        return np.random.default_rng(
            int.from_bytes(
                hashlib.blake2b(text, key=self.key, person=purpose.encode()).digest(), "little"
            )
        )

    def _hash(self, purpose: Purpose, text: bytes) -> bytes:
        return hashlib.blake2b(text, digest_size=8, key=self.key, person=purpose.encode()).digest()


def read_secret(path: str | Path) -> Secret:
    """Read the newest secret in a key file.

    Raises:
        InputError: It cannot be read or is no key file.
    """
    return read_secrets(path)[-1]


def read_secrets(path: str | Path) -> list[Secret]:
    """Read all secrets in a key file, the newest last.

    Raises:
        InputError: It cannot be read or is no key file.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(document["format"])
        found = [
            Secret(str(entry["id"]), bytes.fromhex(entry["key"])) for entry in document["keys"]
        ]
    except OSError as error:
        raise InputError(
            f"Expected a key file, got {str(path)!r}: {error.strerror}. Make one with memberscope "
            "guard prepare."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"Expected a key file, got something else in {str(path)!r}. Make one with memberscope "
            "guard prepare."
        ) from error
    if not found or any(len(secret.key) != 32 for secret in found):
        raise InputError(
            f"Expected keys of 32 bytes in {str(path)!r}, got others. Make a new file with "
            "memberscope guard prepare."
        )
    return found


def write_secrets(path: str | Path, secrets: list[Secret]) -> None:
    """Write a key file that only its owner may read, the newest secret last.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "guard.key"
    >>> write_secrets(file, [Secret("old", bytes(32)), Secret("new", bytes(32))])
    >>> read_secret(file), oct(file.stat().st_mode)[-3:]
    (Secret('new'), '600')
    """
    document = {
        "format": FORMAT,
        "keys": [{"id": secret.id, "key": secret.key.hex()} for secret in secrets],
    }
    write_bytes(Path(path), json.dumps(document, indent=1).encode(), mode=0o600)
