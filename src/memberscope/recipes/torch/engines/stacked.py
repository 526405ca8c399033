"""Train fully connected networks with stacked weights, by batched matrix products.

The backward pass is written out. The gradient of a weight is added to its momentum by the product
itself, so a step reads and writes little besides the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from memberscope.recipes.torch.batches import build_batch, iterate_steps
from memberscope.recipes.torch.early_stopping import build_stopping_state
from memberscope.recipes.torch.engines.loop import (
    build_loss,
    derive_dropout_seed,
    retain_freed_memory,
)
from memberscope.recipes.torch.linear_layers import Layer, find_linear_layers
from memberscope.recipes.torch.settings import SGD, Adam
from memberscope.recipes.torch.task import Task, TorchSettings


@dataclass(eq=False)
class Stacked:
    """Weights (b, in, out) and biases (b, 1, out) of one layer in all models.

    `memory` is the state of the optimiser for each.
    """

    values: list[Any]
    memory: list[list[Any]]


def train_stacked_networks(task: Task) -> None:
    """Train the task's networks in place, all at once."""
    import torch

    plan = find_linear_layers(task.modules[0], single=task.recipe.output_loss is not None)
    assert plan is not None, (
        "the engine `matrices` was given a module that is no fully connected network"
    )
    width = task.modules[0].get_submodule(plan[0].path).in_features
    recipe = task.recipe
    low = torch.bfloat16 if recipe.precision == "bfloat16" else None
    # Each layer of all models in one array, so that one product serves them all
    stacks = [stack_layer(task, layer) for layer in plan]
    x = task.x.reshape(len(task.x), width)
    # Without changes to records the low precision can be applied once, not at each step
    plain = not (recipe.augmentation or recipe.mixup)
    flat = replace(task, x=x.to(low or x.dtype) if plain else task.x)
    # Each model has a generator of its own, so that it does not depend on the stack it is in
    masks = [
        torch.Generator(task.x.device).manual_seed(derive_dropout_seed(seed)) for seed in task.seeds
    ]
    watch = build_stopping_state(task)
    # The backward pass is written out, and nothing needs to be recorded
    with retain_freed_memory(), torch.no_grad():
        for number, step in enumerate(iterate_steps(flat), start=1):
            inputs, labels = build_batch(flat, step)
            inputs = inputs.reshape(*labels.shape[:2], width).to(low or stacks[0].values[0].dtype)
            _run_training_step(
                plan,
                stacks,
                inputs,
                labels,
                _build_change(recipe, step.rate, step.epoch, number),
                masks,
            )
            if (
                # Early stopping looks once an epoch, at each model by itself
                watch is not None
                and step.last
                and watch.look(
                    _compute_stacked_held_logits(plan, stacks, x[task.held]),
                    partial(_copy_model_weights, stacks),
                )
            ):
                break
        # A model that stopped earlier than the others gets back its best weights
        if watch is not None:
            for i, kept in enumerate(watch.kept):
                _restore_model_weights(stacks, i, kept)
        for i, module in enumerate(task.modules):
            for layer, stack in zip(plan, stacks, strict=True):
                linear = module.get_submodule(layer.path)
                # torch stores weights as (out, in), the stack as (in, out)
                linear.weight.copy_(stack.values[0][i].T)
                if linear.bias is not None:
                    linear.bias.copy_(stack.values[1][i, 0])


@dataclass(frozen=True)
class Change:
    """How a step changes the weights.

    The recipe's settings, the present rate, and the number of the step from 1. `loss` is one of a
    model's logits (r, k) and targets; None is cross-entropy.
    """

    optimiser: SGD | Adam
    weight_decay: float
    label_smoothing: float
    rate: float
    number: int
    loss: Any = None


def _build_change(recipe: TorchSettings, rate: float, epoch: int, number: int) -> Change:
    """Build the change that the recipe makes in a step."""
    # The gradient of cross-entropy is known in closed form
    loss = None if recipe.loss == "cross_entropy" else build_loss(recipe, epoch)
    return Change(recipe.optimiser, recipe.weight_decay, recipe.label_smoothing, rate, number, loss)


