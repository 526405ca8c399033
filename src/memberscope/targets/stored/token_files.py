"""Read files of token signals as ragged arrays: JSON lines, Parquet, Feather and NPZ.

Values are held once, in float32; uncompressed NPZ archives and Feather files stay on the disk.
"""

from __future__ import annotations

import zipfile
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.files.archives import READERS, check_archive
from memberscope.targets.tables.arrow import read_arrow_file
from memberscope.targets.tables.columns import read_npz
from memberscope.targets.tables.files import ARROW, JSON, find_suffix
from memberscope.targets.tables.text_columns import read_json_rows
from memberscope.types import Ints

# Parts with one value a token, and the names that they may have in a file
TOKEN_NAMES = {
    "log_probs": ("log_probs", "logprobs", "token_logprobs", "log_probability"),
    "mean": ("mean",),
    "variance": ("variance",),
    "is_top": ("is_top",),
    "base": ("base",),
}
PARTS = {name: part for part, names in TOKEN_NAMES.items() for name in names}


@dataclass(frozen=True, eq=False)
class TokenFile:
    """Token signals of a file: n records with t tokens in all.

    `tokens` are arrays (t,) by the name of the part, of which record i owns `offsets[i]` up to
    `offsets[i + 1]`; `columns` hold one value (n,) a record.
    """

    path: Path
    offsets: Ints
    tokens: dict[str, NDArray[Any]]
    columns: dict[str, Any]


def read_token_file(path: Path) -> TokenFile:
    """Read a file of token signals; a first token without a prediction is left out.

    Raises:
        InputError: The file is missing, damaged or of another kind, or arrays differ in length.
        UnsafeFileError: An NPZ holds pickled objects.
    """
    kind = find_suffix(path)
    if kind not in (*JSON, *ARROW, ".npz"):
        raise InputError(
            f"Expected a .jsonl, .parquet, .feather or .npz file of token signals, got "
            f"{str(path)!r}. Convert the file."
        )
    if not path.is_file():
        raise InputError(f"Expected a file, got {str(path)!r}, which is not there. Check the path.")
    if kind in JSON:
        found = _read_json_tokens(path)
    else:
        found = _read_arrow_tokens(path) if kind in ARROW else _read_npz_tokens(path)
    if len(found.offsets) < 2:
        raise InputError(
            f"Expected records in {path}, got an empty file. Check how it was written."
        )
    return _drop_unpredicted(found)


def list_token_names(path: Path) -> list[str]:
    """List the parts and columns of a file by its first record or its header alone.

    Raises:
        InputError: It cannot be read.
    """
    kind = find_suffix(path)
    if kind == ".npz":
        names: Iterable[str] = map_npz(path)
    elif kind in JSON:
        names = next(read_json_rows(path), {})
    else:
        names = read_arrow_file(path, names_only=True)
    return [PARTS.get(name, name) for name in names]


def _read_json_tokens(path: Path) -> TokenFile:
    """Read JSON lines, of which each holds lists with one value a token."""
    buffers = {part: array("f") for part in TOKEN_NAMES}
    counts: list[int] = []
    columns: dict[str, list[Any]] = {}
    parts: set[str] | None = None
    for row, record in enumerate(read_json_rows(path)):
        lists = {PARTS[name]: value for name, value in record.items() if name in PARTS}
        lists = {part: value for part, value in lists.items() if isinstance(value, list)}
        if parts is not None and set(lists) != parts:
            raise InputError(
                f"Expected {', '.join(sorted(parts)) or 'no token values'} in each record of "
                f"{path}, got {', '.join(sorted(lists)) or 'none'} in record {row + 1}. Give the "
                "same lists for all."
            )
        parts = set(lists)
        lengths = {part: len(value) for part, value in lists.items()}
        if len(set(lengths.values())) > 1:
            raise _build_length_error(path, row, lengths)
        for part, value in lists.items():
            buffers[part].frombytes(_convert_numbers(value, part, row, path).tobytes())
        counts.append(next(iter(lengths.values()), 0))
        for name, value in record.items():
            if PARTS.get(name) not in lists:
                columns.setdefault(name, [None] * row).append(value)
        for column in columns.values():
            column.extend([None] * (row + 1 - len(column)))
    return TokenFile(
        path,
        _count_offsets(counts),
        {part: np.frombuffer(buffers[part], np.float32) for part in parts or ()},
        columns,
    )


def _convert_numbers(value: list[Any], part: str, row: int, path: Path) -> NDArray[np.float32]:
    """Convert a list of numbers, in which null is NaN.

    Raises:
        InputError: It holds something else.
    """
    try:
        return np.array(value, np.float32).reshape(len(value))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"Expected a list of numbers under {part} in record {row + 1} of {path}, got "
            f"{str(value)[:40]}. Write one number for each token."
        ) from error


