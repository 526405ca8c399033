"""Describe fully connected networks as their layers in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def find_linear_layers(module: Any, *, single: bool = False) -> list[Layer] | None:
    """Find the layers of a fully connected network of several outputs, or of a `single` one.

    Give None if the module is something else.
    """
    from torch import nn

    found: list[Layer] = []
    # Only in a sequence is the order of the layers that of the calls
    if not isinstance(module, nn.Sequential) or next(module.buffers(), None) is not None:
        return None
    for path, part in module.named_modules():
        kind, last = type(part), found[-1] if found else None
        # These change nothing, and flattening is done beforehand
        if kind in (nn.Sequential, nn.Identity) or (
            kind is nn.Flatten and last is None and part.start_dim == 1
        ):
            continue
        # Two linear layers in a row have no activation between them to go back through
        if kind is nn.Linear and (last is None or last.activation is not None):
            found.append(Layer(path, None, 0.0))
        elif (
            kind.__name__ in ACTIVATIONS
            and kind.__module__.startswith("torch.nn")
            and last
            and last.activation is None
        ):
            found[-1] = Layer(last.path, part, 0.0)
        elif kind is nn.Dropout and last and last.activation is not None and not last.dropout:
            found[-1] = Layer(last.path, last.activation, part.p)
        else:
            return None
    # A single output of classes has a loss of another form
    one = bool(found) and module.get_submodule(found[-1].path).out_features == 1
    return found if found and found[-1].activation is None and (single or not one) else None


ACTIVATIONS = ("ReLU", "Tanh", "Sigmoid", "LeakyReLU")  # whose slope follows from their output


@dataclass(frozen=True, eq=False)
class Layer:
    """Linear layer at `path` in the module, with the activation after it (None at the end).

    `dropout` is the share of the dropout after that.
    """

    path: str
    activation: Any
    dropout: float
