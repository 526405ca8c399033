"""Read reference models from long tables, of one row a record and model.

Parquet is read by row groups, so that only the numbers themselves are held.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.stored.answers import is_answer
from memberscope.targets.stored.labels import read_member
from memberscope.targets.stored.references.arrays import SignalArrays
from memberscope.targets.tables.files import find_suffix
from memberscope.targets.tables.read_columns import read_columns

TARGET = "target"  # the name of the audited model in the column `model`
PARQUET = (".parquet", ".pq")


@dataclass(frozen=True, eq=False)
class _LongTable:
    """A long table: its column names, and how its rows are read in blocks."""

    path: Path
    names: tuple[str, ...]

    def iterate_blocks(self, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the columns `wanted` of one row group after another, or of the whole file."""
        if find_suffix(self.path) not in PARQUET:
            columns = read_columns(self.path)
            yield {name: columns[name] for name in wanted}
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # Models as codes, of which there are few; ids are compared as they are
            with pq.ParquetFile(self.path, read_dictionary=["model"]) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=list(wanted))
                    yield {
                        name: column.combine_chunks()
                        for name, column in zip(table.column_names, table.columns, strict=True)
                    }
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(
                f"Expected a complete Parquet file, got {self.path}: {error}. Write it again."
            ) from error

    def find_number_type(self, names: Sequence[str]) -> type[np.floating[Any]]:
        """Find the type that holds the numbers of some columns: that of the file, or float64."""
        if find_suffix(self.path) not in PARQUET:
            return np.float64
        import pyarrow.parquet as pq

        schema = pq.read_schema(self.path)
        kinds = {str(schema.field(name).type) for name in names}
        return np.float32 if kinds <= {"float", "halffloat"} else np.float64


def list_table_names(path: Path) -> list[str]:
    """List the columns of a table; of Parquet by its footer alone.

    Raises:
        InputError: It cannot be read.
    """
    if find_suffix(path) not in PARQUET:
        return list(read_columns(path))
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"Expected a complete Parquet file, got {path}: {error}. Write it again."
        ) from error


def is_long(names: Sequence[str]) -> bool:
    """Tell by its columns whether a table has one row for each record and model.

    >>> is_long(["id", "model", "inside", "loss"]), is_long(["id", "member", "loss"])
    (True, False)
    """
    return {"id", "model"} <= set(names) and bool({"inside", "member"} & set(names))


def read_long_target(path: Path, names: Sequence[str]) -> SignalArrays:
    """Read the rows of the audited model, which is called `target`, from a long table.

    Raises:
        InputError: There are none.
    """
    parts: list[dict[str, NDArray[Any]]] = []
    for block in _LongTable(path, tuple(names)).iterate_blocks(names):
        models = _read_words(block["model"])
        rows = np.flatnonzero(models == TARGET)
        if len(rows):
            parts.append({name: _take_rows(column, rows) for name, column in block.items()})
    if not parts:
        raise InputError(
            f"Expected rows of the audited model in {path}, where model is {TARGET!r}, got none. "
            "Call the audited model so."
        )
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    columns.pop("model")
    if "member" not in columns:
        columns["member"] = columns.pop("inside")
    columns.pop("inside", None)
    return SignalArrays(columns, files=(path,))


