"""Open a torch module for measurement and restore it exactly as it was.

Its modes, and what of it is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from memberscope.frames import Inputs
from memberscope.targets.white_box.loss_gradient import OutputError, compute_output_error
from memberscope.types import Floats, Ints, Signal

NamedTensors = dict[str, Any]  # tensors, or layers, by the name of their parameter


@dataclass(frozen=True, eq=False)
class OpenModule:
    """Module in eval mode whose parameters require no gradient while it is open.

    `signal` says what it returns.
    """

    module: Any
    signal: Signal
    device: str
    trained: tuple[str, ...]  # names of the parameters that training changed

    @property
    def parameters(self) -> NamedTensors:
        """Trained parameters by name, each once."""
        return {name: part for name, part in self.module.named_parameters() if name in self.trained}

    @property
    def layers(self) -> dict[str, list[str]]:
        """Names of the trained parameters of each layer that holds some, in the module's order."""
        found: dict[str, list[str]] = {}
        for name in self.parameters:
            found.setdefault(name.rpartition(".")[0], []).append(name)
        return found


def can_take_gradients(module: Any) -> bool:
    """Check whether gradients of `module` can be taken.

    It must be Python code with parameters of real numbers, not TorchScript.

    >>> import torch
    >>> can_take_gradients(torch.nn.Linear(2, 2)), can_take_gradients(torch.nn.ReLU())
    (True, False)
    """
    import torch

    return not isinstance(module, torch.jit.ScriptModule) and any(
        part.is_floating_point() for part in module.parameters()
    )


@contextmanager
def use_eval_mode(module: Any) -> Iterator[None]:
    """Put the module and all within it into eval mode, then restore each mode."""
    # Parts may be in different modes, such as a frozen batch normalisation
    modes = [(part, part.training) for part in module.modules()]
    with suppress(NotImplementedError):  # an exported program has no modes
        module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def list_frozen_parameters(module: Any) -> tuple[str, ...]:
    """List the parameters that require no gradient, if others do.

    Training left these alone.

    >>> import torch
    >>> list_frozen_parameters(torch.nn.Linear(2, 2).requires_grad_(False))
    ()
    """
    names = tuple(name for name, part in module.named_parameters() if not part.requires_grad)
    # A module that is frozen as a whole was probably frozen for inference, after training
    return names if len(names) < len(list(module.parameters())) else ()


@contextmanager
def hold_module_open(module: Any, signal: Signal, device: str) -> Iterator[OpenModule]:
    """Open the module.

    What was trained is what required a gradient, or everything real if nothing does.
    """
    # Remembered, since the module is the user's own and is given back as it was
    flags = [(part, part.requires_grad) for part in module.parameters()]
    still = list_frozen_parameters(module)
    trained = tuple(
        name
        for name, part in module.named_parameters()
        if part.is_floating_point() and name not in still
    )
    try:
        # Frozen, so that no graph of the weights is kept in memory
        for part, _ in flags:
            part.requires_grad_(False)
        with use_eval_mode(module):
            yield OpenModule(module, signal, device, trained)
    finally:
        for part, flag in flags:
            part.requires_grad_(flag)


def _find_module_dtype(module: Any) -> Any:
    """Find the type of the module's first real parameter; float32 if it has none."""
    import torch

    return next(
        (part.dtype for part in module.parameters() if part.is_floating_point()), torch.float32
    )


def has_embedding(module: Any) -> bool:
    """Check whether the module looks whole numbers up in an embedding.

    They are then codes, and not quantities such as pixels.
    """
    import torch

    return any(
        isinstance(part, torch.nn.Embedding | torch.nn.EmbeddingBag) for part in module.modules()
    )


def as_inputs(module: Any, batch: Any, device: str) -> Any:
    """Convert the records to a tensor that the module takes, on its device.

    Several inputs become a tuple or a dict of tensors.
    """
    import torch

    if isinstance(batch, Inputs):
        return batch.mapped(lambda part: as_inputs(module, part, device))
    inputs = (
        batch if isinstance(batch, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(batch))
    )
    # Whole numbers such as pixels are quantities; only an embedding takes them as codes
    if inputs.is_floating_point() or not has_embedding(module):
        inputs = inputs.to(_find_module_dtype(module))
    elif inputs.dtype in (torch.uint8, torch.int8, torch.int16):  # which no embedding looks up
        inputs = inputs.long()
    return inputs.to(device)


def as_columns(outputs: Any, signal: Signal) -> Floats:
    """Convert outputs to (n, k) as float64; a single column is the positive class of two."""
    values = np.asarray(outputs.detach().cpu().double().numpy(), dtype=np.float64)
    if values.ndim == 1 or values.shape[1] == 1:
        positive = values.reshape(len(values), 1)
        # The other class has the logit zero, or the rest of the probability
        negative = np.zeros_like(positive) if signal == "logits" else 1 - positive
        values = np.hstack([negative, positive])
    return values


def measure_output_error(opened: OpenModule, outputs: Any, labels: Ints) -> tuple[OutputError, Any]:
    """Compute the error of the module's own `outputs`, and its unit as a tensor.

    A gradient starts from the unit.
    """
    error = compute_output_error(as_columns(outputs, opened.signal), labels, opened.signal)
    return error, as_outputs(opened, error.unit, outputs)


def as_outputs(opened: OpenModule, errors: Floats, like: Any) -> Any:
    """Convert errors (n, k) at the classes to errors at the outputs `like` themselves."""
    import torch

    if like.ndim == 1 or like.shape[1] == 1:
        # One output moves both probabilities, in opposite directions
        errors = errors[:, 1] - (errors[:, 0] if opened.signal == "probabilities" else 0.0)
    return torch.from_numpy(np.ascontiguousarray(errors)).to(like).reshape(like.shape)