def _compute_stacked_held_logits(plan: list[Layer], stacks: list[Stacked], inputs: Any) -> Any:
    """Compute logits (b, v, k) about the records held out of each model, without dropout."""
    import torch

    seen = inputs.to(stacks[0].values[0].dtype)
    for layer, stack in zip(plan, stacks, strict=True):
        own = stack.values
        z = torch.baddbmm(own[1], seen, own[0]) if len(own) == 2 else torch.bmm(seen, own[0])
        seen = layer.activation(z) if layer.activation is not None else z
    return seen


def _copy_model_weights(stacks: list[Stacked], i: int) -> list[list[Any]]:
    """Copy model i's weights, layer by layer."""
    return [[value[i].clone() for value in stack.values] for stack in stacks]


def _restore_model_weights(stacks: list[Stacked], i: int, kept: list[list[Any]]) -> None:
    """Restore earlier weights of model i."""
    for stack, values in zip(stacks, kept, strict=True):
        for value, before in zip(stack.values, values, strict=True):
            value[i] = before


def stack_layer(task: Task, layer: Layer) -> Stacked:
    """Stack one layer of all models, with an empty state of the optimiser."""
    import torch

    linears = [module.get_submodule(layer.path) for module in task.modules]
    # Transposed once here, and not in every product
    values = [torch.stack([linear.weight.detach().T for linear in linears]).contiguous()]
    if linears[0].bias is not None:
        values.append(torch.stack([linear.bias.detach()[None] for linear in linears]))
    # Adam keeps two moments, SGD one momentum
    n_memories = 2 if isinstance(task.recipe.optimiser, Adam) else 1
    return Stacked(
        values, [[torch.zeros_like(value) for _ in range(n_memories)] for value in values]
    )


def _run_training_step(
    plan: list[Layer],
    stacks: list[Stacked],
    inputs: Any,
    labels: Any,
    change: Change,
    masks: list[Any],
) -> None:
    """Run forward, backward and update of all models on inputs (b, r, f) and labels (b, r)."""
    import torch

    # In low precision the products use copies; updates go to the full weights
    weights = [[value.to(inputs.dtype) for value in stack.values] for stack in stacks]
    seen, outs = [inputs], []
    kept: list[Any] = []
    for layer, own in zip(plan, weights, strict=True):
        z = (
            torch.baddbmm(own[1], seen[-1], own[0])
            if len(own) == 2
            else torch.bmm(seen[-1], own[0])
        )
        out = layer.activation(z) if layer.activation is not None else z
        outs.append(out)
        kept.append(_draw_dropout_mask(out, layer.dropout, masks) if layer.dropout else None)
        seen.append(out * kept[-1] if layer.dropout else out)
    # Forward is done: from here on backwards, layer by layer
    back = _compute_logit_gradient(seen[-1], labels, change).to(inputs.dtype)
    for i in reversed(range(len(plan))):
        # Computed before the update below changes the weights that it needs
        before: Any = torch.bmm(back, weights[i][0].transpose(1, 2)) if i else None
        _update_layer(stacks[i], seen[i], back, change)
        if i:
            if kept[i - 1] is not None:
                before = before * kept[i - 1]
            back = backpropagate_activation(plan[i - 1].activation, before, outs[i - 1])


def _compute_logit_gradient(logits: Any, target: Any, change: Change) -> Any:
    """Compute the gradient (b, r, k) of each model's loss by its logits.

    `target` holds labels (b, r) or probabilities (b, r, k).
    """
    import torch

    # A loss of the user's own is differentiated by torch
    if change.loss is not None:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return torch.func.vmap(torch.func.grad(change.loss))(wide, target)
    # Labels, where only one entry of each row differs from the softmax
    if target.ndim == 2:
        return compute_cross_entropy_gradient(logits, target, change.label_smoothing)
    n, k = logits.shape[1:]
    # A softmax in bfloat16 would lose most of its digits
    wide = logits if logits.dtype == torch.float64 else logits.float()
    soft = (1 - change.label_smoothing) * target + change.label_smoothing / k
    return (torch.softmax(wide, -1) * soft.sum(-1, keepdim=True) - soft).div_(n)


