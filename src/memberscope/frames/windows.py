"""Cut series in long form into windows, of which a model forecasts what follows.

All windows of a series have it as their unit, so that an audit keeps them on one side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.frames.access import is_frame, name_columns
from memberscope.frames.column_values import as_numpy
from memberscope.frames.inputs import select_columns
from memberscope.types import Floats, Ints, Records


@dataclass(frozen=True)
class WindowLayout:
    """Layout of windows: the columns, and how many steps go in and are forecast.

    `label` names the columns that are forecast, `features` those whose past the model gets; by
    default these are all columns but `unit` and `time`. Windows begin every `step` steps. With
    `flat` the steps of a window are columns (n, window * channels), as estimators take them.
    """

    unit: str = "unit"
    time: str = "time"
    window: int = 1
    horizon: int = 1
    label: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    step: int = 1
    flat: bool = False

    def __post_init__(self) -> None:
        for name in ("window", "horizon", "step"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"Expected {name} of at least 1 time step, got {getattr(self, name)}. Give a "
                    "whole number of steps."
                )


def cut_windows(
    table: Any,
    *,
    window: int,
    horizon: int = 1,
    unit: str = "unit",
    time: str = "time",
    label: str | Sequence[str] = (),
    features: Sequence[str] = (),
    step: int = 1,
    flat: bool = False,
    drop_short: bool = False,
) -> Records:
    """Cut a table of series in long form into windows and what follows each.

    The table has one row a series and time: a data frame, or a dict of columns. `unit` is the
    column that names the series, `time` the one that orders it. `label` names the columns that are
    forecast and `features` those whose past the model gets; by default these are all columns but
    `unit` and `time`. Windows begin every `step` steps.

    Returns:
        Records with x (n, window, channels), or (n, window * channels) if `flat`; y
        (n, horizon * labels), step after step; and the series as unit. Ids are the series and the
        time of the first step that is forecast.

    Raises:
        InputError: A column is missing, holds no numbers or a value that is missing, a series has a
            time twice, or is shorter than window and horizon (these are left out if `drop_short`).

    >>> table = {"unit": ["a"] * 5 + ["b"] * 4, "time": [0, 1, 2, 3, 4, 0, 1, 2, 3], "value": range(9)}
    >>> found = cut_windows(table, window=3)
    >>> found.x[:, :, 0].tolist(), found.y[:, 0].tolist(), found.unit.tolist()
    ([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [5.0, 6.0, 7.0]], [3.0, 4.0, 8.0], ['a', 'a', 'b'])
    >>> found.ids.tolist()
    ['a:3', 'a:4', 'b:3']
    """
    names = (label,) if isinstance(label, str) else tuple(label)
    layout = WindowLayout(unit, time, window, horizon, names, tuple(features), step, flat)
    records, short = cut_series(table, layout)
    if short.n and not drop_short:
        raise InputError(f"{short.describe()} Leave them out, or give drop_short=True.")
    return records


@dataclass(frozen=True)
class ShortSeries:
    """Series that are too short for a window: how many of how many, and the shortest."""

    n: int
    n_series: int
    least: int
    name: str = ""
    length: int = 0

    def describe(self) -> str:
        """Say it in a sentence.

        >>> ShortSeries(2, 9, 24, "a", 5).describe()
        "Expected at least 24 time steps in each series, got fewer in 2 of 9, the shortest 'a' with 5."
        """
        return (
            f"Expected at least {self.least} time steps in each series, got fewer in {self.n} of "
            f"{self.n_series}, the shortest {self.name!r} with {self.length}."
        )


def cut_series(table: Any, layout: WindowLayout) -> tuple[Records, ShortSeries]:
    """Cut a table of series into windows, and tell which series were too short for one.

    Raises:
        InputError: A column is missing, holds no numbers or a value that is missing, a series has a
            time twice, or all series are too short.

    >>> table = {"unit": ["a", "a", "b"], "time": [1, 0, 0], "value": [2.0, 1.0, 5.0]}
    >>> records, short = cut_series(table, WindowLayout(window=1))
    >>> records.x.tolist(), records.y.tolist(), short.n
    ([[[1.0]]], [[2.0]], 1)
    """
    columns = _take_columns(table, layout)
    names, codes = np.unique(columns[layout.unit].astype(np.str_), return_inverse=True)
    times = columns[layout.time]
    order = np.lexsort((_rank_times(times, layout.time), codes))
    codes = codes[order]
    _refuse_repeated_times(names, codes, times[order])
    lengths = np.bincount(codes, minlength=len(names))
    least = layout.window + layout.horizon
    short = _find_short_series(names, lengths, least)
    if short.n == len(names):
        raise InputError(f"{short.describe()} Give a smaller window or horizon.")
    starts = _list_starts(lengths, least, layout.step)
    past = starts[:, None] + np.arange(layout.window)
    ahead = starts[:, None] + np.arange(layout.window, least)
    others = [name for name in columns if name not in (layout.unit, layout.time)]
    values = {name: _read_values(columns[name], name)[order] for name in others}
    x = np.stack([values[name][past] for name in layout.features or others], axis=2)
    y = np.stack([values[name][ahead] for name in layout.label or others], axis=2)
    series = names[codes[starts]]
    first = times[order][ahead[:, 0]].astype(np.str_)
    ids = np.array([f"{one}:{when}" for one, when in zip(series, first, strict=True)])
    x = x.reshape(len(x), -1) if layout.flat else x
    return Records(x, y.reshape(len(y), -1), ids, {}, series), short


def _take_columns(table: Any, layout: WindowLayout) -> dict[str, NDArray[Any]]:
    """Take the columns that are needed, as plain arrays by name.

    Raises:
        InputError: One is missing, or columns differ in length.
    """
    given = [str(name) for name in (name_columns(table) if is_frame(table) else table)]
    named = [layout.unit, layout.time, *layout.label, *layout.features]
    chosen = dict.fromkeys(named)
    # Without names of one kind all other columns are of that kind
    if not layout.label or not layout.features:
        chosen |= dict.fromkeys(given)
    for name in chosen:
        if name not in given:
            raise InputError(
                f"Expected the column {name!r} in the table of series, got "
                f"{', '.join(given[:8])}. Say which columns are unit and time, and what is forecast."
            )
    if is_frame(table):
        found = dict(zip(chosen, select_columns(table, list(chosen), "series"), strict=True))
    else:
        found = {name: as_numpy(_as_list(table[name])) for name in chosen}
    sizes = {len(column) for column in found.values()}
    if len(sizes) != 1 or 0 in sizes or len(found) < 3:
        raise InputError(
            f"Expected unit, time and at least one column of values of one length, got "
            f"{', '.join(f'{name} of {len(column)}' for name, column in found.items())}. Give one "
            "row for each series and time."
        )
    return {name: np.asarray(column) for name, column in found.items()}


def _as_list(column: Any) -> Any:
    """Give a column that numpy can take, of a range or another sequence."""
    return column if hasattr(column, "dtype") else list(column)


def _rank_times(times: NDArray[Any], name: str) -> Ints:
    """Rank times (n,), which may be numbers, dates or words.

    Raises:
        InputError: They cannot be ordered, or some are missing.
    """
    try:
        gone = np.isnat(times) if times.dtype.kind in "mM" else times != times
        if np.any(gone):
            raise InputError(
                f"Expected a time in each row of {name!r}, got none in {int(np.sum(gone))} rows. "
                "Leave these rows out."
            )
        return np.unique(times, return_inverse=True)[1].astype(np.int64)
    except TypeError as error:
        raise InputError(
            f"Expected times of one kind in {name!r}, got values that cannot be ordered ({error}). "
            "Write them as numbers, or as dates such as 2026-01-31."
        ) from error


def _refuse_repeated_times(names: NDArray[Any], codes: Ints, times: NDArray[Any]) -> None:
    """Refuse a series that has a time twice; rows are in order.

    Raises:
        InputError: There is one.
    """
    twice = np.flatnonzero((codes[1:] == codes[:-1]) & (times[1:] == times[:-1]))
    if len(twice):
        where = twice[0]
        raise InputError(
            f"Expected each time once in a series, got {times[where]} twice in "
            f"{str(names[codes[where]])!r} ({len(twice)} repeated rows in all). Name the column "
            "that tells series apart as unit, or leave out the repeated rows."
        )


def _find_short_series(names: NDArray[Any], lengths: Ints, least: int) -> ShortSeries:
    """Find the series with fewer steps than one window needs."""
    n = int((lengths < least).sum())
    if not n:
        return ShortSeries(0, len(names), least)
    worst = int(np.argmin(lengths))
    return ShortSeries(n, len(names), least, str(names[worst]), int(lengths[worst]))


def _list_starts(lengths: Ints, least: int, step: int) -> Ints:
    """List the rows (n,) at which windows begin, where series of `lengths` follow each other.

    >>> _list_starts(np.array([4, 1, 3]), 3, 1).tolist()
    [0, 1, 5]
    """
    counts = np.maximum(lengths - least, -1) // step + 1
    first = np.cumsum(lengths) - lengths
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts: Ints = (np.repeat(first, counts) + within * step).astype(np.int64)
    return starts


def _read_values(column: NDArray[Any], name: str) -> Floats:
    """Read a column of values as finite numbers.

    Raises:
        InputError: Some are not.
    """
    try:
        values = column.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"Expected numbers in the column {name!r} of the series, got {error}. Name the columns "
            "of values as label and features."
        ) from error
    odd = ~np.isfinite(values)
    if odd.any():
        raise InputError(
            f"Expected finite values in the column {name!r} of the series, got NaN or infinity in "
            f"{int(odd.sum())} rows. Fill them, or leave these series out."
        )
    return values
