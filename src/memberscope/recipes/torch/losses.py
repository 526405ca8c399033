"""Losses other than cross-entropy, as plain settings.

Each computes the loss of an epoch, without state of its own.

References:
    [1] D. Chen, N. Yu, M. Fritz, "RelaxLoss: Defending Membership Inference Attacks without Losing
        Utility", ICLR 2022, arXiv:2207.05801.
    [2] Z. Chen, K. Pattabiraman, "Overconfidence is a Dangerous Thing: Mitigating Membership
        Inference Attacks by Enforcing Less Confident Prediction", NDSS 2024, arXiv:2307.01610.
    [3] G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015,
arXiv:1503.02531.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from memberscope.errors import InputError


@dataclass(frozen=True)
class RelaxLossObjective:
    """Loss that keeps the cross-entropy near `alpha`.

    Where a batch is below it, the step goes up, or flattens wrong answers [1]. Even epochs step by
    |mean loss - alpha|. Odd ones step by the loss while it is above alpha; below, correct records
    climb, and wrong ones learn their own confidence (at most `upper`) with the rest spread evenly.
    """

    alpha: float
    upper: float = 1.0

    def __post_init__(self) -> None:
        if not self.alpha >= 0 or not 0 < self.upper <= 1:
            raise InputError(
                f"Expected alpha >= 0 and upper in (0, 1], got alpha {self.alpha} and upper "
                f"{self.upper}. Change the one that is out of range, as in relaxloss:1:0.8."
            )

    def of(self, logits: Any, target: Any, epoch: int) -> Any:
        """Compute the mean loss of logits (r, k) and labels (r,), or probabilities (r, k)."""
        import torch

        each = torch.nn.functional.cross_entropy(logits, target, reduction="none")
        mean = each.mean()
        # Even epochs keep the mean loss at alpha
        if epoch % 2 == 0:
            return (mean - self.alpha).abs()
        labels = target.argmax(-1) if target.ndim > 1 else target
        hot = _encode_one_hot(labels, logits)
        # Detached: the target distribution is a constant of the step, as published
        sure = (
            (torch.softmax(logits.detach(), -1) * hot).sum(-1, keepdim=True).clamp(max=self.upper)
        )
        # The model's own confidence at the true class, the rest spread evenly
        flat = hot * sure + (1 - hot) * (1 - sure) / (logits.shape[-1] - 1)
        right = (logits.argmax(-1) == labels).to(logits.dtype)
        flattened = -(flat * torch.log_softmax(logits, -1)).sum(-1)
        # torch.where, since vmap allows no branch that depends on values
        return torch.where(mean > self.alpha, mean, ((1 - right) * flattened - each).mean())


@dataclass(frozen=True)
class HighEntropy:
    """Loss on labels softened until their entropy is `entropy` of the largest possible.

    The loss also rewards the entropy of the outputs, times `alpha` [2].
    """

    entropy: float
    alpha: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.entropy < 1 or not self.alpha >= 0:
            raise InputError(
                f"Expected entropy in [0, 1) and alpha >= 0, got entropy {self.entropy} and alpha "
                f"{self.alpha}. Change the one that is out of range, as in hamp:0.5:0.001."
            )

    def of(self, logits: Any, target: Any, epoch: int) -> Any:
        """Compute the mean divergence of softmax(logits) (r, k) from the softened labels (r,).

        The reward is subtracted.
        """
        import torch

        k = logits.shape[-1]
        # Mixed records come with probabilities already
        hot = target if target.ndim > 1 else _encode_one_hot(target, logits)
        top = solve_top_probability(self.entropy, k)
        # The top class gets `top`, the others share the rest
        soft = hot * (top - (1 - top) / (k - 1)) + (1 - top) / (k - 1)
        logs = torch.log_softmax(logits, -1)
        divergence = (soft * (torch.log(soft.clamp(min=1e-30)) - logs)).sum(-1)
        entropy = -(logs.exp() * logs).sum(-1)
        return (divergence - self.alpha * entropy).mean()


@dataclass(frozen=True)
class Distilling:
    """Cross-entropy with a teacher's probabilities at `temperature` [3].

    The loss is multiplied by the square of the temperature.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(
                f"Expected a temperature above 0, got {self.temperature}. Give 1 to leave the "
                "answers unchanged."
            )

    def of(self, logits: Any, target: Any, epoch: int) -> Any:
        """Compute the mean loss of logits (r, k) and probabilities (r, k), or labels (r,)."""
        import torch

        return (
            torch.nn.functional.cross_entropy(logits / self.temperature, target)
            * self.temperature**2
        )


@dataclass(frozen=True)
class SquaredError:
    """Mean squared error of a module with real outputs."""

    def of(self, outputs: Any, target: Any, epoch: int) -> Any:
        """Compute the mean over records and outputs of (r, d) numbers against true ones (r, d)."""
        return ((_flatten_rows(outputs) - _flatten_rows(target)) ** 2).mean()


@dataclass(frozen=True)
class LabelCrossEntropy:
    """Binary cross-entropy of each label, of a module that returns a logit a label."""

    def of(self, outputs: Any, target: Any, epoch: int) -> Any:
        """Compute the mean over records and labels of logits (r, k) against 0 and 1 (r, k)."""
        import torch

        logits = _flatten_rows(outputs)
        return torch.nn.functional.binary_cross_entropy_with_logits(
            logits, _flatten_rows(target).to(logits.dtype)
        )


Loss = RelaxLossObjective | HighEntropy | Distilling
# Losses of what a module returns, where there is no class
OUTPUT_LOSSES: dict[str, SquaredError | LabelCrossEntropy] = {
    "squared_error": SquaredError(),
    "label_cross_entropy": LabelCrossEntropy(),
}


def _flatten_rows(values: Any) -> Any:
    """Flatten numbers to (r, d), so that (r,) and (r, 1) are never broadcast to (r, r)."""
    return values.reshape(values.shape[0], -1)


def _encode_one_hot(labels: Any, logits: Any) -> Any:
    """Encode labels (r,) as rows of zeros with a one, like logits (r, k).

    Torch's own function cannot be used under vmap.
    """
    import torch

    return (labels[..., None] == torch.arange(logits.shape[-1], device=logits.device)).to(
        logits.dtype
    )


def solve_top_probability(share: float, k: int) -> float:
    """Solve for the largest top probability with at least `share` of the entropy log k.

    The rest is spread evenly over k - 1 classes.

    >>> round(solve_top_probability(0.0, 10), 6), round(solve_top_probability(0.5, 10), 4)
    (1.0, 0.7379)
    """
    # The entropy falls as p rises: bisection to the last bit
    low, high = 1 / k, 1.0
    for _ in range(60):
        p = (low + high) / 2
        entropy = -p * math.log(p) - ((1 - p) * math.log((1 - p) / (k - 1)) if p < 1 else 0.0)
        low, high = (p, high) if entropy >= share * math.log(k) else (low, p)
    return (low + high) / 2
