"""Decide what a recipe leaves open, once by measurement, and keep the decision.

Resumed and remote work reuses it from the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from memberscope.facts import RecipeFacts, read_recipe_facts
from memberscope.recipes.fleet.execution import Execution, limit_threads
from memberscope.signals import Store
from memberscope.types import Recipe, Records

Choice = dict[str, Any]
GROWTH = 4  # times as many models as were measured for, up to which a decision is used again
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

    It is measured unless the store holds it from an earlier run, or that of a fleet which this one
    continues.
    """
    facts = read_recipe_facts(recipe)
    # Most recipes leave nothing open
    if facts.tuned is None:
        return recipe, dict(PLAIN)
    # Without a digest, or a way to apply it, the decision is measured anew each time
    key = _build_choice_key(facts, pool, size)
    kept = _read_decisions(store.get_all(key)) if store and key else {}
    found, decided = _find_decision(kept, n_models), None
    if found is None:
        # Measured as jobs run: one job must not borrow the cores of others
        with limit_threads(1):
            decided, choice = facts.tuned(pool, size, n_models)
        found = Decision(n_models, choice)
    # Also where it is another fleet's: further decisions must not change this one
    if store and key and kept.get(n_models) != found:
        _write_decisions(store, key, kept | {n_models: found})
    if decided is None:
        assert facts.chosen is not None, "a decision was kept that cannot be applied"
        decided = facts.chosen(found.choice)
    return decided, found.choice


def find_tuned_recipe(
    recipe: Recipe, pool: Records, size: int, n_models: int, store: Store
) -> Recipe | None:
    """Find the recipe as an audit would train it, where nothing is left to measure.

    None where something is. Nothing is written.
    """
    facts = read_recipe_facts(recipe)
    if facts.tuned is None:
        return recipe
    key = _build_choice_key(facts, pool, size)
    found = _find_decision(_read_decisions(store.get_all(key)), n_models) if key else None
    return None if found is None or facts.chosen is None else facts.chosen(found.choice)


@dataclass(frozen=True)
class Decision:
    """A choice, and for how many models it was measured."""

    measured: int
    choice: Choice


def _find_decision(kept: Mapping[int, Decision], n_models: int) -> Decision | None:
    """Find the decision for `n_models` models among those kept, by numbers of models.

    A fleet that grows up to fourfold, or shrinks to whole stacks, keeps its decision: with another
    stack all its models would have to be trained again. One model alone has threads of its own.

    >>> kept = {8: Decision(8, {"stack": 4})}
    >>> [n for n in (1, 2, 4, 6, 8, 16, 32, 33) if _find_decision(kept, n)]
    [4, 8, 16, 32]
    """
    if n_models in kept:
        return kept[n_models]
    several = {n: found for n, found in kept.items() if min(n, found.measured, n_models) > 1}
    larger = [
        n
        for n, found in several.items()
        if n > n_models and not n_models % (found.choice["stack"] or 1)
    ]
    smaller = [
        n
        for n, found in several.items()
        # By the number measured, or small steps would add up to any growth
        if n < n_models <= GROWTH * found.measured
    ]
    if larger or smaller:
        return several[min(larger) if larger else max(smaller)]
    return None


def _read_decisions(entry: dict[str, Any] | None) -> dict[int, Decision]:
    """Read the decisions in an entry of the store, by number of models.

    Give none if there is no entry, or another program wrote it.
    """
    try:
        rows = json.loads((entry or {})["choices"].tobytes())
        found = {int(n): Decision(int(row["measured"]), row["choice"]) for n, row in rows.items()}
        whole = all({"engine", "stack", "threads"} <= row.choice.keys() for row in found.values())
        return found if whole else {}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _write_decisions(store: Store, key: str, decisions: Mapping[int, Decision]) -> None:
    """Write the decisions under `key`."""
    rows = {str(n): asdict(found) for n, found in sorted(decisions.items())}
    store.put_all(key, {"choices": np.frombuffer(json.dumps(rows).encode(), dtype=np.uint8)})


def _build_choice_key(facts: RecipeFacts, pool: Records, size: int) -> str | None:
    """Build the key of decisions: the recipe, and the shape of the work they were measured on.

    Give None where a decision cannot be kept, or not be applied again.
    """
    if facts.chosen is None or facts.digest is None:
        return None
    text = json.dumps(
        # Only the shape of the records: their values do not change how fast a step is
        [2, facts.digest, list(np.shape(pool.x)), str(getattr(pool.x, "dtype", "")), size]
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
