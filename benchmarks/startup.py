"""How long `memberscope --help` takes in a fresh process, beside Python itself."""

from __future__ import annotations

import subprocess
import sys
import time


def best_of(command: list[str], runs: int = 7) -> float:
    """Least wall time of `runs`, in seconds."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    bare = best_of([sys.executable, "-c", "pass"])
    shown = best_of([sys.executable, "-c", "from memberscope.cli.main import run; run()", "--help"])
    print(f"python {bare:.3f} s, memberscope --help {shown:.3f} s (limit 0.3 s)")
