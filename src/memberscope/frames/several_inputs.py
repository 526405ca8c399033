"""Hold records that a model takes as several arrays, such as token ids beside a mask."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames.access import is_frame, is_sparse
from memberscope.frames.column_values import as_numpy
from memberscope.frames.inputs import make_dense_array


@dataclass(frozen=True, eq=False)
class Inputs:
    """Several `parts` (n, ...) of n records, in order.

    They have `names` where the model takes them by name. Slices and lists of positions give some of
    the records. As one array they are their features side by side.

    >>> both = Inputs((np.array([0, 1, 2]), np.zeros((3, 2))))
    >>> len(both), len(both[1:]), np.asarray(both[np.array([2])]).tolist()
    (3, 2, [[2.0, 0.0, 0.0]])
    """

    parts: tuple[NDArray[Any], ...]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.parts[0])

    def __getitem__(self, where: Any) -> Inputs:
        """Give some of the records, by a slice or by positions (r,)."""
        # One position alone would take a record's dimension away from each part
        if not isinstance(where, slice | np.ndarray | list):
            raise TypeError(
                f"Expected a slice or positions of records, got {type(where).__name__}. Use one of "
                "these."
            )
        return Inputs(tuple(part[where] for part in self.parts), self.names)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Put all features of a record side by side (n, f)."""
        flat = [part.reshape(len(part), -1) for part in self.parts]
        return np.hstack(flat).astype(dtype) if dtype is not None else np.hstack(flat)

    @property
    def digest(self) -> str:
        """Hash of the names, types, shapes and contents of the parts."""
        hasher = hashlib.sha256(repr(self.names).encode())
        for part in self.parts:
            hasher.update(
                f"{part.dtype}:{part.shape}".encode() + np.ascontiguousarray(part).tobytes()
            )
        return hasher.hexdigest()

    def rebuilt(self, features: NDArray[Any]) -> Inputs:
        """Build records (r) like these from `features` (r, f) side by side.

        >>> Inputs((np.array([4]), np.zeros((1, 2)))).rebuilt(np.array([[7.0, 1.0, 2.0]])).parts[0].tolist()
        [7]
        """
        widths = [int(np.prod(part.shape[1:])) for part in self.parts]
        columns = np.split(features, np.cumsum(widths)[:-1], axis=1)
        # Codes stay whole numbers: a cast alone would cut them off
        values = [
            np.rint(own) if part.dtype.kind in "bui" else own
            for own, part in zip(columns, self.parts, strict=True)
        ]
        pairs = zip(values, self.parts, strict=True)
        return Inputs(
            tuple(own.astype(part.dtype).reshape(-1, *part.shape[1:]) for own, part in pairs),
            self.names,
        )

    def joined(self, other: Any) -> Inputs:
        """Append the records of `other` to these.

        Raises:
            InputError: The other records have other parts.
        """
        if isinstance(other, Inputs) and sorted(self.names) == sorted(other.names) and self.names:
            # Parts with names are matched by them, in the order of this side
            other = Inputs(
                tuple(other.parts[other.names.index(name)] for name in self.names), self.names
            )
        if (
            not isinstance(other, Inputs)
            or self.names != other.names
            or len(self.parts) != len(other.parts)
        ):
            raise InputError(
                f"Expected the same {len(self.parts)} inputs of members and of non-members, got "
                "different ones. Give both sides with the same inputs and names."
            )
        return Inputs(
            tuple(np.concatenate(pair) for pair in zip(self.parts, other.parts, strict=True)),
            self.names,
        )

    def mapped(self, change: Callable[[NDArray[Any]], Any]) -> tuple[Any, ...] | dict[str, Any]:
        """Apply `change` to each part, and give the results in order or by name."""
        found = tuple(change(part) for part in self.parts)
        return dict(zip(self.names, found, strict=True)) if self.names else found


def read_inputs(x: Any, n: int) -> Any:
    """Read the `n` records of one side.

    Tensors and rows of numbers become an array, several arrays become `Inputs`. Data frames, sparse
    matrices, texts and all else stay as they are.

    >>> read_inputs([[1, 2], [3, 4]], 2).shape, len(read_inputs((np.zeros(3), np.zeros((3, 4))), 3).parts)
    ((2, 2), 2)
    """
    if isinstance(x, Inputs) or is_frame(x):
        return x
    if (
        isinstance(x, Mapping)
        and not is_sparse(x)
        and x
        and all(_count_records(part) == n for part in x.values())
    ):
        return Inputs(tuple(_as_part(part) for part in x.values()), tuple(map(str, x)))
    if isinstance(x, list | tuple):
        return _read_sequence(x, n)
    return as_numpy(x) if hasattr(x, "detach") else x


def _read_sequence(x: Sequence[Any], n: int) -> Any:
    """Read records given as a list.

    It may hold arrays with one row a record, tensors, rows of numbers, or anything else.
    """
    # As many arrays as records would be ambiguous: rows then
    if len(x) != n and len(x) > 0 and all(_count_records(part) == n for part in x):
        return Inputs(tuple(_as_part(part) for part in x)) if len(x) > 1 else _as_part(x[0])
    if len(x) == n and n and all(hasattr(row, "shape") for row in x):
        rows = [as_numpy(row) for row in x]
        # Records of several shapes, such as texts of several lengths, stay a list
        return np.stack(rows) if len({row.shape for row in rows}) == 1 else x
    if len(x) == n and n and all(isinstance(row, list | tuple) for row in x):
        try:
            rows_of_numbers = np.asarray(x)
        # Rows of different lengths
        except ValueError:
            return x
        return rows_of_numbers if rows_of_numbers.dtype.kind in "buif" else x
    return x


def _count_records(part: Any) -> int:
    """Count the records in one array of several; -1 for anything else, such as a text."""
    if hasattr(part, "shape"):
        return int(part.shape[0]) if len(part.shape) else -1
    return len(part) if isinstance(part, list | tuple) else -1


def _as_part(part: Any) -> NDArray[Any]:
    """Convert one input to an array of numbers.

    Raises:
        InputError: It holds something else.
    """
    values = as_numpy(part) if hasattr(part, "detach") else make_dense_array(part)
    # Words in one of several arrays could not be told from their codes
    if values.dtype.kind not in "buif":
        raise InputError(
            f"Expected numbers in each of several inputs, got {values.dtype}. Encode words as "
            "codes first, or make a data frame of a dict of columns."
        )
    return values
