"""One module after another, whatever it is: autograd, convolutions in the layout and precision that suit the processor."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memberscope.recipes.settings import SGD
from memberscope.recipes.torch import Task, TorchRecipe
from memberscope.recipes.torch_batches import batch, steps


def fit(task: Task) -> None:
    """Train the task's modules in place, one by one."""
    with kept_memory():
        for i in range(len(task.modules)):
            one = Task(task.recipe, task.modules[i : i + 1], task.x, task.y, task.rows[i : i + 1], task.seeds[i : i + 1])
            fit_one(one)


@contextmanager
def kept_memory() -> Iterator[None]:
    """Freed activations stay in the process meanwhile: glibc gives large ones back, and every step pays for fresh pages."""
    allocator: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(allocator, "mallopt"):
        yield
        return
    trim, map_from = -1, -3
    allocator.mallopt(map_from, 2**25)  # the most that glibc takes
    allocator.mallopt(trim, 2**31 - 1)
    try:
        yield
    finally:
        allocator.mallopt(trim, 2**25)
        allocator.malloc_trim(0)


def fit_one(task: Task) -> None:
    """Train the task's only module in place; dropout draws from the model's seed."""
    import torch

    recipe, module = task.recipe, task.modules[0]
    layout = torch.channels_last if any(p.ndim == 4 for p in module.parameters()) else torch.preserve_format
    module.train().to(memory_format=layout)
    optimiser, loss = optimiser_of(recipe, module.parameters()), loss_of(recipe)
    low = recipe.precision == "bfloat16"
    devices = [task.x.device] if task.x.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(dropout_seed(task.seeds[0]))
        for step in steps(task):
            x, y = (part[0] for part in batch(task, step))
            for group in optimiser.param_groups:
                group["lr"] = step.rate
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast(task.x.device.type, torch.bfloat16, enabled=low):
                outputs = module(x.to(memory_format=layout) if x.ndim == 4 else x)
            loss(outputs.float() if low else outputs, y).backward()
            optimiser.step()


def dropout_seed(seed: int) -> int:
    """Seed of a model's dropout, apart from that of its initial weights."""
    return seed ^ 0x5DEECE66D


def optimiser_of(recipe: TorchRecipe, parameters: Any) -> Any:
    """The torch optimiser that the recipe names, over `parameters`."""
    import torch

    chosen = recipe.optimiser
    if isinstance(chosen, SGD):
        return torch.optim.SGD(
            parameters,
            lr=chosen.lr,
            momentum=chosen.momentum,
            nesterov=chosen.nesterov,
            weight_decay=recipe.weight_decay,
            fused=recipe.precision != "float64",
        )
    return torch.optim.AdamW(
        parameters, lr=chosen.lr, betas=chosen.betas, eps=chosen.eps, weight_decay=recipe.weight_decay, foreach=True
    )


def loss_of(recipe: TorchRecipe) -> Any:
    """The loss as a function of logits (b, k) and labels (b,)."""
    import torch

    if callable(recipe.loss):
        return recipe.loss
    return torch.nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
