"""Train reference models: observe each as soon as it is trained, and store its signals.

Its weights are dropped. What a model answered is kept under a hash of everything that decides it,
so a killed run resumes where it stopped and ends with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError, MemberscopeError
from memberscope.facts import read_recipe_facts
from memberscope.recipes.fleet import kept_weights as weights
from memberscope.recipes.fleet.attempts import Failure, attempt_models, is_training_hopeless
from memberscope.recipes.fleet.execution import Execution, limit_threads, stream_answers
from memberscope.recipes.fleet.fleet_keys import build_model_keys, build_weight_keys
from memberscope.recipes.fleet.observe_model import RECORD_QUALITY, Observation
from memberscope.recipes.fleet.observers import select_observer
from memberscope.recipes.fleet.tuning_cache import (
    Choice,
    find_tuned_recipe,
    limit_jobs,
    tune_recipe,
)
from memberscope.recipes.function import Parcel
from memberscope.signals import SignalRequest, Store, is_measured
from memberscope.targets.torch_modules import AnswerReader
from memberscope.types import Bools, Recipe, Records, Signal, Target, Task

WEIGHT = "weight "  # names of weights among what a job answers
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False, repr=False)
class TrainingJob:
    """What to train and to observe.

    Model i has seed `seeds[i]` and trains on the records of `pool` under `inside[i]` (m, n).

    `signal`, `n_classes` and `task` are the target's, as are `like`, how its answers are read, and
    `tokens_identity`, how it reads texts. The `wanted` signals are kept of each of the `views`. `population` holds records that no model is trained on.
    With `whole`, all outputs about the pool are kept too, and with `keep_weights` the models
    themselves, beside the store's other entries.
    """

    recipe: Recipe
    pool: Records
    inside: Bools
    seeds: tuple[int, ...]
    wanted: tuple[SignalRequest, ...]
    signal: Signal
    n_classes: int
    views: tuple[str, ...] = ("identity",)
    population: Records | None = None
    whole: bool = False
    keep_weights: bool = False
    like: AnswerReader | None = None
    task: Task = "classification"
    tokens_identity: str | None = None

    def batches(self) -> list[tuple[int, ...]]:
        """Group the models that are trained together, always in the same way."""
        # Always from the first model on, so that a resumed run stacks the same models
        size = read_recipe_facts(self.recipe).stack or 1
        return [
            tuple(range(start, min(start + size, len(self.inside))))
            for start in range(0, len(self.inside), size)
        ]

    def observation(self) -> Observation:
        """Give what is observed of each model."""
        return Observation(
            self.wanted,
            self.signal,
            self.n_classes,
            self.views,
            self.whole,
            self.like,
            self.task,
            self.tokens_identity,
        )


@dataclass(frozen=True, eq=False)
class ReferenceFleet:
    """Answers of the reference models: `inside` (m, n), and signals (m, n, views, d).

    Signals are in `observed` on the pool, and in `population` on the population.

    `predicted` and `confidence` (m, n) are the top class and its probability on the pool, as far as
    the models give it. `train_accuracy` and `held_out_accuracy` are (m,); NaN where a model's
    answers were not finite. `trained` counts models that were trained now, not found in the store;
    `choice` says how, as far as the recipe left it open. `outputs` (m, n, k) are all answers about
    the pool, if the job kept them whole. `failures` says why models could not be trained.

    Language models have no classes: `record_quality` (m, n) is the mean log-probability of each
    record's tokens, and the accuracies are the means of its exponential, the geometric-mean
    probability of a token. Of models with real outputs or several labels it is how right they are
    about each record (`measure_output_quality`), and the accuracies are its means.
    """

    inside: Bools
    observed: dict[SignalRequest, NDArray[Any]]
    population: dict[SignalRequest, NDArray[Any]]
    predicted: NDArray[np.int32]
    confidence: NDArray[np.float32]
    train_accuracy: NDArray[np.float64]
    held_out_accuracy: NDArray[np.float64]
    trained: int
    choice: Choice = field(default_factory=dict)
    outputs: NDArray[np.float64] | None = None
    failures: dict[int, Failure] = field(default_factory=dict)
    record_quality: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.inside)


def train_fleet(
    order: TrainingJob, store: Store | None, execution: Execution, progress: Progress | None = None
) -> ReferenceFleet:
    """Train what is not stored yet and gather all answers.

    Models that fail are left out as long as some do not.

    Raises:
        TargetError: The recipe fails each time, takes too long, or the workers are lost.
        InputError: All its models answer in another way than the target, the disk is full, or
    weights cannot be kept.
    """
    found = try_train_fleet(order, store, execution, progress)
    if isinstance(found, Failure):
        raise found.error()
    return found


def try_train_fleet(
    order: TrainingJob, store: Store | None, execution: Execution, progress: Progress | None = None
) -> ReferenceFleet | Failure:
    """Train as `train_fleet` does, but give the first failure where no model can be trained.

    Raises:
        TargetError: A model takes too long, or the workers are lost.
        InputError: The disk is full, or weights cannot be kept.
    """
    # Tuning measures one size: that of the first model
    size = int(order.inside[0].sum())
    try:
        recipe, choice = tune_recipe(order.recipe, order.pool, size, len(order.inside), store)
    except MemberscopeError as error:
        return Failure(str(error), isinstance(error, InputError))
    # Keys are built from the tuned recipe: another stack may change the last bits
    order, execution = replace(order, recipe=recipe), limit_jobs(execution, choice)
    # None where the recipe has no digest: then nothing can be stored or resumed
    kept = build_model_keys(order) if store is not None else None
    models = build_weight_keys(order) if store and kept else None
    if order.keep_weights and models is None:
        raise InputError(
            "Expected a folder to keep weights in, and a recipe whose digest can be computed, got "
            "none. Leave out --keep-weights."
        )
    answers: dict[int, dict[str, NDArray[Any]]] = {}
    failures: dict[int, Failure] = {}
    missing = [
        batch
        for batch in order.batches()
        if not (store and kept and _has_stored_answers(order, store, kept, batch))
    ]
    if store and kept and models:
        # Models whose weights are kept need to be queried again, not trained
        missing = [
            batch for batch in missing if not _observe_kept_models(order, store, kept, batch)
        ]
        # Answers without weights do not do where the weights were asked for
        if order.keep_weights:
            missing += [
                batch
                for batch in order.batches()
                if batch not in missing and not _has_stored_weights(store, models, batch)
            ]
            # In the models' own order again, as if nothing had been stored
            missing.sort()
    done = len(order.inside) - sum(map(len, missing))
    if progress:
        progress(done, len(order.inside))
    # Each batch is stored as soon as it is there, so that a killed run loses little
    for batch, results in _train_batches(order, missing, execution):
        for model, arrays in zip(batch, results, strict=True):
            # A failed model is never stored: the next run tries it again
            if isinstance(arrays, Failure):
                failures[model] = arrays
                continue
            # Before the answers, so that stored answers imply kept weights
            if store and models and order.keep_weights:
                weights.write_weights(store, models[model], _pop_weights(arrays))
            if store and kept:
                store.put_all(kept[model], arrays)
            else:
                answers[model] = arrays
        done += len(batch)
        if progress:
            progress(done, len(order.inside))
        # A recipe that fails the same way each time would fail for all models
        if is_training_hopeless(failures, done - len(failures), len(order.inside)):
            return failures[min(failures)]
    n_trained = sum(map(len, missing)) - len(failures)

    def answer(model: int) -> dict[str, NDArray[Any]]:
        found = store.get_all(kept[model]) if store and kept else answers[model]
        assert found is not None, "a model's answers vanished from the store while it was read"
        return found

    # Failed models keep their rows, so that rows still match the design
    good = [model for model in range(len(order.inside)) if model not in failures]
    return replace(
        _assemble_fleet(order, answer, store if kept else None, n_trained, good),
        choice=choice,
        failures=failures,
    )


def _has_stored_answers(
    order: TrainingJob, store: Store, kept: list[str], batch: tuple[int, ...]
) -> bool:
    """Check whether the store holds the answers of every model of a batch."""
    return all(_has_expected_arrays(order, store.get_all(kept[model])) for model in batch)


def _has_stored_weights(store: Store, models: list[str], batch: tuple[int, ...]) -> bool:
    """Check whether the store holds the weights of every model of a batch."""
    return all(weights.is_kept(store, models[model]) for model in batch)


def _observe_kept_models(
    order: TrainingJob, store: Store, kept: list[str], batch: tuple[int, ...]
) -> bool:
    """Query the kept models of a batch for what is not stored of them.

    Give False if some are not kept completely; then nothing is written.
    """
    models = build_weight_keys(order) or []
    if not models or not _has_stored_weights(store, models, batch):
        return False
    found, look, observe = [], order.observation(), select_observer(order.task)
    with limit_threads(read_recipe_facts(order.recipe).threads):
        for model in batch:
            again = weights.load_kept_model(store, models[model], order.recipe)
            if again is None:
                return False
            found.append(observe(look, again, order.pool, order.inside[model], order.population))
    # Written only once all could be read, as a batch is taken or left as a whole
    for model, arrays in zip(batch, found, strict=True):
        store.put_all(kept[model], arrays)
    return True


def _pop_weights(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Take the weights out of what a job answered."""
    names = [name for name in arrays if name.startswith(WEIGHT)]
    return {name.removeprefix(WEIGHT): arrays.pop(name) for name in names}


