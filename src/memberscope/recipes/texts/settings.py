"""Settings of how a language model is fine-tuned; plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from memberscope.errors import InputError

Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation: only products of two thin matrices beside some layers are trained [1].

    Attributes:
        rank: Inner dimension of the two matrices.
        alpha: Their product is scaled by `alpha / rank`.
        modules: Names of the layers that get one; without any, those that PEFT chooses for the
            architecture.
        dropout: Share of the inputs that is dropped while training.

    References:
        [1] E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022,
            arXiv:2106.09685.

    >>> LoRA(rank=4, modules=("q_proj", "v_proj")).alpha
    16.0
    """

    rank: int = 8
    alpha: float = 16.0
    modules: tuple[str, ...] = ()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(
                f"Expected a rank of at least 1 for LoRA, got {self.rank}. Give rank=8, or train "
                "fully without LoRA."
            )


@dataclass(frozen=True)
class FineTuning:
    """How a causal language model is fine-tuned, apart from the model itself.

    Each text is a sequence of its own: texts are never packed, so that no text is the context of
    another. AdamW with weight decay on matrices alone, as the trainer of transformers.

    Attributes:
        epochs: How often each text is seen.
        lr: Learning rate after the warm-up.
        schedule: How the rate falls to zero after the warm-up: not at all, linearly or as a cosine.
        warmup: Share of the steps in which the rate rises linearly from zero.
        batch_size: Texts a step.
        max_length: Most tokens of a text; without a number, the model's context.
        bos: Whether a text begins with the BOS token; without a word the tokenizer decides.
        long: Whether a longer text is cut, or trained on in overlapping windows.
        completion_only: Whether of a `Completion` or a `Chat` only the completion, or the last
            message, is trained on. Texts are trained on as a whole.
        append_eos: Whether the end-of-text token is put after each text and learned, as some
            trainers do. It is not scored.
        weight_decay: Decoupled weight decay.
        clip: Largest norm of the gradient, None for no limit.
        lora: Trains adapters instead of all weights.
        precision: Of products while training; weights stay as they are.
        device: Where models are trained and asked.
        threads: CPU threads of one training job.
        rows_at_once: Texts of a step that are in memory together. Without a number it is found
            once for the memory of the machine, before the first model.

    >>> FineTuning(epochs=4).compute_rate(step=5, n_steps=10) == 0.5 * FineTuning().lr
    True
    """

    epochs: int = 3
    lr: float = 5e-5
    schedule: Schedule = "linear"
    warmup: float = 0.0
    batch_size: int = 8
    max_length: int | None = None
    bos: bool | None = None
    long: Literal["truncate", "windows"] = "truncate"
    completion_only: bool = True
    append_eos: bool = False
    weight_decay: float = 0.0
    clip: float | None = 1.0
    lora: LoRA | None = None
    precision: Precision = "float32"
    device: str = "cpu"
    threads: int = 1
    rows_at_once: int | None = None

    def __post_init__(self) -> None:
        """Check what no later step would notice.

        Raises:
            InputError: A number is too small, or a name is unknown.
        """
        for name in ("epochs", "batch_size", "threads", "max_length", "rows_at_once"):
            value, least = getattr(self, name), 2 if name == "max_length" else 1
            if value is not None and value < least:
                raise InputError(
                    f"Expected {name} of at least {least}, got {value}. Give a larger one."
                )
        for name, known in (("schedule", Schedule), ("precision", Precision)):
            if getattr(self, name) not in get_args(known):
                raise InputError(
                    f"Expected {name} among {', '.join(get_args(known))}, got "
                    f"{getattr(self, name)!r}. Choose one of these."
                )
        if self.lr <= 0 or not 0 <= self.warmup < 1:
            raise InputError(
                "Expected a learning rate above 0 and a warm-up in [0, 1), got a rate of "
                f"{self.lr:g} and a warm-up of {self.warmup:g}. Change the one out of range."
            )

    def compute_rate(self, step: int, n_steps: int) -> float:
        """Compute the learning rate of a step, from 0, among `n_steps`."""
        n_rising = round(self.warmup * n_steps)
        if step < n_rising:
            return self.lr * (step + 1) / n_rising
        done = (step - n_rising) / max(n_steps - n_rising, 1)
        if self.schedule == "linear":
            return self.lr * (1 - done)
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * done))
        return self.lr
