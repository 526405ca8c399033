"""Prepare records for a torch module, and call it."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from memberscope.errors import InputError, MemberscopeError, TargetError
from memberscope.frames import Inputs, is_frame, make_dense_array


def read_records(x: Any) -> Any:
    """Read records for a torch module: an array or tensor (n, ...), or several as `Inputs`.

    Raises:
        InputError: They hold words.

    >>> read_records([[1.0, 2.0]]).shape
    (1, 2)
    """
    if (
        isinstance(x, Inputs)
        or hasattr(x, "detach")
        or (isinstance(x, np.ndarray) and x.dtype.kind in "buif")
    ):
        return x
    # A list of tensors, as data sets of torch give it
    if isinstance(x, list) and x and all(hasattr(row, "detach") for row in x):
        return np.stack([np.asarray(row.detach().cpu()) for row in x])
    values = (
        np.asarray(x.to_numpy()) if is_frame(x) and hasattr(x, "to_numpy") else make_dense_array(x)
    )
    if values.dtype.kind in "buif":
        return values
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        what = (
            "columns of words in a data frame" if is_frame(x) else f"values of type {values.dtype}"
        )
        raise InputError(
            f"Expected numbers for a torch module, got {what} ({error}). Encode words as numbers "
            "first."
        ) from error


def call_module(module: Any, inputs: Any) -> Any:
    """Call a module with a tensor, or with several in order or by name, as `forward` takes them.

    >>> import torch
    >>> call_module(torch.nn.Bilinear(2, 2, 3), (torch.zeros(5, 2), torch.zeros(5, 2))).shape
    torch.Size([5, 3])
    """
    if isinstance(inputs, dict):
        # Some modules take several inputs as one dict or tuple
        return module(**inputs) if _can_take(module, names=tuple(inputs)) else module(inputs)
    if isinstance(inputs, tuple):
        return module(*inputs) if _can_take(module, count=len(inputs)) else module(inputs)
    return module(inputs)


def _can_take(module: Any, *, names: tuple[str, ...] = (), count: int = 0) -> bool:
    """Check whether `forward` takes arguments of these names, or so many in order.

    True where its signature cannot be read.
    """
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError, AttributeError):
        return True
    if names:
        any_name = any(part.kind is part.VAR_KEYWORD for part in parameters)
        return any_name or set(names) <= {part.name for part in parameters}
    places = [
        part
        for part in parameters
        if part.kind in (part.POSITIONAL_ONLY, part.POSITIONAL_OR_KEYWORD)
    ]
    return len(places) >= count or any(part.kind is part.VAR_POSITIONAL for part in parameters)


def ask_module(module: Any, inputs: Any) -> Any:
    """Call a module, and explain in a sentence why it fails.

    Raises:
        TargetError: It fails.
    """
    try:
        return call_module(module, inputs)
    except MemberscopeError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        shapes = ", ".join(
            f"{tuple(part.shape)} {str(part.dtype).removeprefix('torch.')}"
            for part in _list_tensors(inputs)
        )
        advice = "Call it on such a batch yourself to see why."
        # Lightning modules often take the whole batch
        if hasattr(module, "training_step"):
            advice = "If it takes the whole batch with labels, give the module inside, such as model.net."
        raise TargetError(
            f"Expected {type(module).__name__} to take a batch of records ({shapes}), got "
            f"{type(error).__name__}: {first}. {advice}"
        ) from error


def _list_tensors(inputs: Any) -> list[Any]:
    """List the tensors of a call."""
    return (
        list(inputs.values())
        if isinstance(inputs, dict)
        else list(inputs)
        if isinstance(inputs, tuple)
        else [inputs]
    )
