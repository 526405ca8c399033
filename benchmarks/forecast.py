"""What `plan` says an audit will take, and what it takes, on five workloads.

Forecast, truth and their ratio.

    python benchmarks/forecast.py              # all five
    python benchmarks/forecast.py forest http  # some
    python benchmarks/forecast.py constants [n ...]  # factors for the constants of this machine, from
    audits of so many members

Processor seconds are compared, since they do not depend on what else the machine does; what an
endpoint's rate limit makes the audit wait is added on both sides. Wall time stands beside. Each
ratio is to be within a factor of two. Models are trained in this process, one at a time, so that
their seconds are counted.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np

from aims import judge
from memberscope.auditing import (
    Plan,
    Subject,
    Training,
    audit_subject,
    make_signals_subject,
    make_subject,
    run,
)
from memberscope.auditing.forecast import time_model as costs
from memberscope.auditing.forecast.dry_run import Forecast, forecast_audit, measure_training_seconds
from memberscope.auditing.forecast.time_model import Timings, time_target
from memberscope.recipes import Execution, SklearnRecipe, TorchRecipe
from memberscope.targets import HttpTarget, wrap
from memberscope.types import Access, ThreatModel
from memberscope.wire.endpoint import Endpoint
from scale import signals

HERE = Execution("sequential")
PROBABILITIES = ThreatModel(access=Access.PROBABILITIES)


@dataclass(frozen=True)
class Work:
    """One audit: its plan, what is audited, and how models like it are trained."""

    name: str
    plan: Plan
    subject: Subject
    training: Training | None = None


def records(n: int, f: int, seed: int = 0) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Members and non-members (n, f) of two classes that a model learns in part."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * n, f)).astype(np.float32)
    y = (x[:, 0] + 0.5 * x[:, 1] + rng.normal(size=2 * n) > 0).astype(np.int64)
    return (x[:n], y[:n]), (x[n:], y[n:])


def forest() -> Work:
    """A forest of scikit-learn with label-only searches.

    Of the target and of two reference models.
    """
    from sklearn.ensemble import RandomForestClassifier

    members, others = records(500, 8)
    estimator = RandomForestClassifier(50, random_state=0)
    subject = make_subject(wrap(estimator.fit(*members)), members, others)
    plan = Plan.normal(threat=PROBABILITIES, references=2, assume_exchangeable=True)
    return Work(
        "forest, 500 + 500, searches, 2 references",
        plan,
        subject,
        Training(SklearnRecipe(estimator), HERE),
    )


def lightgbm() -> Work:
    """LightGBM with eight reference models, and searches of 32 queries."""
    from lightgbm import LGBMClassifier

    members, others = records(2000, 10)
    estimator = LGBMClassifier(n_estimators=100, n_jobs=1, verbose=-1)
    subject = make_subject(wrap(estimator.fit(*members)), members, others)
    plan = Plan.normal(
        threat=PROBABILITIES, references=8, search_queries=32, assume_exchangeable=True
    )
    return Work(
        "LightGBM, 2,000 + 2,000, 8 references",
        plan,
        subject,
        Training(SklearnRecipe(estimator), HERE),
    )


def fleet() -> Work:
    """Sixteen small networks of PyTorch."""
    members, others = records(1000, 20)
    recipe = TorchRecipe(network, epochs=30, batch_size=64)
    pool = make_subject(wrap(network_untrained()), members, others).records
    from memberscope.recipes.fleet.observe_model import select_records

    target = recipe(select_records(pool, np.arange(2000) < 1000), 0)
    subject = make_subject(target, members, others)
    plan = Plan.normal(
        threat=PROBABILITIES, references=16, search_queries=0, assume_exchangeable=True
    )
    return Work("torch, 1,000 + 1,000, 16 references", plan, subject, Training(recipe, HERE))


def network() -> Any:
    """A small network of PyTorch."""
    import torch

    return torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))


def network_untrained() -> Any:
    """The same, in the mode in which it answers."""
    return network().eval()


def stored() -> Work:
    """100,000 + 100,000 stored signals of ten classes and twenty groups, with features."""
    return Work(
        "stored signals, 100,000 + 100,000",
        Plan.normal(threat=PROBABILITIES, assume_exchangeable=True),
        make_signals_subject(signals()),
    )


@contextmanager
def served() -> Any:
    """The address of a logistic model behind HTTP, and its records."""
    from sklearn.linear_model import LogisticRegression

    members, others = records(1000, 10)
    model = LogisticRegression().fit(*members)

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told = json.dumps(
                {"scores": model.predict_proba(np.array(asked["instances"])).tolist()}
            ).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/score", members, others
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def http() -> None:
    """A model behind HTTP that answers at most four requests a second."""
    with served() as (url, members, others):
        endpoint = Endpoint(
            url,
            protocol="json",
            n_classes=2,
            body='{"instances": "$records"}',
            answer="scores",
            batch_size=25,
            rate=4.0,
        )
        with HttpTarget(endpoint) as target:
            compare(Work("HTTP endpoint, 1,000 + 1,000, 4 requests a second", Plan.normal(threat=PROBABILITIES, assume_exchangeable=True),
                         make_subject(target, members, others)), waits=True)  # fmt: skip


def timings_of(work: Work) -> Timings:
    """What `plan --measure` measures, in processor seconds."""
    found = time_target(work.subject, time.process_time)
    if work.training is None:
        return found
    return replace(
        found,
        model=measure_training_seconds(work.plan, work.subject, work.training, time.process_time),
    )


def compare(work: Work, *, waits: bool = False) -> None:
    """Print the forecast, the truth and their ratio."""
    found = forecast_audit(work.plan, work.subject, work.training, None, timings_of(work))
    stages, last = {}, [time.process_time(), time.perf_counter()]
    began = tuple(last)

    def note(stage: str, done: int, total: int) -> None:
        now = [time.process_time(), time.perf_counter()]
        spent = stages.setdefault(stage, [0.0, 0.0])
        for i in (0, 1):
            spent[i] += now[i] - last[i]
        last[:] = now

    audit_subject(work.plan, work.subject, training=work.training, progress=note)
    cpu, wall = time.process_time() - began[0], time.perf_counter() - began[1]
    truth = cpu + (stages["query"][1] - stages["query"][0] if waits else 0.0)
    report(work, found, truth, wall, {name: spent[0] for name, spent in stages.items()})


def report(
    work: Work, found: Forecast, truth: float, wall: float, stages: dict[str, float]
) -> None:
    """Print one workload."""
    said = found.seconds.total
    print(
        f"{work.name}: forecast {said:.1f} s, truth {truth:.1f} s (wall {wall:.1f} s), ratio "
        f"{said / truth:.2f} {judge(work.name, said / truth, at_least=0.5, at_most=2)}"
    )
    parts = {name: value for name, value in vars(found.seconds).items() if value}
    print("  forecast: " + ", ".join(f"{name} {value:.1f}" for name, value in parts.items()))
    print(
        "  truth:    " + ", ".join(f"{name} {value:.1f}" for name, value in stages.items()),
        flush=True,
    )


@contextmanager
def time_in_turn() -> Iterator[list[float]]:
    """Run in turn what audits do side by side, and give the seconds of simulating the power."""
    beside, power, seconds = run.run_beside, run.report_power, [0.0]

    def simulate(*given: Any) -> Any:
        started = time.process_time()
        found = power(*given)
        seconds[0] += time.process_time() - started
        return found

    run.run_beside, run.report_power = lambda work, other: (work(), other()), simulate
    try:
        yield seconds
    finally:
        run.run_beside, run.report_power = beside, power


def constants(sizes: list[int]) -> None:
    """Print by what each constant of `costs` is to be multiplied, and the stages that tell it."""
    ratios: dict[str, list[float]] = {}
    for n in sizes or (1000, 5000, 20_000):
        bare = replace(make_signals_subject(signals(n)), features=None)
        for subject in (bare, make_signals_subject(signals(n))):
            plan = Plan.normal(threat=PROBABILITIES, assume_exchangeable=True)
            said = forecast_audit(plan, subject).seconds
            spent: dict[str, float] = {}
            last = [time.process_time()]

            def note(
                stage: str, done: int, total: int, spent: Any = spent, last: Any = last
            ) -> None:
                spent[stage] = spent.get(stage, 0.0) + time.process_time() - last[0]
                last[0] = time.process_time()

            with time_in_turn() as simulated:
                audit_subject(plan, subject, progress=note)
            # Judging, most of which is the simulation of what could have been seen
            spent["estimate"] += time.process_time() - last[0] + simulated[0]
            spent["control"] -= simulated[0]
            kind = "with features" if subject.features is not None else "signals alone"
            for name, stage, value in (
                (
                    "ATTACK, FITTED" if kind == "signals alone" else "QUANTILE",
                    "attack",
                    said.scoring,
                ),
                ("PART, SIMULATED", "estimate", said.estimating),
                (
                    "BLIND, QUANTILE"
                    if kind != "signals alone"
                    else "ATTACK, FITTED (null control)",
                    "control",
                    said.controls,
                ),
            ):
                ratios.setdefault(name, []).append(spent[stage] / value)
                print(
                    f"{n} + {n}, {kind}: {stage} forecast {value:.2f} s, truth {spent[stage]:.2f} "
                    "s",
                    flush=True,
                )
    for name, found in ratios.items():
        print(
            f"multiply {name} by {np.exp(np.mean(np.log(found))):.2f} (over sizes "
            f"{', '.join(f'{r:.2f}' for r in found)})"
        )
    print(
        f"now: ATTACK {costs.ATTACK}, FITTED {costs.FITTED}, QUANTILE {costs.QUANTILE}, PART "
        f"{costs.PART}, SIMULATED {costs.SIMULATED}, BLIND {costs.BLIND}"
    )


WORKLOADS: dict[str, Callable[[], None]] = {
    "forest": lambda: compare(forest()),
    "lightgbm": lambda: compare(lightgbm()),
    "torch": lambda: compare(fleet()),
    "http": http,
    "stored": lambda: compare(stored()),
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["constants"]:
        constants([int(size) for size in sys.argv[2:]])
    else:
        for chosen in sys.argv[1:] or WORKLOADS:
            WORKLOADS[chosen]()
