"""Draw the records that join each step of DP-SGD.

Each joins by a coin of its own, so that batches differ in size between models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.recipes.dp_accounting import compute_sampling_schedule, find_noise_multiplier
from memberscope.recipes.torch.batches import Step, build_batch
from memberscope.recipes.torch.settings import compute_learning_rate
from memberscope.recipes.torch.task import Task

SAMPLING, NOISE = 3, 4  # streams of a model's seed, beside those of batches and augmentation


@dataclass(frozen=True)
class Mechanism:
    """Gaussian mechanism of one step.

    Gradients are clipped to `clip`, noise has the deviation `noise * clip`, and the sum is divided
    by `expected` records.
    """

    clip: float
    noise: float
    expected: float

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise on the mean gradient."""
        return self.noise * self.clip / self.expected


def build_mechanism(task: Task) -> Mechanism:
    """Build the mechanism of a task's recipe for its number of records."""
    recipe, n = task.recipe, task.rows.shape[1]
    assert recipe.privacy is not None, "a private engine was given a recipe without privacy"
    if n < 1:
        raise InputError("Expected at least one record to train on, got none. Add records.")
    noise = find_noise_multiplier(recipe.privacy, n, recipe.batch_size, recipe.epochs)
    return Mechanism(recipe.privacy.max_grad_norm, noise, float(min(recipe.batch_size, n)))


def draw_poisson_steps(task: Task) -> Iterator[tuple[Step, list[int]]]:
    """Draw all steps, with how many of the `index` (b, r) each model really drew.

    The rest repeats a record and must have no weight. A binomial number of records, drawn without
    replacement, is what a coin for each would give. What a model draws depends on its seed alone.
    """
    import torch

    recipe, n = task.recipe, task.rows.shape[1]
    rate, total = compute_sampling_schedule(n, recipe.batch_size, recipe.epochs)
    an_epoch = total // recipe.epochs
    streams = [np.random.default_rng([seed, SAMPLING]) for seed in task.seeds]
    for made in range(total):
        # One draw of a number and one of records cost less than a coin for each record
        picks = [
            rng.choice(n, rng.binomial(n, rate), replace=False, shuffle=False) for rng in streams
        ]
        sizes = [len(pick) for pick in picks]
        # Padded to the largest draw with a record that gets weight zero
        index = np.repeat(task.rows[:, :1], max(1, *sizes), axis=1)
        for own, rows, pick in zip(index, task.rows, picks, strict=True):
            own[: len(pick)] = rows[pick]
        epoch, number = divmod(made, an_epoch)
        lr = compute_learning_rate(recipe.optimiser.lr, recipe.schedule, epoch, made / total)
        yield Step(torch.from_numpy(index).to(task.x.device), lr, epoch, number), sizes


def build_poisson_batch(task: Task, step: Step, sizes: list[int]) -> tuple[Any, Any]:
    """Build the records (b, r, ...) and labels (b, r) of a step.

    Each model's are augmented independently of the others'.
    """
    # Padding does no harm where nothing is drawn for it
    if not task.recipe.augmentation:
        return build_batch(task, step)
    x, y = task.x[step.index], task.y[step.index]
    for i, size in enumerate(sizes):
        one = select_model_task(task, i)
        if size:
            x[i, :size] = build_batch(
                one, Step(step.index[i : i + 1, :size], step.rate, step.epoch, step.number)
            )[0][0]
    return x, y


def select_model_task(task: Task, i: int) -> Task:
    """Select the task of model `i` only."""
    return replace(
        task,
        modules=task.modules[i : i + 1],
        rows=task.rows[i : i + 1],
        seeds=task.seeds[i : i + 1],
    )


def build_draw_mask(sizes: list[int], like: Any) -> Any:
    """Mark with one what a model drew and with zero the rest, (b, r) like `like` (b, r, ...)."""
    import torch

    places = torch.arange(like.shape[1], device=like.device)
    return (places < torch.tensor(sizes, device=like.device)[:, None]).to(like.dtype)


def build_noise_generator(seed: int, device: Any) -> Any:
    """Build the generator of a model's noise."""
    import torch

    # A stream of its own: what else a model draws must not shift its noise
    state = np.random.SeedSequence([seed, NOISE]).generate_state(1, np.uint64)[0]
    # torch takes seeds of 63 bits
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))
