"""Train fully connected networks by DP-SGD with stacked weights.

No gradient of a single record is ever written out.

The gradient of a linear layer's weights on one record is the outer product of the layer's input, a,
and the loss's slope by its output, d. Its squared norm is |a|²|d|², with a bias (|a|² + 1)|d|² (I.
Goodfellow, arXiv:1510.01799). So norms cost two sums, clipping is a scaling of d, and the clipped
sum is one product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from memberscope.recipes.torch.engines.loop import derive_dropout_seed
from memberscope.recipes.torch.engines.stacked import (
    Change,
    Stacked,
    apply_gradient,
    backpropagate_activation,
    compute_cross_entropy_gradient,
    stack_layer,
)
from memberscope.recipes.torch.linear_layers import Layer, find_linear_layers
from memberscope.recipes.torch.poisson_sampling import (
    build_draw_mask,
    build_mechanism,
    build_noise_generator,
    build_poisson_batch,
    draw_poisson_steps,
)
from memberscope.recipes.torch.task import Task

Watch = Callable[[int, "Network", list[list[Any]]], None]


@dataclass(frozen=True, eq=False)
class Network:
    """Layers of b networks and their stacked weights."""

    plan: list[Layer]
    stacks: list[Stacked]
    width: int


@dataclass(frozen=True, eq=False)
class Factors:
    """Factors of every record's gradients in each layer.

    The layer's inputs (b, r, in), and the slopes (b, r, out) of each record's own loss by the
    layer's output.
    """

    seen: list[Any]
    slopes: list[Any]


def train_private_networks(task: Task, watch: Watch | None = None) -> None:
    """Train the task's networks in place, all at once.

    `watch` gets the number, the weights and the noisy mean gradient before each update.
    """
    import torch

    recipe, mechanism, net = task.recipe, build_mechanism(task), _build_network(task)
    device = task.x.device
    masks = [torch.Generator(device).manual_seed(derive_dropout_seed(seed)) for seed in task.seeds]
    noises = [build_noise_generator(seed, device) for seed in task.seeds]
    # Buffers of the noisy gradients, used again at each step
    into = [[torch.empty_like(value) for value in stack.values] for stack in net.stacks]
    with torch.no_grad():
        for made, (step, sizes) in enumerate(draw_poisson_steps(task)):
            x, labels = build_poisson_batch(task, step, sizes)
            inputs = x.reshape(*labels.shape, net.width).to(net.stacks[0].values[0].dtype)
            # Dropout masks are drawn first, as many as there are records in each model's sample
            keeps = [
                _draw_padded_dropout_mask(layer.dropout, sizes, own[0], masks)
                for layer, own in zip(net.plan, into, strict=True)
            ]
            factors = compute_gradient_factors(net, inputs, labels, recipe.label_smoothing, keeps)
            scale = (
                compute_clip_factors(net, factors, mechanism.clip)
                # Samples differ in size: padding must not add to the sum
                * build_draw_mask(sizes, inputs)
                # By the expected size, since the true one depends on who joined
                / mechanism.expected
            )
            # Noise first, then the sum on top of it: one buffer serves both
            _fill_with_noise(into, mechanism.deviation, noises)
            add_gradient_sums(into, factors, scale)
            if watch is not None:
                watch(made, net, into)
            # From here on as without privacy: what follows the noise costs no more privacy
            change = Change(
                recipe.optimiser, recipe.weight_decay, recipe.label_smoothing, step.rate, made + 1
            )
            for stack, gradients in zip(net.stacks, into, strict=True):
                for value, gradient, memory in zip(
                    stack.values, gradients, stack.memory, strict=True
                ):
                    apply_gradient(value, gradient, memory, change)
        _write_back_weights(net, task.modules)


def _build_network(task: Task) -> Network:
    """Stack the task's networks."""
    plan = find_linear_layers(task.modules[0])
    assert plan is not None, (
        "the engine `matrices` was given a module that is no fully connected network"
    )
    width = task.modules[0].get_submodule(plan[0].path).in_features
    return Network(plan, [stack_layer(task, layer) for layer in plan], width)


