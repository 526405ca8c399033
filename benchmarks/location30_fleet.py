"""Location-30 networks by the dozen.

Reference models on a balanced design, and targets whose members were drawn apart from it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import data
import tanh_mlp
from memberscope.attacks import RMIA, Calibrated, LiRA
from memberscope.auditing.collect.reference_models import mark_converged_models
from memberscope.recipes import (
    Execution,
    FunctionRecipe,
    ReferenceFleet,
    TrainingJob,
    build_balanced_design,
    train_fleet,
)
from memberscope.signals import SignalRequest, Store
from memberscope.types import Access, Attack, Evidence, Records, SignalSpec

POOL, SIZE = 2_700, 1_350
SPECS = (
    LiRA().needs.spec,
    Calibrated("log_confidence").needs.spec,
    RMIA().needs.spec,
    RMIA(temperature=1.0).needs.spec,
)
WANTED = tuple(SignalRequest(Access.LOGITS, spec) for spec in (SignalSpec(), *SPECS))
CACHE = Path(
    os.environ.get("MEMBERSCOPE_CACHE", Path(tempfile.gettempdir()) / "memberscope-benchmarks")
)


@dataclass(frozen=True, eq=False)
class Models:
    """A fleet and the positions of its models that converged.

    The `n_pairs` whole pairs of the design first, then the others.
    """

    fleet: ReferenceFleet
    good: np.ndarray
    n_pairs: int


@cache
def records() -> tuple[Records, Records]:
    """The pool of 2,700 random rows, and the other 2,310, which no model sees."""
    x, y = data.location30()
    order = np.random.default_rng(0).permutation(len(y))
    parts = [
        Records(x[rows], y[rows].astype(np.int64), rows.astype(str))
        for rows in (order[:POOL], order[POOL:])
    ]
    return parts[0], parts[1]


def models(
    function: Callable[[Any, int], Any], n_models: int, seed: int, *, paired: bool
) -> Models:
    """Models trained on half of the pool each.

    Dealt in complementary pairs, or each half drawn on its own.
    """
    pool, others = records()
    rng = np.random.default_rng(seed)
    if paired:
        inside = build_balanced_design(POOL, SIZE, n_models, rng)
    else:
        inside = np.stack([rng.permutation(POOL) < SIZE for _ in range(n_models)])
    seeds = tuple(1000 * seed + model for model in range(n_models))
    order = TrainingJob(
        FunctionRecipe(function), pool, inside, seeds, WANTED, "logits", 30, population=others
    )
    fleet = train_fleet(order, Store(CACHE), Execution(n_jobs=2), progress)
    good = mark_converged_models(fleet.train_accuracy, 1.0)
    whole = np.repeat(good[0::2] & good[1::2], 2)
    return Models(
        fleet,
        np.concatenate([np.flatnonzero(whole), np.flatnonzero(good & ~whole)]),
        int(whole.sum()) // 2,
    )


def progress(done: int, total: int) -> None:
    """One line, overwritten."""
    print(f"\r{done} of {total} models", end="\n" if done == total else "", file=sys.stderr)


def untrained(records: Any, seed: int) -> Any:
    """A network that never saw a record."""
    return tanh_mlp.network(10_000 + seed, glorot=False).eval()


def wanted_by(attack: Attack) -> SignalRequest:
    """The signal that an attack reads of each model."""
    return SignalRequest(Access.LOGITS, attack.needs.spec)


def evidence_of(
    attack: Attack,
    target: tuple[ReferenceFleet, int],
    references: ReferenceFleet,
    chosen: np.ndarray,
) -> Evidence:
    """What the attack sees: one model of the first fleet as the target.

    The `chosen` ones of the other as references.
    """
    wanted, (fleet, model) = wanted_by(attack), target
    pool, others = records()
    sides = []
    for part, seen in ((pool, "observed"), (others, "population")):
        inside = (
            references.inside[chosen]
            if part is pool
            else np.zeros((len(chosen), len(part)), dtype=bool)
        )
        values, refs = (
            getattr(fleet, seen)[wanted][model],
            getattr(references, seen)[wanted][chosen],
        )
        signal = "logits" if wanted.spec.name == "outputs" else wanted.spec.name
        hidden = np.full(len(part), -1, dtype=np.int8)
        sides.append(Evidence(signal, values, part.y, hidden, references=refs, inside=inside))
    return replace(sides[0], population=sides[1])
