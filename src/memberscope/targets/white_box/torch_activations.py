"""Collect the activations that enter each trained layer of a torch module.

Their width does not grow with the model.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.errors import UnmetNeedError
from memberscope.targets.white_box.loss_gradient import clip_log_probabilities, project_columns
from memberscope.targets.white_box.torch_access import OpenModule, as_columns, as_inputs
from memberscope.targets.white_box.torch_gradients import split_batches
from memberscope.types import Floats, Ints


def collect_activations(opened: OpenModule, x: Any, y: Ints, batch_size: int, width: int) -> Floats:
    """Collect log-probabilities (n, k), then the inputs of the trained layers, the last first.

    Each has at most `width` columns. What is wider is multiplied by a fixed random matrix. The
    record itself, as it enters the first layer, is left out.

    Raises:
        UnmetNeedError: An activation's shape depends on the batch.
    """
    import torch

    found = []
    for rows, _ in split_batches(x, y, batch_size):
        with torch.no_grad():
            found.append(_collect_batch_activations(opened, rows, width))
    if len({part.shape[1] for part in found}) > 1:
        raise UnmetNeedError(
            "Expected activations of one shape for all records, got shapes that differ. Pad the "
            "records to one length."
        )
    return np.concatenate(found)


def _collect_batch_activations(opened: OpenModule, x: Any, width: int) -> Floats:
    """Collect the activations (n, d) of one batch."""
    layers = dict(opened.module.named_modules())
    inputs = as_inputs(opened.module, x, opened.device)
    seen: dict[str, Any] = {}

    def keep(name: str) -> Any:
        def hook(layer: Any, given: tuple[Any, ...]) -> None:
            if (
                given
                and getattr(given[0], "ndim", 0) > 1
                and len(given[0]) == len(x)
                and given[0].is_floating_point()
            ):
                # Put in again at the end, so that the order is that of the last calls
                seen.pop(name, None)
                seen[name] = given[0].flatten(1).double().cpu().numpy()

        return hook

    # Inputs of trained layers, whatever the layers before them are
    hooks = [layers[name].register_forward_pre_hook(keep(name)) for name in opened.layers]
    try:
        outputs = as_columns(opened.module(inputs), opened.signal)
    finally:
        for hook in hooks:
            hook.remove()
    inner = (
        # The first trained layer gets the record itself, which is no activation
        list(seen.values())[1:]
        if list(seen)[:1] == list(opened.layers)[:1]
        else list(seen.values())
    )
    return np.hstack(
        [
            clip_log_probabilities(outputs, opened.signal),
            *(project_columns(values, width) for values in reversed(inner)),
        ]
    )