def _write_back_weights(net: Network, modules: list[Any]) -> None:
    """Write the stacked weights into the modules."""
    for i, module in enumerate(modules):
        for layer, stack in zip(net.plan, net.stacks, strict=True):
            linear = module.get_submodule(layer.path)
            linear.weight.copy_(stack.values[0][i].T)
            if linear.bias is not None:
                linear.bias.copy_(stack.values[1][i, 0])


def _draw_padded_dropout_mask(share: float, sizes: list[int], weight: Any, masks: list[Any]) -> Any:
    """Draw a dropout mask for a layer with `weight` (b, in, out).

    It is 0 or 1 / (1 - share), (b, r, out); None without dropout.
    """
    if not share:
        return None
    # At least one row, since a Poisson sample may be empty
    keep = weight.new_zeros((len(sizes), max(1, *sizes), weight.shape[2]))
    # As many draws as records, whatever else is in the stack
    for own, size, generator in zip(keep, sizes, masks, strict=True):
        own[:size].bernoulli_(1 - share, generator=generator)
    return keep.div_(1 - share)


def compute_gradient_factors(
    net: Network, inputs: Any, labels: Any, smoothing: float, keeps: list[Any] | None = None
) -> Factors:
    """Compute the factors of every record's gradients, for inputs (b, r, f) and labels (b, r)."""
    import torch

    seen, outs, keeps = [inputs], [], keeps or [None] * len(net.plan)
    for layer, stack, keep in zip(net.plan, net.stacks, keeps, strict=True):
        own = stack.values
        z = (
            torch.baddbmm(own[1], seen[-1], own[0])
            if len(own) == 2
            else torch.bmm(seen[-1], own[0])
        )
        outs.append(layer.activation(z) if layer.activation is not None else z)
        seen.append(outs[-1] if keep is None else outs[-1] * keep)
    # Undo the division of the mean loss by the batch: each record's own loss is meant
    back = (
        compute_cross_entropy_gradient(seen.pop(), labels, smoothing)
        .to(inputs.dtype)
        .mul_(labels.shape[1])
    )
    slopes = [back]
    for i in range(len(net.plan) - 1, 0, -1):
        before = torch.bmm(slopes[0], net.stacks[i].values[0].transpose(1, 2))
        before = before if keeps[i - 1] is None else before * keeps[i - 1]
        slopes.insert(0, backpropagate_activation(net.plan[i - 1].activation, before, outs[i - 1]))
    return Factors(seen, slopes)


def compute_clip_factors(net: Network, factors: Factors, clip: float) -> Any:
    """Compute the factor (b, r) that brings each record's gradient to a norm of at most `clip`."""
    parts = [
        # The norm of an outer product is the product of norms; a bias adds a one to the input
        (a.square().sum(-1) + (len(stack.values) - 1)) * d.square().sum(-1)
        for a, d, stack in zip(factors.seen, factors.slopes, net.stacks, strict=True)
    ]
    norm = sum(parts[1:], parts[0]).sqrt_()
    # The small number keeps a gradient of zero from dividing by zero
    return (clip / (norm + 1e-6)).clamp_(max=1.0)


def _fill_with_noise(into: list[list[Any]], deviation: float, generators: list[Any]) -> None:
    """Fill the arrays with Gaussian noise, each model's from its own generator."""
    for values in into:
        for value in values:
            for own, generator in zip(value, generators, strict=True):
                if deviation:
                    own.normal_(0.0, deviation, generator=generator)
                else:
                    own.zero_()


def add_gradient_sums(into: list[list[Any]], factors: Factors, scale: Any) -> None:
    """Add the sum of all records' gradients, each times its `scale` (b, r)."""
    for values, a, d in zip(into, factors.seen, factors.slopes, strict=True):
        scaled = d * scale[..., None]
        values[0].baddbmm_(a.transpose(1, 2), scaled)
        if len(values) == 2:
            values[1].add_(scaled.sum(1, keepdim=True))
