"""Torch models as a recipe: how one is built and trained, many at a time where that is faster."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from memberscope.errors import InputError
from memberscope.recipes.dp_accounting import Privacy, Proof, proof
from memberscope.recipes.function import packed
from memberscope.recipes.source_digest import source_digest
from memberscope.recipes.torch.heads import Head, find_head
from memberscope.recipes.torch.losses import Loss
from memberscope.recipes.torch.settings import SGD, EarlyStopping, Optimiser, Precision, Schedule, check_augmentation
from memberscope.targets import TorchTarget
from memberscope.targets.answers.scores import as_numpy
from memberscope.targets.white_box.torch_access import reads_codes
from memberscope.types import Bools, Floats, Records

Engine = Literal["auto", "matrices", "vmap", "loop"]
VERSION = 1  # raised whenever the same settings give other weights


@dataclass(frozen=True)
class TorchRecipe:
    """Train the module that `model()` builds, on all records `epochs` times, in batches drawn without replacement.

    `loss` is cross-entropy with `label_smoothing`, one of `losses`, or a function (logits (b, k), labels (b,)) -> mean loss. A module
    may have one output of two classes, or end in a sigmoid or a softmax; a function gets what the module returns, as it is.
    `augmentation` changes records at random: `flip`, `shift:k`, `noise:s`; `mixup` above 0 mixes pairs of records and labels by
    shares from Beta(mixup, mixup). `stop` ends training early. `precision` is that of products and activations while training;
    weights are float32 unless it is float64.

    `stack` models are trained together by `engine`: `matrices` multiplies stacked weights of fully connected networks,
    `vmap` stacks any module without running statistics, `loop` goes one by one. None and `auto` leave both to a measurement
    made once, before the first model. The same seed gives the same initial weights, batches and augmentation in every engine.
    `privacy` trains by DP-SGD: batches are then drawn by a coin for each record, and `batch_size` is their expected size.

    >>> import torch
    >>> recipe = TorchRecipe(lambda: torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)), epochs=3)
    >>> x = np.random.default_rng(0).normal(size=(64, 3))
    >>> recipe(Records(x, (x[:, 0] > 0).astype(int), np.arange(64).astype(str)), seed=0).query(x[:2]).shape
    (2, 2)
    """

    model: Callable[[], Any]
    optimiser: Optimiser = field(default_factory=SGD)
    schedule: Schedule = "constant"
    epochs: int = 20
    batch_size: int = 128
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    loss: Literal["cross_entropy"] | Loss | Callable[[Any, Any], Any] = "cross_entropy"
    augmentation: tuple[str, ...] = ()
    mixup: float = 0.0
    stop: EarlyStopping | None = None
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
                f"{', '.join(get_args(Engine))}, got {self.precision!r} and {self.engine!r}. Choose from these."
            )
        if min(self.epochs, self.batch_size, self.threads, 1 if self.stack is None else self.stack) < 1:
            raise InputError("Expected at least one epoch, record a batch, thread and model a stack, got less. Repair it.")
        if min(self.mixup, self.weight_decay) < 0 or not 0 <= self.label_smoothing < 1:
            raise InputError("Expected mixup and weight decay of at least 0 and smoothing in [0, 1), got others. Repair them.")
        for name in self.augmentation:
            check_augmentation(name)
        mixes = self.loss != "cross_entropy" or self.mixup or self.stop is not None
        if self.privacy is not None and (mixes or self.precision == "bfloat16"):
            raise InputError(
                f"Expected cross-entropy in float32 or float64 with privacy, without mixup or early stopping, got {self.loss!r} in "
                f"{self.precision}: what looks at several records at once breaks the bound on what one changes. Leave one out."
            )

    def __call__(self, records: Records, seed: int) -> TorchTarget:
        """A model trained on `records`."""
        return next(self.many(records, np.ones((1, len(records)), dtype=bool), [seed]))

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel with the code of `model` and `loss`, so that workers need not find the module they stand in."""
        rest = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in ("model", "loss")}
        loss = packed(self.loss) if callable(self.loss) else self.loss
        return unpacked, (type(self), packed(self.model), loss, rest)

    @property
    def digest(self) -> str | None:
        """Hash of the code that builds the model, of every setting and of torch's version; None without source to hash."""
        import torch

        sources = [source_digest(part) for part in (self.model, self.loss) if callable(part)]
        if None in sources:
            return None
        coded = ("model", "loss") if callable(self.loss) else ("model",)
        rest = [(entry.name, repr(getattr(self, entry.name))) for entry in fields(self) if entry.name not in coded]
        text = f"{VERSION}:{sources}:{sorted(rest)}:{torch.__version__}"
        return hashlib.sha256(text.encode()).hexdigest()

    def many(self, pool: Records, inside: Bools, seeds: Sequence[int], soft: Floats | None = None) -> Iterator[TorchTarget]:
        """A model for each row of `inside` (b, n), trained together where their numbers of records allow it.

        With `soft` (b, n, k) each model learns these probabilities in place of the labels.

        Raises:
            InputError: The records are no array of numbers, or the device is not there.
        """
        from memberscope.recipes.torch.engine_choice import engine_of

        if not isinstance(pool.x, np.ndarray):
            raise InputError(f"Expected records as one array for a TorchRecipe, got {type(pool.x).__name__}. Convert them.")
        if soft is not None and self.privacy is not None:
            raise InputError(
                "Expected labels to learn with privacy, got a teacher's answers, which saw the records. Leave one out."
            )
        modules = [initial(self, seed) for seed in seeds]
        x, y = tensors(self, pool, modules[0])
        with flushed_denormals():
            for part in alike(inside):
                task = Task(self, [modules[i] for i in part], x, y, rows_of(inside[part]), [seeds[i] for i in part])
                engine_of(self, modules[part[0]])(taught(task, None if soft is None else soft[part]))
        return (TorchTarget(module.eval(), device=self.device) for module in modules)

    def proof(self, n_records: int) -> Proof | None:
        """What is proven of a model trained on `n_records`; None without `privacy`.

        Raises:
            InputError: There is no noise, no noise reaches the target, delta is too large, or Opacus is not installed.
        """
        return None if self.privacy is None else proof(self.privacy, n_records, self.batch_size, self.epochs)

    def built(self) -> Any:
        """What `model()` builds; for private training, checked, and with layers replaced as far as `privacy` allows.

        Raises:
            InputError: DP-SGD cannot train it.
        """
        module = self.model()
        if self.privacy is None or not hasattr(module, "named_modules"):
            return module
        from memberscope.recipes.torch.dpsgd_modules import trainable

        return trainable(module, self.privacy)

    def tuned(self, pool: Records, size: int, n_models: int) -> tuple[TorchRecipe, dict[str, Any]]:
        """This recipe with stack, engine and threads chosen by measurement on this machine, and the choice in words."""
        from memberscope.recipes.torch.engine_choice import choose

        return choose(self, pool, size, n_models)

    def chosen(self, choice: dict[str, Any]) -> TorchRecipe:
        """This recipe with an earlier choice."""
        return replace(self, stack=int(choice["stack"]), engine=choice["engine"], threads=int(choice["threads"]))


