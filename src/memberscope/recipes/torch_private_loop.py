"""DP-SGD for any other module, one after another: Opacus's gradients of single records and its optimiser, on our draws."""

from __future__ import annotations

import warnings
from typing import Any

from memberscope.errors import InputError
from memberscope.recipes.privacy import Privacy
from memberscope.recipes.torch import Task
from memberscope.recipes.torch_loop import dropout_seed, optimiser_of
from memberscope.recipes.torch_matrices import layers
from memberscope.recipes.torch_private_draws import alone, drawn, mechanism_of, noise_generator, poisson_steps


def fit(task: Task) -> None:
    """Train the task's modules in place, one by one."""
    for i in range(len(task.modules)):
        fit_one(alone(task, i))


def fit_one(task: Task) -> None:
    """Train the task's only module in place; the gradients of all records of a batch are in memory at once."""
    import torch

    opacus_parts()
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    recipe, mechanism, device = task.recipe, mechanism_of(task), task.x.device
    head = task.head
    module = GradSampleModule(task.modules[0].train(), loss_reduction="sum")
    optimiser = DPOptimizer(
        optimiser_of(recipe, [p for p in module.parameters() if p.requires_grad]),
        noise_multiplier=mechanism.noise,
        max_grad_norm=mechanism.clip,
        expected_batch_size=mechanism.expected,
        generator=noise_generator(task.seeds[0], device),
    )
    loss = torch.nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing, reduction="sum")
    with torch.random.fork_rng(devices=[device] if task.x.is_cuda else []), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        torch.manual_seed(dropout_seed(task.seeds[0]))
        for step, sizes in poisson_steps(task):
            for group in optimiser.param_groups:
                group["lr"] = step.rate
            optimiser.zero_grad(set_to_none=True)
            if sizes[0]:
                x, y = (part[0] for part in drawn(task, step, sizes))
                loss(head.logits(module(x)), y).backward()
            else:
                for parameter in optimiser.params:
                    parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
            optimiser.step()
    cleaned(module)


def cleaned(module: Any) -> None:
    """Take away from a trained module what Opacus hung on it."""
    for parameter in module.parameters():
        parameter.grad = None
    module.to_standard_module()
    for parameter in module.parameters():
        for name in ("grad_sample", "summed_grad", "_forward_counter"):
            if hasattr(parameter, name):
                delattr(parameter, name)


def opacus_parts() -> tuple[Any, Any]:
    """Opacus's ModuleValidator and GradSampleModule.

    Raises:
        InputError: Opacus is not installed.
    """
    try:
        from opacus import GradSampleModule
        from opacus.validators import ModuleValidator
    except ImportError as error:
        raise InputError(
            "Expected opacus for private training of such layers, got none. Run `pip install memberscope[dp]`."
        ) from error
    return ModuleValidator, GradSampleModule


def trainable(module: Any, privacy: Privacy) -> Any:
    """The module, its layers that mix records replaced if `privacy.fix` allows it.

    Raises:
        InputError: A layer mixes the records of a batch, so that no record's gradient is its own, or Opacus is not installed.
    """
    if layers(module) is not None:
        return module
    validator, samples = opacus_parts()
    if privacy.fix:
        module = validator.fix(module.train())
    for path, part in module.named_modules():
        if type(part) in validator.VALIDATORS and validator.VALIDATORS[type(part)](part):
            raise InputError(
                f"Expected layers that treat every record on its own, got {type(part).__name__} at {path or 'the top'!r}. "
                f"{remedy(type(part).__name__)}"
            )
    errors = samples.validate(module, strict=False)
    if errors:
        raise InputError(f"Expected a model that DP-SGD can train, got another ({errors[0]}). Replace that layer.")
    return module


def remedy(kind: str) -> str:
    """What to do about a layer that DP-SGD cannot train."""
    if "BatchNorm" in kind:
        return "Use GroupNorm in its place, or give Privacy(..., fix=True), which replaces it."
    return "Give Privacy(..., fix=True), which replaces it where Opacus knows how."
