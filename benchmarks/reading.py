"""Time and peak memory of reading a table, as ratios to pandas' own reader with the same types.

    python benchmarks/reading.py [--rows 1000000] [--repeats 3]

The table has 20 columns: numbers, whole numbers, numbers with gaps, words, truth values and dates.
Each reading is a process of its own; memory is the growth of its resident set from after the
imports to the peak. `core` is memberscope with neither pyarrow nor pandas.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from aims import judge

READERS = {"pandas": (), "memberscope": (), "memberscope, pyarrow only": ("pandas",)}
CORE = "memberscope, core"
AIM = 1.5  # times pandas' seconds and memory, where pyarrow or pandas is installed

CHILD = """
import json, sys, time
reader, path, blocked = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
import importlib.util
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in blocked else find(name, *more)
if "pandas" not in blocked:
    import pandas
if "pyarrow" not in blocked:
    import pyarrow, pyarrow.csv, pyarrow.parquet, pyarrow.compute
from pathlib import Path
def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))
if reader == "pandas":
    def read(path):
        if path.endswith(".parquet"):
            return pandas.read_parquet(path)
        return pandas.read_csv(path, parse_dates=["d0"])
else:
    from memberscope.targets.tables import read_table
    def read(path):
        return read_table(Path(path))
open("/proc/self/clear_refs", "w").write("5")
before, start = status("VmRSS"), time.perf_counter()
table = read(path)
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "megabytes": (status("VmHWM") - before) / 1024}))
"""


def write_tables(folder: Path, rows: int) -> dict[str, Path]:
    """Write the same records as Parquet, CSV and gzipped CSV."""
    import numpy as np
    import pandas

    rng = np.random.default_rng(0)
    columns: dict[str, object] = {f"x{k}": rng.normal(size=rows) for k in range(7)}
    for k in range(2):
        values = rng.normal(size=rows)
        values[rng.random(rows) < 0.1] = np.nan
        columns[f"gap{k}"] = values
    columns |= {f"n{k}": rng.integers(0, 10**k, rows) for k in range(1, 5)}
    columns |= {f"w{k}": rng.choice([f"word {i}" for i in range(4**k)], rows) for k in range(1, 5)}
    columns["id"] = np.array([f"patient-{i}" for i in rng.permutation(rows)], dtype=object)
    columns["b0"] = rng.random(rows) < 0.3
    columns["d0"] = pandas.Timestamp("2024-01-01") + pandas.to_timedelta(
        rng.integers(0, 10**6, rows), unit="min"
    )
    frame = pandas.DataFrame(columns)
    paths = {kind: folder / f"table.{kind}" for kind in ("parquet", "csv", "csv.gz")}
    frame.to_parquet(paths["parquet"], index=False)
    frame.to_csv(paths["csv"], index=False)
    frame.to_csv(paths["csv.gz"], index=False, compression={"method": "gzip", "compresslevel": 1})
    return paths


def measure(reader: str, path: Path, blocked: tuple[str, ...], repeats: int) -> tuple[float, float]:
    """Give the least seconds and the median megabytes of several readings.

    Each in a fresh process.
    """
    found = []
    for _ in range(repeats):
        call = [sys.executable, "-c", CHILD, reader, str(path), ",".join(blocked)]
        found.append(
            json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
        )
    megabytes = sorted(entry["megabytes"] for entry in found)
    return min(entry["seconds"] for entry in found), megabytes[len(megabytes) // 2]


def main() -> None:
    """Print one row a format and reader."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    print(
        "| format | reader | seconds | peak MB | time / pandas | memory / pandas |\n| --- | --- | "
        "--- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind, path in write_tables(Path(folder), given.rows).items():
            base = (1.0, 1.0)
            readers = dict(READERS)
            if kind != "parquet":
                readers[CORE] = ("pyarrow", "pandas")
            for name, blocked in readers.items():
                repeats = 1 if name == CORE else given.repeats
                seconds, megabytes = measure(name, path, blocked, repeats)
                if name == "pandas":
                    base = (seconds, megabytes)
                aim = AIM if name in READERS and name != "pandas" else None
                cells = []
                for what, ratio in (
                    ("time", seconds / base[0]),
                    ("memory", megabytes / base[1]),
                ):
                    verdict = judge(f"{kind}, {name}: {what} / pandas", ratio, at_most=aim)
                    cells.append(f"{ratio:.2f} {verdict}")
                ratios = " | ".join(cells)
                print(
                    f"| {kind} | {name} | {seconds:.2f} | {megabytes:.0f} | {ratios} |", flush=True
                )


if __name__ == "__main__":
    main()
