"""Time each stage of an audit of 10,000 + 10,000 records, beside the model's own predictions.

Run `python benchmarks/audit_stages.py [records a side] [columns] [classes] [--busy]`; with `--busy`
two threads of another process keep the processor busy meanwhile. Processor time counts the work and
hardly depends on what else runs; the wall time is what a person waits.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np

import memberscope
from aims import judge
from memberscope.auditing import Plan, run
from memberscope.auditing.collect import collect
from memberscope.reports import write_all

SIDE, COLUMNS, CLASSES = 10_000, 30, 10
# Seconds of the processor, and of waiting on two idle cores, that the whole audit may take
AIM_WORK, AIM_WAIT = 40.0, 20.0
BUSY = "import numpy as np\nx = np.ones((1500, 1500))\nwhile True: x @ x * 0"
# The steps of an audit, by the module that calls each and its name there
STEPS = {
    "query": (collect, "_ask_target"),
    "overlap: search": (collect, "find_duplicates"),
    "score": (run, "score_attacks"),
    # Side by side, so that neither has seconds of its own
    "estimate, control": (run, "run_beside"),
    "judge": (run, "judge_audit"),
    "diagnose": (run, "collect_diagnostics"),
}


class Clock:
    """Seconds of processor and of waiting by step, in the order of their first call."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[float, float]] = {}

    def time(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `work` so that its seconds are added to those of `name`."""

        def timed(*args: Any, **options: Any) -> Any:
            before = time.process_time(), time.perf_counter()
            try:
                return work(*args, **options)
            finally:
                spent, waited = self.found.get(name, (0.0, 0.0))
                self.found[name] = (
                    spent + time.process_time() - before[0],
                    waited + time.perf_counter() - before[1],
                )

        return timed


def draw_records(side: int, columns: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Records of numbers, a quarter of them whole, and a class that depends on them a little."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * side, columns))
    x[:, ::4] = np.round(3 * x[:, ::4])
    noise = 3 * rng.gumbel(size=(2 * side, classes))
    return x, (x @ rng.normal(size=(columns, classes)) + noise).argmax(axis=1)


def time_audit(side: int, columns: int, classes: int, *, busy: bool) -> None:
    """Print what each step takes, the floor, and whether the aims hold."""
    x, y = draw_records(side, columns, classes)
    model = lightgbm.LGBMClassifier(n_estimators=50, n_jobs=1, verbose=-1)
    model.fit(x[:side], y[:side])
    clock = Clock()
    clock.time("floor: predictions", model.predict_proba)(x)
    for name, (module, step) in STEPS.items():
        setattr(module, step, clock.time(name, getattr(module, step)))
    audit = clock.time("whole audit", memberscope.audit)
    plan = Plan(search_queries=0)
    result = audit(model, (x[:side], y[:side]), (x[side:], y[side:]), plan=plan, policy="demo")
    with tempfile.TemporaryDirectory() as folder:
        clock.time("report", write_all)(result, folder)
    print(f"{side} + {side} records, {columns} columns, {classes} classes")
    print(f"{'':20s} processor     wait")
    for name, (spent, waited) in clock.found.items():
        print(f"{name:20s} {spent:7.2f} s {waited:7.2f} s")
    spent, waited = (
        sum(pair) for pair in zip(clock.found["whole audit"], clock.found["report"], strict=True)
    )
    floor = clock.found["floor: predictions"][0]
    print(f"audit and report: {spent / floor:.0f} times the floor's processor time (no aim)")
    # What a person waits has an aim on an idle machine only
    for what, value, aim in (
        ("processor", spent, AIM_WORK),
        ("wait", waited, None if busy else AIM_WAIT),
    ):
        print(f"{what} {value:.1f} s {judge(what, value, 's', at_most=aim)}")


def main() -> None:
    """Time one audit, alone or beside a busy process of two threads."""
    busy = "--busy" in sys.argv
    given = [int(word) for word in sys.argv[1:] if word != "--busy"]
    sizes = [*given, *(SIDE, COLUMNS, CLASSES)[len(given) :]]
    other = None
    if busy:
        print("beside a busy process of two threads:")
        environment = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
        other = subprocess.Popen([sys.executable, "-c", BUSY], env=environment)
    try:
        time_audit(*sizes, busy=busy)
    finally:
        if other is not None:
            other.kill()
            other.wait()


if __name__ == "__main__":
    main()