def read_long_references(
    path: Path, names: Sequence[str], ids: NDArray[np.str_], number: str | None
) -> SignalArrays:
    """Read the reference models (m, n, d) of a long table, in the order of the target's `ids` (n,).

    Raises:
        InputError: A record of a model is missing or there twice, or is none of the target's.
    """
    table = _LongTable(path, tuple(names))
    side = "inside" if "inside" in names else "member"
    values = [number] if number is not None and number in names else _list_value_columns(names)
    if not values:
        raise InputError(
            f"Expected answers in {path}: p0, p1, … or z0, z1, … or loss, or a number named with "
            f"--number, got {', '.join(names)}. Add them."
        )
    models, dtype = _list_models(table, values)
    found = np.empty((len(models), len(ids), len(values)), dtype)
    inside = np.zeros(found.shape[:2], bool)
    seen = np.zeros(found.shape[:2], np.uint8)
    places, total = _Places(ids), 0
    for block in table.iterate_blocks(["id", "model", side, *values]):
        model = _find_codes(block["model"], models)
        keep = np.flatnonzero(model >= 0)
        rows = places.find_rows(block["id"])
        if len(keep) < len(model):
            model, rows = model[keep], rows[keep]
        if len(rows) and rows.min() < 0:
            at = int(keep[int(np.argmin(rows))])
            raise InputError(
                f"Expected the records of the audited model in {path}, got the id "
                f"{str(_read_words(block['id'])[at])!r}, which is none of them. Leave other records "
                "out, or add them to the audited model's."
            )
        flat = model * len(ids) + rows
        total += len(flat)
        seen.ravel()[flat] = 1
        for place, name in enumerate(values):
            numbers = _read_numbers(block[name], name, path)
            found.reshape(-1, len(values))[flat, place] = numbers[keep]
        sides = read_member(_read_plain(block[side]), side, path)
        inside.ravel()[flat] = sides[keep]
    _require_all_pairs(seen, total, models, ids, path)
    kept = found[:, :, 0] if len(values) == 1 else found
    return SignalArrays({}, kept, inside, names=tuple(map(str, models)), files=(path,))


def _require_all_pairs(
    seen: NDArray[np.uint8], total: int, models: Sequence[str], ids: NDArray[np.str_], path: Path
) -> None:
    """Require one row for each record and model, of which `seen` (m, n) says whether it is there.

    Raises:
        InputError: Rows are missing, or there are more of them than pairs.
    """
    if not seen.all():
        model, row = np.argwhere(seen == 0)[0]
        raise InputError(
            f"Expected one row for each record and model in {path}, got none for the record "
            f"{str(ids[row])!r} and the model {models[model]!r} ({int((seen == 0).sum())} pairs in "
            "all). Ask each model about all records."
        )
    if total > seen.size:
        raise InputError(
            f"Expected one row for each record and model in {path}, got {total} rows for "
            f"{seen.size} pairs. Remove the duplicates."
        )


def _list_value_columns(names: Sequence[str]) -> list[str]:
    """List the columns of answers, those of classes by their number.

    >>> _list_value_columns(["id", "p10", "p2", "model"])
    ['p2', 'p10']
    """
    found = [name for name in names if is_answer(name)]
    return sorted(found, key=lambda name: int((re.findall(r"\d+", name) or ["0"])[0]))


def _list_models(table: _LongTable, values: Sequence[str]) -> tuple[list[str], Any]:
    """List the reference models in the order in which they occur, and the type of their answers."""
    found: dict[str, None] = {}
    for block in table.iterate_blocks(["model"]):
        words = _list_dictionary(block["model"])
        found |= dict.fromkeys(_read_words(block["model"]).tolist() if words is None else words)
    models = [name for name in found if name != TARGET]
    if not models:
        raise InputError(
            f"Expected reference models in {table.path}, got rows of the audited model alone. Add "
            "theirs, or leave the columns model and inside out."
        )
    return models, table.find_number_type(values)


def _list_dictionary(column: Any) -> list[str] | None:
    """List the words that a column of codes uses, in the order of its rows; None for others."""
    if not hasattr(column, "dictionary"):
        return None
    codes = column.indices.to_numpy(zero_copy_only=False)
    used, first = np.unique(codes, return_index=True)
    words = column.dictionary.to_pylist()
    return [str(words[code]) for code in used[np.argsort(first)]]


def _find_codes(column: Any, models: Sequence[str]) -> NDArray[np.int64]:
    """Find the position of each row's model, -1 for the audited one."""
    places = {name: place for place, name in enumerate(models)}
    if hasattr(column, "dictionary"):
        words = [places.get(str(word), -1) for word in column.dictionary.to_pylist()]
        codes: NDArray[Any] = column.indices.to_numpy(zero_copy_only=False)
        places_of_words: NDArray[np.int64] = np.array(words, np.int64)[codes]
        return places_of_words
    names, inverse = np.unique(_read_words(column), return_inverse=True)
    return np.array([places.get(str(name), -1) for name in names], np.int64)[inverse]


