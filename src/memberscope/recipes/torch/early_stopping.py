"""Stop models early that train together: each keeps the weights of its own best epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from memberscope.recipes.torch.task import Task


@dataclass(eq=False)
class StoppingState:
    """State of early stopping for b models.

    The least loss `best` (b,) on the labels `y` (b, v) held out, the epochs `stale` (b,) since
    then, and the weights `kept` of that time.
    """

    y: Any
    patience: int
    best: Any
    stale: Any
    kept: list[Any]

    def look(self, logits: Any, copy: Callable[[int], Any]) -> bool:
        """Record an epoch that left `logits` (b, v, k); give true once all models are done.

        `copy(i)` gives model i's present weights.
        """
        import torch

        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), self.y.flatten(), reduction="none"
        )
        mean = loss.reshape(self.y.shape).mean(1)
        # A model that is done keeps its weights, while the others go on
        running = self.stale < self.patience
        better = running & (mean < self.best)
        for i, found in enumerate(better.tolist()):
            # A model that never improves still needs weights to return to
            if found or self.kept[i] is None:
                self.kept[i] = copy(i)
        self.best = torch.where(better, mean, self.best)
        self.stale = torch.where(better, 0, self.stale + 1)
        return bool((self.stale >= self.patience).all())


def build_stopping_state(task: Task) -> StoppingState | None:
    """Build the state to update after each epoch; None without early stopping.

    A loss that is NaN never counts as an improvement.
    """
    import torch

    if task.recipe.stop is None or task.held is None:
        return None
    y = task.y[torch.from_numpy(task.held).to(task.x.device)]
    # Any finite loss is an improvement at first
    far = torch.full((len(y),), float("inf"), device=task.x.device)
    none = torch.zeros(len(y), dtype=torch.int64, device=task.x.device)
    return StoppingState(y, task.recipe.stop.patience, far, none, [None] * len(y))
