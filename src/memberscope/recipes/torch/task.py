"""Settings of training with torch, and the task that an engine gets.

A task holds modules, records and what to learn.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from memberscope.errors import InputError
from memberscope.frames import as_numpy
from memberscope.recipes.dp_accounting import Privacy
from memberscope.recipes.torch.dpsgd_modules import make_trainable
from memberscope.recipes.torch.heads import Head, find_head
from memberscope.recipes.torch.losses import OUTPUT_LOSSES, LabelCrossEntropy, Loss, SquaredError
from memberscope.recipes.torch.settings import (
    SGD,
    EarlyStoppingSettings,
    Optimiser,
    Precision,
    Schedule,
    check_augmentation,
)
from memberscope.targets.white_box import has_embedding
from memberscope.types import Bools, Floats, Records

Engine = Literal["auto", "matrices", "vmap", "loop"]


@dataclass(frozen=True)
class TorchSettings:
    """Which module is trained, and how; `TorchRecipe` explains each setting."""

    model: Callable[[], Any]
    optimiser: Optimiser = field(default_factory=SGD)
    schedule: Schedule = "constant"
    epochs: int = 20
    batch_size: int = 128
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    loss: (
        Literal["cross_entropy", "squared_error", "label_cross_entropy"]
        | Loss
        | Callable[[Any, Any], Any]
    ) = "cross_entropy"
    augmentation: tuple[str, ...] = ()
    mixup: float = 0.0
    stop: EarlyStoppingSettings | None = None
    precision: Precision = "float32"
    device: str = "cpu"
    stack: int | None = None
    engine: Engine = "auto"
    threads: int = 1
    privacy: Privacy | None = None

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision) or self.engine not in get_args(Engine):
            raise InputError(
                f"Expected a precision among {', '.join(get_args(Precision))} and an engine among "
                f"{', '.join(get_args(Engine))}, got {self.precision!r} and {self.engine!r}. "
                "Choose from these."
            )
        counts = {"epochs": self.epochs, "batch_size": self.batch_size, "threads": self.threads}
        # None leaves the stack to a measurement
        counts |= {} if self.stack is None else {"stack": self.stack}
        for name, count in counts.items():
            if count < 1:
                raise InputError(f"Expected {name} >= 1, got {count}. Give at least 1.")
        for name, amount in (("mixup", self.mixup), ("weight_decay", self.weight_decay)):
            if amount < 0:
                raise InputError(f"Expected {name} >= 0, got {amount}. Give 0 for none.")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(
                f"Expected label_smoothing in [0, 1), got {self.label_smoothing}. Give 0 for none."
            )
        named = ("cross_entropy", *OUTPUT_LOSSES)
        if isinstance(self.loss, str) and self.loss not in named:
            raise InputError(
                f"Expected a loss among {', '.join(named)}, got {self.loss!r}. Choose one of "
                "these, or give a function (outputs, true values) -> loss."
            )
        if self.output_loss is not None and (
            self.mixup or self.stop is not None or self.label_smoothing
        ):
            raise InputError(
                f"Expected no mixup, early stopping or label smoothing with the loss {self.loss!r}, "
                "which has no classes. Leave them out."
            )
        for name in self.augmentation:
            check_augmentation(name)
        # What looks at several records at once has no gradient of a single record to clip
        mixes = self.loss != "cross_entropy" or self.mixup or self.stop is not None
        if self.privacy is not None and (mixes or self.precision == "bfloat16"):
            raise InputError(
                "Expected cross-entropy in float32 or float64 with privacy, without mixup or "
                f"early stopping, got {self.loss!r} in {self.precision}: what looks at several "
                "records at once breaks the bound on what one changes. Leave one of them out."
            )

    @property
    def takes_outputs(self) -> bool:
        """Whether the loss gets what the module returns, and no logits of classes."""
        return callable(self.loss) or self.output_loss is not None

    @property
    def output_loss(self) -> SquaredError | LabelCrossEntropy | None:
        """The loss of real outputs or several labels that was named; None for any other."""
        return OUTPUT_LOSSES.get(self.loss) if isinstance(self.loss, str) else None

    def built(self) -> Any:
        """Build the module of `model()`, and check it for private training.

        Layers that mix records are replaced as far as `privacy` allows.

        Raises:
            InputError: DP-SGD cannot train it.
        """
        module = self.model()
        # Something else than a module is refused by the caller
        if self.privacy is None or not hasattr(module, "named_modules"):
            return module
        return make_trainable(module, self.privacy)


@dataclass(frozen=True, eq=False)
class Task:
    """What an engine trains in place.

    `modules` (b), each on the records `rows[i]` (b, r) of `x` (n, ...) and `y` (n,) or (n, d). `soft` (b, n,
    k) are probabilities to learn in place of `y`. `held` (b, v) are records that early stopping
    evaluates.
    """

    recipe: TorchSettings
    modules: list[Any]
    x: Any
    y: Any
    rows: np.ndarray[Any, np.dtype[np.int64]]
    seeds: list[int]
    soft: Any = None
    held: Any = None

    @cached_property
    def head(self) -> Head:
        """How logits come from what the modules return."""
        # Only classes have logits
        if self.y.is_floating_point() or self.y.ndim > 1 or self.recipe.output_loss is not None:
            return Head()
        return find_head(self.modules[0], self.x, int(self.y.max()) + 1)


def prepare_task(task: Task, soft: Floats | None) -> Task:
    """Put probabilities to learn on the device and hold records out, where the task asks for it."""
    import torch

    if soft is not None:
        task = replace(
            task, soft=torch.from_numpy(np.ascontiguousarray(soft)).to(task.x.device, task.x.dtype)
        )
    if task.recipe.stop is None:
        return task
    size = task.rows.shape[1]
    n_held = round(task.recipe.stop.share * size)
    # At least one record to hold out, and two to train on
    if not 0 < n_held < size - 1:
        raise InputError(
            f"Expected records to hold out for early stopping, got {size} in all. Give more "
            "records."
        )
    # Drawn from the model's own seed: every engine holds out the same records
    mixed = np.stack(
        [
            row[np.random.default_rng([seed, 4]).permutation(size)]
            for row, seed in zip(task.rows, task.seeds, strict=True)
        ]
    )
    # Sorted, so that batches do not depend on the order of this draw
    return replace(task, rows=np.sort(mixed[:, n_held:], axis=1), held=mixed[:, :n_held])


def build_initial_module(recipe: TorchSettings, seed: int) -> Any:
    """Build the module with the initial weights that `seed` gives, on the recipe's device.

    Raises:
        InputError: The device is not available, or `model` builds something else than a module.
    """
    import torch

    # The caller's random state must not change by training, so only a fork of it is seeded
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = recipe.built()
    if not isinstance(module, torch.nn.Module):
        raise InputError(
            f"Expected model() to build a torch module, got {type(module).__name__}. Return the "
            "module."
        )
    try:
        # Built on the CPU first: the same seed then gives the same weights on every device
        module = module.to(torch.device(recipe.device))
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"Expected an available device, got {recipe.device!r} ({first}). Use device='cpu'."
        ) from error
    return module.double() if recipe.precision == "float64" else module


def build_tensors(recipe: TorchSettings, pool: Records, module: Any) -> tuple[Any, Any]:
    """Put records and labels on the device.

    Numbers are in the weights' precision; codes that `module` looks up are unchanged.
    """
    import torch

    # Workers share one read-only copy of the records, and nothing here writes to them
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        x = torch.from_numpy(np.ascontiguousarray(pool.x))
    # Codes must stay whole numbers, or an embedding could not look them up
    if x.is_floating_point() or not has_embedding(module):
        x = x.double() if recipe.precision == "float64" else x.float()
    y = as_numpy(pool.y)
    # True numbers, and several labels, keep their columns; classes are one whole number
    if y.dtype.kind == "f" and recipe.takes_outputs:
        numbers = torch.from_numpy(np.ascontiguousarray(y))
        numbers = numbers.double() if recipe.precision == "float64" else numbers.float()
        return x.to(recipe.device), numbers.to(recipe.device)
    labels = torch.from_numpy(y.astype(np.int64))
    if recipe.output_loss is None:
        labels = labels.reshape(-1) if y.ndim < 2 or y.shape[1] == 1 else labels
    return x.to(recipe.device), labels.to(recipe.device)


def list_member_rows(inside: Bools) -> np.ndarray[Any, np.dtype[np.int64]]:
    """List the positions (b, r) of the records under each row of `inside` (b, n), all of one size."""
    return np.stack([np.flatnonzero(row) for row in inside])


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Read numbers below 1e-38 as zero while training.

    Processors are slow on them, and no result shows the difference.
    """
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
