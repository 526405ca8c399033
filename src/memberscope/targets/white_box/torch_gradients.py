"""Compute per-example gradient norms of a torch module.

They take one forward and one backward pass a batch, and no gradient is kept.

Where a layer has no closed form, or weights are shared or used in a way that hooks do not see,
`torch.func` differentiates a few records at a time instead. Which of the two is right for a module
is tested, not assumed: two records are compared with gradients from plain backward passes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from memberscope.errors import UnmetNeedError
from memberscope.targets.white_box.loss_gradient import OutputError
from memberscope.targets.white_box.torch_access import (
    NamedTensors,
    OpenModule,
    as_inputs,
    measure_output_error,
)
from memberscope.targets.white_box.torch_layer_norms import CELLS, find_closed_form
from memberscope.types import Bools, Floats, Ints

CLOSE, FAINT = 1e-2, 1e-4  # disagreement allowed: relative, and as a share of the whole gradient


@dataclass(frozen=True, eq=False)
class Norms:
    """Squared norms (n, layers) of each layer's gradient for a unit error, and the error itself."""

    squares: Floats
    error: OutputError


def measure_gradient_norms(opened: OpenModule, x: Any, y: Ints, batch_size: int) -> Norms:
    """Measure per-example gradient norms of cross-entropy at the records, layer by layer.

    Raises:
        UnmetNeedError: Neither way gives the gradients that backward passes give.
    """
    way = choose_gradient_method(opened, x, y)
    found = [part for batch in split_batches(x, y, batch_size) for part in way(opened, *batch)]
    squares = np.concatenate([part.squares for part in found])
    return Norms(squares, _join_errors([part.error for part in found]))


def _join_errors(errors: list[OutputError]) -> OutputError:
    """Join the errors of several batches."""
    fields = ("unit", "log_size", "log_p", "log_odds")
    return OutputError(
        *(np.concatenate([getattr(each, name) for each in errors]) for name in fields)
    )


def split_batches(x: Any, y: Ints, size: int) -> Iterator[tuple[Any, Ints]]:
    """Split records and labels into batches of `size`."""
    for start in range(0, len(x), size):
        yield x[start : start + size], y[start : start + size]


def choose_gradient_method(opened: OpenModule, x: Any, y: Ints) -> Any:
    """Choose the method that gives what two plain backward passes give.

    It is `measure_norms_in_closed_form`, or else `measure_norms_by_vmap`.

    Raises:
        UnmetNeedError: Neither does.
    """
    # Two records that differ: one alone would not show a layer that mixes records
    two = np.unique([0, len(x) - 1])
    some, labels = x[two[0] : two[-1] + 1 : max(1, len(x) - 1)], y[two]
    # Plain backward passes are slow but sure: the faster ways must agree with them
    truth = _measure_norms_by_loop(opened, some, labels)
    reason = "other gradients than a backward pass gives"
    # The fastest way first
    for way in (measure_norms_in_closed_form, measure_norms_by_vmap):
        try:
            found = np.concatenate([part.squares for part in way(opened, some, labels)])
        # Expected for many modules, and so no reason to give
        except NoClosedFormError:
            continue
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            continue
        if _compare_norms(found, truth).all():
            return way
    raise UnmetNeedError(
        "Expected a module whose gradients torch.func can take for each record, got "
        f"{type(opened.module).__name__}: {reason}. Audit it at a weaker access."
    )


def _compare_norms(found: Floats, truth: Floats) -> Bools:
    """Check whether squared norms (n, layers) are the same, but for rounding."""
    size = np.sqrt(truth.sum(axis=1, keepdims=True))
    difference = np.abs(np.sqrt(found) - np.sqrt(truth))
    # Layers with next to no gradient are compared by the size of the whole one
    return np.asarray(~np.isfinite(truth) | (difference <= CLOSE * np.sqrt(truth) + FAINT * size))


def _measure_norms_by_loop(opened: OpenModule, x: Any, y: Ints) -> Floats:
    """Measure squared norms (n, layers) by one backward pass a record.

    The other methods are compared with it.
    """
    import torch

    names, parts = list(opened.parameters), list(opened.parameters.values())
    found = []
    try:
        # They are frozen while the module is open
        for part in parts:
            part.requires_grad_(True)
        for row, label in split_batches(x, y, 1):
            # One record at a time, so that nothing of another record can get in
            outputs = opened.module(as_inputs(opened.module, row, opened.device))
            _, unit = measure_output_error(opened, outputs, label)
            gradients = torch.autograd.grad(outputs, parts, unit, allow_unused=True)
            each = {
                name: 0.0 if g is None else float(g.double().square().sum())
                for name, g in zip(names, gradients, strict=True)
            }
            found.append([sum(each[name] for name in own) for own in opened.layers.values()])
    finally:
        for part in parts:
            part.requires_grad_(False)
    return np.array(found, dtype=np.float64)


class NoClosedFormError(Exception):
    """Raised where a trained parameter has no closed form, or is used more than once."""


