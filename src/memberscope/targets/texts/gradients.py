"""Measure how a record's loss would change the weights of a language model."""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.targets.texts.encoding import EncodedTexts, Window
from memberscope.targets.white_box.torch_access import hold_module_open
from memberscope.types import Floats

TINY = 1e-300  # squared norm of a gradient that is nothing but zeros


def measure_text_gradients(model: Any, encoded: EncodedTexts) -> Floats:
    """Measure minus the log of the gradient's norm (n, 1) of each record's mean loss.

    The model is left exactly as it was.
    """
    found = np.empty((len(encoded.offsets) - 1, 1))
    owners = np.searchsorted(encoded.offsets, [w.place for w in encoded.windows], "right") - 1
    with hold_module_open(model, "loss", str(model.device)) as opened:
        parameters = list(_choose_trained(model, opened.parameters).values())
        for part in parameters:
            part.requires_grad_(True)
        for row in range(len(found)):
            windows = [encoded.windows[k] for k in np.flatnonzero(owners == row)]
            squares = _compute_squared_norm(model, windows, parameters)
            found[row] = -0.5 * np.log(max(squares, TINY))
    return found


def _choose_trained(model: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """Choose the parameters of the adapter, if there is one that is frozen like all others."""
    if not hasattr(model, "peft_config"):
        return parameters
    try:
        mark = str(model.base_model.prefix)
    except AttributeError:  # tuned prompts stand beside the model
        mark = "prompt_encoder"
    return {name: part for name, part in parameters.items() if mark in name} or parameters


def _compute_squared_norm(model: Any, windows: list[Window], parameters: list[Any]) -> float:
    """Compute the squared norm of the gradient of one record's mean loss."""
    import torch

    n, total = sum(window.end - window.begin for window in windows), None
    for window in windows:
        ids = torch.tensor([window.ids], device=model.device)
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        logits = logits[0, logits.shape[1] - ids.shape[1] :][window.begin - 1 : window.end - 1]
        loss = torch.nn.functional.cross_entropy(
            logits.float(), ids[0, window.begin : window.end], reduction="sum"
        )
        parts = torch.autograd.grad(loss / n, parameters, allow_unused=True)
        # Windows of one record share its loss, so that their gradients are added
        total = (
            list(parts)
            if total is None
            else [
                new if old is None else old if new is None else old + new
                for old, new in zip(total, parts, strict=True)
            ]
        )
    return sum(float(part.double().square().sum()) for part in total or () if part is not None)
