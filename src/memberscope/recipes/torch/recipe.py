"""Train torch models as a recipe, many at a time where that is faster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from memberscope._own_code import digest_source, pickle_by_value
from memberscope.errors import InputError
from memberscope.frames import as_numpy
from memberscope.recipes.dp_accounting import Proof, prove_epsilon
from memberscope.recipes.torch.engines.choice import choose_engine_settings, select_engine
from memberscope.recipes.torch.task import (
    Task,
    TorchSettings,
    build_initial_module,
    build_tensors,
    flush_denormals,
    list_member_rows,
    prepare_task,
)
from memberscope.targets import TorchTarget
from memberscope.types import Bools, Floats, Records

VERSION = 2  # raised whenever the same settings give other weights


@dataclass(frozen=True)
class TorchRecipe(TorchSettings):
    """Recipe that trains the module of `model()` on all records, `epochs` times.

    Batches are drawn without replacement. `loss` is cross-entropy with `label_smoothing`, one of
    `losses`, `squared_error` of real outputs, `label_cross_entropy` of one logit for each of several
    labels, or a function (logits (b, k), labels (b,)) -> mean loss. A module may have one output
    of two classes, or end in a sigmoid or a softmax; a function gets what the module returns, as it
    is. `augmentation` changes records at random: `flip`, `shift:k`, `noise:s`; `mixup` above 0
    mixes pairs of records and labels by shares from Beta(mixup, mixup). `stop` ends training early.
    `precision` is that of products and activations while training; weights are float32 unless it is
    float64.

    `stack` models are trained together by `engine`: `matrices` multiplies stacked weights of fully
    connected networks, `vmap` stacks any module, `loop` goes one by one. None and `auto` leave both
    to a measurement made once, before the first model. The same seed gives the same initial
    weights, batches and augmentation in every engine. `privacy` trains by DP-SGD: batches are then
    drawn by a coin for each record, and `batch_size` is their expected size.

    >>> import torch
    >>> recipe = TorchRecipe(lambda: torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)), epochs=3)
    >>> x = np.random.default_rng(0).normal(size=(64, 3))
    >>> recipe(Records(x, (x[:, 0] > 0).astype(int), np.arange(64).astype(str)), seed=0).query(x[:2]).shape
    (2, 2)
    """

    def __call__(self, records: Records, seed: int) -> TorchTarget:
        """Train a model on `records`."""
        # A stack of one, so that both ways give the same model
        return next(self.many(records, np.ones((1, len(records)), dtype=bool), [seed]))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the recipe with the code of `model` and `loss`.

        Workers then need not find the modules that define them.
        """
        rest = {
            entry.name: getattr(self, entry.name)
            for entry in fields(self)
            # These two may be the user's own code
            if entry.name not in ("model", "loss")
        }
        loss = pickle_by_value(self.loss) if callable(self.loss) else self.loss
        return _rebuild_torch_recipe, (type(self), pickle_by_value(self.model), loss, rest)

    @property
    def digest(self) -> str | None:
        """Hash of the code that builds the model, of every setting and of torch's version.

        It is None without source to hash.
        """
        import torch

        sources = [digest_source(part) for part in (self.model, self.loss) if callable(part)]
        if None in sources:
            return None
        # The text of a function is its address, which differs from run to run
        coded = ("model", "loss") if callable(self.loss) else ("model",)
        rest = [
            (entry.name, repr(getattr(self, entry.name)))
            for entry in fields(self)
            if entry.name not in coded
        ]
        # Another version of torch may give other bits
        text = f"{VERSION}:{sources}:{sorted(rest)}:{torch.__version__}"
        return hashlib.sha256(text.encode()).hexdigest()

    def many(
        self, pool: Records, inside: Bools, seeds: Sequence[int], soft: Floats | None = None
    ) -> Iterator[TorchTarget]:
        """Train a model for each row of `inside` (b, n).

        Models with equally many records are trained together. With `soft` (b, n, k) each model
        learns these probabilities in place of the labels.

        Raises:
            InputError: The records are not an array of numbers, or the device is not available.
        """
        # Stacked training takes rows by position, which needs one array
        if not isinstance(pool.x, np.ndarray):
            raise InputError(
                f"Expected records as one array for a TorchRecipe, got {type(pool.x).__name__}. "
                "Convert them to a NumPy array."
            )
        if soft is not None and self.privacy is not None:
            raise InputError(
                "Expected labels to learn with privacy, got a teacher's answers, which saw the "
                "records. Leave one of the two out."
            )
        # All modules first, so that an error in one costs no training
        modules = [build_initial_module(self, seed) for seed in seeds]
        x, y = build_tensors(self, pool, modules[0])
        with flush_denormals():
            # Models of different sizes take different numbers of steps
            for part in _group_by_size(inside):
                task = Task(
                    self,
                    [modules[i] for i in part],
                    x,
                    y,
                    list_member_rows(inside[part]),
                    [seeds[i] for i in part],
                )
                select_engine(self, modules[part[0]])(
                    # Teachers' answers and held-out records, where there are any
                    prepare_task(task, None if soft is None else soft[part])
                )
        # A module does not show that it returns no classes
        known: dict[str, Any] = {}
        truth = as_numpy(pool.y)
        own, real = callable(self.loss), truth.dtype.kind == "f"
        if self.loss == "label_cross_entropy" or (own and truth.ndim > 1 and not real):
            known = {"task": "multilabel", "outputs": "logits"}
        elif self.loss == "squared_error" or (own and real):
            known = {"task": "regression"}
        return (TorchTarget(module.eval(), device=self.device, **known) for module in modules)

    def proof(self, n_records: int) -> Proof | None:
        """Prove the privacy of a model trained on `n_records`; None without `privacy`.

        Raises:
            InputError: There is no noise, no noise reaches the target, delta is too large, or
        Opacus is not installed.
        """
        return (
            None
            if self.privacy is None
            else prove_epsilon(self.privacy, n_records, self.batch_size, self.epochs)
        )

    def tuned(self, pool: Records, size: int, n_models: int) -> tuple[TorchRecipe, dict[str, Any]]:
        """Choose stack, engine and threads by measurement on this machine.

        Give the recipe, and the choice in words.
        """
        return choose_engine_settings(self, pool, size, n_models)

    def chosen(self, choice: dict[str, Any]) -> TorchRecipe:
        """Apply an earlier choice."""
        return replace(
            self,
            stack=int(choice["stack"]),
            engine=choice["engine"],
            threads=int(choice["threads"]),
        )


def _rebuild_torch_recipe(
    kind: type[TorchRecipe], model: bytes, loss: Any, rest: dict[str, Any]
) -> TorchRecipe:
    """Rebuild the recipe, in a worker."""
    import cloudpickle

    return kind(
        cloudpickle.loads(model),
        loss=cloudpickle.loads(loss) if isinstance(loss, bytes) else loss,
        **rest,
    )


def _group_by_size(inside: Bools) -> list[list[int]]:
    """Group the models with equally many records.

    >>> _group_by_size(np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1]], dtype=bool))
    [[1], [0, 2]]
    """
    sizes = inside.sum(axis=1)
    return [np.flatnonzero(sizes == size).tolist() for size in np.unique(sizes)]