def _read_arrow_tokens(path: Path) -> TokenFile:
    """Read a Parquet or Feather file, whose token values are columns of lists."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = read_arrow_file(path)
    tokens: dict[str, NDArray[Any]] = {}
    starts: dict[str, Ints] = {}
    columns: dict[str, list[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if name not in PARTS or not (is_list or pa.types.is_fixed_size_list(kind)):
            columns[name] = column.to_pylist()
            continue
        if column.null_count:
            raise InputError(
                f"Expected a list under {name} in each record of {path}, got none in "
                f"{column.null_count} records. Leave these records out."
            )
        # One chunk as it is; several are joined, which copies them once
        chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        values = chunk.flatten().to_numpy(zero_copy_only=False)
        tokens[PARTS[name]] = np.asarray(values, np.float32)
        counts = pc.list_value_length(chunk).to_numpy(zero_copy_only=False)
        starts[PARTS[name]] = _count_offsets(counts)
    first = next(iter(starts.values()), np.zeros(table.num_rows + 1, np.int64))
    for offsets in starts.values():
        odd = np.flatnonzero(np.diff(offsets) != np.diff(first))
        if len(odd):
            row = int(odd[0])
            raise _build_length_error(
                path, row, {n: int(s[row + 1] - s[row]) for n, s in starts.items()}
            )
    return TokenFile(path, first, tokens, columns)


def _read_npz_tokens(path: Path) -> TokenFile:
    """Read an NPZ archive with flat arrays (t,) and the `offsets` (n + 1,) of the records."""
    arrays = map_npz(path)
    offsets = np.asarray(arrays.pop("offsets", []))
    tokens = {PARTS[name]: values for name, values in arrays.items() if name in PARTS}
    flat = {part: len(values) if values.ndim == 1 else -1 for part, values in tokens.items()}
    if (
        offsets.ndim != 1
        or offsets.dtype.kind not in "iu"
        or len(offsets) < 2
        or offsets[0] != 0
        or (np.diff(offsets) < 0).any()
        or any(n != offsets[-1] for n in flat.values())
    ):
        got = ", ".join(f"{part} {values.shape}" for part, values in tokens.items())
        end = int(offsets[-1]) if offsets.ndim == 1 and len(offsets) else "none"
        raise InputError(
            f"Expected offsets (n + 1,) in {path} that rise from 0 to the number of tokens, and "
            f"flat arrays of so many, got offsets up to {end} and {got or 'no arrays'}. Join the "
            "records' values one after another."
        )
    numbers = {
        part: values if values.dtype in (np.float32, bool) else np.asarray(values, np.float32)
        for part, values in tokens.items()
    }
    rest = {name: values for name, values in arrays.items() if name not in PARTS}
    return TokenFile(path, offsets.astype(np.int64), numbers, rest)


def map_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Map the arrays of an NPZ archive that are not compressed, and read the others.

    Raises:
        InputError: The archive is damaged.
        UnsafeFileError: An array holds pickled objects.
    """
    check_archive(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(one.compress_type != zipfile.ZIP_STORED for one in members):
        return read_npz(path)
    with path.open("rb") as stream:
        return {
            member.filename.removesuffix(".npy"): _map_array(stream, member, path)
            for member in members
        }


def _map_array(stream: IO[bytes], member: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    """Map one array of an archive, or read it if it is too small to be mapped."""
    # The lengths of name and extra field stand in the local header, before the data
    stream.seek(member.header_offset + 26)
    name, extra = (int.from_bytes(stream.read(2), "little") for _ in range(2))
    start = member.header_offset + 30 + name + extra
    stream.seek(start)
    reader = READERS.get(np.lib.format.read_magic(stream))
    if reader is not None:
        shape, fortran, dtype = reader(stream)
        if shape and 0 not in shape:
            order: Literal["F", "C"] = "F" if fortran else "C"
            return np.memmap(path, dtype, "r", stream.tell(), shape, order)
    stream.seek(start)
    found: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return found


def _drop_unpredicted(file: TokenFile) -> TokenFile:
    """Leave out the first token of records where it has no value, since nothing predicts it."""
    values = file.tokens.get("log_probs")
    if values is None or not len(values):
        return file
    starts = file.offsets[:-1][np.diff(file.offsets) > 0]
    gone = starts[np.isnan(values[starts])]
    if not len(gone):
        return file
    kept = np.ones(len(values), bool)
    kept[gone] = False
    offsets = np.concatenate([[0], np.cumsum(kept)])[file.offsets].astype(np.int64)
    tokens = {part: array[kept] for part, array in file.tokens.items()}
    return TokenFile(file.path, offsets, tokens, file.columns)


def _count_offsets(counts: Sequence[int] | NDArray[Any]) -> Ints:
    """Count where each record's tokens begin, (n + 1,)."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _build_length_error(path: Path, row: int, lengths: dict[str, int]) -> InputError:
    """Build the error for lists of different lengths in one record."""
    got = ", ".join(f"{part} {n}" for part, n in lengths.items())
    return InputError(
        f"Expected lists of one length in record {row + 1} of {path}, got {got}. Give one value "
        "for each token."
    )