def measure_norms_in_closed_form(opened: OpenModule, x: Any, y: Ints) -> Iterator[Norms]:
    """Measure the norms of one batch from each layer's inputs and gradients at its outputs.

    Raises:
        NoClosedFormError: The module has to be differentiated in another way.
    """
    import torch

    layers = dict(opened.module.named_modules())
    forms = {name: find_closed_form(layers[name]) for name in opened.layers}
    # The norm of a sum is not the sum of norms where two layers share weights
    if None in forms.values() or _has_shared_parameters(opened.module):
        raise NoClosedFormError
    seen: NamedTensors = {}
    starts: list[Any] = []
    watches = {
        name: _build_norm_hook(name, form, opened, seen, starts) for name, form in forms.items()
    }
    hooks = [layers[name].register_forward_hook(hook) for name, hook in watches.items()]
    try:
        with torch.enable_grad():
            outputs = opened.module(as_inputs(opened.module, x, opened.device))
        error, unit = measure_output_error(opened, outputs, y)
        # Without a trained layer there is nothing to differentiate
        if outputs.requires_grad:
            torch.autograd.grad(outputs, starts, unit, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    # A layer that was never called has no gradient here, though it might have for other records
    if any(name not in seen for name in forms):
        raise NoClosedFormError
    squares = torch.stack([seen[name].double() for name in forms], dim=1)
    yield Norms(np.asarray(squares.cpu().numpy()), error)


def _build_norm_hook(
    name: str, form: Any, opened: OpenModule, seen: NamedTensors, starts: list[Any]
) -> Any:
    """Build a forward hook that keeps a layer's input until its gradient comes back.

    Then only the norm of their product is kept. Weights are frozen, so the chain begins at the
    outputs of the first layers, which are added to `starts`.
    """
    own = tuple(full.rpartition(".")[2] for full in opened.layers[name])

    def forward(layer: Any, given: tuple[Any, ...], out: Any) -> Any:
        # Called twice, with several inputs, or over another number of records
        if name in seen or len(given) != 1 or len(given[0]) != len(out):
            raise NoClosedFormError
        inputs = given[0].detach()
        # The first layer of a chain: gradients start here
        if not out.requires_grad:
            starts.append(out.detach().requires_grad_(True))
            out = starts[-1].clone()
        seen[name] = out.new_zeros(len(out))

        def backward(gradient: Any) -> None:
            seen[name] = form(layer, inputs, gradient, own)

        out.register_hook(backward)
        return out

    return forward


def _has_shared_parameters(module: Any) -> bool:
    """Check whether two layers hold the same parameter."""
    return len(list(module.named_parameters(remove_duplicate=False))) != len(
        list(module.named_parameters())
    )


def measure_norms_by_vmap(opened: OpenModule, x: Any, y: Ints) -> Iterator[Norms]:
    """Measure the norms of one batch by vectorised per-example gradients.

    It takes as many records at a time as `CELLS` numbers hold.
    """
    import torch

    size = sum(part.numel() for part in opened.parameters.values())
    # Gradients of all parameters are held for each record of a batch
    for rows, labels in split_batches(x, y, max(1, 4 * CELLS // size)):
        inputs = as_inputs(opened.module, rows, opened.device)
        with torch.no_grad():
            error, unit = measure_output_error(opened, opened.module(inputs), labels)
        gradients = compute_example_gradients(opened, inputs, unit)
        sizes = {
            name: torch.linalg.vector_norm(each.flatten(1), dim=1).double()
            for name, each in gradients.items()
        }
        whole = [sum(sizes[name] ** 2 for name in own) for own in opened.layers.values()]
        yield Norms(np.asarray(torch.stack(whole, dim=1).cpu().numpy()), error)


def compute_example_gradients(opened: OpenModule, inputs: Any, errors: Any) -> NamedTensors:
    """Compute the gradients (b, ...) of each trained parameter for `errors` at the outputs.

    They take b times the memory of the parameters.
    """
    from torch.func import functional_call, grad, vmap
    from torch.utils._pytree import tree_map

    own, rest = _split_state(opened)

    def linearised(parts: NamedTensors, row: Any, error: Any) -> Any:
        one = tree_map(lambda part: part[None], row)  # several inputs are a tuple or a dict
        return (functional_call(opened.module, {**parts, **rest}, (one,))[0] * error).sum()

    with warnings.catch_warnings():
        # torch warns of operations that it can only take one record at a time
        warnings.simplefilter("ignore")
        found: NamedTensors = vmap(grad(linearised), in_dims=(None, 0, 0), randomness="same")(
            own, inputs, errors
        )
    return found


def _split_state(opened: OpenModule) -> tuple[NamedTensors, NamedTensors]:
    """Split the module's state into trained parameters by name, and everything else."""
    own = {name: part.detach() for name, part in opened.parameters.items()}
    rest = {
        name: part.detach() for name, part in opened.module.named_parameters() if name not in own
    }
    return own, rest | {name: part.detach() for name, part in opened.module.named_buffers()}
