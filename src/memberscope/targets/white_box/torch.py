"""Measure white-box signals of a torch module.

Gradient norms, activations and self-influence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from memberscope.targets.white_box.loss_gradient import build_layer_columns, compute_minus_log
from memberscope.targets.white_box.torch_access import OpenModule, hold_module_open
from memberscope.targets.white_box.torch_activations import collect_activations
from memberscope.targets.white_box.torch_gradients import measure_gradient_norms
from memberscope.targets.white_box.torch_influence import compute_influence
from memberscope.types import Floats, Ints, Signal, SignalSpec

WIDTH = 64  # columns to which each activation is reduced


@dataclass(frozen=True, eq=False)
class TorchInside:
    """White-box signals of `module`: this is `TorchTarget.inside`.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> seen = TorchInside(torch.nn.Linear(3, 2), "logits", "cpu", 1024)
    >>> seen(np.zeros((4, 3), dtype=np.float32), np.zeros(4, dtype=int), SignalSpec("gradient_norm")).shape
    (4, 1)
    """

    module: Any
    signal: Signal
    device: str
    batch_size: int

    def __call__(self, x: Any, y: Ints, spec: SignalSpec) -> Floats:
        """Measure the signal `spec` (n, d) of the records; the module is left exactly as it was.

        Raises:
            UnmetNeedError: The module cannot be differentiated record by record, or has too many
                parameters outside linear layers.
        """
        chosen = dict(spec.parameters)
        with hold_module_open(self.module, self.signal, self.device) as module:
            # Needs no gradient, and so no check of how gradients are taken
            if spec.name == "activations":
                return collect_activations(
                    module, x, y, self.batch_size, int(chosen.get("width", WIDTH))
                )
            if spec.name == "influence":
                return compute_influence(module, x, y, self.batch_size, chosen)
            found = measure_gradient_norms(module, x, y, self.batch_size)
            if spec.name == "gradient_norm":
                return compute_minus_log(
                    found.error.log_size, found.squares.sum(axis=1, keepdims=True)
                )
            # What is left are the norms of layers, with activations if these were asked for
            return np.hstack(
                [build_layer_columns(found.error, found.squares), *self.more(module, x, y, chosen)]
            )

    def more(self, module: OpenModule, x: Any, y: Ints, chosen: dict[str, float]) -> list[Floats]:
        """Collect the activations beside the gradients, if `chosen` gives their width."""
        width = int(chosen.get("activations", 0))
        return [collect_activations(module, x, y, self.batch_size, width)] if width else []
