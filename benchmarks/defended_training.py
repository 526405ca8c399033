"""Training with a defence beside training without it, stacked.

8 models of W1 (Location-30, MLP) on one thread, best of two, in one run.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from aims import judge
from data import location30
from defences import location_mlp
from memberscope.defences import parse_defence
from memberscope.recipes import SGD, TorchRecipe, build_balanced_design
from memberscope.types import Records

NAMES = (
    "none",
    "l2:0.001",
    "dropout:0.5",
    "smooth:0.1",
    "relaxloss:1",
    "early_stopping:50",
    "hamp:0.5:0.001",
    "mixup:0.4",
)
MODELS = 8
AIM = 1.3  # times the undefended training, for those that train stacked like it
AIMED = ("l2", "dropout", "smooth", "relaxloss", "early_stopping")


def seconds(recipe: Any, pool: Records, inside: np.ndarray) -> float:
    """Of training all models, the better of two runs."""
    found = []
    for _ in range(2):
        started = time.perf_counter()
        list(recipe.many(pool, inside, list(range(MODELS))))
        found.append(time.perf_counter() - started)
    return min(found)


def main() -> None:
    torch.set_num_threads(1)
    x, y = location30()
    rows = np.random.default_rng(0).permutation(len(y))[:2700]
    pool = Records(x[rows].astype(np.float32), y[rows].astype(np.int64), rows.astype(str))
    inside = build_balanced_design(len(pool), 1350, MODELS, np.random.default_rng(1))
    base = TorchRecipe(
        location_mlp, SGD(0.1), epochs=15, batch_size=64, engine="matrices", stack=MODELS
    )
    print("| training | seconds | of undefended |\n|---|---|---|")
    first = None
    for name in NAMES:
        took = seconds(parse_defence(name).recipe(base), pool, inside)
        first = first or took
        aim = AIM if name.partition(":")[0] in AIMED else None
        verdict = judge(f"{name}, times undefended", took / first, at_most=aim)
        print(f"| {name} | {took:.1f} | {took / first:.2f} {verdict} |", flush=True)


if __name__ == "__main__":
    main()
