"""Read a folder of stored signals: a file of the audited model and files of reference models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.stored.answers import is_answer
from memberscope.targets.stored.labels import find_column, read_member
from memberscope.targets.stored.references.arrays import SignalArrays, read_signal_arrays
from memberscope.targets.stored.references.long_table import (
    is_long,
    list_table_names,
    read_long_references,
    read_long_target,
)
from memberscope.targets.stored.references.wide_table import split_wide_columns
from memberscope.targets.tables.columns import convert_to_numbers
from memberscope.targets.tables.files import ARROW, JSON, TEXT, find_stem, find_suffix
from memberscope.targets.tables.read_columns import read_columns

TARGET_STEM, REFERENCE_STEM = "target", "reference"
ARRAYS = (".npz", ".safetensors")


def read_signal_source(path: Path, number: str | None = None) -> SignalArrays:
    """Read a file or folder of stored signals, with the reference models that it holds.

    `number` names a column of one number a record and model.

    Raises:
        InputError: A file cannot be read, or its parts do not fit each other.
        UnsafeFileError: An NPZ holds pickled objects.
    """
    if path.is_dir():
        return _read_folder(path, number)
    if find_suffix(path) in ARRAYS:
        return read_signal_arrays(path)
    # A missing file, and one of another kind, are refused there
    names = list_table_names(path) if path.is_file() and _is_table(path) else []
    if not is_long(names):
        return split_wide_columns(SignalArrays(read_columns(path), files=(path,)), path)
    target = read_long_target(path, names)
    others = read_long_references(path, names, list_record_ids(target, path), number)
    return replace(others, columns=target.columns)


def list_record_ids(found: SignalArrays, path: Path) -> NDArray[np.str_]:
    """List the ids (n,) of the target's records; without any they are the numbers of the rows.

    Raises:
        InputError: An id names two records.
    """
    ids = _find_ids(found.columns)
    if ids is None:
        n = len(next(iter(found.columns.values())))
        return np.array([f"row-{row}" for row in range(n)])
    names, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"Expected one record for each id in {path}, got {str(names[counts > 1][0])!r} "
            f"{int(counts.max())} times. Give each record an id of its own."
        )
    return ids


def _find_ids(columns: dict[str, NDArray[Any]]) -> NDArray[np.str_] | None:
    """Find the column of ids as words, if there is one."""
    ids = columns.get("id", columns.get("ids"))
    return None if ids is None else np.asarray(ids).astype(np.str_)


def _is_table(path: Path) -> bool:
    """Tell by its name whether a file is a table."""
    return find_suffix(path) in (*TEXT, *JSON, *ARROW)


def _read_folder(folder: Path, number: str | None) -> SignalArrays:
    """Read the target's file of a folder, and the references beside it.

    Raises:
        InputError: There is not one file of the target, or a file does not fit it.
    """
    files = sorted(
        file for file in folder.iterdir() if _is_table(file) or find_suffix(file) in ARRAYS
    )
    targets = [file for file in files if find_stem(file) == TARGET_STEM]
    if len(targets) != 1:
        raise InputError(
            f"Expected one file {TARGET_STEM}.npz, .safetensors, .parquet or .csv in the folder "
            f"{folder}, got {len(targets)}. Name the audited model's file so, or say which tool "
            "wrote the folder with --signals-layout."
        )
    found = read_signal_source(targets[0], number)
    others = [file for file in files if file.name.startswith(REFERENCE_STEM)]
    if not others:
        return found
    if found.references is not None:
        raise InputError(
            f"Expected references in {targets[0]} or in files of their own, got both. Leave one out."
        )
    ids = list_record_ids(found, targets[0])
    number = number or found.settings.get("number")
    if len(others) == 1 and find_stem(others[0]) == f"{REFERENCE_STEM}s":
        read = _read_joint_file(others[0], ids, number)
    else:
        read = _read_single_files(others, ids, number)
    return replace(
        read, columns=found.columns, settings=found.settings, files=(targets[0], *others)
    )


def _read_joint_file(path: Path, ids: NDArray[np.str_], number: str | None) -> SignalArrays:
    """Read all reference models from one file, in the order of the target's `ids`.

    Raises:
        InputError: It holds none, or other records.
    """
    if find_suffix(path) not in ARRAYS:
        names = list_table_names(path)
        if is_long(names):
            return read_long_references(path, names, ids, number)
        found = split_wide_columns(SignalArrays(read_columns(path), files=(path,)), path)
    else:
        found = read_signal_arrays(path)
    if found.references is None or found.inside is None:
        raise InputError(
            f"Expected reference models in {path}: arrays references and inside, or the columns "
            "id, model, inside and the answers. Add them."
        )
    own = _find_ids(found.columns)
    if own is None or np.array_equal(own, ids):
        return found
    rows = _match_ids(own, ids, path)
    return replace(found, references=found.references[:, rows], inside=found.inside[:, rows])


def _match_ids(own: NDArray[np.str_], ids: NDArray[np.str_], path: Path) -> NDArray[np.int64]:
    """Find the row (n,) of each of the target's `ids` among a file's `own`.

    Raises:
        InputError: Some are missing, or there twice.
    """
    names, first, counts = np.unique(own, return_index=True, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"Expected one record for each id in {path}, got {str(names[counts > 1][0])!r} "
            f"{int(counts.max())} times. Remove the duplicates."
        )
    at = np.minimum(np.searchsorted(names, ids), len(names) - 1)
    lacking = np.flatnonzero(names[at] != ids)
    if len(lacking):
        raise InputError(
            f"Expected the records of the audited model in {path}, got none for "
            f"{str(ids[lacking[0]])!r} ({len(lacking)} records in all). Ask each reference model "
            "about the same records."
        )
    return np.asarray(first[at], dtype=np.int64)


def _read_single_files(
    paths: Sequence[Path], ids: NDArray[np.str_], number: str | None
) -> SignalArrays:
    """Read reference models of which each has a file of its own, with `member` or `inside`.

    Raises:
        InputError: A file has other records or other outputs than the others.
    """
    answers: list[NDArray[Any]] = []
    sides: list[NDArray[Any]] = []
    for path in paths:
        columns = (
            read_signal_arrays(path).columns
            if find_suffix(path) in ARRAYS
            else dict(read_columns(path))
        )
        own = _find_ids(columns)
        if own is None and len(next(iter(columns.values()))) != len(ids):
            raise InputError(
                f"Expected the {len(ids)} records of the audited model in {path}, got "
                f"{len(next(iter(columns.values())))}. Ask each reference model about the same "
                "records."
            )
        rows = np.arange(len(ids)) if own is None else _match_ids(own, ids, path)
        side = "inside" if "inside" in columns else find_column(columns, None, "member", path)[0]
        values = _read_answers(columns, number, path)[rows]
        if answers and values.shape != answers[0].shape:
            raise InputError(
                f"Expected the same outputs in {path} as in {paths[0]}, got shapes {values.shape} "
                f"and {answers[0].shape}. Store the same answers of all models."
            )
        answers.append(values)
        sides.append(read_member(np.asarray(columns[side or ""]), side or "", path)[rows])
    names = tuple(find_stem(path).removeprefix(REFERENCE_STEM).lstrip("s-_ ") for path in paths)
    return SignalArrays({}, np.stack(answers), np.stack(sides), names=names, files=tuple(paths))


def _read_answers(columns: dict[str, NDArray[Any]], number: str | None, path: Path) -> NDArray[Any]:
    """Read the answers (n,) or (n, k) of a reference model's file.

    Raises:
        InputError: There are none.
    """
    names = [number] if number in columns else [name for name in columns if is_answer(name)]
    names = names or [name for name in ("outputs",) if name in columns]
    if not names:
        raise InputError(
            f"Expected answers in {path}: p0, p1, … or z0, z1, … or loss, or a number named with "
            f"--number, got {', '.join(columns)[:80]}. Add them."
        )
    if len(names) == 1:
        return np.asarray(columns[str(names[0])])
    # p10 sorts before p2 as a word
    order = sorted((str(name) for name in names), key=lambda name: (len(name), name))
    return np.column_stack([convert_to_numbers(columns[name], name, path) for name in order])
