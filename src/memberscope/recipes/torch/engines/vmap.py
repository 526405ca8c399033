"""Train modules of one architecture together by `torch.func`, stacked.

It serves processors that are fast on large steps.

Elementwise optimisers act on stacked weights as on each model's own. Running statistics are
stacked like the weights, so that each model keeps its own.
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
    parameters, buffers = stack_module_state(task.modules)
    trained = {name for name, value in base.named_parameters() if value.requires_grad}
    weights = {name: parameters[name].detach().requires_grad_() for name in sorted(trained)}
    # What the optimiser leaves alone: running statistics, and weights that are frozen
    rest = {
        name: value.detach()
        for name, value in (parameters | buffers).items()
        if name not in trained
    }
    optimiser = build_optimiser(recipe, list(weights.values()))
    low = recipe.precision == "bfloat16"

    def of_model(own: dict[str, Any], kept: dict[str, Any], x: Any, y: Any, epoch: int) -> Any:
        state = own | kept
        with torch.autocast(task.x.device.type, torch.bfloat16, enabled=low):
            outputs = functional_call(base, state, (x,))
        loss = build_loss(recipe, epoch)(read_outputs(task, outputs), y)
        # The call has put into `state` what the forward pass made of the statistics
        return loss, {name: state[name].detach() for name in kept}

    # Each model draws its own dropout
    gradients = vmap(
        grad(of_model, has_aux=True), in_dims=(0, 0, 0, 0, None), randomness="different"
    )
    with torch.random.fork_rng(devices=[task.x.device] if task.x.is_cuda else []):
        torch.manual_seed(derive_dropout_seed(task.seeds[0]))
        for step in iterate_steps(task):
            for group in optimiser.param_groups:
                group["lr"] = step.rate
            found, rest = gradients(
                {name: value.detach() for name, value in weights.items()},
                rest,
                *build_batch(task, step),
                step.epoch,
            )
            for name, value in weights.items():
                # The optimiser works on stacked weights as on any others
                value.grad = found[name]
            optimiser.step()
    with torch.no_grad():
        for i, module in enumerate(task.modules):
            own = dict(module.named_parameters()) | dict(module.named_buffers())
            for name, values in (weights | rest).items():
                own[name].copy_(values[i])


def find_stacking_obstacle(module: Any) -> str | None:
    """Say why modules like this cannot be stacked, or give None if they can."""
    if next(module.parameters(), None) is None:
        return "the module has no parameters"
    for name, part in module.named_modules():
        # Its weight is read as a Python number, of which a stack has several
        if getattr(part, "track_running_stats", False) and part.momentum is None:
            return f"the layer {name!r} averages its statistics over all batches"
    return None
