"""Train modules of one architecture together by `torch.func`, stacked.

It serves processors that are fast on large steps.

Elementwise optimisers act on stacked weights as on each model's own. Modules with running
statistics cannot be stacked.
"""

from __future__ import annotations

from typing import Any

from memberscope.recipes.torch.batches import build_batch, iterate_steps
from memberscope.recipes.torch.engines.loop import (
    build_loss,
    build_optimiser,
    derive_dropout_seed,
    read_outputs,
)
from memberscope.recipes.torch.task import Task


def train_with_vmap(task: Task) -> None:
    """Train the task's modules in place, all at once."""
    import torch
    from torch.func import functional_call, grad, stack_module_state, vmap

    recipe = task.recipe
    _ = task.head  # determined now: training mode would change what the module returns
    # All modules have one architecture: the first lends its code to all weights
    base = task.modules[0].train()
    parameters, _ = stack_module_state(task.modules)
    weights = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    optimiser = build_optimiser(recipe, list(weights.values()))
    low = recipe.precision == "bfloat16"

    def of_model(own: dict[str, Any], x: Any, y: Any, epoch: int) -> Any:
        with torch.autocast(task.x.device.type, torch.bfloat16, enabled=low):
            outputs = functional_call(base, own, (x,))
        return build_loss(recipe, epoch)(read_outputs(task, outputs), y)

    # Each model draws its own dropout
    gradients = vmap(grad(of_model), in_dims=(0, 0, 0, None), randomness="different")
    with torch.random.fork_rng(devices=[task.x.device] if task.x.is_cuda else []):
        torch.manual_seed(derive_dropout_seed(task.seeds[0]))
        for step in iterate_steps(task):
            for group in optimiser.param_groups:
                group["lr"] = step.rate
            found = gradients(
                {name: value.detach() for name, value in weights.items()},
                *build_batch(task, step),
                step.epoch,
            )
            for name, value in weights.items():
                # The optimiser works on stacked weights as on any others
                value.grad = found[name]
            optimiser.step()
    with torch.no_grad():
        for i, module in enumerate(task.modules):
            for name, value in module.named_parameters():
                value.copy_(weights[name][i])


def find_stacking_obstacle(module: Any) -> str | None:
    """Say why modules like this cannot be stacked, or give None if they can."""
    if next(module.buffers(), None) is not None:
        named = next(name for name, _ in module.named_buffers())
        return f"the module keeps running statistics ({named})"
    if next(module.parameters(), None) is None:
        return "the module has no parameters"
    return None
