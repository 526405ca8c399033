"""Compute gradients of a torch module in factors, for influences.

Linear layers are factored into pairs, all others are kept whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from memberscope.errors import UnmetNeedError
from memberscope.targets.white_box.loss_gradient import OutputError
from memberscope.targets.white_box.self_influence import (
    COLUMNS,
    DAMPING,
    RECORDS,
    Gradients,
    factor_curvature,
    solve_influences,
)
from memberscope.targets.white_box.torch_access import (
    NamedTensors,
    OpenModule,
    as_columns,
    as_inputs,
    as_outputs,
    measure_output_error,
)
from memberscope.targets.white_box.torch_gradients import (
    choose_gradient_method,
    compute_example_gradients,
    measure_norms_in_closed_form,
    split_batches,
)
from memberscope.targets.white_box.torch_layer_norms import (
    find_closed_form,
    measure_linear_gradient,
)
from memberscope.types import Floats, Ints

ROOM = 64_000_000  # numbers held in gradients of layers that are not linear: 512 MB
FEWEST = 128  # columns with which a curvature is still worth its name


def compute_influence(
    opened: OpenModule, x: Any, y: Ints, batch_size: int, chosen: dict[str, float]
) -> Floats:
    """Compute columns (n, 4) as `solve_influences` gives them.

    The curvature is that of some of the records, whose number `chosen` may give.

    Raises:
        UnmetNeedError: The module cannot be differentiated record by record, or too many parameters
            are not in linear layers.
    """
    # Without a closed form for every layer, linear ones may be used in ways that hooks do not see
    pairs = (
        _find_outer_product_layers(opened, x[:1])
        if choose_gradient_method(opened, x, y) is measure_norms_in_closed_form
        else {}
    )
    others = sum(
        part.numel()
        for name, part in opened.parameters.items()
        if name.rpartition(".")[0] not in pairs
    )
    room = min(COLUMNS, ROOM // max(1, others))
    # Gradients outside linear layers are held whole, one row for each column of the curvature
    if room < FEWEST:
        raise UnmetNeedError(
            f"Expected at most {ROOM // FEWEST:,} trained parameters outside linear layers for "
            f"influences, got {others:,}. Freeze some layers with requires_grad_(False), or leave "
            "out attacks on influence."
        )
    # Drawn with a fixed seed: the signal of a record must not differ from run to run
    some = np.sort(
        np.random.default_rng(0).permutation(len(x))[: int(chosen.get("records", RECORDS))]
    )
    curvature = _build_curvature(opened, pairs, x[some], y[some], room)

    def parts() -> Iterator[tuple[Gradients, OutputError]]:
        # Smaller batches where each record's gradient is large
        for rows, labels in split_batches(
            x, y, min(batch_size, max(1, ROOM // max(1, 4 * others)))
        ):
            error, unit = _measure_batch_error(opened, rows, labels)
            yield _compute_factored_gradients(opened, pairs, rows, unit), error

    return solve_influences(curvature, len(some), parts, chosen.get("damping", DAMPING))


def _find_outer_product_layers(opened: OpenModule, x: Any) -> NamedTensors:
    """Find the linear layers by name whose gradient is one outer product a record.

    These are layers that get no sequences.
    """
    import torch

    layers, flat = dict(opened.module.named_modules()), set()
    found = {
        name: layers[name]
        for name in opened.layers
        if find_closed_form(layers[name]) is measure_linear_gradient
    }
    hooks = [
        part.register_forward_pre_hook(
            # With sequences the gradient is a sum of outer products, not a single one
            lambda layer, given: flat.add(layer) if given[0].ndim == 2 else None
        )
        for part in found.values()
    ]
    try:
        with torch.no_grad():
            opened.module(as_inputs(opened.module, x, opened.device))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: layer for name, layer in found.items() if layer in flat}


def _measure_batch_error(opened: OpenModule, x: Any, y: Ints) -> tuple[OutputError, Any]:
    """Measure the error at the outputs of one batch, and its unit as a tensor."""
    import torch

    with torch.no_grad():
        return measure_output_error(
            opened, opened.module(as_inputs(opened.module, x, opened.device)), y
        )


def _build_curvature(
    opened: OpenModule, pairs: NamedTensors, x: Any, y: Ints, room: int
) -> Gradients:
    """Build the columns of the Gauss-Newton matrix as gradients, at most `room`."""
    import torch

    with torch.no_grad():
        outputs = opened.module(as_inputs(opened.module, x, opened.device))
    rows, errors = factor_curvature(as_columns(outputs, opened.signal), opened.signal, room)
    each = [
        outputs[:1].expand(len(part), *outputs.shape[1:])
        # Some 256 at a time, to bound the memory
        for part in np.array_split(rows, max(1, len(rows) // 256))
    ]
    starts = np.cumsum([0, *map(len, each)])
    found = [
        _compute_factored_gradients(
            opened, pairs, x[rows[a:b]], as_outputs(opened, errors[a:b], like)
        )
        for a, b, like in zip(starts, starts[1:], each, strict=False)
    ]
    return Gradients(
        [
            (
                np.concatenate([part.pairs[i][0] for part in found]),
                np.concatenate([part.pairs[i][1] for part in found]),
            )
            for i in range(len(pairs))
        ],
        np.concatenate([part.whole for part in found]),
    )


def _compute_factored_gradients(
    opened: OpenModule, pairs: NamedTensors, x: Any, unit: Any
) -> Gradients:
    """Compute gradients of the errors `unit` at the outputs of one batch, in factors."""
    seen, inputs = _collect_linear_factors(opened, pairs, x, unit)
    # All that is not in linear layers is differentiated record by record
    others = tuple(name for name in opened.trained if name.rpartition(".")[0] not in pairs)
    whole = np.zeros((len(x), 0))
    if others:
        found = compute_example_gradients(
            OpenModule(opened.module, opened.signal, opened.device, others), inputs, unit
        )
        whole = np.hstack([_widen_to_float64(part.flatten(1)) for part in found.values()])
    return Gradients([seen[name] for name in pairs], whole)


def _collect_linear_factors(
    opened: OpenModule, pairs: NamedTensors, x: Any, unit: Any
) -> tuple[dict[str, tuple[Floats, Floats]], Any]:
    """Collect each linear layer's input and the error at its output.

    A one is appended to the input for the bias. Also give the records as a tensor.
    """
    import torch

    seen: dict[str, tuple[Floats, Floats]] = {}
    starts: list[Any] = []

    def watch(name: str) -> Any:
        own = {full.rpartition(".")[2] for full in opened.layers[name]}

        def forward(layer: Any, given: tuple[Any, ...], out: Any) -> Any:
            into = _widen_to_float64(given[0])
            # What is frozen counts as zero, so that shapes stay the same
            into = np.hstack([into * ("weight" in own), np.ones((len(into), 1)) * ("bias" in own)])
            # The first layer of a chain: gradients start here
            if not out.requires_grad:
                starts.append(out.detach().requires_grad_(True))
                out = starts[-1].clone()
            seen[name] = into, np.zeros(tuple(out.shape))
            out.register_hook(lambda back: seen.update({name: (into, _widen_to_float64(back))}))
            return out

        return forward

    inputs = as_inputs(opened.module, x, opened.device)
    hooks = [layer.register_forward_hook(watch(name)) for name, layer in pairs.items()]
    try:
        if pairs:
            with torch.enable_grad():
                outputs = opened.module(inputs)
            torch.autograd.grad(outputs, starts, unit, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    return seen, inputs


def _widen_to_float64(values: Any) -> Floats:
    """Convert a tensor to float64."""
    return np.asarray(values.detach().double().cpu().numpy(), dtype=np.float64)
