"""Read NPY files of other tools, and choose which of their models is audited."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError, UnsafeFileError


def map_npy(path: Path) -> NDArray[Any]:
    """Map an NPY file, whose numbers stay on the disk.

    Raises:
        InputError: It is missing or truncated.
        UnsafeFileError: It holds pickled objects.
    """
    if not path.is_file():
        raise InputError(
            f"Expected the file {path}, which is not there. Check the folder, or write it again."
        )
    try:
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, EOFError, ValueError) as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            raise UnsafeFileError(
                f"Expected plain numbers in {path}, got pickled objects, which could run code. Save "
                "an array of numbers."
            ) from error
        raise InputError(
            f"Expected a complete NPY file, got {path}: {error}. Write it again."
        ) from error


def sort_naturally(names: Sequence[str]) -> list[str]:
    """Sort names with numbers by these.

    >>> sort_naturally(["experiment-10_16", "experiment-2_16"])
    ['experiment-2_16', 'experiment-10_16']
    """

    def split(name: str) -> list[tuple[int, str]]:
        parts = re.split(r"(\d+)", name)
        return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]

    return sorted(names, key=split)


def choose_model(names: Sequence[str], asked: str | None, default: int, folder: Path) -> int:
    """Choose the audited model's position among `names`, by its name or number.

    Raises:
        InputError: There is no such model, or none beside it.
    """
    if len(names) < 2:
        raise InputError(
            f"Expected the audited model and at least one reference model in {folder}, got "
            f"{len(names)} models. Check the folder."
        )
    if asked is None:
        return default % len(names)
    if asked in names:
        return names.index(asked)
    if asked.isdigit() and int(asked) < len(names):
        return int(asked)
    raise InputError(
        f"Expected one of the models {', '.join(names[:6])}{' …' if len(names) > 6 else ''} of "
        f"{folder}, got {asked!r}. Check --signals-model."
    )


def require_shape(found: NDArray[Any], shape: tuple[int, ...], path: Path) -> NDArray[Any]:
    """Require an array of a shape.

    Raises:
        InputError: It has another one.
    """
    if found.shape != shape:
        raise InputError(
            f"Expected an array of shape {shape} in {path}, got {found.shape}. Ask all models about "
            "the same records."
        )
    return found
