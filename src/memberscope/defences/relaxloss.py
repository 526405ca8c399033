"""Train with losses that make a model less confident about its members.

They are RelaxLoss, and the training part of HAMP.

References:
    [1] D. Chen, N. Yu, M. Fritz, "RelaxLoss: Defending Membership Inference Attacks without Losing
        Utility", ICLR 2022, arXiv:2207.05801.
    [2] Z. Chen, K. Pattabiraman, "Overconfidence is a Dangerous Thing: Mitigating Membership
        Inference Attacks by Enforcing Less Confident Prediction", NDSS 2024, arXiv:2307.01610.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from memberscope.defences.regularization import require_torch_recipe
from memberscope.recipes import HighEntropy, RelaxLossObjective, TorchRecipe
from memberscope.types import Recipe


@dataclass(frozen=True)
class RelaxLoss:
    """Keep the training loss near `alpha`, which is on the scale of the loss of non-members [1].

    >>> import torch
    >>> RelaxLoss(0.8)(TorchRecipe(lambda: torch.nn.Linear(2, 2))).loss
    RelaxLossObjective(alpha=0.8, upper=1.0)
    """

    alpha: float
    upper: float = 1.0

    def __post_init__(self) -> None:
        # Checks the numbers now, and not when a model is trained
        RelaxLossObjective(self.alpha, self.upper)

    @property
    def name(self) -> str:
        """Name `relaxloss:alpha`, and `:upper` if it is not 1."""
        return f"relaxloss:{self.alpha:g}" + (f":{self.upper:g}" if self.upper != 1 else "")

    def __call__(self, recipe: Recipe) -> TorchRecipe:
        """Give the recipe with this loss."""
        return replace(
            require_torch_recipe(recipe, self.name), loss=RelaxLossObjective(self.alpha, self.upper)
        )


@dataclass(frozen=True)
class HAMP:
    """Train on soft labels with an `entropy` that is a share of the largest possible.

    `alpha` weighs a reward for the entropy of the outputs [2].

    The whole of HAMP, with its output defence, is `hamp:…+hamp_output`.
    """

    entropy: float = 0.5
    alpha: float = 0.001

    def __post_init__(self) -> None:
        # Checks the numbers now, and not when a model is trained
        HighEntropy(self.entropy, self.alpha)

    @property
    def name(self) -> str:
        """Name `hamp:entropy:alpha`."""
        return f"hamp:{self.entropy:g}:{self.alpha:g}"

    def __call__(self, recipe: Recipe) -> TorchRecipe:
        """Give the recipe with this loss."""
        return replace(
            require_torch_recipe(recipe, self.name), loss=HighEntropy(self.entropy, self.alpha)
        )
