"""PyTorch modules: batched, in eval mode, without gradients, on a chosen device."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.targets.code import code_digest, defined_in
from memberscope.targets.kinds import declared, level, one_a_class
from memberscope.targets.torch_inside import TorchInside
from memberscope.targets.torch_open import as_inputs, evaluating, frozen, opens
from memberscope.types import Floats, Signal


class TorchTarget:
    """A module that maps a batch of inputs to logits or probabilities (n, k), or to labels (n,).

    A single column is read as the positive class of two: a logit, or a probability. It is `Differentiable`, with `inside`, unless the
    module is TorchScript or has no parameters of real numbers.

    >>> import torch
    >>> target = TorchTarget(torch.nn.Linear(3, 2))
    >>> target.query(np.zeros((5, 3))).shape, target.signal
    ((5, 2), 'logits')
    """

    def __init__(
        self,
        module: Any,
        *,
        outputs: str = "logits",
        batch_size: int = 1024,
        device: str = "cpu",
        n_classes: int | None = None,
    ) -> None:
        """Move `module` to `device`; `n_classes` is found at the first query unless given.

        Raises:
            InputError: The device is not there, or `outputs` is another word.
        """
        import torch

        try:
            self.module = module.to(torch.device(device))
        except (RuntimeError, AssertionError) as error:
            first = str(error).splitlines()[0]
            raise InputError(f"Expected an available device, got {device!r} ({first}). Use device='cpu'.") from error
        self.signal: Signal = declared(outputs) or "logits"
        self.access = level(self.signal)
        self.batch_size = batch_size
        self.device = device
        self.known_classes = n_classes or (None if outputs == "labels" else last_width(module))
        if self.signal != "labels" and opens(module):
            self.inside = TorchInside(self.module, self.signal, device, batch_size)

    inside: TorchInside

    @property
    def n_classes(self) -> int:
        """Number of classes.

        Raises:
            InputError: It is neither given nor visible in the module's last layer, and nothing was queried yet.
        """
        if self.known_classes is None:
            raise InputError("Expected n_classes for this module, got none. Pass TorchTarget(module, n_classes=k).")
        return self.known_classes

    @property
    def digest(self) -> str | None:
        """Hash of the architecture's text, the user's code of it, the state dict's bytes and what the outputs are.

        None if that code cannot be read, as in a notebook.
        """
        code = code_digest(map(defined_in, self.module.modules()))
        if code is None:
            return None
        opened = "".join(f"frozen {name}:" for name in frozen(self.module)) if opens(self.module) else ""
        return weights_digest(f"{self.module!r}:{self.signal}:{code}{opened}", self.module)

    @property
    def n_parameters(self) -> int | None:
        """Trainable parameters."""
        return int(sum(part.numel() for part in self.module.parameters() if part.requires_grad))

    def query(self, x: Any) -> Floats:
        """Outputs (n, k) for inputs (n, ...), computed in batches; the modes within the module are put back afterwards."""
        import torch

        with evaluating(self.module), torch.inference_mode():
            parts = [self._forward(x[start : start + self.batch_size]) for start in range(0, len(x), self.batch_size)]
        values = one_a_class(np.concatenate(parts), self.signal)
        self.known_classes = self.known_classes or (None if self.signal == "labels" else values.shape[1])
        return values

    def _forward(self, batch: Any) -> Floats:
        outputs = self.module(as_inputs(self.module, batch, self.device))
        return np.asarray(outputs.detach().cpu().double().numpy(), dtype=np.float64)


def weights_digest(prefix: str, module: Any) -> str:
    """Hash of `prefix` and of everything in the state dict of a module, by name."""
    hasher = hashlib.sha256(prefix.encode())
    for name, value in sorted(module.state_dict().items()):
        array = np.ascontiguousarray(value.detach().cpu().float().numpy() if value.is_floating_point() else value.cpu())
        hasher.update(f"{name}:{array.dtype}:{array.shape}".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()


def last_width(module: Any) -> int | None:
    """Outputs of the last linear layer, as a number of classes; None if there is none."""
    widths = [part.out_features for part in module.modules() if hasattr(part, "out_features")]
    return None if not widths else max(2, int(widths[-1]))
