"""Train one module after another, whatever it is.

It uses autograd, and convolutions in the layout and precision that suit the processor.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

from memberscope.recipes.torch.batches import build_batch, iterate_steps
from memberscope.recipes.torch.early_stopping import build_stopping_state
from memberscope.recipes.torch.losses import Loss
from memberscope.recipes.torch.settings import SGD
from memberscope.recipes.torch.task import Task, TorchSettings


def train_in_loop(task: Task) -> None:
    """Train the task's modules in place, one by one."""
    with retain_freed_memory():
        for i in range(len(task.modules)):
            _train_module(_extract_model_task(task, i))


def _extract_model_task(task: Task, i: int) -> Task:
    """Extract the task of model `i` alone."""
    rows, soft, held = (
        None if part is None else part[i : i + 1] for part in (task.rows, task.soft, task.held)
    )
    assert rows is not None
    return Task(
        task.recipe,
        task.modules[i : i + 1],
        task.x,
        task.y,
        rows,
        task.seeds[i : i + 1],
        soft,
        held,
    )


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Keep freed activations in the process meanwhile.

    glibc gives large ones back to the system, and every step then pays for fresh pages.
    """
    allocator: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(allocator, "mallopt"):
        yield
        return
    # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
    trim, map_from = -1, -3
    allocator.mallopt(map_from, 2**25)  # the most that glibc takes
    allocator.mallopt(trim, 2**31 - 1)
    try:
        yield
    finally:
        allocator.mallopt(trim, 2**25)
        # What was kept goes back to the system at once
        allocator.malloc_trim(0)


def _train_module(task: Task) -> None:
    """Train the task's only module in place; dropout draws from the model's seed."""
    import torch

    recipe, module = task.recipe, task.modules[0]
    layout = choose_memory_layout(module)
    _ = task.head  # determined now: training mode would change what the module returns
    module.train().to(memory_format=layout)
    optimiser, watch = build_optimiser(recipe, module.parameters()), build_stopping_state(task)
    low = recipe.precision == "bfloat16"
    devices = [task.x.device] if task.x.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        # Any constant apart from the seed itself, which the initial weights have used
        torch.manual_seed(derive_dropout_seed(task.seeds[0]))
        for step in iterate_steps(task):
            x, y = (part[0] for part in build_batch(task, step))
            # The schedule is this package's own, so that all engines follow the same one
            for group in optimiser.param_groups:
                group["lr"] = step.rate
            optimiser.zero_grad(set_to_none=True)
            # Only the forward pass: the loss is computed in full precision
            with torch.autocast(task.x.device.type, torch.bfloat16, enabled=low):
                outputs = module(x.to(memory_format=layout) if x.ndim == 4 else x)
            build_loss(recipe, step.epoch)(read_outputs(task, outputs), y).backward()
            optimiser.step()
            if (
                watch is not None
                and step.last
                and watch.look(
                    _compute_held_logits(task, layout), lambda _: deepcopy(module.state_dict())
                )
            ):
                break
        if watch is not None:
            # The weights of the best epoch, not of the last one
            module.load_state_dict(watch.kept[0])


def choose_memory_layout(module: Any) -> Any:
    """Choose torch's memory format for a module: convolutions are faster with channels last."""
    import torch

    if not any(value.ndim == 4 for value in module.parameters()):
        return torch.preserve_format
    # oneDNN 3 writes past its memory there, and the process dies
    broken = any(
        isinstance(part, torch.nn.Conv2d)
        and part.kernel_size == (1, 1)
        and max(part.stride) > 1
        and part.in_channels < 8
        for part in module.modules()
    )
    return torch.preserve_format if broken else torch.channels_last


def read_outputs(task: Task, outputs: Any) -> Any:
    """Prepare a module's outputs for the loss.

    They become logits in full precision, or stay as they are for losses of real outputs and the
    user's own.
    """
    # Named losses take logits; the user's own takes what the module returns
    if not task.recipe.takes_outputs:
        return task.head.logits(outputs)
    return (
        outputs.float()
        if task.recipe.precision == "bfloat16" and hasattr(outputs, "float")
        else outputs
    )


def _compute_held_logits(task: Task, layout: Any) -> Any:
    """Compute the module's logits (1, v, k) about the records held out, in eval mode.

    A thousand records at a time.
    """
    import torch

    # Eval mode, so that dropout does not disturb the comparison of epochs
    module, held = task.modules[0].eval(), torch.from_numpy(task.held[0]).to(task.x.device)
    with torch.no_grad():
        parts = [task.x[part] for part in torch.split(held, 1000)]
        found = torch.cat(
            [
                task.head.logits(module(part.to(memory_format=layout) if part.ndim == 4 else part))
                for part in parts
            ]
        )
    module.train()
    return found[None]


def derive_dropout_seed(seed: int) -> int:
    """Derive the seed of a model's dropout, which differs from that of its initial weights."""
    return seed ^ 0x5DEECE66D


def build_optimiser(recipe: TorchSettings, parameters: Any) -> Any:
    """Build the torch optimiser that the recipe names, over `parameters`."""
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
        parameters,
        lr=chosen.lr,
        betas=chosen.betas,
        eps=chosen.eps,
        weight_decay=recipe.weight_decay,
        foreach=True,
    )


def build_loss(recipe: TorchSettings, epoch: int) -> Any:
    """Build the loss in `epoch` as a function of logits (r, k) and labels (r,).

    Instead of labels there may be probabilities (r, k).
    """
    import torch

    if callable(recipe.loss):
        return recipe.loss
    if recipe.output_loss is not None:
        return partial(recipe.output_loss.of, epoch=epoch)
    if isinstance(recipe.loss, Loss):
        return partial(recipe.loss.of, epoch=epoch)
    return torch.nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
