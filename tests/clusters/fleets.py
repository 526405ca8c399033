"""Run one small fleet in this process's environment.

`python fleets.py BACKEND ADDRESS STORE OUT RECIPE [MODELS] [TASK]`.

Progress goes to standard output, an error's sentence to standard error, and OUT holds a hash of
everything that was observed.
"""

import hashlib
import sys
import warnings
from pathlib import Path

import numpy as np

from memberscope.errors import MemberscopeError
from memberscope.recipes import (
    Execution,
    TrainingJob,
    build_balanced_design,
    load_recipe,
    train_fleet,
)
from memberscope.signals import SignalRequest, Store
from memberscope.types import Access, Records, SignalSpec

LOGIT = SignalRequest(Access.PROBABILITIES, SignalSpec("logit_confidence"))
ALL = SignalRequest(Access.PROBABILITIES, SignalSpec())


def order(recipe, models: int, n: int = 400) -> TrainingJob:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 20))
    y = (x[:, 0] + rng.normal(size=n) > 0).astype(int) + (x[:, 1] > 1)
    pool = Records(x, y, np.arange(n).astype(str), {"side": np.where(x[:, 2] > 0, "right", "left")})
    others = Records(
        rng.normal(size=(50, 20)), rng.integers(0, 3, 50), np.arange(n, n + 50).astype(str)
    )
    inside = build_balanced_design(n, n // 2, models, np.random.default_rng(1), strata=y)
    return TrainingJob(
        recipe,
        pool,
        inside,
        tuple(range(models)),
        (LOGIT, ALL),
        "probabilities",
        3,
        ("identity", "noise:0.1"),
        others,
    )


def order_texts(recipe, models: int, n: int = 60) -> TrainingJob:
    """Order references of a language model, which learn from whole documents."""
    rng = np.random.default_rng(0)
    x = np.array([" ".join(rng.choice(list("abcdefgh"), 12)) for _ in range(n)], dtype=object)
    pool = Records(x, np.zeros(n, np.int64), np.arange(n).astype(str))
    inside = build_balanced_design(n, n // 2, models, np.random.default_rng(1))
    wanted = tuple(
        SignalRequest(Access.TOKEN_PROBABILITIES, SignalSpec(name))
        for name in ("log_confidence", "token_features")
    )
    return TrainingJob(recipe, pool, inside, tuple(range(models)), wanted, "loss", 1, task="text")


ORDERS = {"classification": order, "text": order_texts}


def digest(fleet) -> str:
    hasher = hashlib.sha256()
    tables = [
        *fleet.observed.values(),
        *fleet.population.values(),
        fleet.predicted,
        fleet.confidence,
    ]
    for array in (*tables, fleet.train_accuracy, fleet.held_out_accuracy):
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()


def main(
    backend: str,
    address: str,
    store: str,
    out: str,
    recipe: str,
    models: str = "8",
    task: str = "classification",
) -> int:
    warnings.simplefilter("error")
    if backend == "ray":
        from here import keep

        keep()
    execution = Execution(backend, address or None, n_jobs=2)
    try:
        fleet = train_fleet(
            ORDERS[task](load_recipe(recipe), int(models)),
            Store(store) if store else None,
            execution,
            lambda done, total: print(f"{done} of {total}", flush=True),
        )
    except MemberscopeError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    Path(out).write_text(digest(fleet))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
