"""Defend by a setting of training.

These are weight decay, dropout, early stopping, augmentation, label smoothing and mixup.

References:
    [1] C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
        arXiv:1512.00567.
    [2] H. Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv:1710.09412.
    [3] Y. Kaya, T. Dumitras, "When Does Data Augmentation Help With Membership Inference Attacks?",
ICML 2021.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from memberscope.defences.estimator_parameter import EstimatorParameter
from memberscope.errors import InputError
from memberscope.recipes import EarlyStoppingSettings, SklearnRecipe, TorchRecipe
from memberscope.recipes.torch import check_augmentation
from memberscope.types import Recipe


def require_torch_recipe(recipe: Recipe, name: str) -> TorchRecipe:
    """Return the recipe if it is a TorchRecipe, whose training can be changed.

    Raises:
        InputError: It is another kind of recipe.
    """
    if not isinstance(recipe, TorchRecipe):
        raise InputError(
            f"Expected a TorchRecipe for the defence {name}, got {type(recipe).__name__}. Use one, "
            "or train with the defence in your own function and audit that."
        )
    return recipe


@dataclass(frozen=True)
class L2:
    """Add weight decay of `strength`; estimators get their own parameter of it.

    >>> import torch
    >>> L2(0.01)(TorchRecipe(lambda: torch.nn.Linear(2, 2))).weight_decay
    0.01
    """

    strength: float

    def __post_init__(self) -> None:
        if not self.strength > 0:
            raise InputError(
                f"Expected a strength above 0, got {self.strength:g}. Give for example l2:0.001."
            )

    @property
    def name(self) -> str:
        """Name `l2:strength`."""
        return f"l2:{self.strength:g}"

    def __call__(self, recipe: Recipe) -> Recipe:
        """Give the recipe with that weight decay."""
        if isinstance(recipe, SklearnRecipe):
            # Estimators have weight decay under different names, some as its inverse
            return EstimatorParameter("strength", self.strength)(recipe)
        return replace(require_torch_recipe(recipe, self.name), weight_decay=self.strength)


@dataclass(frozen=True)
class Dropout:
    """Set a `share` of the activations to zero while training.

    Modules with dropout of their own get the share there; plain sequences get a layer after each
    activation.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(
                f"Expected a share in (0, 1), got {self.share:g}. Give for example dropout:0.5."
            )

    @property
    def name(self) -> str:
        """Name `dropout:share`."""
        return f"dropout:{self.share:g}"

    def __call__(self, recipe: Recipe) -> TorchRecipe:
        """Give the recipe of the same module with dropout."""
        base = require_torch_recipe(recipe, self.name)
        # Built once here, so that a module without a place for dropout is refused now, not in
        # training
        add_dropout(base.model, self.share)
        return replace(base, model=functools.partial(add_dropout, base.model, self.share))


def add_dropout(model: Callable[[], Any], share: float) -> Any:
    """Build the module of `model()` with `share` in every dropout layer.

    A sequence without dropout gets such layers after its activations.

    Raises:
        InputError: It has no dropout, and is not a sequence that layers can be put into.

    >>> from torch import nn
    >>> add_dropout(lambda: nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)), 0.5)[2]
    Dropout(p=0.5, inplace=False)
    """
    from torch import nn

    module = model()
    # Dropout that the author put in has its place already: only the share changes
    own = [part for part in module.modules() if isinstance(part, nn.modules.dropout._DropoutNd)]
    for part in own:
        part.p = share
    if own:
        return module
    changed = _add_dropout_layers(module, share) if isinstance(module, nn.Sequential) else module
    # Without any place for dropout, training would go on undefended
    if changed is module:
        raise InputError(
            "Expected a module with Dropout layers, or a Sequential with activations, got "
            f"{type(module).__name__}. Put nn.Dropout in it."
        )
    return changed


def _add_dropout_layers(module: Any, share: float) -> Any:
    """Add a dropout layer after each activation of the sequence; give it back if it has none."""
    from torch import nn

    parts: list[Any] = []
    for part in module:
        # Sequences within sequences are searched too, but no modules of other kinds
        parts.append(_add_dropout_layers(part, share) if type(part) is nn.Sequential else part)
        # After activations, where dropout is usually put
        if type(part).__module__ == "torch.nn.modules.activation":
            parts.append(nn.Dropout(share))
    same = all(new is old for new, old in zip(parts, module, strict=False)) and len(parts) == len(
        module
    )
    return module if same else nn.Sequential(*parts)


@dataclass(frozen=True)
class EarlyStopping:
    """Keep a tenth of the records out to stop early.

    Training stops once the loss on them has not fallen for `patience` epochs.
    """

    patience: int = 5

    def __post_init__(self) -> None:
        # Checks the number now, and not when a model is trained
        EarlyStoppingSettings(self.patience)

    @property
    def name(self) -> str:
        """Name `early_stopping:patience`."""
        return f"early_stopping:{self.patience}"

    def __call__(self, recipe: Recipe) -> TorchRecipe:
        """Give the recipe that stops early."""
        return replace(
            require_torch_recipe(recipe, self.name), stop=EarlyStoppingSettings(self.patience)
        )


@dataclass(frozen=True)
class Augment:
    """Change records at random at each step, by `flip`, `shift:k` or `noise:s` [3].

    The changes are those of `TorchRecipe`.
    """

    change: str

    def __post_init__(self) -> None:
        check_augmentation(self.change)

    @property
    def name(self) -> str:
        """Name `augment:change`."""
        return f"augment:{self.change}"

    def __call__(self, recipe: Recipe) -> TorchRecipe:
        """Give the recipe with this change after those it makes already."""
        base = require_torch_recipe(recipe, self.name)
        # A recipe may have changes of its own, to which this one is added
        return replace(base, augmentation=(*base.augmentation, self.change))


@dataclass(frozen=True)
class LabelSmoothing:
    """Smooth labels: give `share` of each label to all classes alike [1].

    Smoothing has been reported to raise leakage, so measure it.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(
                f"Expected a share in (0, 1), got {self.share:g}. Give for example smooth:0.1."
            )

    @property
    def name(self) -> str:
        """Name `smooth:share`."""
        return f"smooth:{self.share:g}"

    def __call__(self, recipe: Recipe) -> TorchRecipe:
        """Give the recipe with smoothed labels."""
        return replace(require_torch_recipe(recipe, self.name), label_smoothing=self.share)


@dataclass(frozen=True)
class Mixup:
    """Mix pairs of records and labels by shares from Beta(`alpha`, `alpha`) [2]."""

    alpha: float = 0.4

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise InputError(
                f"Expected alpha above 0, got {self.alpha:g}. Give for example mixup:0.4."
            )

    @property
    def name(self) -> str:
        """Name `mixup:alpha`."""
        return f"mixup:{self.alpha:g}"

    def __call__(self, recipe: Recipe) -> TorchRecipe:
        """Give the recipe that learns from mixtures."""
        return replace(require_torch_recipe(recipe, self.name), mixup=self.alpha)
