"""Settings of how a torch model is trained.

Optimiser, learning rate over time, and changes made to records on the way; plain values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from memberscope.errors import InputError

Precision = Literal["float32", "bfloat16", "float64"]


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, as `torch.optim.SGD`.

    Weight decay is added to the gradient.
    """

    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False


@dataclass(frozen=True)
class Adam:
    """Adam with decoupled weight decay, as `torch.optim.AdamW`."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True)
class EarlyStoppingSettings:
    """Early stopping on the loss of a `share` of a model's records that are held out.

    Training ends once `patience` epochs in a row brought no lower loss, and the weights of the
    epoch with the least loss are taken.
    """

    patience: int = 5
    share: float = 0.1

    def __post_init__(self) -> None:
        if self.patience < 1 or not 0 < self.share < 1:
            raise InputError(
                "Expected a patience of at least one epoch and a share in (0, 1), got a patience "
                f"of {self.patience} and a share of {self.share:g}. Change the one that is out of "
                "range."
            )


@dataclass(frozen=True)
class Steps:
    """Schedule that multiplies the rate by `factor` at each epoch in `at`, counted from 0."""

    at: tuple[int, ...]
    factor: float = 0.1


Optimiser = SGD | Adam
Schedule = Literal["constant", "cosine"] | Steps


def compute_learning_rate(lr: float, schedule: Schedule, epoch: int, done: float) -> float:
    """Compute the rate in `epoch` (from 0) once the share `done` of all steps is made.

    >>> compute_learning_rate(0.1, "cosine", 5, 0.5), compute_learning_rate(0.1, Steps((3, 6), 0.5), 4, 0.0)
    (0.05, 0.05)
    """
    # One factor for each start that has passed
    if isinstance(schedule, Steps):
        return lr * schedule.factor ** sum(epoch >= start for start in schedule.at)
    if schedule == "cosine":
        return lr * 0.5 * (1 + math.cos(math.pi * done))
    return lr


def check_augmentation(name: str) -> tuple[str, float]:
    """Parse the kind and the number of a change made to training records at random.

    It is written as `flip`, `shift:k` (pixels) or `noise:s`.

    Raises:
        InputError: It is unknown.

    >>> check_augmentation("shift:4")
    ('shift', 4.0)
    """
    kind, _, number = name.partition(":")
    try:
        # A flip has no number
        value = float(number) if number else 0.0
    except ValueError:
        value = -1.0
    # A flip takes no number, the others need one
    if kind not in ("flip", "shift", "noise") or value < 0 or (kind == "flip") == bool(number):
        raise InputError(
            f"Expected an augmentation flip, shift:k or noise:s, got {name!r}. Write for example "
            "shift:2 or noise:0.1."
        )
    return kind, value
