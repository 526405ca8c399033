"""Refuse files with secrets that every user of the machine may read."""

from __future__ import annotations

import stat
from pathlib import Path

from memberscope.errors import InputError


def is_open_to_all(path: Path) -> bool:
    """Tell whether every user of the machine may read or write a file; its group may.

    Engines of containers mount secrets for a group. A file that is not there is not open.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "guard.key"
    >>> file.touch(mode=0o640)
    >>> is_open_to_all(file), is_open_to_all(file.parent / "none")
    (False, False)
    """
    try:
        return bool(path.stat().st_mode & stat.S_IRWXO)
    except OSError:
        return False


def require_private_file(path: Path) -> None:
    """Refuse a file with a secret that every user of the machine may read.

    Raises:
        InputError: They may.
    """
    if is_open_to_all(path):
        raise InputError(
            f"Expected a file that only its owner and group may read, got {str(path)!r}, which "
            f"everybody may. Run chmod 600 {path}, and make a new secret if others use this machine."
        )
