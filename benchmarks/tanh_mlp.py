"""The Location-30 network of reference C.3.

MLP 446-1024-512-256-30, tanh, SGD at 0.5, batch 64, 50 epochs, last epoch kept.

In a file of its own, since the hash of this file is part of the key under which trained models are
kept.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

SIZES, RATE, BATCH, EPOCHS = (446, 1024, 512, 256, 30), 0.5, 64, 50


def network(seed: int, *, glorot: bool) -> torch.nn.Sequential:
    """Untrained weights: Glorot-uniform with zero biases.

    Or torch's own uniform within 1 / sqrt(inputs).
    """
    torch.manual_seed(seed)
    layers: list[torch.nn.Module] = []
    for before, after in pairwise(SIZES):
        layer = torch.nn.Linear(before, after)
        if glorot:
            torch.nn.init.xavier_uniform_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
        layers += [layer, torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def fitted(records: Any, seed: int, *, glorot: bool) -> torch.nn.Module:
    """The network trained on the records, in eval mode."""
    torch.set_flush_denormal(True)
    module = network(seed, glorot=glorot)
    optimiser = torch.optim.SGD(module.parameters(), lr=RATE)
    inputs, labels = torch.from_numpy(records.x), torch.from_numpy(records.y)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(inputs)).split(BATCH):
            optimiser.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(module(inputs[batch]), labels[batch]).backward()
            optimiser.step()
    return module.eval()


def glorot(records: Any, seed: int) -> torch.nn.Module:
    """Trained from Glorot's initial weights."""
    return fitted(records, seed, glorot=True)


def torch_default(records: Any, seed: int) -> torch.nn.Module:
    """Trained from torch's default initial weights."""
    return fitted(records, seed, glorot=False)
