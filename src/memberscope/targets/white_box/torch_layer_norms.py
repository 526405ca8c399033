"""Compute squared per-record gradient norms of single layers in closed form.

They follow from the layer's input and the gradient at its output.

A layer's gradient for one record is a product of the two: its norm is computed without it where
that is cheaper (the norm of an outer product [1], and sums over pairs of positions [2]), otherwise
for a few records at a time.

References:
    [1] I. Goodfellow, "Efficient Per-Example Gradient Computations", 2015, arXiv:1510.01799.
    [2] X. Li, F. Tramèr, P. Liang, T. Hashimoto, "Large Language Models Can Be Strong
        Differentially Private Learners", ICLR 2022, arXiv:2110.05679.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

CELLS = 8_000_000  # numbers held at a time beside the batch itself: 32 MB


def find_closed_form(layer: Any) -> Callable[[Any, Any, Any, tuple[str, ...]], Any] | None:
    """Find the function that measures squared norms (n,) of this layer in closed form.

    It takes (layer, inputs, gradient, parameter names). None if there is no closed form.

    >>> import torch
    >>> find_closed_form(torch.nn.Linear(2, 2)).__name__, find_closed_form(torch.nn.LSTM(2, 2))
    ('measure_linear_gradient', None)
    """
    from torch import nn

    batch_norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    forms: dict[type[Any], Callable[[Any, Any, Any, tuple[str, ...]], Any]] = {
        nn.Linear: measure_linear_gradient,
        nn.Conv1d: _measure_convolution_gradient,
        nn.Conv2d: _measure_convolution_gradient,
        nn.LayerNorm: _measure_layer_norm_gradient,
        nn.GroupNorm: _measure_group_norm_gradient,
        nn.Embedding: _measure_embedding_gradient,
        **dict.fromkeys(batch_norms, _measure_batch_norm_gradient),
    }
    kind = next(
        # A subclass that computes something else has another gradient
        (kind for kind in forms if isinstance(layer, kind) and type(layer).forward is kind.forward),
        None,
    )
    own = {name for name, _ in layer.named_parameters(recurse=False)}
    # Further parameters or layers would be left out
    if kind is None or not own <= {"weight", "bias"} or any(True for _ in layer.children()):
        return None
    if isinstance(layer, batch_norms) and layer.running_mean is None:
        return None  # such a layer looks at other records of the batch
    # Settings that change or rescale gradients of the table
    if isinstance(layer, nn.Embedding) and (
        layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse
    ):
        return None
    return forms[kind]


def measure_linear_gradient(layer: Any, inputs: Any, gradient: Any, names: tuple[str, ...]) -> Any:
    """Measure the gradient of a linear layer on (n, d) or (n, ..., d)."""
    inputs, gradient = _widen_floats(inputs), _widen_floats(gradient)
    # One outer product a record: its norm is the product of norms
    if inputs.ndim == 2:
        found = (
            _sum_squares(inputs) * _sum_squares(gradient)
            if "weight" in names
            # Zeros in the right shape, type and place
            else 0.0 * _sum_squares(gradient)
        )
        return found + _sum_squares(gradient) if "bias" in names else found
    inputs, gradient = inputs.flatten(1, -2), gradient.flatten(1, -2)
    return _measure_pair_products(
        inputs.transpose(1, 2)[:, None], gradient.transpose(1, 2)[:, None], names
    )


def _measure_convolution_gradient(
    layer: Any, inputs: Any, gradient: Any, names: tuple[str, ...]
) -> Any:
    """Measure the gradient of a convolution over one or two dimensions.

    It may have groups, strides, dilation and any padding.
    """
    import torch
    from torch.nn import functional

    inputs, gradient = _widen_floats(inputs), _widen_floats(gradient)
    # One dimension is treated as two, the first of size one
    lead = (1,) * (2 - len(layer.kernel_size))
    around, mode = (
        layer._reversed_padding_repeated_twice,
        {"zeros": "constant"}.get(layer.padding_mode, layer.padding_mode),
    )
    kernel, stride, dilation = (
        (*lead, *each) for each in (layer.kernel_size, layer.stride, layer.dilation)
    )
    groups, width = layer.groups, inputs[0].numel() * kernel[0] * kernel[1]
    found = []
    for part, out in zip(
        *(whole.split(_count_records_at_once(width)) for whole in (inputs, gradient)), strict=True
    ):
        padded = functional.pad(part, around, mode=mode) if any(around) else part
        # A convolution is a matrix product of its unfolded input
        columns: Any = functional.unfold(
            padded[:, :, None] if lead else padded, kernel, dilation=dilation, stride=stride
        )
        found.append(
            _measure_pair_products(
                columns.reshape(len(part), groups, -1, columns.shape[-1]),
                out.flatten(2).unflatten(1, (groups, -1)),
                names,
            )
        )
    return torch.cat(found)


def _measure_pair_products(inputs: Any, gradient: Any, names: tuple[str, ...]) -> Any:
    """Measure the squared norm (n,) of products of inputs and gradients.

    `gradient` (n, groups, o, t) times `inputs` (n, groups, i, t), summed over positions t.
    """
    import torch

    positions, into, out = inputs.shape[-1], inputs.shape[2], gradient.shape[2]
    # Sums over pairs of positions [2] are cheaper where positions are few and weights are many
    ghost = positions * (into + out) < into * out
    found = _sum_squares(gradient.sum(-1)) if "bias" in names else 0.0 * _sum_squares(gradient)
    if "weight" not in names:
        return found
    room = _count_records_at_once(inputs.shape[1] * (2 * positions**2 if ghost else into * out))
    parts = []
    for a, g in zip(inputs.split(room), gradient.split(room), strict=True):
        if ghost:
            parts.append(((a.mT @ a) * (g.mT @ g)).flatten(1).sum(1))
        else:
            parts.append(_sum_squares(g @ a.mT))
    return found + torch.cat(parts)


def _measure_batch_norm_gradient(
    layer: Any, inputs: Any, gradient: Any, names: tuple[str, ...]
) -> Any:
    """Measure the gradient of batch normalisation with frozen statistics."""
    inputs, gradient = _widen_floats(inputs), _widen_floats(gradient)
    # Statistics are one for each channel
    shape = (1, -1) + (1,) * (inputs.ndim - 2)
    mean, variance = (
        _widen_floats(layer.running_mean).view(shape),
        _widen_floats(layer.running_var).view(shape),
    )
    return _measure_scale_gradient((inputs - mean) / (variance + layer.eps).sqrt(), gradient, names)


def _measure_group_norm_gradient(
    layer: Any, inputs: Any, gradient: Any, names: tuple[str, ...]
) -> Any:
    """Measure the gradient of group normalisation."""
    from torch.nn import functional

    inputs, gradient = _widen_floats(inputs), _widen_floats(gradient)
    return _measure_scale_gradient(
        functional.group_norm(inputs, layer.num_groups, None, None, layer.eps), gradient, names
    )


def _measure_layer_norm_gradient(
    layer: Any, inputs: Any, gradient: Any, names: tuple[str, ...]
) -> Any:
    """Measure the gradient of layer normalisation over the last dimensions."""
    from torch.nn import functional

    shape = tuple(layer.normalized_shape)
    normal = functional.layer_norm(_widen_floats(inputs), shape, None, None, layer.eps)
    flat = (len(inputs), -1, *shape)
    normal, gradient = (
        normal.reshape(flat).flatten(2).mT,
        _widen_floats(gradient).reshape(flat).flatten(2).mT,
    )
    return _measure_scale_gradient(normal, gradient, names)


def _measure_scale_gradient(normal: Any, gradient: Any, names: tuple[str, ...]) -> Any:
    """Measure the gradient of a scale and shift of each channel (n, c, ...)."""
    found = 0.0 * _sum_squares(gradient)
    if "weight" in names:
        found = found + _sum_squares(
            (normal * gradient).flatten(2).sum(2) if normal.ndim > 2 else normal * gradient
        )
    if "bias" in names:
        found = found + _sum_squares(gradient.flatten(2).sum(2) if gradient.ndim > 2 else gradient)
    return found


def _measure_embedding_gradient(
    layer: Any, inputs: Any, gradient: Any, names: tuple[str, ...]
) -> Any:
    """Measure the gradient of a table looked up by codes (n, ...).

    Rows that are looked up twice add before they are squared.
    """
    import torch

    codes, gradient = (
        inputs.reshape(len(inputs), -1),
        _widen_floats(gradient).reshape(len(inputs), -1, gradient.shape[-1]),
    )
    if layer.padding_idx is not None:
        # The row of the padding is never trained
        gradient = gradient * (codes != layer.padding_idx)[:, :, None]
    room = _count_records_at_once(2 * codes.shape[1] ** 2)
    parts = []
    for code, g in zip(codes.split(room), gradient.split(room), strict=True):
        # Positions with one code share a row of the table: their gradients add
        same = code[:, :, None] == code[:, None, :]
        parts.append(((g @ g.mT) * same).flatten(1).sum(1))
    return torch.cat(parts)


def _sum_squares(values: Any) -> Any:
    """Sum the squares (n,) over all but the first dimension."""
    return values.square().flatten(1).sum(1)


def _widen_floats(values: Any) -> Any:
    """Widen values to at least 32 bits."""
    return values.float() if values.itemsize < 4 else values


def _count_records_at_once(cells: int) -> int:
    """Count the records of `cells` numbers each that fit in memory together."""
    return max(1, CELLS // max(1, cells))
