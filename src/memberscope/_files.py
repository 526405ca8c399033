"""Write files whole or not at all, read them within limits, and explain errors of the disk."""

from __future__ import annotations

import errno
import json
import os
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from memberscope.errors import InputError

IGNORE_FILE = ".gitignore"
LARGEST_JSON = 64 << 20  # bytes; the result of a hundred groups and all attacks has a tenth of them


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


@contextmanager
def keep_out_of_git(folder: Path) -> Iterator[None]:
    r"""Leave the folder that is made inside out of git, by a `.gitignore` of its own.

    A folder that held something else before stays as it is. One with nothing but the answers that a
    stopped run left counts as new.

    >>> import tempfile
    >>> made = Path(tempfile.mkdtemp()) / "out"
    >>> with keep_out_of_git(made):
    ...     made.mkdir()
    >>> (made / IGNORE_FILE).read_text()
    '*\n'
    """
    held = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    try:
        yield
    # After a run that failed, too, since what it measured is kept
    finally:
        if all(map(_is_kept_answer, held)) and folder.is_dir():
            # An audit that is finished must not be lost for this file
            with suppress(InputError):
                ignore_folder(folder)


def _is_kept_answer(name: str) -> bool:
    """Tell whether a file or folder of this name holds answers that a stopped run kept."""
    # The ledger has files of its own beside it while it is written
    return name == "signals" or name.startswith("ledger.sqlite")


def ignore_folder(folder: Path) -> None:
    """Write the `.gitignore` of a folder that nobody should commit unasked.

    Raises:
        InputError: The folder cannot be written.
    """
    with translate_disk_errors(folder):
        (folder / IGNORE_FILE).write_text("*\n", encoding="utf-8")


def read_json(path: str | Path, largest: int = LARGEST_JSON) -> Any:
    """Read a JSON document from a regular file of at most `largest` bytes.

    A pipe or device is refused before it is read, since it could block for ever.

    Raises:
        OSError: It cannot be read, is no regular file, or is larger.
        ValueError: It is no JSON, or nested too deeply.
    """
    return parse_json(read_regular_file(path, largest))


def read_regular_file(path: str | Path, largest: int = LARGEST_JSON) -> bytes:
    """Read a regular file of at most `largest` bytes.

    Raises:
        OSError: It cannot be read, is no regular file, or is larger.
    """
    # Without waiting: a pipe may have taken the file's place, and nobody may write to it
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        if found.st_size > largest:
            raise OSError(errno.EFBIG, f"it has more than {largest >> 20} MiB")
        with open(handle, "rb", closefd=False) as file:
            return file.read(found.st_size)
    finally:
        os.close(handle)


def explain_read_error(error: OSError | ValueError) -> str:
    """Say why `read_json` failed, without the name of the file."""
    return (error.strerror or "") if isinstance(error, OSError) else str(error)


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON document.

    Raises:
        ValueError: It is none, or nested more deeply than Python can follow.

    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: it is nested too deeply
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document.

    Raises:
        ValueError: It is none, or nested more deeply than Python can follow.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


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
        # Windows has no such bits
        return os.name == "posix" and bool(path.stat().st_mode & stat.S_IRWXO)
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


def name_repository_path(path: Path) -> str:
    """Name a file as its repository does: from the root that has `.git`, else from the working folder.

    A file outside both is its name alone, since other machines have other folders.

    >>> name_repository_path(Path.cwd() / "made" / "up.toml").endswith("made/up.toml")
    True
    >>> name_repository_path(Path("/elsewhere/audit.toml"))
    'audit.toml'
    """
    place = Path(os.path.abspath(path))
    root = next((folder for folder in place.parents if (folder / ".git").exists()), Path.cwd())
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else place.name
