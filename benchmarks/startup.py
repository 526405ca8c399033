"""How long `memberscope --help` and `import memberscope` take in a fresh process."""

from __future__ import annotations

import subprocess
import sys
import time

from aims import judge

AIM_HELP, AIM_IMPORT = 0.3, 0.05
IMPORT = (
    "import time; started = time.perf_counter(); import memberscope; "
    "print(time.perf_counter() - started)"
)


def best_of(command: list[str], runs: int = 7) -> float:
    """Least wall time of `runs`, in seconds."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return min(times)


def time_import(runs: int = 7) -> float:
    """Least seconds of `import memberscope` within a fresh interpreter."""
    command = [sys.executable, "-c", IMPORT]
    return min(
        float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(runs)
    )


if __name__ == "__main__":
    bare = best_of([sys.executable, "-c", "pass"])
    shown = best_of([sys.executable, "-c", "from memberscope.cli.main import run; run()", "--help"])
    imported = time_import()
    print(f"python alone {bare:.3f} s (no aim)")
    verdict = judge("memberscope --help", shown, "s", at_most=AIM_HELP)
    print(f"memberscope --help {shown:.3f} s {verdict}")
    verdict = judge("import memberscope", imported, "s", at_most=AIM_IMPORT)
    print(f"import memberscope {imported:.3f} s {verdict}")
