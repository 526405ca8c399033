"""Bring your own signals: logits, probabilities or losses with labels and membership, from CSV, NPZ or Parquet."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.columns import MOST_CLASSES, as_numbers, read_columns, unit_words
from memberscope.targets.identifiers import IdLike, find_id_like_columns
from memberscope.types import Access, Bools, Floats, Ints, Signal


@dataclass(frozen=True, eq=False)
class StoredSignals:
    """A signals table: `outputs` (n, k) of kind `signal`, `labels` (n,), `member` (n,), `ids` (n,), groups and features.

    `unit` (n,) names the person or document that each record belongs to; `id_like` are columns that look as if they did.
    """

    signal: Signal
    outputs: Floats
    labels: Ints
    member: Bools
    ids: NDArray[np.str_]
    groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    features: Floats | None = None
    digest: str = ""
    unit: NDArray[np.str_] | None = None
    id_like: tuple[IdLike, ...] = ()


class StoredTarget:
    """A target whose answers are already there: `query` takes row numbers."""

    n_parameters: int | None = None
    stored = True  # it has no answer to a query that was not made before

    def __init__(self, signals: StoredSignals) -> None:
        """Answer from `signals`."""
        self.signal: Signal = signals.signal
        self.access = Access.LOGITS if signals.signal == "logits" else Access.PROBABILITIES
        width = signals.outputs.shape[1]
        self.n_classes = int(signals.labels.max()) + 1 if signals.signal == "loss" else width
        self.digest: str | None = signals.digest
        self._outputs = signals.outputs

    def query(self, x: Any) -> Floats:
        """Stored outputs (n, k) of the rows numbered `x` (n,)."""
        return self._outputs[np.asarray(x, dtype=np.int64)]


def read_signals(
    path: str | Path, *, groups: Sequence[str] = (), features: Sequence[str] = (), unit: str | None = None
) -> StoredSignals:
    """Signals from a `.csv`, `.npz` or `.parquet` file with the columns member, label and p0.. or z0.. or loss.

    An `.npz` may hold `p` or `z` as one array (n, k). Features that are words become codes. `unit` is the column that names the person
    or document of each record.

    Raises:
        InputError: The file cannot be read, a column is missing, or a value is not usable; the sentence says which.
    """
    columns = read_columns(Path(path))
    for name in ("member", "label"):
        if name not in columns:
            raise InputError(f"Expected the columns member and label in {path}, got {listed(columns)}. Add {name!r}.")
    for name in ("member", "label", "loss", "id", "ids", *groups, *features):
        flat(columns.get(name), name, path)
    signal, outputs = outputs_of(columns, path)
    n = len(outputs)
    ids = columns.get("id", columns.get("ids"))
    return StoredSignals(
        signal=signal,
        outputs=outputs,
        labels=whole(columns["label"], "label", path),
        member=flags(columns["member"], path),
        ids=np.array([f"row-{i}" for i in range(n)]) if ids is None else np.asarray(ids).astype(np.str_),
        groups={name: wanted(columns, name, path).astype(np.str_) for name in groups},
        features=np.column_stack([coded(wanted(columns, name, path), name, path) for name in features]) if features else None,
        digest=hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        unit=unit_words(wanted(columns, unit, path), unit, path) if unit else None,
        id_like=find_id_like_columns({name: column for name, column in columns.items() if not is_own(name)}),
    )


def is_own(name: str) -> bool:
    """Tell whether a column is one of a signals table by its name, and no feature or group.

    >>> is_own("p12"), is_own("label"), is_own("person")
    (True, True, False)
    """
    return re.fullmatch(r"member|label|loss|ids?|[pz]\d*", name) is not None


def flat(column: NDArray[Any] | None, name: str, path: str | Path) -> None:
    """Refuse a column of more than one value a record.

    Raises:
        InputError: It has several.
    """
    if column is not None and column.ndim != 1:
        raise InputError(f"Expected one value a record in {name!r} of {path}, got shape {column.shape}. Flatten it to (n,).")


def listed(columns: Mapping[str, Any]) -> str:
    """Column names for a sentence, shortened."""
    names = list(columns)
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")


def wanted(columns: Mapping[str, NDArray[Any]], name: str, path: str | Path) -> NDArray[Any]:
    """The column called `name`.

    Raises:
        InputError: There is none.
    """
    if name not in columns:
        raise InputError(
            f"Expected the column {name!r} in {path}, got {listed(columns)}. Check --groups, --features and --unit."
        )
    return columns[name]


def outputs_of(columns: Mapping[str, NDArray[Any]], path: str | Path) -> tuple[Signal, Floats]:
    """The kind of signal and its values (n, k).

    Raises:
        InputError: None of the kinds is there, or several are.
    """
    kinds: dict[str, Signal] = {"p": "probabilities", "z": "logits", "loss": "loss"}
    found: dict[str, list[str]] = {}
    for prefix in ("p", "z"):
        numbered = sorted((int(name[1:]), name) for name in columns if re.fullmatch(prefix + r"\d+", name))
        if numbered:
            if [number for number, _ in numbered] != list(range(len(numbered))):
                raise InputError(
                    f"Expected {prefix}0, {prefix}1, … without gaps in {path}, got {listed(columns)}. Rename them."
                )
            found[prefix] = [name for _, name in numbered]
        elif prefix in columns:
            found[prefix] = [prefix]
    if "loss" in columns:
        found["loss"] = ["loss"]
    if len(found) != 1:
        got = " and ".join(found) or listed(columns)
        raise InputError(f"Expected either p0, p1, … or z0, z1, … or loss in {path}, got {got}. Keep one kind.")
    prefix, names = next(iter(found.items()))
    parts = [as_numbers(columns[name], name, path) for name in names]
    if len({part.ndim for part in parts}) > 1 or parts[0].ndim > 2 or (parts[0].ndim == 2 and len(parts) > 1):
        shapes = ", ".join(str(part.shape) for part in parts[:4])
        raise InputError(f"Expected {prefix} as one array (n, k) or a column a class in {path}, got {shapes}. Reshape it.")
    values = parts[0] if parts[0].ndim == 2 else np.column_stack(parts)
    if prefix != "loss" and values.shape[1] < 2:
        raise InputError(f"Expected at least two classes in {path}, got one column {prefix}0. Give a column a class.")
    return kinds[prefix], values.astype(np.float64)


def flags(column: NDArray[Any], path: str | Path) -> Bools:
    """Membership (n,) from 0 and 1.

    Raises:
        InputError: There is another value.
    """
    values = as_numbers(column, "member", path)
    odd = np.flatnonzero(~np.isin(values, (0, 1)))
    if len(odd):
        raise InputError(
            f"Expected 0 or 1 in the column member of {path}, got {column[odd[0]]} in row {odd[0] + 1}. Repair it."
        )
    return values.astype(bool)


def whole(column: NDArray[Any], name: str, path: str | Path) -> Ints:
    """Whole numbers (n,).

    Raises:
        InputError: Some value is not one.
    """
    values = as_numbers(column, name, path)
    odd = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)))
    if len(odd):
        raise InputError(
            f"Expected 0-based class numbers in the column {name} of {path}, got {column[odd[0]]} in row {odd[0] + 1}. Encode it."
        )
    if len(values) and values.max() >= MOST_CLASSES:
        raise InputError(
            f"Expected class numbers below {MOST_CLASSES} in the column {name} of {path}, got {values.max():.0f}. "
            f"Number the classes from 0."
        )
    return values.astype(np.int64)


def coded(column: NDArray[Any], name: str, path: str | Path) -> Floats:
    """A feature column (n,) as numbers, what is missing as NaN; words become the index of their sorted value.

    Raises:
        InputError: A number is infinite.
    """
    try:
        values = as_numbers(column, name, path)
    except InputError:
        return np.unique(column.astype(np.str_), return_inverse=True)[1].astype(np.float64)
    endless = np.flatnonzero(np.isinf(values))
    if len(endless):
        raise InputError(
            f"Expected finite numbers in the column {name!r} of {path}, got {values[endless[0]]} in row {endless[0] + 1}. "
            f"Leave the field empty if the value is missing."
        )
    return values
