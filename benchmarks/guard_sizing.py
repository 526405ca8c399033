"""How much memory records' budgets need: the sizing table of docs/guard-monitor.md.

`python benchmarks/guard_sizing.py` simulates a year and a half of honest traffic by days, at a 64th of
the records and of the memory, on which wrong refusals do not depend. Every record is new, and its
budget refills in a year (`1/365d`), which is the worst case: `5/365d` keeps a record that is asked
about once for a fifth of that. Once a day it asks about 200 records more, without counting them,
and prints how many of these are refused. Takes about a minute.
"""

from __future__ import annotations

import argparse
import mmap
import sys

import numpy as np

from memberscope.guard.state.record_table import HEADER, RecordTable

DAY, YEAR = 86400.0, 365 * 86400.0
SCALE = 64
REQUEST = 512  # records
PROBES = 200  # a day
# New records a day, and MiB
ROWS = ((5_000, 64), (12_500, 64), (15_000, 64), (20_000, 64), (50_000, 256), (100_000, 512))


def simulate(
    a_day: int, mebibytes: int, networks: int, days: int
) -> tuple[float, float, int | None]:
    """Give the share of places in use, the share refused wrongly, and the day this passed 1/1,000.

    The first two are of the last quarter of the days.
    """
    table = RecordTable(mmap.mmap(-1, HEADER + mebibytes * 2**20 // SCALE), YEAR)
    token, holds = table.price_token(1)
    rng = np.random.default_rng([a_day, mebibytes, networks])
    tags = [RecordTable.find_tag(*rng.integers(0, 2**31, 2).tolist()) for _ in range(networks)]
    late, recent, first = 0, 0, None
    for day in range(days):
        now = table.count_ticks(day * DAY)
        keys = rng.integers(0, 2**64, a_day // SCALE, dtype=np.uint64).tolist()
        for start in range(0, len(keys), REQUEST):
            ask(table, keys[start : start + REQUEST], tags[int(rng.integers(networks))], now)
        probes = rng.integers(0, 2**64, PROBES, dtype=np.uint64).tolist()
        tag = tags[int(rng.integers(networks))]
        refused = 0
        for key in probes:
            found = table.charge([key], [token], tag, holds, now)
            refused += found.excess > 0 or found.unplaced
            table.undo(found, tag)
        recent = 0.9 * recent + 0.1 * refused / PROBES
        if recent > 1e-3 and first is None:
            first = day
        late += refused if day >= 3 * days // 4 else 0
    return table.used / table.places, late / (days - 3 * days // 4) / PROBES, first


def ask(table: RecordTable, keys: list[int], tag: int, now: int) -> None:
    """Take from all, or from those one by one that have a token."""
    token, holds = table.price_token(1)
    found = table.charge(keys, [token] * len(keys), tag, holds, now)
    if found.excess <= 0 and not found.unplaced:
        return
    table.undo(found, tag)
    for key in keys:
        one = table.charge([key], [token], tag, holds, now)
        if one.excess > 0 or one.unplaced:
            table.undo(one, tag)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=548)
    days = parser.parse_args().days
    print(
        "| new records a day | MiB | places in use | refused wrongly, 1,000 networks | one client |"
    )
    print("|---|---|---|---|---|")
    for a_day, mebibytes in ROWS:
        cells = []
        for networks in (1000, 1):
            used, wrong, first = simulate(a_day, mebibytes, networks, days)
            since = "" if first is None else f", above 0.1% from day {first}"
            cells.append((used, f"{100 * wrong:.2g}%{since}"))
        print(
            f"| {a_day:,} | {mebibytes} | {100 * cells[0][0]:.0f}% | {cells[0][1]} | {cells[1][1]} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
