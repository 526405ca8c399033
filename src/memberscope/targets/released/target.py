"""A released table as a target: what it shows of a record is how near its own rows come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope._digests import digest_named_arrays
from memberscope.errors import InputError
from memberscope.facts import ModelKind
from memberscope.frames import count_rows, is_frame, read_frame_columns
from memberscope.targets.released.encoding import MixedEncoding, fit_encoding
from memberscope.targets.released.nearness import measure_nearness
from memberscope.types import Access, Floats, Signal, Task

# In standard deviations of a column: kernel width of the density, and the distance that is added
# before the logarithm, so that a copy is near and not infinitely near
BANDWIDTH, OFFSET = 0.2, 0.05
FEWEST = 2  # rows of a table that has a spread


@dataclass(frozen=True, eq=False)
class ReleasedTable:
    """A table that was made from the members, such as by a generator of synthetic records.

    `table` is a data frame, an array (m, f), or a mapping of columns. `population` holds other
    records of the same kind that nothing was made of: how near those come to a record by chance is
    what the table's rows are compared with. `encoding` places the records in one space; without
    one it is fitted to the table.

    A query gives (n, 2): minus the logarithm of the distance to the closest row, and the logarithm
    of the table's density at the record. With a population there are (n, 4), the same of it.

    >>> released = ReleasedTable(np.array([[0.0, 1.0], [2.0, 3.0]]))
    >>> released.query(np.array([[0.0, 1.0], [9.0, 9.0]]))[:, 0].round(1).tolist()
    [3.0, -2.2]
    """

    table: Any
    population: Any = None
    encoding: MixedEncoding | None = None
    access: Access = Access.PREDICTION
    signal: Signal = "proximity"
    task: Task = "table"
    n_parameters: int | None = None
    model_kind: ModelKind = "generator"

    def __post_init__(self) -> None:
        columns = read_table_columns(self.table, "released table")
        n_rows = len(next(iter(columns.values()))) if columns else 0
        if n_rows < FEWEST:
            raise InputError(
                f"Expected a released table of at least {FEWEST} rows, got {n_rows}. Check the "
                "file, or release more."
            )
        encoding = self.encoding or fit_encoding(columns)
        others = None
        if self.population is not None:
            others = read_table_columns(self.population, "population")
            encoding.encode(others, "population")
        # Plain columns, so that workers and digests need no library of data frames
        object.__setattr__(self, "table", columns)
        object.__setattr__(self, "population", others)
        object.__setattr__(self, "encoding", encoding)

    @property
    def n_classes(self) -> int:
        """Number of columns of an answer."""
        return 2 if self.population is None else 4

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about columns that take no part in distances."""
        left_out = self.space.left_out
        if not left_out:
            return ()
        return (
            f"Columns of the released table with too many different words to compare were left "
            f"out: {', '.join(left_out)}.",
        )

    @property
    def space(self) -> MixedEncoding:
        """The encoding that is in use."""
        assert self.encoding is not None
        return self.encoding

    @cached_property
    def rows(self) -> Floats:
        """The table's rows as coordinates (m, f)."""
        return self.space.encode(self.table, "released table")

    @cached_property
    def digest(self) -> str:
        """Hash of the table and the population."""
        named = {f"table {name}": values for name, values in self.table.items()}
        named |= {f"population {name}": values for name, values in (self.population or {}).items()}
        return digest_named_arrays(named)

    def encode_records(self, x: Any) -> Floats:
        """Encode records (n rows) as coordinates (n, f).

        Raises:
            InputError: A column of the table is missing among theirs, or of another kind.
        """
        return self.space.encode(read_table_columns(x, "records"), "records")

    def query(self, x: Any) -> Floats:
        """Measure how near the table comes to each record, as (n, 2) or with a population (n, 4).

        Raises:
            InputError: A column of the table is missing among the records', or of another kind.
        """
        places = self.encode_records(x)
        parts = [self.rows]
        if self.population is not None:
            parts.append(self.space.encode(self.population, "population"))
        columns: list[Floats] = []
        for rows in parts:
            closest, density = measure_nearness(places, rows, BANDWIDTH)
            columns += [-np.log(closest + OFFSET), density]
        return np.column_stack(columns)

    def make_alike(self, table: Any) -> ReleasedTable:
        """Make the target of another table, in the same space and beside the same population.

        Raises:
            InputError: It lacks columns, or has too few rows.
        """
        made = ReleasedTable(table, self.population, self.encoding)
        self.space.encode(made.table, "generated table")
        return made


def read_table_columns(given: Any, what: str) -> dict[str, NDArray[Any]]:
    """Read the columns (n,) of a data frame, an array (n, f) or a mapping by name.

    Columns of an array are named by their places.

    Raises:
        InputError: It is none of these, or columns differ in length.

    >>> list(read_table_columns(np.zeros((3, 2)), "records"))
    ['0', '1']
    """
    if isinstance(given, Mapping):
        columns = {str(name): np.asarray(values) for name, values in given.items()}
    elif is_frame(given):
        count_rows(given)
        columns = read_frame_columns(given)
    else:
        values = np.asarray(given)
        if values.ndim != 2:
            raise InputError(
                f"Expected the {what} as a data frame or an array (n, f), got "
                f"{type(given).__name__} of shape {values.shape}. Give a table."
            )
        columns = {str(place): values[:, place] for place in range(values.shape[1])}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise InputError(
            f"Expected columns of one length in the {what}, got {min(lengths)} to {max(lengths)} "
            "values. Give one value a row."
        )
    return columns
