"""Write files whole or not at all, and turn errors of the disk into sentences."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memberscope.errors import InputError


@contextmanager
def translate_disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an `InputError`.

    Raises:
        InputError: Writing failed.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"Expected room to write {path}, got a full disk. Free some space and run it again."
            ) from error
        raise InputError(
            f"Expected to write {path}, got: {error.strerror}. Choose a folder that can be written."
        ) from error


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file under a temporary name, then rename it.

    A reader sees the old file or the new one, never a part of one.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    # The process's number keeps two runs that write the same path apart
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with translate_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                # Without this a power failure after the rename could leave an empty file under the
                # final name
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
