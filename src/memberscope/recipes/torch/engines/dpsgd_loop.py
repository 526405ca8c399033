"""Train any module by DP-SGD, one after another.

It uses Opacus's gradients of single records and its optimiser, on this package's own draws.
"""

from __future__ import annotations

import warnings
from typing import Any

from memberscope.recipes.torch.dpsgd_modules import import_opacus
from memberscope.recipes.torch.engines.loop import build_optimiser, derive_dropout_seed
from memberscope.recipes.torch.poisson_sampling import (
    build_mechanism,
    build_noise_generator,
    build_poisson_batch,
    draw_poisson_steps,
    select_model_task,
)
from memberscope.recipes.torch.task import Task


def train_private_in_loop(task: Task) -> None:
    """Train the task's modules in place, one by one."""
    for i in range(len(task.modules)):
        _train_private_module(select_model_task(task, i))


def _train_private_module(task: Task) -> None:
    """Train the task's only module in place.

    The gradients of all records of a batch are in memory at once.
    """
    import torch

    import_opacus()
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    recipe, mechanism, device = task.recipe, build_mechanism(task), task.x.device
    head = task.head
    # Hooks of Opacus keep each record's gradient
    module = GradSampleModule(task.modules[0].train(), loss_reduction="sum")
    optimiser = DPOptimizer(
        build_optimiser(recipe, [p for p in module.parameters() if p.requires_grad]),
        noise_multiplier=mechanism.noise,
        max_grad_norm=mechanism.clip,
        expected_batch_size=mechanism.expected,
        generator=build_noise_generator(task.seeds[0], device),
    )
    # Sums, since Opacus divides by the expected size of a batch itself
    loss = torch.nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing, reduction="sum")
    with (
        torch.random.fork_rng(devices=[device] if task.x.is_cuda else []),
        warnings.catch_warnings(),
    ):
        # The records need no gradient, of which torch warns
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        torch.manual_seed(derive_dropout_seed(task.seeds[0]))
        for step, sizes in draw_poisson_steps(task):
            for group in optimiser.param_groups:
                group["lr"] = step.rate
            optimiser.zero_grad(set_to_none=True)
            if sizes[0]:
                x, y = (part[0] for part in build_poisson_batch(task, step, sizes))
                loss(head.logits(module(x)), y).backward()
            else:
                # An empty sample still adds noise and moves the weights, as the proof assumes
                for parameter in optimiser.params:
                    parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
            optimiser.step()
    _remove_opacus_hooks(module)


def _remove_opacus_hooks(module: Any) -> None:
    """Remove from a trained module what Opacus attached to it."""
    for parameter in module.parameters():
        parameter.grad = None
    module.to_standard_module()
    for parameter in module.parameters():
        for name in ("grad_sample", "summed_grad", "_forward_counter"):
            if hasattr(parameter, name):
                delattr(parameter, name)