class _Places:
    """Where each record stands among the target's."""

    def __init__(self, ids: NDArray[np.str_]) -> None:
        self.ids = ids
        # Whole numbers are found without being spelt out
        try:
            numbers = ids.astype(np.int64)
            whole = bool((numbers.astype(np.str_) == ids).all())
        except (ValueError, OverflowError):
            whole = False
        self.order = np.argsort(numbers if whole else ids, kind="stable")
        self.sorted = (numbers if whole else ids)[self.order]
        self.whole = whole
        # The words for pyarrow, and the last column with the rows that were found
        self.words: Any = None
        self.last: tuple[Any, NDArray[np.int64]] | None = None

    def find_rows(self, column: Any) -> NDArray[np.int64]:
        """Find the row of each id of a column, -1 where it is none of the target's."""
        # One model after another is mostly written in the same order
        if self.last is not None and type(column) is type(self.last[0]):
            same = getattr(column, "equals", lambda other: np.array_equal(column, other))
            if same(self.last[0]):
                return self.last[1]
        found = self._find_all(column)
        self.last = (column, found)
        return found

    def _find_all(self, column: Any) -> NDArray[np.int64]:
        """Find the rows of ids that no earlier block had in this order."""
        if not isinstance(column, np.ndarray) and not self.whole:
            import pyarrow as pa
            import pyarrow.compute as pc

            if self.words is None:
                self.words = pa.array(self.ids.tolist())
            words = column.cast(pa.string())
            at = pc.fill_null(pc.index_in(words, value_set=self.words), -1)
            return np.asarray(at.to_numpy(zero_copy_only=False), dtype=np.int64)
        values = _read_plain(column)
        if self.whole and values.dtype.kind in "iu":
            return self._search(values)
        names, inverse = np.unique(_read_words(column), return_inverse=True)
        return self._search_words(names)[inverse]

    def _search_words(self, words: NDArray[np.str_]) -> NDArray[np.int64]:
        """Search for ids as they are spelt."""
        if not self.whole:
            return self._search(words)
        digits = np.char.isdecimal(np.char.lstrip(words, "-"))
        numbers = np.where(digits, words, "0").astype(np.int64)
        return np.where(numbers.astype(np.str_) == words, self._search(numbers), -1)

    def _search(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Search for ids of the type of the sorted ones."""
        at = np.minimum(np.searchsorted(self.sorted, values), len(self.sorted) - 1)
        return np.where(self.sorted[at] == values, self.order[at], -1).astype(np.int64)


def _read_plain(column: Any) -> NDArray[Any]:
    """Read a column as numpy has it."""
    if isinstance(column, np.ndarray):
        return column
    if hasattr(column, "dictionary"):
        return _read_words(column)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _read_words(column: Any) -> NDArray[np.str_]:
    """Read a column as words, whole numbers without a point."""
    if hasattr(column, "dictionary"):
        words = np.array(column.dictionary.to_pylist(), np.str_)
        codes: NDArray[Any] = column.indices.to_numpy(zero_copy_only=False)
        spelt: NDArray[np.str_] = words[codes]
        return spelt
    values = _read_plain(column)
    if values.dtype.kind == "f" and (values == np.floor(values)).all():
        values = values.astype(np.int64)
    return values.astype(np.str_)


def _take_rows(column: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Take some rows of a column."""
    values = _read_plain(column)[rows]
    return values.astype(np.str_) if values.dtype == object else values


def _read_numbers(column: Any, name: str, path: Path) -> NDArray[Any]:
    """Read a column of numbers; missing ones are NaN.

    Raises:
        InputError: It holds something else.
    """
    values = _read_plain(column)
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"Expected numbers in the column {name!r} of {path}, got {str(values[0])!r}. Write "
            "one number in each row."
        )
    return values
