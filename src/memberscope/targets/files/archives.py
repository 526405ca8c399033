"""Check zip archives of arrays before they are opened.

What they would inflate to, and what sizes their arrays claim.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from memberscope.errors import InputError, MemberscopeError, UnsafeFileError

LEAST_LIMIT = 1 << 30  # bytes that any archive may inflate to
TIMES = 100  # and so many times its own size
MOST_MEMBERS = 200_000  # far more arrays than any model has
MOST_VALUES = 10**10  # in one array: values of size zero would cost no bytes in the file
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def check_archive(path: Path) -> None:
    """Refuse an archive that would fill the memory.

    One whose arrays have another size than they claim, or are objects, is refused too.

    Raises:
        InputError: It is not an archive, or damaged, or too large once it is inflated.
        UnsafeFileError: An array holds objects, which can run code.
    """
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _refuse_bomb(members, size, path)
            for member in members:
                if member.filename.endswith(".npy"):
                    with archive.open(member) as stream:
                        _check_array(stream, member, path)
    except MemberscopeError:
        raise
    except (
        OSError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as error:
        raise InputError(
            f"Expected a complete {_describe_archive_kind(path)}, got {path}: {error}. Write it "
            "again."
        ) from error


def _describe_archive_kind(path: Path) -> str:
    """Describe what the archive is for, by its name."""
    return "skops file" if path.suffix.lower() == ".skops" else "NPZ archive"


def _refuse_bomb(members: list[zipfile.ZipInfo], size: int, path: Path) -> None:
    """Refuse more members, or more inflated bytes, than any model or table of this size has.

    Names that repeat are refused too.

    Raises:
        InputError: There are too many, or names repeat.
    """
    # Arrays of real models compress far less than a hundredfold; bombs a thousandfold
    limit = max(LEAST_LIMIT, TIMES * size)
    total = sum(member.file_size for member in members)
    if total > limit:
        raise InputError(
            f"Expected an archive that inflates to at most {limit / 2**30:.3g} GiB, got {path}, "
            f"which claims {total / 2**30:.3g} GiB. Write it again without compression if these "
            "are your data."
        )
    if len(members) > MOST_MEMBERS:
        raise InputError(
            f"Expected at most {MOST_MEMBERS} arrays in {path}, got {len(members)}. Stack them "
            "into fewer arrays."
        )
    if len({member.filename for member in members}) < len(members):
        raise InputError(f"Expected names that differ in {path}, got one twice. Write it again.")


def _check_array(stream: IO[bytes], member: zipfile.ZipInfo, path: Path) -> None:
    """Refuse an array that claims another size than its member has, or that holds objects.

    Raises:
        InputError: Its header is damaged or claims too much.
        UnsafeFileError: It holds objects.
    """
    # A header is far shorter than this; a hostile one must not be read as a whole
    head = io.BytesIO(stream.read(min(member.file_size, 1 << 16)))
    version = np.lib.format.read_magic(head)
    # Version 3 has no public reader in NumPy
    if version not in READERS:
        if version == (3, 0):
            return _check_utf8_array(head, member, path)
        raise ValueError(f"{member.filename} is of an unknown version {version}")
    shape, _, dtype = READERS[version](head)
    return _check_size(shape, dtype, member.file_size - head.tell(), member, path)


def _check_utf8_array(head: io.BytesIO, member: zipfile.ZipInfo, path: Path) -> None:
    """Check an array whose header is UTF-8, as names of fields may need.

    The layout is that of version 2.
    """
    shape, _, dtype = np.lib.format.read_array_header_2_0(head)
    _check_size(shape, dtype, member.file_size - head.tell(), member, path)


def _check_size(
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    left: int,
    member: zipfile.ZipInfo,
    path: Path,
) -> None:
    """Refuse a shape and type that need another number of bytes than the `left` ones.

    Raises:
        InputError: They do.
        UnsafeFileError: Values are objects.
    """
    if dtype.hasobject:
        raise UnsafeFileError(
            f"Expected plain arrays in {path}, got a pickled object in {member.filename}, which "
            "could run code. Save numbers or strings instead."
        )
    # Python's whole numbers: NumPy's product would overflow on a hostile shape
    count = 1
    for length in shape:
        count *= int(length)
    if min(shape, default=0) < 0 or count > MOST_VALUES or count * dtype.itemsize != left:
        raise InputError(
            f"Expected a complete {_describe_archive_kind(path)}, got {path}, where "
            f"{member.filename} claims shape {shape} of {dtype} and holds {left} bytes. Write it "
            "again."
        )


def refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, object]:
    """Make a dict of a JSON object, and refuse names that repeat.

    Otherwise another reader could take another one of two values.

    Raises:
        ValueError: A name occurs twice.

    >>> refuse_repeated_keys([("a", 1)])
    {'a': 1}
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found
