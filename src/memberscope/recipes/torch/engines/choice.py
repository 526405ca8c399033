"""Choose how many models are trained together, by which engine, on how many threads.

The choice is measured once, on a few steps of the real work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from memberscope.errors import InputError
from memberscope.recipes.dp_accounting import Privacy
from memberscope.recipes.torch.engines import dpsgd_loop, dpsgd_stacked, loop, stacked, vmap
from memberscope.recipes.torch.linear_layers import find_linear_layers
from memberscope.recipes.torch.task import (
    Engine,
    Task,
    TorchSettings,
    build_initial_module,
    build_tensors,
    flush_denormals,
)
from memberscope.types import Records

Settings = TypeVar("Settings", bound=TorchSettings)
STEPS = 6  # measured steps a candidate, after a first one that is not counted
WORTH = 0.97  # a larger stack loses more when a run is killed: it must be this much faster
STACKS = {"cpu": (1, 2, 4, 8), "cuda": (1, 4, 16, 64)}  # numbers of models tried in a stack
# Layers without convolution, recurrence or attention, as far as torch.func stacks them on a CPU
LIGHT = (
    *("Linear", "BatchNorm1d", "LayerNorm", "Dropout", "Flatten", "Identity"),
    *("ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Tanh", "Sigmoid", "Softmax", "LogSoftmax"),
)
ENGINES: dict[str, Callable[[Task], None]] = {
    "matrices": stacked.train_stacked_networks,
    "vmap": vmap.train_with_vmap,
    "loop": loop.train_in_loop,
}
PRIVATE: dict[str, Callable[[Task], None]] = {
    "matrices": dpsgd_stacked.train_private_networks,
    "loop": dpsgd_loop.train_private_in_loop,
}


def select_engine(recipe: TorchSettings, module: Any) -> Callable[[Task], None]:
    """Select the engine that the recipe names, or the first that this module allows.

    Raises:
        InputError: It names one that cannot train the module.
    """
    # The first is the fastest, as far as that is known without a measurement
    able, why = list_engines(recipe, module)
    table = ENGINES if recipe.privacy is None else PRIVATE
    if recipe.engine == "auto":
        return table[able[0]]
    # Allowed on request, also where it is not among those worth trying
    can_stack = (
        recipe.engine == "vmap"
        and recipe.privacy is None
        and vmap.find_stacking_obstacle(module) is None
        and not recipe.stop
    )
    if recipe.engine not in (*able, "loop") and not can_stack:
        raise InputError(
            f"Expected a model that the engine {recipe.engine!r} can train, got "
            f"{type(module).__name__}: {why}. Use engine='auto'."
        )
    return table[recipe.engine]


def list_engines(recipe: TorchSettings, module: Any) -> tuple[tuple[Engine, ...], str]:
    """List engines worth trying for the module, fastest first.

    Also say why stacking stops where it does.
    """
    if recipe.privacy is not None:
        return _list_private_engines(module)
    # Written out, the backward pass would also change what is frozen
    frozen = any(not value.requires_grad for value in module.parameters())
    single = recipe.output_loss is not None
    linear = find_linear_layers(module, single=single) is not None
    if not callable(recipe.loss) and not frozen and linear:
        return ("matrices", "loop"), "fully connected: stacked weights, batched matrix products"
    # vmap runs all models for as many steps
    odd = vmap.find_stacking_obstacle(module) or ("training stops early" if recipe.stop else None)
    if odd is not None:
        return ("loop",), f"one by one, since {odd}"
    if recipe.device != "cpu":
        return ("vmap", "loop"), "stacked with torch.func.vmap"
    if _has_light_layers(module):
        # Large ones gain nothing: that is left to the measurement
        return ("loop", "vmap"), "stacked with torch.func.vmap where the layers are small"
    return ("loop",), "one by one: on a CPU such layers gain nothing from stacking"


def _has_light_layers(module: Any) -> bool:
    """Tell whether all layers are such that a step of a small network is mostly overhead."""
    leaves = [part for part in module.modules() if next(part.children(), None) is None]
    return all(
        type(part).__name__ in LIGHT and type(part).__module__.startswith("torch.nn")
        for part in leaves
    )


def _list_private_engines(module: Any) -> tuple[tuple[Engine, ...], str]:
    """Name the engine for the module's private training, and say why."""
    # The closed form counts the gradients of all layers, and frozen ones have none
    if find_linear_layers(module) is not None and all(p.requires_grad for p in module.parameters()):
        return ("matrices",), "fully connected: stacked weights, norms of gradients in closed form"
    return ("loop",), "one by one, gradients of single records by Opacus"


