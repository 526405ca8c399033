"""Store arrays in a folder, named by what they were computed from.

An entry is there as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from memberscope._digests import digest_array, digest_named_arrays
from memberscope._files import translate_disk_errors, write_bytes
from memberscope.frames import (
    convert_to_array,
    is_frame,
    is_sparse,
    list_values,
    make_object_array,
    name_columns,
)
from memberscope.types import Floats, Records, SignalSpec


class Store:
    """Arrays by key in `path`.

    Each file carries a digest of its contents, and a damaged one counts as missing.
    """

    def __init__(self, path: str | Path) -> None:
        """Use the folder `path`, which is made at the first `put`."""
        self.path = Path(path)

    def get(self, key: str) -> Floats | None:
        """Read the array under `key`, or None if it is missing or damaged.

        A damaged file is removed.
        """
        found = self.get_all(key)
        return None if found is None else found.get("array")

    def put(self, key: str, array: Floats) -> None:
        """Write `array` under `key`, whole or not at all.

        Raises:
            InputError: The disk is full or the folder cannot be written.
        """
        self.put_all(key, {"array": array})

    def get_all(self, key: str) -> dict[str, Any] | None:
        """Read the arrays under `key` by name, or None if they are missing or damaged.

        A damaged file is removed.
        """
        from safetensors import SafetensorError, safe_open

        file = self.path / f"{key}.safetensors"
        if not file.is_file():
            return None
        try:
            with safe_open(file, framework="numpy") as opened:
                arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                # safetensors itself does not notice a flipped bit
                if (opened.metadata() or {}).get("sha256") == digest_named_arrays(arrays):
                    return arrays
        except (SafetensorError, OSError, KeyError):
            pass
        # A damaged file would be read again at each run
        file.unlink(missing_ok=True)
        return None

    def put_all(self, key: str, arrays: dict[str, Any]) -> None:
        """Write `arrays` under `key`, all of them or none.

        Raises:
            InputError: The disk is full or the folder cannot be written.
        """
        from safetensors.numpy import save

        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_bytes(
            self.path / f"{key}.safetensors",
            save(contiguous, metadata={"sha256": digest_named_arrays(contiguous)}),
            # Answers about people's records are nobody else's business
            mode=0o600,
        )

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """Make a memory map to fill, on this store's disk.

        Its file has no name any more and goes when the map is closed.

        Raises:
            InputError: The disk is full.
        """
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        file = self.path / f".{name.replace(' ', '-')}.{os.getpid()}.tmp"
        with translate_disk_errors(file):
            self.path.mkdir(parents=True, exist_ok=True)
            with file.open("w+b") as stream:
                try:
                    # A full disk shows here, not as a crash while writing
                    os.posix_fallocate(stream.fileno(), 0, size)
                    return np.memmap(stream, dtype=dtype, mode="r+", shape=shape)
                finally:
                    file.unlink()


def digest_records(records: Records) -> str:
    """Give the SHA-256 of the records: inputs, labels and ids."""
    hasher = hashlib.sha256()
    for name, part in _iterate_parts(records.x):
        hasher.update(f"{name}{digest_array(part)}".encode())
    hasher.update(digest_array(records.y).encode())
    # Ids too: budgets and results are kept by id
    hasher.update(digest_array(records.ids).encode())
    return hasher.hexdigest()


def _iterate_parts(x: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arrays that records consist of, each with its name.

    They are the columns of a frame, or the entries of a sparse matrix.
    """
    if is_frame(x):
        for name, values in zip(name_columns(x), list_values(x), strict=True):
            yield f"{name}:", values
    elif is_sparse(x):
        # One order of entries, so that equal matrices have equal digests
        rows = x.tocsr().sorted_indices()
        yield from (
            ("shape", np.array(rows.shape)),
            ("data", rows.data),
            ("indices", rows.indices),
            ("indptr", rows.indptr),
        )
    elif x is not None:
        values = convert_to_array(x)
        yield "", values if isinstance(values, np.ndarray) else make_object_array(values)


def build_signal_key(
    target_digest: str, records_digest: str, spec: SignalSpec, part: tuple[int, int]
) -> str:
    """Build the key of the answers to one batch of records.

    It is a hash of target, records, signal and position.
    """
    described = asdict(replace(spec, own=None))
    del described["own"]
    # Signals of one's own are told apart by their code
    if spec.own is not None:
        described["own"] = [spec.own.name, spec.own.digest]
    text = json.dumps([target_digest, records_digest, described, part], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
