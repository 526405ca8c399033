"""A folder of arrays named by what they were computed from; an entry is whole or it is not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.targets.column_values import object_array
from memberscope.targets.frames import is_frame, is_sparse, list_values, name_columns
from memberscope.targets.stacking import as_array
from memberscope.types import Floats, Records, SignalSpec


class Store:
    """Arrays by key in `path`; each file carries a digest of its contents, and a damaged one counts as missing."""

    def __init__(self, path: str | Path) -> None:
        """Use the folder `path`, made at the first `put`."""
        self.path = Path(path)

    def get(self, key: str) -> Floats | None:
        """The array under `key`, or None if it is missing or damaged (a damaged file is removed)."""
        found = self.get_all(key)
        return None if found is None else found.get("array")

    def put(self, key: str, array: Floats) -> None:
        """Write `array` under `key`, whole or not at all.

        Raises:
            InputError: The disk is full or the folder cannot be written.
        """
        self.put_all(key, {"array": array})

    def get_all(self, key: str) -> dict[str, Any] | None:
        """The arrays under `key` by name, or None if they are missing or damaged (a damaged file is removed)."""
        from safetensors import SafetensorError, safe_open

        file = self.path / f"{key}.safetensors"
        if not file.is_file():
            return None
        try:
            with safe_open(file, framework="numpy") as opened:
                arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                if (opened.metadata() or {}).get("sha256") == digest_arrays(arrays):
                    return arrays
        except (SafetensorError, OSError, KeyError):
            pass
        file.unlink(missing_ok=True)
        return None

    def put_all(self, key: str, arrays: dict[str, Any]) -> None:
        """Write `arrays` under `key`, all of them or none.

        Raises:
            InputError: The disk is full or the folder cannot be written.
        """
        from safetensors.numpy import save

        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_bytes(self.path / f"{key}.safetensors", save(contiguous, metadata={"sha256": digest_arrays(contiguous)}))

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """A memory map to fill, on this store's disk; its file has no name any more and goes when the map is closed.

        Raises:
            InputError: The disk is full.
        """
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        file = self.path / f".{name.replace(' ', '-')}.{os.getpid()}.tmp"
        with disk_errors(file):
            self.path.mkdir(parents=True, exist_ok=True)
            with file.open("w+b") as stream:
                try:
                    os.posix_fallocate(stream.fileno(), 0, size)  # a full disk shows here, not as a crash while writing
                    return np.memmap(stream, dtype=dtype, mode="r+", shape=shape)
                finally:
                    file.unlink()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a sentence.

    Raises:
        InputError: Writing failed.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"Expected room to write {path}, got a full disk. Free some space and run it again.") from error
        raise InputError(f"Expected to write {path}, got: {error.strerror}. Choose a folder that can be written.") from error


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file under a temporary name, then rename it, so that a reader sees the old one or the new one whole.

    Raises:
        InputError: The disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def digest_array(array: Any) -> str:
    """SHA-256 of an array's type, shape and contents; objects by their text."""
    values = np.asarray(array)
    if values.dtype.kind == "O":
        values = _written(values.ravel()).reshape(values.shape)
    hasher = hashlib.sha256(f"{values.dtype}:{values.shape}".encode())
    hasher.update(np.ascontiguousarray(values).tobytes())
    return hasher.hexdigest()


def _written(values: Any) -> Any:
    """Objects (n,) as Python writes them; words stay as they are where there is nothing else, so that None is never a word."""
    if set(map(type, values)) <= {str}:
        return values.astype(np.str_)
    return np.array([repr(value.tolist() if hasattr(value, "tolist") else value) for value in values], dtype=np.str_)


def digest_arrays(arrays: dict[str, Any]) -> str:
    """SHA-256 of named arrays."""
    parts = [f"{name}:{digest_array(arrays[name])}" for name in sorted(arrays)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def digest_records(records: Records) -> str:
    """SHA-256 of the records: inputs, labels and ids."""
    hasher = hashlib.sha256()
    for name, part in _parts(records.x):
        hasher.update(f"{name}{digest_array(part)}".encode())
    hasher.update(digest_array(records.y).encode())
    hasher.update(digest_array(records.ids).encode())
    return hasher.hexdigest()


def _parts(x: Any) -> Iterator[tuple[str, Any]]:
    """The arrays that records consist of, each behind its name: the columns of a frame, the entries of a sparse matrix."""
    if is_frame(x):
        for name, values in zip(name_columns(x), list_values(x), strict=True):
            yield f"{name}:", values
    elif is_sparse(x):
        rows = x.tocsr().sorted_indices()
        yield from (("shape", np.array(rows.shape)), ("data", rows.data), ("indices", rows.indices), ("indptr", rows.indptr))
    elif x is not None:
        values = as_array(x)
        yield "", values if isinstance(values, np.ndarray) else object_array(values)


def signal_key(target_digest: str, records_digest: str, spec: SignalSpec, part: tuple[int, int]) -> str:
    """Key of the answers to one batch of records: hash of target, records, signal and position."""
    text = json.dumps([target_digest, records_digest, asdict(spec), part], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
