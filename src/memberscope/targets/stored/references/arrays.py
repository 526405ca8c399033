"""Read arrays of a target and of reference models from NPZ and safetensors files.

Arrays that are not compressed stay on the disk until they are used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.stored.token_files import map_npz

# Arrays of reference models, and the settings of one word, that a file may hold
REFERENCE_KEYS = ("references", "inside", "train_accuracy")
SETTINGS = ("signal", "number", "higher")
# The types of a safetensors file that numpy has too
TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "BOOL": "|b1",
}


@dataclass(frozen=True, eq=False)
class SignalArrays:
    """What a file or a folder holds, before anything of it is interpreted.

    `columns` (n, ...) have one entry a record. `references` (m, n) or (m, n, ...), `inside` (m, n)
    and `train_accuracy` (m,) are about m reference models, called `names`. `views` (n, views, k)
    are the target's answers where there are several a record. `settings` are single words by their
    key, `notes` are for a reader of the result, and `files` were read.
    """

    columns: dict[str, NDArray[Any]]
    references: NDArray[Any] | None = None
    inside: NDArray[Any] | None = None
    train_accuracy: NDArray[Any] | None = None
    names: tuple[str, ...] = ()
    views: NDArray[Any] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()


def read_signal_arrays(path: Path) -> SignalArrays:
    """Read an NPZ or safetensors file of a target's signals, and of reference models' if there.

    Raises:
        InputError: The file is damaged, or arrays of records differ in length.
        UnsafeFileError: An NPZ holds pickled objects.
    """
    if not path.is_file():
        raise InputError(f"Expected a file, got {str(path)!r}, which is not there. Check the path.")
    settings: dict[str, str] = {}
    if path.suffix.lower() == ".safetensors":
        arrays, settings = _map_safetensors(path)
    else:
        arrays = map_npz(path)
    for name in SETTINGS:
        if name in arrays and arrays[name].ndim == 0:
            settings[name] = str(arrays.pop(name))
    found = {name: arrays.pop(name, None) for name in REFERENCE_KEYS}
    # A file of references alone needs nothing beside them
    if arrays or found["references"] is None:
        _require_one_length(arrays, path)
    if (found["references"] is None) != (found["inside"] is None):
        lacking = "inside" if found["inside"] is None else "references"
        raise InputError(
            f"Expected references with inside in {path}, got no {lacking}. Add it: references "
            "(models, records) or (models, records, outputs) and inside (models, records)."
        )
    kept = {name: value for name, value in settings.items() if name in SETTINGS}
    return SignalArrays(
        arrays,
        found["references"],
        found["inside"],
        found["train_accuracy"],
        settings=kept,
        files=(path,),
    )


def _require_one_length(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Refuse a file without records, and arrays of other lengths.

    Raises:
        InputError: It is empty, holds a single value, or arrays differ in length.
    """
    single = [name for name, values in arrays.items() if values.ndim == 0]
    if single:
        raise InputError(
            f"Expected one value a record in {path}, got the single value {single[0]!r}. Leave it "
            "out of the file."
        )
    lengths = {name: len(values) for name, values in arrays.items()}
    if not lengths or max(lengths.values()) == 0:
        raise InputError(f"Expected records in {path}, got none. Check how it was written.")
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} {n}" for name, n in list(lengths.items())[:6])
        raise InputError(
            f"Expected arrays of one length in {path}, got {got}. Align them record by record."
        )


def _map_safetensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Map the arrays of a safetensors file by name, and read its settings.

    Raises:
        InputError: The file is truncated, or holds types that numpy lacks.
    """
    from safetensors import SafetensorError, safe_open

    try:
        # The library checks that the header and the sizes fit each other; it would copy each array
        with safe_open(path, framework="numpy") as opened:
            settings = dict(opened.metadata() or {})
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"Expected a complete safetensors file, got {path}: {error}. Write it again."
        ) from error
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        dtype = TYPES.get(entry["dtype"])
        if dtype is None:
            raise InputError(
                f"Expected numbers of a type that numpy has in {path}, got {entry['dtype']} under "
                f"{name!r}. Save it as float32."
            )
        shape = tuple(entry["shape"])
        if 0 in shape or not shape:
            arrays[name] = np.zeros(shape, dtype)
            continue
        place = 8 + size + entry["data_offsets"][0]
        arrays[name] = np.memmap(path, dtype, "r", place, shape)
    return arrays, settings
