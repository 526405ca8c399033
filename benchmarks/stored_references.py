"""How long it takes to read reference models that were stored, and what memory.

`python benchmarks/stored_references.py [MODELS RECORDS]` writes one number a record for 64 models and
200,000 records as NPZ, safetensors and long Parquet, and reads each in a fresh process: processor
time and wall time of the reading, how far the memory rises above that before it, and how far by each
further model, in multiples of what its numbers and its row of `inside` take: 2 where they are held
twice. Ids and buffers, which do not grow with the models, are in the rise alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from aims import judge

MODELS, RECORDS = 64, 200_000
AIMS = {"npz": 0.5, "safetensors": 0.5, "parquet": 5.0}
ONCE = 1.5  # times a model's own memory by which each further one may raise it
GROUP = 1_000_000  # rows of a row group
READ = """
import json, resource, sys, threading, time
from pathlib import Path
import numpy as np
from memberscope.targets import read_signals
try:
    import pyarrow.parquet, pyarrow.compute
except ImportError:
    pass
import safetensors

def read_memory():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024

read_signals(sys.argv[2], number="score")  # what is read once: libraries, formats
before, peak, done = read_memory(), 0, threading.Event()
def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, read_memory())
watcher = threading.Thread(target=watch); watcher.start()
wall, cpu = time.perf_counter(), time.process_time()
found = read_signals(sys.argv[1], number="score")
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
done.set(); watcher.join()
print(json.dumps({"wall": wall, "cpu": cpu, "rise": max(peak, read_memory()) - before,
                  "shape": list(found.references.outputs.shape)}))
"""


def write_forms(folder: Path, models: int, records: int) -> dict[str, Path]:
    """Write the same numbers in each form, with the target's."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    member = rng.random(records) < 0.5
    inside = rng.random((models, records)) < 0.5
    values = rng.normal(size=(models, records)).astype(np.float32) + inside
    score = (rng.normal(size=records) + member).astype(np.float32)
    arrays = {"member": member, "score": score, "references": values, "inside": inside}
    np.savez(folder / "s.npz", **arrays)
    save_file(arrays, folder / "s.safetensors")
    home = folder / "long"
    home.mkdir()
    ids = np.array([f"record-{k}" for k in range(records)])
    pq.write_table(pa.table({"id": ids, "member": member, "score": score}), home / "target.parquet")
    with pq.ParquetWriter(
        home / "references.parquet",
        pa.schema(
            [
                ("id", pa.string()),
                ("model", pa.string()),
                ("inside", pa.bool_()),
                ("score", pa.float32()),
            ]
        ),
    ) as writer:
        for model in range(models):
            rows = pa.table(
                {
                    "id": ids,
                    "model": np.full(records, f"model-{model}"),
                    "inside": inside[model],
                    "score": values[model],
                },
                schema=writer.schema,
            )
            writer.write_table(rows, row_group_size=GROUP)
    return {"npz": folder / "s.npz", "safetensors": folder / "s.safetensors", "parquet": home}


def measure_reading(path: Path, small: Path) -> dict:
    """Measure the reading of a form in a fresh process that has read a `small` one before."""
    command = [sys.executable, "-c", READ, str(path), str(small)]
    found: dict = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def main() -> None:
    """Print a row for each form."""
    models, records = (int(word) for word in sys.argv[1:3]) if sys.argv[2:] else (MODELS, RECORDS)
    # Of one model: a float32 and a byte of `inside` for each record
    size = records * 5
    with tempfile.TemporaryDirectory() as name:
        homes = {count: Path(name) / str(count) for count in (4, models // 2, models)}
        for home in homes.values():
            home.mkdir()
        forms = {
            count: write_forms(home, count, records if count > 4 else 100)
            for count, home in homes.items()
        }
        print(f"{models} models, {records:,} records, {models * size / 1e6:.0f} MB")
        print("| form | processor s | | wall s | rise, MB | a model more, times its own | |")
        print("| --- | ---: | --- | ---: | ---: | ---: | --- |")
        for form in AIMS:
            half, found = (
                measure_reading(forms[count][form], forms[4][form])
                for count in (models // 2, models)
            )
            assert found["shape"] == [models, records, 1, 1]
            slope = (found["rise"] - half["rise"]) / ((models - models // 2) * size)
            times = judge(f"{form}: processor time", found["cpu"], "s", at_most=AIMS[form])
            memory = judge(f"{form}: memory of a model more", slope, at_most=ONCE)
            print(
                f"| {form} | {found['cpu']:.2f} | {times} | {found['wall']:.2f} | "
                f"{found['rise'] / 1e6:.0f} | {slope:.2f} | {memory} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
