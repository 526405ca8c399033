"""Create, read and use the secret behind all hashes and sketches.

Without it, hashes and sketches tell nothing about a record that one cannot already write down; with
it and the logs, whoever can write a record down can find out whether it was asked about.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memberscope._files import read_json, require_private_file, translate_disk_errors, write_bytes
from memberscope._text import quote_value
from memberscope.errors import InputError
from memberscope.outputs import derive_noise_key

FORMAT = "memberscope-key/2"
EARLIER = "memberscope-key/1"  # without the times of rotations; read, and written as the new one
RESTART = 7 * 86400.0  # seconds after a rotation in which every guard is started again
Purpose = Literal["client", "record", "word", "project"]


@dataclass(frozen=True)
class Secret:
    """Thirty-two secret bytes and the name that logs and fingerprints call them by.

    `rotated` is when a newer one took its place, in seconds since 1970; until the budgets of that
    time are full again, they are still looked up by it.

    >>> secret = Secret("2026", bytes(32))
    >>> secret.client("api_key:shop") == secret.client("api_key:shop") != secret.client("api_key:other")
    True
    """

    id: str
    key: bytes
    rotated: float | None = None

    def __repr__(self) -> str:
        # Without the key, which must not reach a log
        return f"Secret({self.id!r})"

    @classmethod
    def new(cls) -> Secret:
        """Create a secret from the system's source of randomness."""
        return cls(os.urandom(4).hex(), os.urandom(32))

    def is_counted(self, seconds: float, now: float) -> bool:
        """Tell whether budgets of `seconds` may still be kept by it.

        A guard takes from them by it until it is started again, `RESTART` after the rotation at
        most.

        >>> Secret("a", bytes(32), 100.0).is_counted(60.0, 160.0 + RESTART)
        True
        """
        return self.rotated is None or self.rotated + seconds + RESTART >= now

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

    def derive_noise_key(self) -> bytes:
        """Derive the key of the noise in answers: 32 bytes that tell nothing of the secret."""
        return derive_noise_key(self.key, "guard")

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
        require_private_file(Path(path))
        document = read_json(path, largest=1 << 20)
        written = str(document["format"])
        if written.startswith("memberscope-key/") and written not in (FORMAT, EARLIER):
            raise InputError(
                f"Expected a key file of this version ({FORMAT}) in {str(path)!r}, got "
                f"{written[:40]!r}. Use the version of memberscope that wrote it, or a later one."
            )
        if written not in (FORMAT, EARLIER):
            raise ValueError(written)
        found = [
            Secret(
                str(entry["id"]),
                bytes.fromhex(entry["key"]),
                None if entry.get("rotated") is None else float(entry["rotated"]),
            )
            for entry in document["keys"]
        ]
    except OSError as error:
        raise InputError(
            f"Expected a key file, got {quote_value(path)}: {error.strerror}. Make one with "
            "memberscope guard prepare."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"Expected a key file, got something else in {quote_value(path)}. Make one with "
            "memberscope guard prepare."
        ) from error
    if not found or any(len(secret.key) != 32 for secret in found):
        raise InputError(
            f"Expected keys of 32 bytes in {quote_value(path)}, got others. Make a new file with "
            "memberscope guard prepare."
        )
    return found


def create_key_file(path: str | Path) -> bool:
    """Write a fresh secret to a key file, and tell whether it did; one that is there stays.

    Raises:
        InputError: What is there is no key file.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "guard.key"
    >>> create_key_file(file), create_key_file(file), len(read_secrets(file))
    (True, False, 1)
    """
    if Path(path).exists():
        read_secrets(path)
        return False
    write_secrets(path, [Secret.new()])
    return True


def rotate_secrets(
    secrets: list[Secret], now: float, *, keep_seconds: float, in_use: str = ""
) -> list[Secret]:
    """Put a fresh secret in the place of the newest, at a time in seconds since 1970.

    Those before it are kept while budgets of `keep_seconds` may need them; `in_use` names one that
    is kept in any case. The oldest always stays first: noise in answers is drawn by it, and a
    second draw about a record could be averaged with the first.

    >>> first = Secret("a", bytes(32))
    >>> second = rotate_secrets([first], 100.0, keep_seconds=60.0)
    >>> [secret.rotated for secret in second]
    [100.0, None]
    >>> third = rotate_secrets(second, 200.0, keep_seconds=60.0)
    >>> late = 260.0 + RESTART
    >>> [len(rotate_secrets(third, now, keep_seconds=60.0)) for now in (late, late + 1.0)]
    [4, 3]
    >>> rotate_secrets(third, late + 1.0, keep_seconds=60.0)[0].id
    'a'
    """
    kept = [
        secret
        for place, secret in enumerate(secrets[:-1])
        if place == 0 or secret.id == in_use or secret.is_counted(keep_seconds, now)
    ]
    return [*kept, *(replace(secret, rotated=now) for secret in secrets[-1:]), Secret.new()]


def write_secrets(path: str | Path, secrets: list[Secret]) -> None:
    """Write a key file that only its owner may read, the newest secret last.

    One that is there keeps its owner, and the rights of its group.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "guard.key"
    >>> write_secrets(file, [Secret("old", bytes(32)), Secret("new", bytes(32))])
    >>> read_secret(file), oct(file.stat().st_mode)[-3:]
    (Secret('new'), '600')
    """
    document = {
        "format": FORMAT,
        "keys": [
            {"id": secret.id, "key": secret.key.hex()}
            | ({} if secret.rotated is None else {"rotated": secret.rotated})
            for secret in secrets
        ],
    }
    # A guard that reads it by way of a link, or as a member of its group, must find the new one
    with translate_disk_errors(Path(path)):
        file = Path(path).resolve()
        before = file.stat() if file.is_file() else None
    write_bytes(file, json.dumps(document, indent=1).encode(), mode=0o600)
    if before is not None and os.name == "posix":
        with suppress(PermissionError):
            os.chown(file, before.st_uid, before.st_gid)
            file.chmod(0o600 | before.st_mode & stat.S_IRWXG)
