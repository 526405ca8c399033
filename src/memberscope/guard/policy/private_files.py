"""Refuse files with secrets that others than their owner may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from memberscope.errors import InputError


def find_other_readers(path: Path) -> str:
    """Name who else may read or write a file: its group, everybody, or nobody ("").

    A file that is not there has no readers. One that belongs to root and is read through its group,
    as container engines mount secrets, counts as private.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "guard.key"
    >>> file.touch(mode=0o640)
    >>> find_other_readers(file), find_other_readers(file.parent / "none")
    ('its group', '')
    """
    try:
        found = path.stat()
    except OSError:
        return ""
    if found.st_mode & stat.S_IRWXO:
        return "everybody"
    # Whoever runs without root's rights reads such a mount only through its group
    mounted = found.st_uid == 0 != os.geteuid() and not found.st_mode & stat.S_IWGRP
    return "its group" if found.st_mode & stat.S_IRWXG and not mounted else ""


def require_private_file(path: Path) -> None:
    """Refuse a file with a secret that others may read.

    Raises:
        InputError: Its group or everybody may.
    """
    readers = find_other_readers(path)
    if readers:
        raise InputError(
            f"Expected {str(path)!r} to be readable by its owner alone, got a file that {readers} "
            f"can read. Run chmod 600 {path}."
        )
