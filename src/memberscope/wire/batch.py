"""Batch records for a server as an array or named columns, with fingerprints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames import is_frame, is_missing, read_frame_columns


@dataclass(frozen=True, eq=False)
class Batch:
    """Records as they are sent: `array` (n, ...), or `columns`, each (n,), by name.

    One of the two is None.

    >>> batch = Batch(columns={"age": np.array([30, 40]), "job": np.array(["cook", "smith"], dtype=object)})
    >>> len(batch), batch.rows(), batch.objects()[1]
    (2, [[30, 'cook'], [40, 'smith']], {'age': 40, 'job': 'smith'})
    """

    array: NDArray[Any] | None = None
    columns: Mapping[str, NDArray[Any]] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else len(self.array)  # type: ignore[arg-type]

    def rows(self) -> list[Any]:
        """List each record's values; what is missing is None."""
        if self.columns is None:
            return _list_json_values(np.asarray(self.array))
        return [
            list(row)
            for row in zip(
                *(_list_json_values(column) for column in self.columns.values()), strict=True
            )
        ]

    def objects(self) -> list[Any]:
        """List each record as {column: value} where columns have names, else as `rows`."""
        if self.columns is None:
            return self.rows()
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows()]

    def take(self, where: Sequence[int]) -> Batch:
        """Select the records at the positions `where`."""
        if self.columns is None:
            return Batch(np.asarray(self.array)[where])
        return Batch(columns={name: column[where] for name, column in self.columns.items()})

    def fingerprints(self, salt: bytes) -> list[bytes]:
        """Hash each record to sixteen bytes that change with its values, their types, and `salt`.

        >>> Batch(np.eye(2)).fingerprints(b"a")[0] == Batch(np.eye(2)[:1]).fingerprints(b"a")[0]
        True
        """
        # Set up once: copying it is faster than setting up the salt for each record
        start = hashlib.blake2b(salt, digest_size=16)
        found = []
        for text in self._texts():
            one = start.copy()
            one.update(text)
            found.append(one.digest())
        return found

    def _texts(self) -> Iterator[bytes]:
        array = None if self.array is None else np.ascontiguousarray(self.array)
        if array is None or array.dtype.kind in "OUS":
            # Bytes of objects are addresses, so that their values are written out instead
            names = repr(tuple(self.columns or ())).encode()
            return (names + repr(row).encode() for row in self.rows())
        # Equal bytes of another type or shape are other records
        kind = f"{array.dtype.str}{array.shape[1:]}".encode()
        return (kind + row.tobytes() for row in array)


def build_request_batch(x: Any, names: Sequence[str] = ()) -> Batch:
    """Build a batch from an array, a sparse matrix, a list or a data frame.

    `names` are the columns of an array.

    Raises:
        InputError: There are not as many columns as names, or the frame lacks one of them.

    >>> list(build_request_batch(np.eye(2), ["a", "b"]).columns)
    ['a', 'b']
    """
    if is_frame(x):
        columns = read_frame_columns(x)
        missing = [name for name in names if name not in columns]
        if missing:
            raise InputError(
                f"Expected the columns {', '.join(names)}, got none called {missing[0]!r}. Check "
                "the records or --columns."
            )
        return Batch(columns={name: columns[name] for name in names or columns})
    # Sparse records are sent dense, as no protocol here has another form
    array = np.asarray(x.toarray() if hasattr(x, "toarray") else x)
    # Without names, an array is sent as it is, of whatever shape
    if not names:
        return Batch(array)
    if array.ndim != 2 or array.shape[1] != len(names):
        raise InputError(
            f"Expected {len(names)} columns as named, got records of shape {array.shape}. Check "
            "--columns."
        )
    return Batch(columns={name: array[:, k] for k, name in enumerate(names)})


def _list_json_values(values: NDArray[Any]) -> list[Any]:
    """List an array's values for JSON, NaN as None.

    Raises:
        InputError: A value is infinite.

    >>> _list_json_values(np.array([[1.5, np.nan]]))
    [[1.5, None]]
    """
    if values.dtype.kind in "mM":
        # Dates as ISO 8601, as JSON has none
        return [None if text == "NaT" else text for text in values.astype(np.str_).tolist()]
    if values.dtype.kind == "O":
        return [None if is_missing(value) else as_json(value) for value in values.tolist()]
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        if np.isinf(values).any():
            raise InputError(
                "Expected finite records, got an infinite value, which JSON cannot say. Replace "
                "it in the records, or leave those records out."
            )
        # JSON has no NaN: what is missing becomes null
        objects = values.astype(object)
        objects[np.isnan(values)] = None
        return objects.tolist()  # type: ignore[no-any-return]
    return values.tolist()  # type: ignore[no-any-return]


def as_json(value: Any) -> Any:
    """Convert one value of an object column for JSON.

    Numbers and truth values stay as they are, the rest becomes text.
    """
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, int | float | str | list) else str(value)
