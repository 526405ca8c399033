"""What a cluster moves and keeps for 1,000 models.

Bytes measured on one model's real answers, the rest by multiplication.
"""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np

from memberscope.auditing import Plan
from memberscope.auditing.documents.access_levels import Level, is_worth_running
from memberscope.recipes import TrainingJob, build_balanced_design
from memberscope.recipes.fleet.execution import run_job
from memberscope.recipes.fleet.fleet_keys import build_model_keys
from memberscope.recipes.fleet.observe_model import observe_signals
from memberscope.signals import Store
from memberscope.types import Access, Records

N, POPULATION, CLASSES, MODELS, GPUS = 50_000, 10_000, 10, 1_000, 100
VIEWS = ("identity", "flip")
PATIENT = (10, 60, 600)  # seconds a model


class Guess:
    """Answers as a trained model would, in shape."""

    access, signal, n_classes, digest, n_parameters = (
        Access.PROBABILITIES,
        "probabilities",
        CLASSES,
        "guess",
        None,
    )

    def __call__(self, records: Records, seed: int) -> Guess:
        """Itself."""
        return self

    def query(self, x: np.ndarray) -> np.ndarray:
        """Probabilities (n, k)."""
        return np.random.default_rng(0).dirichlet(np.ones(CLASSES), len(x))


def images(n: int, first: int) -> Records:
    """Records of CIFAR-10's shape and type."""
    rng = np.random.default_rng(first)
    x = rng.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    return Records(x, rng.integers(0, CLASSES, n), np.arange(first, first + n).astype(str))


def main() -> None:
    """Print the table of `docs/distribution.md`."""
    pool, others = images(N, 0), images(POPULATION, N)
    levels = (Level(Access.LABEL), Level(Access.PROBABILITIES))
    wanted = tuple(
        dict.fromkeys(
            level.wanted(attack.needs.spec, 0)
            for level in levels
            for attack in Plan().chosen()
            if any(attack.needs.references)
            and attack.needs.spec.source == "answer"
            and is_worth_running(attack, level)
        )
    )
    inside = build_balanced_design(N, N // 2, MODELS, np.random.default_rng(0), strata=pool.y)
    order = TrainingJob(
        Guess(), pool, inside, tuple(range(MODELS)), wanted, "probabilities", CLASSES, VIEWS, others
    )
    sent = len(pickle.dumps(order, 5))
    asked = len(pickle.dumps((run_job, None, 0, (0,)), 5))
    answer = observe_signals(order.observation(), Guess(), pool, inside[0], others)
    back = len(pickle.dumps(answer, 5))
    with tempfile.TemporaryDirectory() as folder:
        Store(folder).put_all((build_model_keys(order) or [""])[0], answer)
        kept = sum(path.stat().st_size for path in Path(folder).iterdir())
    print(f"signals kept: {', '.join(entry.name for entry in wanted)}; views: {', '.join(VIEWS)}")
    for name, array in answer.items():
        print(f"  {name:<14} {array.shape!s:<16} {array.dtype!s:<8} {array.nbytes / 1e6:8.3f} MB")
    print(
        f"sent to each worker, once    {sent / 1e6:10.1f} MB (of it x {pool.x.nbytes / 1e6:.1f}, "
        f"inside {inside.nbytes / 1e6:.1f})"
    )
    print(f"sent with each model         {asked:10d} bytes, and what Dask or Ray adds")
    print(f"sent back with each model    {back / 1e6:10.3f} MB")
    print(f"kept of each model           {kept / 1e6:10.3f} MB")
    print(
        f"{MODELS} models: records to {GPUS} workers {sent * GPUS / 1e9:.1f} GB, answers back "
        f"{back * MODELS / 1e9:.2f} GB,"
    )
    print(
        f"             store {kept * MODELS / 1e9:.2f} GB, and as much again in memory maps while "
        "it is scored"
    )
    for seconds in PATIENT:
        rate = GPUS / seconds
        hours = MODELS * seconds / GPUS / 3600
        print(
            f"  at {seconds:>3} s a model: {hours:.2f} h, {rate:6.2f} models/s, "
            f"{rate * back / 1e6:6.2f} MB/s back"
        )


if __name__ == "__main__":
    main()
