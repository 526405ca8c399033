"""How long a quick audit takes until its verdict, and what its shorter searches lose.

`python benchmarks/effort.py time` audits 10,000 members and 10,000 non-members of Adult (mixed
columns) with eight kinds of models as `audit` does when nobody says, and prints the seconds beside
those of the model's own answers about the same records and beside the aim. `references` does so
with a recipe. `--busy` runs beside a process that keeps two threads busy, `--only NAME` for one
kind. `pipeline` audits 1,000 + 1,000 records like those of Diabetes-130 (words and numbers in a
pandas frame) under boosted trees in a pipeline, files included. `searches` prints the change of AUC
from 128 queries a record to fewer, over eight targets.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

import data
import memberscope
import searches
from aims import judge
from memberscope import Plan

N = 10_000
AIM, AIM_REFERENCES = 20.0, 60.0
AIM_PIPELINE = {False: 20.0, True: 30.0}  # seconds alone, and beside a busy process
FLIPPED = 0.1  # share of training labels that are wrong, so that there is something to remember
BUSY = """
import threading, numpy as np
a = np.random.default_rng(0).normal(size=(600, 600))
def work():
    while True:
        a @ a
threads = [threading.Thread(target=work) for _ in range(2)]
[thread.start() for thread in threads]
"""


def read_sides(n: int = N, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Members and non-members (x, y) of Adult, drawn at random, codes and numbers as float32."""
    x, y, _ = data.adult()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))[: 2 * n]
    x, y = x[order].astype(np.float32), y[order]
    return [(x[:n], y[:n]), (x[n:], y[n:])]


def with_words(sides: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[Any, np.ndarray]]:
    """The sides as pandas frames, columns of few values as words."""
    import pandas as pd

    found = []
    few = [j for j in range(sides[0][0].shape[1]) if len(np.unique(sides[0][0][:, j])) <= 45]
    for x, y in sides:
        frame = pd.DataFrame(x, columns=[f"c{j}" for j in range(x.shape[1])])
        for j in few:
            frame[f"c{j}"] = frame[f"c{j}"].map(lambda v: f"w{v:.0f}").astype("category")
        found.append((frame, y))
    return found


def pipeline(estimator: Any) -> Callable[[Any], Any]:
    """An unfitted pipeline of words and numbers before an estimator."""

    def make(x: Any) -> Any:
        from sklearn.compose import ColumnTransformer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder, StandardScaler

        words = [name for name in x.columns if str(x[name].dtype) == "category"]
        numbers = [name for name in x.columns if name not in words]
        columns = ColumnTransformer(
            [
                ("words", OneHotEncoder(handle_unknown="ignore", sparse_output=False), words),
                ("numbers", StandardScaler(), numbers),
            ]
        )
        return make_pipeline(columns, estimator)

    return make


def build_torch(x: np.ndarray, y: np.ndarray) -> Any:
    """A trained torch MLP of the standardised columns."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    mean, scale = torch.tensor(x.mean(0)), torch.tensor(x.std(0) + 1e-6)

    class Standardised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Linear(x.shape[1], 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 2)
            )  # fmt: skip

        def forward(self, rows: Any) -> Any:
            return self.net((rows - mean) / scale)

    model = Standardised()
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    inputs, labels = torch.tensor(x), torch.tensor(y)
    for _ in range(30):
        for part in torch.randperm(len(x)).split(256):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(inputs[part]), labels[part]).backward()
            optimiser.step()
    return model.eval()


def build_onnx(x: np.ndarray, y: np.ndarray) -> Any:
    """A forest in ONNX, as onnxruntime serves it."""
    import onnxruntime
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    from memberscope.targets import OnnxTarget

    forest = RandomForestClassifier(100, random_state=0, n_jobs=2).fit(x, y)
    model = to_onnx(forest, x[:1], options={"zipmap": False})
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return OnnxTarget(session, classes=(0, 1))


def build_kinds() -> dict[str, tuple[bool, Callable[[Any, np.ndarray], Any]]]:
    """Each kind of model: whether it takes frames, and how it is fitted."""
    from lightgbm import LGBMClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from xgboost import XGBClassifier

    def fitted(make: Callable[[Any], Any]) -> Callable[[Any, np.ndarray], Any]:
        return lambda x, y: make(x).fit(x, y)

    boosted = LGBMClassifier(verbose=-1, random_state=0)
    return {
        "forest": (True, fitted(pipeline(RandomForestClassifier(100, random_state=0, n_jobs=2)))),
        "boosting": (True, fitted(pipeline(HistGradientBoostingClassifier(random_state=0)))),
        "logistic": (True, fitted(pipeline(LogisticRegression(max_iter=500)))),
        "mlp": (True, fitted(pipeline(MLPClassifier((64,), max_iter=30, random_state=0)))),
        "lightgbm": (False, fitted(lambda x: boosted)),
        "xgboost": (False, fitted(lambda x: XGBClassifier(random_state=0))),
        "torch": (False, build_torch),
        "onnx": (False, build_onnx),
    }


@contextmanager
def beside_busy_process(wanted: bool) -> Iterator[None]:
    """Keep two threads of another process busy meanwhile, if `wanted`."""
    process = subprocess.Popen([sys.executable, "-c", BUSY]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def flip(side: tuple[Any, np.ndarray]) -> np.ndarray:
    """The labels of a side, some of them wrong."""
    y = side[1].copy()
    wrong = np.random.default_rng(1).random(len(y)) < FLIPPED
    y[wrong] = 1 - y[wrong]
    return y


def measure_floor(model: Any, sides: list[Any]) -> float:
    """Seconds of the model's own answers about all records, once."""
    from memberscope.targets import wrap

    target = wrap(model)
    started = time.perf_counter()
    for x, _ in sides:
        target.query(x)
    return time.perf_counter() - started


