"""Train the same recipe by DP-SGD, with clipped gradients and noise.

References:
    [1] M. Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv:1607.00133.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from memberscope.errors import InputError
from memberscope.recipes import Privacy, TorchRecipe
from memberscope.types import Recipe


@dataclass(frozen=True)
class DPSGD:
    """Train by DP-SGD [1] to a target `epsilon` (nats) at `delta`, or with a `noise_multiplier`.

    The learning rate may have to change too: clipping makes steps smaller, noise makes them less
    precise.

    >>> import torch
    >>> recipe = DPSGD(noise_multiplier=1.1)(TorchRecipe(lambda: torch.nn.Linear(3, 2), epochs=10))
    >>> DPSGD(epsilon=3).name, round(recipe.proof(10_000).epsilon, 2)
    ('dpsgd:eps=3', 1.76)
    """

    epsilon: float | None = None
    noise_multiplier: float | None = None
    max_grad_norm: float = 1.0
    delta: float = 1e-5
    fix: bool = False

    def __post_init__(self) -> None:
        # Building it checks the numbers
        _ = self.privacy
        if self.noise_multiplier == 0:
            raise InputError(
                "Expected noise in a defence, got a noise multiplier of 0. Give a positive one, "
                "since without noise nothing is proven."
            )

    @property
    def privacy(self) -> Privacy:
        """Privacy setting that is given to the recipe."""
        return Privacy(
            self.epsilon, self.noise_multiplier, self.delta, self.max_grad_norm, self.fix
        )

    @property
    def name(self) -> str:
        """Name `dpsgd:eps=3` or `dpsgd:noise=1.1`, with what else is not the default."""
        first = (
            f"noise={self.noise_multiplier:.15g}"
            if self.epsilon is None
            else f"eps={self.epsilon:.15g}"
        )
        clip = f":clip={self.max_grad_norm:.15g}" if self.max_grad_norm != 1.0 else ""
        delta = f":delta={self.delta:.15g}" if self.delta != 1e-5 else ""
        return f"dpsgd:{first}{clip}{delta}" + (":fix" if self.fix else "")

    def __call__(self, recipe: Recipe) -> TorchRecipe:
        """Make the recipe private.

        Raises:
            InputError: It is no TorchRecipe, is private already, or has a loss or a precision that
                breaks the bound on gradients.
        """
        if not isinstance(recipe, TorchRecipe):
            raise InputError(
                f"Expected a TorchRecipe for DP-SGD, got {type(recipe).__name__}. Write the "
                "training as a TorchRecipe, which takes any module; scikit-learn models and your "
                "own training functions cannot be made private in this way."
            )
        # The second setting would silently take the place of the first
        if recipe.privacy is not None:
            raise InputError(
                f"Expected a recipe without privacy, got {recipe.privacy}. Apply DP-SGD only once."
            )
        return replace(recipe, privacy=self.privacy)