@dataclass(frozen=True)
class ResumeState:
    """How much of a job an earlier run left.

    Models whose answers are `stored`, that can be queried again from `kept` weights, and that are
    left `to_train`.
    """

    stored: int
    kept: int
    to_train: int


def read_resume_state(order: TrainingJob, store: Store | None) -> ResumeState:
    """Read what an earlier run left of a job; nothing is trained, queried or measured."""
    size, m = int(order.inside[0].sum()), len(order.inside)
    # Its keys depend on the tuning, which would have to be measured
    recipe = find_tuned_recipe(order.recipe, order.pool, size, m, store) if store else None
    if store is None or recipe is None:
        return ResumeState(0, 0, m)
    order = replace(order, recipe=recipe)
    kept, models = build_model_keys(order), build_weight_keys(order)
    if kept is None or models is None:
        return ResumeState(0, 0, m)
    done = [batch for batch in order.batches() if _has_stored_answers(order, store, kept, batch)]
    rest = [batch for batch in order.batches() if batch not in done]
    again = [batch for batch in rest if _has_stored_weights(store, models, batch)]
    n_done, n_again = sum(map(len, done)), sum(map(len, again))
    return ResumeState(n_done, n_again, m - n_done - n_again)


def _has_expected_arrays(order: TrainingJob, entry: dict[str, NDArray[Any]] | None) -> bool:
    """Check whether a stored entry holds what this job keeps of a model.

    Anything else under its key was written by another version.
    """
    if entry is None:
        return False
    n, others = len(order.pool), order.population
    parts = {"pool": n} | ({} if others is None else {"population": len(others)})
    shapes: dict[str, tuple[int, ...]] = {"predicted": (n,), "confidence": (n,), "metrics": (2,)}
    shapes |= {RECORD_QUALITY: (n,)} if order.task != "classification" else {}
    for number, wanted in enumerate(order.wanted):
        # Whole outputs and measured signals are of the records as they are, not of each view
        whole = wanted.spec.name == "outputs" or is_measured(wanted.spec)
        tail = (1,) if whole else (len(order.views), 1)
        shapes |= {f"{part} {number}": (length, *tail) for part, length in parts.items()}
    shapes |= {"outputs": (n,)} if order.whole else {}
    # The last axis is left open: how many numbers a signal has may depend on the model
    return set(entry) == set(shapes) and all(
        entry[name].shape[: len(shape)] == shape for name, shape in shapes.items()
    )


