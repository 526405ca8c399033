"""Find how many texts, and how many models, the memory of a machine has room for."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

FREE = 0.5  # share of the free memory that models are planned to take
# Numbers kept a token and layer for the gradient, in units of the model's width
ACTIVATIONS = 40
# Copies of what is trained beside the weights: its gradient, and the two moments of AdamW
TRAINED = 3


def find_rows_at_once(has_room: Callable[[int], bool], most: int) -> int:
    """Find the texts at once that there is room for, by halving; at least one.

    >>> find_rows_at_once(lambda rows: rows <= 5, 16)
    4
    """
    rows = most
    while rows > 1 and not has_room(rows):
        rows = -(-rows // 2)
    return rows


def estimate_model_bytes(model: Any) -> int:
    """Estimate the bytes that the weights of one fine-tune take, those of its base included.

    Only what is trained has a gradient and moments: all of the model, or adapters alone.
    """
    weights, trained = 0, 0
    for weight in model.parameters():
        n = weight.numel() * weight.element_size()
        weights, trained = weights + n, trained + n * weight.requires_grad
    return 2 * weights + TRAINED * trained


def estimate_row_bytes(config: Any, length: int) -> int:
    """Estimate the bytes that the gradient of one text of `length` tokens takes.

    >>> from types import SimpleNamespace
    >>> estimate_row_bytes(SimpleNamespace(vocab_size=512, hidden_size=64, num_hidden_layers=2), 64)
    1703936
    """
    # Models of several parts say the sizes of the one for texts apart
    config = getattr(config, "get_text_config", lambda: config)()
    # Logits, their softmax and its gradient, in float32
    logits = 3 * int(config.vocab_size)
    inner = ACTIVATIONS * int(config.num_hidden_layers) * int(config.hidden_size)
    return 4 * length * (logits + inner)


def measure_free_bytes() -> int:
    """Measure the free memory of this machine, or of the container that it runs in."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as most:
            limit = int(most.read())
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as used:
            free = min(free, limit - int(used.read()))
    # No container, or one without a limit
    except (OSError, ValueError):
        pass
    return max(free, 0)