@dataclass(frozen=True, eq=False)
class Task:
    """What an engine trains in place: `modules` (b), each on the records `rows[i]` (b, r) of `x` (n, ...) and `y` (n,).

    `soft` (b, n, k) are probabilities to learn in place of `y`. `held` (b, v) are records that early stopping looks at.
    """

    recipe: TorchRecipe
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
        return find_head(self.modules[0], self.x, int(self.y.max()) + 1)


def taught(task: Task, soft: Floats | None) -> Task:
    """The task with the probabilities to learn, if there are some, on its device, and its records held out."""
    import torch

    if soft is not None:
        task = replace(task, soft=torch.from_numpy(np.ascontiguousarray(soft)).to(task.x.device, task.x.dtype))
    if task.recipe.stop is None:
        return task
    size = task.rows.shape[1]
    n_held = round(task.recipe.stop.share * size)
    if not 0 < n_held < size - 1:
        raise InputError(f"Expected records to hold out for early stopping, got {size} in all. Give more.")
    mixed = np.stack(
        [row[np.random.default_rng([seed, 4]).permutation(size)] for row, seed in zip(task.rows, task.seeds, strict=True)]
    )
    return replace(task, rows=np.sort(mixed[:, n_held:], axis=1), held=mixed[:, :n_held])


def unpacked(kind: type[TorchRecipe], model: bytes, loss: Any, rest: dict[str, Any]) -> TorchRecipe:
    """The recipe again, in a worker."""
    import cloudpickle

    return kind(cloudpickle.loads(model), loss=cloudpickle.loads(loss) if isinstance(loss, bytes) else loss, **rest)


def initial(recipe: TorchRecipe, seed: int) -> Any:
    """The module with the initial weights that `seed` gives, on the recipe's device.

    Raises:
        InputError: The device is not there, or `model` builds something else than a module.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = recipe.built()
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"Expected model() to build a torch module, got {type(module).__name__}. Return the module.")
    try:
        module = module.to(torch.device(recipe.device))
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"Expected an available device, got {recipe.device!r} ({first}). Use device='cpu'.") from error
    return module.double() if recipe.precision == "float64" else module


def tensors(recipe: TorchRecipe, pool: Records, module: Any) -> tuple[Any, Any]:
    """Records and labels on the device; numbers in the weights' precision, codes that `module` looks up as they are."""
    import torch

    with warnings.catch_warnings():  # workers share one read-only copy of the records, and nothing here writes to them
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        x = torch.from_numpy(np.ascontiguousarray(pool.x))
    if x.is_floating_point() or not reads_codes(module):
        x = x.double() if recipe.precision == "float64" else x.float()
    return x.to(recipe.device), torch.from_numpy(as_numpy(pool.y).astype(np.int64).reshape(-1)).to(recipe.device)


def rows_of(inside: Bools) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Positions (b, r) of the records under each row of `inside` (b, n), all of one size."""
    return np.stack([np.flatnonzero(row) for row in inside])


def alike(inside: Bools) -> list[list[int]]:
    """Models with equally many records, together.

    >>> alike(np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1]], dtype=bool))
    [[1], [0, 2]]
    """
    sizes = inside.sum(axis=1)
    return [np.flatnonzero(sizes == size).tolist() for size in np.unique(sizes)]


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Numbers below 1e-38 read as zero while training: processors are slow on them, and no result shows the difference."""
    import torch

    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