def _train_batches(
    order: TrainingJob, batches: list[tuple[int, ...]], execution: Execution
) -> Iterator[tuple[tuple[int, ...], list[dict[str, NDArray[Any]] | Failure]]]:
    """Yield each batch of models with their answers, as it is done."""
    # A job reserves one GPU in a cluster, so that two models do not share it
    gpus = int(read_recipe_facts(order.recipe).device.startswith("cuda"))
    # Workers of a cluster need not have the user's own modules
    if execution.backend in ("dask", "ray"):
        order = replace(order, recipe=Parcel(order.recipe))
    yield from stream_answers(_train_batch, order, batches, execution, gpus)


def _train_batch(
    order: TrainingJob, batch: tuple[int, ...]
) -> tuple[tuple[int, ...], list[dict[str, NDArray[Any]] | Failure]]:
    """Train one batch of models and observe each."""
    rows, seeds = list(batch), [order.seeds[row] for row in batch]

    def weights_of(model: Target) -> dict[str, NDArray[Any]]:
        return {
            f"{WEIGHT}{name}": array
            for name, array in weights.export_weights(order.recipe, model).items()
        }

    # Sums are then made in one order, wherever the job runs
    with limit_threads(read_recipe_facts(order.recipe).threads):
        also = weights_of if order.keep_weights else None
        return batch, attempt_models(
            order.observation(),
            order.recipe,
            order.pool,
            order.inside[rows],
            seeds,
            population=order.population,
            also=also,
        )


