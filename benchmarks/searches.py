"""Time the label-only searches of a pipeline beside the model's own predictions of the same rows.

`python benchmarks/searches.py`: 1,000 + 1,000 records like those of Diabetes-130, 40 columns of
words and numbers in a pandas frame, and a HistGradientBoostingClassifier in a pipeline. The searches
have the default number of queries. They run alone, then beside a process with two busy OpenMP
threads. The floor is the time that the model itself takes within the searches: each call asks about
every record that still searches, in the noise search about all copies between two moves, so that no
search with the same queries could make larger calls.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_limits

from aims import judge
from memberscope.signals import measure_signal
from memberscope.targets import SklearnTarget
from memberscope.types import Records, SignalSpec

MEMBERS, AIM = 1000, 1.6  # members and as many others; searches within so many times the floor
DRUGS, DIAGNOSES, VALUES = 23, 3, 9
LEVELS = {"race": 6, "gender": 3, "age": 10, "admission": 8, "payer": 18}


class TimedTarget(SklearnTarget):
    """The pipeline as a target that adds up its rows, its calls and the seconds in the model."""

    def __init__(self, estimator: Any) -> None:
        super().__init__(estimator)
        self.rows, self.calls, self.seconds = 0, 0, 0.0

    def query(self, x: Any) -> np.ndarray:
        """Outputs (n, k)."""
        started = time.perf_counter()
        answer = super().query(x)
        self.seconds += time.perf_counter() - started
        self.rows, self.calls = self.rows + len(x), self.calls + 1
        return answer


@dataclass(frozen=True)
class Timing:
    """Seconds of a search, those in the model among them, and its calls and rows."""

    seconds: float
    floor: float
    calls: int
    rows: int


def draw_records(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw records of words and numbers, a tenth or a fifth of some columns missing, and labels."""
    rng = np.random.default_rng(seed)
    risk = rng.standard_normal(n)
    columns: dict[str, Any] = {
        f"drug_{j}": rng.choice(["No", "Steady", "Up", "Down"], n, p=[0.7, 0.2, 0.06, 0.04])
        for j in range(DRUGS)
    }
    for j in range(DIAGNOSES):
        columns[f"diagnosis_{j}"] = rng.choice([f"{250 + k}.{k % 9}" for k in range(120)], n)
    for name, levels in LEVELS.items():
        columns[name] = rng.choice([f"{name} {k}" for k in range(levels)], n)
    for name in ("race", "payer"):
        columns[name] = np.where(rng.random(n) < 0.1, None, columns[name].astype(object))
    for j in range(VALUES):
        drawn = rng.poisson(3 + j, n) if j < 5 else rng.gamma(2.0, 10.0, n)
        columns[f"value_{j}"] = drawn + np.rint(3 * risk * (j % 2))
    columns["value_8"] = np.where(rng.random(n) < 0.2, np.nan, columns["value_8"])
    return pd.DataFrame(columns), (risk + rng.standard_normal(n) > 0).astype(np.int64)


def fit_pipeline(x: pd.DataFrame, y: np.ndarray) -> Pipeline:
    """Fit the pipeline: words to codes, numbers filled, and boosted trees."""
    numbers = x.columns[-VALUES:].tolist()
    words = x.columns[:-VALUES].tolist()
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encoder, words), (SimpleImputer(), numbers))
    return make_pipeline(columns, HistGradientBoostingClassifier(random_state=0)).fit(x, y)


def time_search(name: str, estimator: Pipeline, records: Records) -> Timing:
    """Time one search with its default number of queries."""
    target = TimedTarget(estimator)
    started = time.perf_counter()
    measure_signal(target, records, SignalSpec(name))
    seconds = time.perf_counter() - started
    return Timing(seconds, target.seconds, target.calls, target.rows)


@contextmanager
def run_busy_process() -> Iterator[None]:
    """Keep two OpenMP threads of another process busy."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, __file__, "busy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()


def stay_busy() -> None:
    """Fit boosted trees until killed; say when the first are fitted."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20_000, 20)), rng.integers(0, 2, 20_000)
    HistGradientBoostingClassifier(max_iter=20).fit(x, y)
    print("busy", flush=True)
    while True:
        HistGradientBoostingClassifier().fit(x, y)


def print_timings(where: str, estimator: Pipeline, records: Records) -> None:
    """Time both searches, and print each and the ratio of both to their floors."""
    timings = {name: time_search(name, estimator, records) for name in ("boundary", "noise")}
    for name, timing in timings.items():
        print(
            f"{name}, {where}: {timing.seconds:.1f} s, floor {timing.floor:.1f} s; "
            f"{timing.calls} calls of {timing.rows / timing.calls:.0f} rows"
        )
    seconds = sum(timing.seconds for timing in timings.values())
    ratio = seconds / sum(timing.floor for timing in timings.values())
    verdict = judge(f"both searches, {where}", ratio, "floors", at_most=AIM)
    print(f"both, {where}: {seconds:.1f} s, {ratio:.2f} floors {verdict}", flush=True)


def main() -> None:
    x, y = draw_records(2 * MEMBERS, 0)
    # One thread, as two would take minutes on a machine that is busy already
    with threadpool_limits(1, "openmp"):
        estimator = fit_pipeline(x[:MEMBERS], y[:MEMBERS])
    records = Records(x, y, np.arange(len(x)).astype(str))
    print_timings("alone", estimator, records)
    with run_busy_process():
        print_timings("beside two busy threads", estimator, records)


if __name__ == "__main__":
    if sys.argv[1:] == ["busy"]:
        stay_busy()
    else:
        main()