def time_audits(only: str | None, *, busy: bool, references: bool) -> None:
    """Print the seconds of each kind's audit beside the floor and the aim."""
    plain = read_sides()
    worded = with_words(plain)
    aim = AIM_REFERENCES if references else AIM
    kinds = build_kinds()
    chosen = [only] if only else ["boosting", "lightgbm"] if references else list(kinds)
    for name in chosen:
        frames, fit = kinds[name]
        sides = worded if frames else plain
        members = (sides[0][0], flip(sides[0]))
        others = (sides[1][0], flip(sides[1]))
        model = fit(*members)
        floor = measure_floor(model, [members, others])
        extra: dict[str, Any] = {}
        if references:
            extra = {"recipe": lambda records, seed, fit=fit: fit(records.x, records.y)}
        with beside_busy_process(busy):
            started = time.perf_counter()
            result = memberscope.audit(model, members, others, policy="standard", **extra)
            seconds = time.perf_counter() - started
        plan = result.plan
        spent = f"boundary {plan.boundary_queries}, noise {plan.search_queries}"
        spent += " queries" + (f", {plan.references} references" if references else "")
        where = " beside a busy process" if busy else ""
        verdict = judge(f"{name}{where}", seconds, "s", at_most=None if busy else aim)
        print(
            f"{name}{where}: {seconds:.1f} s to {result.verdict}, own answers {floor:.2f} s, "
            f"{spent} {verdict}",
            flush=True,
        )


def time_pipeline(*, busy: bool) -> None:
    """Print the seconds of the whole audit of a pipeline of words and numbers, files included."""
    from threadpoolctl import threadpool_limits

    n = searches.MEMBERS
    x, y = searches.draw_records(2 * n, 0)
    members, others = (x[:n], y[:n]), (x[n:], y[n:])
    # One thread, as OpenMP would take minutes on a machine that is busy already
    with threadpool_limits(1, "openmp"):
        model = searches.fit_pipeline(*members)
    floor = measure_floor(model, [members, others])
    beside = searches.run_busy_process() if busy else nullcontext()
    with tempfile.TemporaryDirectory() as folder, beside:
        started = time.perf_counter()
        result = memberscope.audit(model, members, others, policy="standard")
        told = time.perf_counter() - started
        result.save(folder)
        seconds = time.perf_counter() - started
    plan, where = result.plan, " beside a busy process" if busy else ""
    verdict = judge(f"pipeline{where}", seconds, "s", at_most=AIM_PIPELINE[busy])
    print(
        f"pipeline of {n} + {n} mixed records{where}: {seconds:.1f} s with files, {told:.1f} s to "
        f"{result.verdict}, own answers {floor:.2f} s, boundary {plan.boundary_queries}, noise "
        f"{plan.search_queries} queries {verdict}",
        flush=True,
    )


def compare_searches() -> None:
    """Print the change of AUC from long searches to short ones over eight targets."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kinds = [
        lambda seed: RandomForestClassifier(50, random_state=seed),
        lambda seed: HistGradientBoostingClassifier(random_state=seed),
        lambda seed: make_pipeline(
            StandardScaler(), MLPClassifier((64,), max_iter=100, random_state=seed)
        ),
        lambda seed: RandomForestClassifier(50, min_samples_leaf=3, random_state=seed),
    ]
    changes: dict[tuple[str, int], list[float]] = {}
    for place in range(8):
        sides = read_sides(1000, seed=place)
        members, others = (sides[0][0], flip(sides[0])), (sides[1][0], flip(sides[1]))
        model = kinds[place % 4](place).fit(*members)
        found = {}
        for queries in (128, 64, 32, 20):
            plan = Plan(attacks=("boundary", "noise"), fprs=(0.1,), search_queries=queries)
            result = memberscope.audit(model, members, others, plan=plan)
            for entry in result.estimates:
                if entry.metric == "auc" and entry.group is None and entry.attack in plan.attacks:
                    found[entry.attack, queries] = entry.value
        for (attack, queries), value in found.items():
            if queries != 128:
                changes.setdefault((attack, queries), []).append(value - found[attack, 128])
    for (attack, queries), values in sorted(changes.items()):
        mean, error = np.mean(values), np.std(values, ddof=1) / len(values) ** 0.5
        print(
            f"{attack} with {queries} queries for 128: AUC {mean:+.4f} +- {2.365 * error:.4f} "
            f"({len(values)} targets) (no aim)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["time", "references", "pipeline", "searches"])
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--only")
    given = parser.parse_args()
    os.environ.setdefault("MEMBERSCOPE_DATA", str(data.FOLDER))
    if given.part == "searches":
        compare_searches()
    elif given.part == "pipeline":
        time_pipeline(busy=given.busy)
    else:
        time_audits(given.only, busy=given.busy, references=given.part == "references")
