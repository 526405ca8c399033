"""Decide what a recipe leaves open, once by measurement, and keep the decision.

Resumed and remote work reuses it from the store.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np

from memberscope.facts import RecipeFacts, read_recipe_facts
from memberscope.recipes.fleet.execution import Execution, limit_threads
from memberscope.signals import Store
from memberscope.types import Recipe, Records

Choice = dict[str, Any]
PLAIN: Choice = {
    "engine": "the recipe's own",
    "stack": 1,
    "threads": 1,
    "note": "one by one: the recipe trains a model a call",
}


def tune_recipe(
    recipe: Recipe, pool: Records, size: int, n_models: int, store: Store | None
) -> tuple[Recipe, Choice]:
    """Decide what the recipe leaves open; give the recipe and the decision.

    It is measured unless the store holds it from an earlier run.
    """
    facts = read_recipe_facts(recipe)
    # Most recipes leave nothing open
    if facts.tuned is None:
        return recipe, dict(PLAIN)
    # Without a digest, or a way to apply it, the decision is measured anew each time
    key = _build_choice_key(facts, pool, size, n_models)
    kept = store.get_all(key) if store and key else None
    found = _read_choice(kept)
    if found is not None and facts.chosen is not None:
        return facts.chosen(found), found
    # Measured as jobs run: one job must not borrow the cores of others
    with limit_threads(1):
        decided, choice = facts.tuned(pool, size, n_models)
    if store and key:
        store.put_all(key, {"choice": np.frombuffer(json.dumps(choice).encode(), dtype=np.uint8)})
    return decided, choice


def is_recipe_tuned(recipe: Recipe, pool: Records, size: int, n_models: int, store: Store) -> bool:
    """Check whether nothing is left to measure.

    True if the recipe leaves nothing open, or the store holds the decision.
    """
    facts = read_recipe_facts(recipe)
    if facts.tuned is None:
        return True
    key = _build_choice_key(facts, pool, size, n_models)
    return key is not None and _read_choice(store.get_all(key)) is not None


def _read_choice(entry: dict[str, Any] | None) -> Choice | None:
    """Read the decision in an entry of the store.

    Give None if there is none, or another program wrote it.
    """
    try:
        choice: Choice = json.loads((entry or {})["choice"].tobytes())
        return choice if {"engine", "stack", "threads"} <= choice.keys() else None
    except (KeyError, ValueError, AttributeError):
        return None


def _build_choice_key(facts: RecipeFacts, pool: Records, size: int, n_models: int) -> str | None:
    """Build the key of a decision: the recipe, and the shape of the work it was measured on.

    Give None where the decision cannot be kept, or not be applied again.
    """
    if facts.chosen is None or facts.digest is None:
        return None
    text = json.dumps(
        # Only the shape of the records: their values do not change how fast a step is
        [1, facts.digest, list(np.shape(pool.x)), str(getattr(pool.x, "dtype", "")), size, n_models]
    )
    return "choice-" + hashlib.sha256(text.encode()).hexdigest()


def limit_jobs(execution: Execution, choice: Choice) -> Execution:
    """Limit the jobs at a time to what the choice has room for on this machine.

    Clusters are left unchanged.

    >>> limit_jobs(Execution(), {"threads": 1, "processes": 2}).n_jobs, limit_jobs(Execution(n_jobs=4), {"processes": 1}).n_jobs
    (2, 1)
    """
    processes = choice.get("processes")
    if processes is None or execution.backend in ("dask", "ray"):
        return execution
    n_jobs = processes if execution.n_jobs < 0 else min(execution.n_jobs, processes)
    # A timeout needs a second process: this one cannot end its own job
    alone = n_jobs <= 1 and execution.timeout is None
    return (
        replace(execution, backend="sequential", n_jobs=1)
        if alone
        else replace(execution, n_jobs=max(n_jobs, 1))
    )
