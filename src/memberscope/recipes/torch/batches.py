"""Choose which records of each model make a step, at what rate, and how they are changed.

The choice is the same in every engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from memberscope.recipes.torch.settings import check_augmentation, compute_learning_rate
from memberscope.recipes.torch.task import Task


@dataclass(frozen=True, eq=False)
class Step:
    """One step of all models: `index` (b, r) positions in the pool, the rate and the time.

    `last` is true for the last step of an epoch.
    """

    index: Any
    rate: float
    epoch: int
    number: int
    last: bool = False  # of its epoch


def iterate_steps(task: Task) -> Iterator[Step]:
    """Yield all steps of all epochs; each model's order depends on its seed alone.

    A last batch of one record is left out, since batch normalisation cannot use it.
    """
    import torch

    recipe, size = task.recipe, task.rows.shape[1]
    starts = [
        start for start in range(0, size, recipe.batch_size) if start == 0 or size - start > 1
    ]
    total = recipe.epochs * len(starts)
    for epoch in range(recipe.epochs):
        order = np.stack(
            [
                # Streams of a seed are numbered, so that no two uses draw the same numbers
                row[np.random.default_rng([seed, 1, epoch]).permutation(size)]
                for row, seed in zip(task.rows, task.seeds, strict=True)
            ]
        )
        index = torch.from_numpy(order).to(task.x.device)
        for number, start in enumerate(starts):
            rate = compute_learning_rate(
                recipe.optimiser.lr, recipe.schedule, epoch, (epoch * len(starts) + number) / total
            )
            yield Step(
                index[:, start : start + recipe.batch_size],
                rate,
                epoch,
                number,
                number == len(starts) - 1,
            )


def build_batch(task: Task, step: Step) -> tuple[Any, Any]:
    """Build the records (b, r, ...) of a step, augmented, and its labels (b, r) or true numbers (b, r, d).

    With soft labels they are probabilities (b, r, k).
    """
    shape = step.index.shape
    flat = step.index.reshape(-1)
    # Several times faster than indexing, with the same result
    x = task.x.index_select(0, flat).reshape(*shape, *task.x.shape[1:])
    for name in task.recipe.augmentation:
        # Seeded by the step: an engine that skips or repeats a draw would change no other step
        draws = [np.random.default_rng([seed, 2, step.epoch, step.number]) for seed in task.seeds]
        x = augment_records(name, x, draws)
    y = task.y[flat].reshape(*shape, *task.y.shape[1:])
    if task.soft is not None:
        y = task.soft.gather(1, step.index[..., None].expand(*shape, task.soft.shape[-1]))
    return _mix_pairs(task, step, x, y) if task.recipe.mixup else (x, y)


def _mix_pairs(task: Task, step: Step, x: Any, y: Any) -> tuple[Any, Any]:
    """Mix records (b, r, ...) and labels in pairs, each model's by a share of its own.

    The labels become probabilities.
    """
    import torch

    # Classes that no record of the batch has must have a column too
    n_classes = max(2, task.head.width or _count_module_classes(task.modules[0]))
    soft = y if y.ndim == 3 else torch.nn.functional.one_hot(y, n_classes).to(x.dtype)
    draws = [np.random.default_rng([seed, 3, step.epoch, step.number]) for seed in task.seeds]
    shares = torch.tensor(
        [rng.beta(task.recipe.mixup, task.recipe.mixup) for rng in draws],
        dtype=x.dtype,
        device=x.device,
    )
    # Permuting within the batch keeps the number of records
    partner = torch.from_numpy(np.stack([rng.permutation(x.shape[1]) for rng in draws])).to(
        x.device
    )
    model = torch.arange(len(x), device=x.device)[:, None]

    def mix(values: Any) -> Any:
        share = shares.reshape(-1, *[1] * (values.ndim - 1))
        return share * values + (1 - share) * values[model, partner]

    return mix(x), mix(soft)


def _count_module_classes(module: Any) -> int:
    """Count the classes of a module: the size of its last weight's output, two where that is one.

    >>> import torch
    >>> _count_module_classes(torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)))
    2
    """
    found = [part.out_features for part in module.modules() if hasattr(part, "out_features")]
    return max(
        2,
        # Without a linear layer the last weight matrix tells it
        int(found[-1])
        if found
        else int([p for p in module.parameters() if p.ndim > 1][-1].shape[0]),
    )


def augment_records(name: str, x: Any, draws: list[np.random.Generator]) -> Any:
    """Change records (b, r, ...) at random, model i by `draws[i]`."""
    import torch

    kind, value = check_augmentation(name)
    n = x.shape[1]
    if kind == "flip":
        mask = torch.from_numpy(np.stack([rng.random(n) < 0.5 for rng in draws])).to(x.device)
        return torch.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x.flip(-1), x)
    if kind == "noise":
        noise = np.stack([rng.standard_normal(x.shape[1:]) for rng in draws])
        return x + value * torch.from_numpy(noise).to(x.device, x.dtype)
    return _shift_with_zeros(
        x,
        np.stack([rng.integers(-int(value), int(value) + 1, (2, n)) for rng in draws]),
        int(value),
    )


def _shift_with_zeros(x: Any, moves: np.ndarray[Any, Any], margin: int) -> Any:
    """Shift images (b, r, ..., height, width) by `moves` (b, 2, r) pixels down and right.

    The edges are filled with zeros.
    """
    import torch

    height, width = x.shape[-2:]
    flat = torch.nn.functional.pad(x, [margin] * 4).reshape(
        -1, *x.shape[2:-2], height + 2 * margin, width + 2 * margin
    )
    down, right = (torch.from_numpy(moves[:, axis].reshape(-1)).to(x.device) for axis in (0, 1))
    # Positions in the padded images that each pixel comes from
    rows = torch.arange(height, device=x.device)[None] + margin - down[:, None]
    columns = torch.arange(width, device=x.device)[None] + margin - right[:, None]
    which = torch.arange(len(flat), device=x.device)
    moved = flat.movedim((-2, -1), (1, 2))[
        which[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return moved.movedim((1, 2), (-2, -1)).reshape(x.shape)