def compute_cross_entropy_gradient(logits: Any, labels: Any, smoothing: float) -> Any:
    """Compute the gradient (b, r, k) of the mean cross-entropy by the logits."""
    import torch

    n, k = logits.shape[1:]
    wide = logits if logits.dtype == torch.float64 else logits.float()
    found = torch.softmax(wide, -1)
    # The softmax minus the smoothed target, without building the target
    found.scatter_add_(
        2, labels[..., None], torch.full_like(labels[..., None], smoothing - 1, dtype=found.dtype)
    )
    if smoothing:
        found -= smoothing / k
    return found.div_(n)


def backpropagate_activation(activation: Any, back: Any, out: Any) -> Any:
    """Compute the gradient by the activation's input, from its output `out`."""
    import torch

    # The operations that torch's own backward pass calls, so that the results agree
    aten = torch.ops.aten
    rules: dict[str, Callable[[], Any]] = {
        "ReLU": lambda: aten.threshold_backward(back, out, 0),
        "Tanh": lambda: aten.tanh_backward(back, out),
        "Sigmoid": lambda: aten.sigmoid_backward(back, out),
        "LeakyReLU": lambda: aten.leaky_relu_backward(back, out, activation.negative_slope, True),
    }
    return rules[type(activation).__name__]()


def _draw_dropout_mask(out: Any, share: float, masks: list[Any]) -> Any:
    """Draw zeros and 1 / (1 - share) in the shape of `out` (b, r, h).

    Each model's are from its own generator.
    """
    import torch

    keep = torch.empty_like(out)
    for own, generator in zip(keep, masks, strict=True):
        own.bernoulli_(1 - share, generator=generator)
    return keep.div_(1 - share)


def _update_layer(stack: Stacked, inputs: Any, back: Any, change: Change) -> None:
    """Update a layer's weights by the gradient of inputs (b, r, in) and back (b, r, out)."""
    import torch

    optimiser, weight = change.optimiser, stack.values[0]
    # The product adds to the momentum in one pass; Nesterov and mixed types need the gradient
    # itself
    fused = isinstance(optimiser, SGD) and not optimiser.nesterov and inputs.dtype == weight.dtype
    if fused and isinstance(optimiser, SGD):
        # Momentum times its factor plus the gradient, which is never stored by itself
        momentum = stack.memory[0][0]
        momentum.baddbmm_(inputs.transpose(1, 2), back, beta=optimiser.momentum)
        if change.weight_decay:
            momentum.add_(weight, alpha=change.weight_decay)
        weight.add_(momentum, alpha=-change.rate)
    else:
        apply_gradient(weight, torch.bmm(inputs.transpose(1, 2), back), stack.memory[0], change)
    if len(stack.values) == 2:
        apply_gradient(
            stack.values[1], back.sum(1, keepdim=True, dtype=weight.dtype), stack.memory[1], change
        )


def apply_gradient(value: Any, gradient: Any, memory: list[Any], change: Change) -> None:
    """Update `value` by its gradient as torch's optimisers do."""
    import torch

    optimiser, rate = change.optimiser, change.rate
    if isinstance(optimiser, SGD):
        if change.weight_decay:
            gradient = gradient.to(value.dtype).add_(value, alpha=change.weight_decay)
        torch.add(gradient, memory[0], alpha=optimiser.momentum, out=memory[0])
        direction = (
            gradient.to(value.dtype).add(memory[0], alpha=optimiser.momentum)
            if optimiser.nesterov
            else memory[0]
        )
        value.add_(direction, alpha=-rate)
        return
    # Decoupled weight decay, as in AdamW
    value.mul_(1 - rate * change.weight_decay)
    first, second = optimiser.betas
    gradient = gradient.to(value.dtype)
    memory[0].lerp_(gradient, 1 - first)
    memory[1].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    # Moments start at zero; dividing by 1 - beta^t undoes that bias
    scale = (memory[1].sqrt() / (1 - second**change.number) ** 0.5).add_(optimiser.eps)
    value.addcdiv_(memory[0], scale, value=-rate / (1 - first**change.number))
