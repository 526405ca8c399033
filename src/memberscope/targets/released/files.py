"""Read a released table and the records that it is audited on from files."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from memberscope.errors import InputError
from memberscope.frames import find_column_kind
from memberscope.targets.released.target import ReleasedTable
from memberscope.targets.tables import (
    Columns,
    TableLayout,
    Tables,
    build_model_inputs,
    read_table,
    read_tables,
    read_unit_names,
    spell_column,
)
from memberscope.types import Records


def read_released(
    released: str | Path,
    members: str | Path,
    non_members: str | Path,
    layout: TableLayout,
    population: str | Path | None = None,
) -> tuple[ReleasedTable, Records, Records, tuple[str, ...]]:
    """Read a released table, and members and non-members with the same columns.

    All columns of the released table are compared, but for those that `layout` drops, an id and a
    unit, or only its features. The label has no part of its own. Also give notes on the reading.

    Raises:
        InputError: A file cannot be read, is empty, or lacks a column of the released table.
    """
    read = read_tables(members, non_members, layout)
    words = {
        name
        for table in read.columns
        for name, column in table.items()
        if column.ndim == 1 and find_column_kind(column) in ("text", "category")
    }
    compared = _read_compared(Path(released), layout, words)
    others = None if population is None else _read_compared(Path(population), layout, words)
    sides = [
        _build_side(read, place, kind, layout, list(compared))
        for place, kind in enumerate(("member", "non-member"))
    ]
    if others is not None:
        others = {name: others[name] for name in compared if name in others}
    return ReleasedTable(compared, others), sides[0], sides[1], read.notes


def _read_compared(path: Path, layout: TableLayout, words: Collection[str]) -> Columns:
    """Read the columns of a file that are compared, `words` as they are written.

    Raises:
        InputError: It cannot be read, or has no such column.
    """
    table = read_table(path, layout.wanted, words)
    apart = {*layout.drop, layout.id_column, layout.unit, *table.index} - {*layout.features}
    names = [name for name in table.columns if name not in apart]
    if layout.features:
        names = [name for name in layout.features if name in names]
    if not names:
        raise InputError(
            f"Expected columns to compare in {path}, got only {', '.join(table.columns)}. Correct "
            "--features or --drop."
        )
    return {name: np.asarray(table.columns[name]) for name in names}


def _build_side(
    read: Tables, place: int, kind: str, layout: TableLayout, names: list[str]
) -> Records:
    """Build the records of one side, with the columns `names` of the released table.

    Raises:
        InputError: A column is missing.
    """
    path, table = read.paths[place], read.columns[place]
    roles = [name for name in (layout.id_column, layout.unit, *layout.groups) if name]
    missing = [name for name in (*names, *roles) if name not in table]
    if missing:
        raise InputError(
            f"Expected the columns of the released table in {path}, got no "
            f"{', '.join(map(repr, missing[:3]))}. Add what is missing, or leave it out with --drop."
        )
    n = len(table[names[0]])
    ids = [f"{kind}:{row}" for row in range(n)]
    return Records(
        x=build_model_inputs(table, names, path, numeric=False, layout=replace(layout, fitted=())),
        y=np.zeros(n),
        ids=spell_column(table[layout.id_column]) if layout.id_column else np.array(ids, np.str_),
        groups={group: spell_column(table[group]) for group in layout.groups},
        unit=read_unit_names(np.asarray(table[layout.unit]), layout.unit, path)
        if layout.unit
        else None,
    )