def choose_engine_settings(
    recipe: Settings, pool: Records, size: int, n_models: int
) -> tuple[Settings, dict[str, Any]]:
    """Decide what the recipe leaves open, for `n_models` of `size` records each.

    Give the recipe and the decision.

    Raises:
        InputError: The records are not an array, or the device is not available.
    """
    module = build_initial_module(recipe, 0)
    able, note = list_engines(recipe, module)
    cores = os.cpu_count() or 1
    found = recipe
    if recipe.stack is None or recipe.engine == "auto":
        trials = _list_trial_recipes(recipe, able, n_models, cores)
        # A lone candidate need not be measured
        found, _ = _find_fastest_recipe(trials, pool, size) if len(trials) > 1 else (trials[0], 0.0)
    on_cpu = recipe.device == "cpu"
    # Processes would have to share the one GPU
    processes = max(1, cores // found.threads) if on_cpu else 1
    choice = {
        "engine": found.engine,
        "stack": found.stack,
        "threads": found.threads,
        "processes": processes,
    }
    return found, choice | {"precision": found.precision, "device": found.device, "note": note}


def _list_trial_recipes(
    recipe: Settings, able: tuple[Engine, ...], n_models: int, cores: int
) -> list[Settings]:
    """List recipes to compare, small stacks first.

    Stacks leave every core a job, and a single job gets all cores.
    """
    on_cpu = recipe.device == "cpu"
    # Larger stacks would leave some cores without a model
    most = max(1, -(-n_models // (cores if on_cpu else 1)))
    chosen = able if recipe.engine == "auto" else (recipe.engine,)
    threads = cores if on_cpu and n_models == 1 else recipe.threads
    found = []
    for engine in chosen:
        # The loop trains one by one, whatever the stack
        stacks = (1,) if engine == "loop" else STACKS["cpu" if on_cpu else "cuda"]
        allowed = (
            [stack for stack in stacks if stack <= most] if recipe.stack is None else [recipe.stack]
        )
        found += [replace(recipe, engine=engine, stack=stack, threads=threads) for stack in allowed]
    return found


def _find_fastest_recipe(
    trials: list[Settings], pool: Records, size: int
) -> tuple[Settings, float]:
    """Find the quickest of `trials` by seconds a model and step, and those seconds."""
    best, least, failed = trials[-1], float("inf"), None
    for trial in trials:
        try:
            seconds = measure_step_seconds(trial, pool, size)
        # Too large for the memory, or a layer or loss that cannot be stacked
        except (RuntimeError, NotImplementedError) as error:
            failed = error
            continue
        # Small stacks come first, and a larger one must be clearly faster
        if seconds < WORTH * least:
            best, least = trial, seconds
    # If all fail, the work itself cannot be done
    if failed is not None and least == float("inf"):
        raise failed
    return best, least


def measure_step_seconds(recipe: TorchSettings, pool: Records, size: int) -> float:
    """Measure the seconds that one step of one model takes in a stack like the recipe's.

    Nothing is kept of the trained models.
    """
    stack = recipe.stack or 1
    x, y = build_tensors(recipe, pool, build_initial_module(recipe, 0))
    rng = np.random.default_rng(0)
    batch = min(recipe.batch_size, size)

    def run(n_steps: int) -> float:
        modules = [build_initial_module(recipe, seed) for seed in range(stack)]
        rows = np.stack(
            [
                rng.choice(len(pool), min(batch * n_steps, len(pool)), replace=False)
                for _ in range(stack)
            ]
        )
        # Early stopping would end the measured steps too soon
        short = replace(recipe, epochs=max(1, batch * n_steps // rows.shape[1]), stop=None)
        if short.privacy is not None:  # no search for the noise of these few steps
            short = replace(
                short,
                privacy=Privacy(noise_multiplier=1.0, max_grad_norm=short.privacy.max_grad_norm),
            )
        with flush_denormals():
            started = time.perf_counter()
            select_engine(short, modules[0])(Task(short, modules, x, y, rows, list(range(stack))))
            # Work on a GPU goes on after the call has returned
            if x.is_cuda:
                import torch

                torch.cuda.synchronize()
            return time.perf_counter() - started

    # The first run compiles and allocates; it would be measured with the steps
    run(1)
    # The quicker of two runs: other programs can only slow one down
    return min(run(STEPS) for _ in range(2)) / (STEPS * stack)