def _assemble_fleet(
    order: TrainingJob,
    answer: Callable[[int], dict[str, NDArray[Any]]],
    store: Store | None,
    n_trained: int,
    good: list[int],
) -> ReferenceFleet:
    """Join the answers of all `good` models, with zeros for the others.

    With a store, they are in memory maps written one model at a time.
    """
    # The shapes of the first that did not fail are those of all
    first, m = answer(good[0]), len(order.inside)
    tables = {
        name: _allocate_array(store, name, (m, *array.shape), array.dtype)
        for name, array in first.items()
    }
    # One model at a time, so that not all answers are in memory at once
    for model in range(m):
        found = (
            first
            if model == good[0]
            else answer(model)
            if model in good
            else dict.fromkeys(first, None)
        )
        for name, array in found.items():
            # NaN accuracies mark a model to leave out; its signals are never read
            tables[name][model] = array if array is not None else np.nan if name == "metrics" else 0
    metrics = np.asarray(tables["metrics"])
    return ReferenceFleet(
        inside=order.inside,
        observed={wanted: tables[f"pool {i}"] for i, wanted in enumerate(order.wanted)},
        population={
            w: tables[f"population {i}"]
            for i, w in enumerate(order.wanted)
            if f"population {i}" in tables
        },
        predicted=np.asarray(tables["predicted"]),
        confidence=np.asarray(tables["confidence"]),
        train_accuracy=metrics[:, 0],
        held_out_accuracy=metrics[:, 1],
        trained=n_trained,
        outputs=tables.get("outputs"),
        record_quality=np.asarray(tables[RECORD_QUALITY]) if RECORD_QUALITY in tables else None,
    )


def _allocate_array(
    store: Store | None, name: str, shape: tuple[int, ...], dtype: Any
) -> NDArray[Any]:
    """Allocate an array: in memory, or as a memory map on the store's disk.

    The file of a memory map is gone once it is closed.

    Raises:
        InputError: The disk is full.
    """
    # Up to a megabyte a file costs more than it saves
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if store is None or size < 1 << 20:
        return np.empty(shape, dtype)
    return store.scratch(name, shape, dtype)
