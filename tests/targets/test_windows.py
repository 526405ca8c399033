"""Series in long form are cut into windows, and what does not fit is refused in a sentence."""

from __future__ import annotations

import numpy as np
import pandas
import polars
import pytest

import memberscope
from memberscope.errors import InputError
from memberscope.frames import WindowLayout, cut_series

LENGTHS = {"meter b": 12, "meter a": 7, "meter c": 5}


def draw_series(rng: np.random.Generator) -> dict[str, list]:
    """Long form with shuffled rows, two columns of values, and a time of its own for each."""
    rows = [
        (name, 100 + 2 * t, 10 * k + t, rng.normal())
        for k, (name, n) in enumerate(LENGTHS.items())
        for t in range(n)
    ]
    rng.shuffle(rows)
    return dict(
        zip(("meter", "hour", "load", "heat"), map(list, zip(*rows, strict=True)), strict=True)
    )


TABLE = draw_series(np.random.default_rng(0))
HOW = {"unit": "meter", "time": "hour", "label": "load"}


def cut_naively(table, window, horizon, step, features, labels):
    """Cut window by window, in the order of names and times."""
    rows = sorted(
        zip(*(map(str, table["meter"]), table["hour"], table["load"], table["heat"]), strict=True)
    )
    columns = {"load": 2, "heat": 3}
    found = []
    for name in sorted(set(map(str, table["meter"]))):
        own = [row for row in rows if row[0] == name]
        for start in range(0, len(own) - window - horizon + 1, step):
            past, ahead = (
                own[start : start + window],
                own[start + window : start + window + horizon],
            )
            found.append(
                (
                    [[row[columns[f]] for f in features] for row in past],
                    [row[columns[f]] for row in ahead for f in labels],
                    name,
                    f"{name}:{ahead[0][1]}",
                )
            )
    return [list(part) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("make", [dict, pandas.DataFrame, polars.DataFrame])
@pytest.mark.parametrize(
    ("window", "horizon", "step"), [(1, 1, 1), (3, 2, 1), (3, 2, 2), (5, 1, 4)]
)
def test_windows_are_those_of_the_definition(make, window, horizon, step):
    size = {"window": window, "horizon": horizon, "step": step, "drop_short": True}
    found = memberscope.cut_windows(make(TABLE), **HOW, **size)
    x, y, unit, ids = cut_naively(TABLE, window, horizon, step, ["load", "heat"], ["load"])
    np.testing.assert_array_equal(found.x, np.array(x))
    np.testing.assert_array_equal(found.y, np.array(y))
    assert found.unit.tolist() == unit and found.ids.tolist() == ids
    assert len(set(ids)) == len(ids)
    flat = memberscope.cut_windows(make(TABLE), **HOW, **size, flat=True)
    np.testing.assert_array_equal(flat.x, np.array(x).reshape(len(x), -1))


def test_all_columns_are_forecast_where_none_is_named():
    found = memberscope.cut_windows(TABLE, unit="meter", time="hour", window=2, horizon=2)
    expected = cut_naively(TABLE, 2, 2, 1, ["load", "heat"], ["load", "heat"])
    np.testing.assert_array_equal(found.y, np.array(expected[1]))
    only = memberscope.cut_windows(TABLE, **HOW, window=2, features=["heat"])
    assert only.x.shape[1:] == (2, 1) and only.y.shape[1:] == (1,)


def test_short_series_are_counted():
    with pytest.raises(
        InputError,
        match=r"at least 8 time steps in each series, got fewer in 2 of 3, the shortest 'meter c' with 5\. Leave",
    ):
        memberscope.cut_windows(TABLE, **HOW, window=6, horizon=2)
    records, short = cut_series(TABLE, WindowLayout("meter", "hour", 6, 2, ("load",)))
    assert (short.n, short.n_series, short.length) == (2, 3, 5)
    assert set(records.unit.tolist()) == {"meter b"} and len(records) == 12 - 8 + 1
    with pytest.raises(InputError, match=r"fewer in 3 of 3.*Give a smaller window"):
        memberscope.cut_windows(TABLE, **HOW, window=60, drop_short=True)


def change(name, place, value):
    return TABLE | {name: [*TABLE[name][:place], value, *TABLE[name][place + 1 :]]}


def test_bad_series_are_refused():
    cases = (
        (change("load", 3, float("nan")), {}, r"finite values in the column 'load' .* in 1 rows"),
        (change("load", 3, "much"), {}, r"Expected numbers in the column 'load'"),
        (
            change("hour", 3, float("nan")),
            {},
            r"Expected a time in each row of 'hour', got none in 1",
        ),
        (
            TABLE | {"meter": ["one"] * 24},
            {},
            r"each time once in a series, got 100 twice in 'one'",
        ),
        (TABLE, {"time": "day"}, r"the column 'day' in the table of series, got meter, hour, load"),
        (TABLE, {"window": 0}, r"window of at least 1 time step, got 0"),
        (TABLE, {"horizon": -2}, r"horizon of at least 1 time step, got -2"),
    )
    for table, how, words in cases:
        with pytest.raises(InputError, match=words):
            memberscope.cut_windows(table, **(HOW | {"window": 2} | how))


def test_times_may_be_dates_or_words():
    order = np.argsort(TABLE["hour"], kind="stable")
    days = np.datetime64("2026-01-28") + (np.array(TABLE["hour"]) - 100) // 2
    expected = memberscope.cut_windows(TABLE, **HOW, window=3)
    for times in (days, days.astype(str), pandas.Series(days)):
        found = memberscope.cut_windows(TABLE | {"hour": times}, **HOW, window=3)
        np.testing.assert_array_equal(found.x, expected.x)
    assert found.ids[0].startswith("meter a:2026-01-31") and len(order) == 24
