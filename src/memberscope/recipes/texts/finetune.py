"""Fine-tune a causal language model on tokens of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from memberscope.recipes.texts.settings import FineTuning

UNSCORED = -100  # the label that torch's cross-entropy leaves out


@dataclass(frozen=True)
class TrainedText:
    """Token ids of a text, of which those from `begin` up to `end` are learned.

    >>> TrainedText((0, 7, 9), 1, 3).n_learned
    2
    """

    ids: tuple[int, ...]
    begin: int
    end: int

    @property
    def n_learned(self) -> int:
        """Number of tokens that are learned."""
        return self.end - self.begin


def finetune_model(
    model: Any, texts: Sequence[TrainedText], settings: FineTuning, seed: int, rows: int
) -> None:
    """Train all weights of `model` that ask for a gradient; at most `rows` texts at once.

    The loss of a step is the mean over its learned tokens, however the step is divided.
    """
    import torch

    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = _build_optimiser(trained, settings)
    n, size = len(texts), settings.batch_size
    n_steps = settings.epochs * -(-n // size)
    # The random numbers of dropout are the model's own, and nobody else's change
    devices = [torch.device(settings.device)] if settings.device.startswith("cuda") else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        model.train()
        for step, batch in enumerate(_iterate_batches(n, settings, seed)):
            for group in optimiser.param_groups:
                group["lr"] = settings.compute_rate(step, n_steps)
            accumulate_gradient(model, [texts[i] for i in batch], settings, rows)
            if settings.clip is not None:
                torch.nn.utils.clip_grad_norm_(trained, settings.clip)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
    model.eval()


def _iterate_batches(n: int, settings: FineTuning, seed: int) -> Iterator[list[int]]:
    """Yield the texts of each step; the order depends on the seed alone."""
    for epoch in range(settings.epochs):
        # Streams of a seed are numbered as those of other recipes
        order = np.random.default_rng([seed, 1, epoch]).permutation(n).tolist()
        for start in range(0, n, settings.batch_size):
            yield order[start : start + settings.batch_size]


def _build_optimiser(trained: list[Any], settings: FineTuning) -> Any:
    """Build AdamW, with weight decay on matrices alone."""
    import torch

    groups = [
        {"params": [w for w in trained if w.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [w for w in trained if w.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.lr, fused=True)


def accumulate_gradient(
    model: Any, batch: list[TrainedText], settings: FineTuning, rows: int
) -> None:
    """Add the gradient of a batch's mean loss to that of the model, `rows` texts at a time."""
    import torch

    total = sum(entry.n_learned for entry in batch)
    # Texts of like length together, so that little is padded
    ordered = sorted(batch, key=lambda entry: len(entry.ids)) if len(batch) > rows else batch
    half = settings.precision == "bfloat16"
    kind = settings.device.split(":")[0]
    # A cache of keys and values is of use for generation alone
    options = {"use_cache": False} if hasattr(model.config, "use_cache") else {}
    for start in range(0, len(ordered), rows):
        ids, mask, labels = _pad_batch(ordered[start : start + rows], settings.device)
        with torch.autocast(kind, torch.bfloat16) if half else nullcontext():
            logits = model(input_ids=ids, attention_mask=mask, **options).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(),
            labels[:, 1:].flatten(),
            ignore_index=UNSCORED,
            reduction="sum",
        )
        (loss / total).backward()  # type: ignore[no-untyped-call]


def _pad_batch(batch: list[TrainedText], device: str) -> tuple[Any, Any, Any]:
    """Pad texts on the right; give tokens, mask (None without padding) and labels (b, t)."""
    import torch

    longest = max(len(entry.ids) for entry in batch)
    ids = torch.zeros((len(batch), longest), dtype=torch.int64)
    labels = torch.full_like(ids, UNSCORED)
    mask = torch.zeros_like(ids)
    for row, entry in enumerate(batch):
        ids[row, : len(entry.ids)] = torch.tensor(entry.ids)
        labels[row, entry.begin : entry.end] = ids[row, entry.begin : entry.end]
        mask[row, : len(entry.ids)] = 1
    # Without padding the mask is that of the model itself, which is faster
    padded = any(len(entry.ids) < longest for entry in batch)
    return ids.to(device), mask.to(device) if padded else None, labels.to(device)
