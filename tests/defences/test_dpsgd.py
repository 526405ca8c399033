"""DP-SGD as a training defence: what it takes, what it gives, and its name."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from torch import nn

from memberscope.defences.dpsgd import DPSGD
from memberscope.errors import InputError
from memberscope.recipes import Privacy, SklearnRecipe, TorchRecipe
from memberscope.types import Records


def module() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def test_it_makes_the_recipe_private_and_nothing_else():
    recipe = TorchRecipe(module, epochs=7, batch_size=9)
    private = DPSGD(epsilon=2.0, max_grad_norm=0.5)(recipe)
    assert private == TorchRecipe(
        module, recipe.optimiser, epochs=7, batch_size=9, privacy=Privacy(2.0, None, 1e-5, 0.5)
    )
    assert private.proof(500).epsilon <= 2.0


def test_much_noise_keeps_a_model_from_learning_by_heart():
    rng = np.random.default_rng(0)
    records = Records(rng.normal(size=(60, 4)), rng.integers(0, 2, 60), np.arange(60).astype(str))
    recipe = TorchRecipe(
        lambda: nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2)),
        epochs=150,
        batch_size=20,
    )

    def fitted(recipe):
        return (recipe(records, 0).query(records.x).argmax(1) == records.y).mean()

    assert fitted(recipe) > 0.9
    assert fitted(DPSGD(noise_multiplier=20.0)(recipe)) < 0.75


@pytest.mark.parametrize(
    ("defence", "name"),
    [
        (DPSGD(epsilon=3), "dpsgd:eps=3"),
        (DPSGD(noise_multiplier=1.1), "dpsgd:noise=1.1"),
        (DPSGD(0.5, None, 0.2, 1e-6, fix=True), "dpsgd:eps=0.5:clip=0.2:delta=1e-06:fix"),
    ],
)
def test_its_name(defence, name):
    assert defence.name == name


def test_what_it_cannot_make_private_is_told_what_works():
    with pytest.raises(
        InputError,
        match=r"Expected a TorchRecipe for DP-SGD, got SklearnRecipe\. Write the training as a TorchRecipe",
    ):
        DPSGD(epsilon=1.0)(SklearnRecipe(LogisticRegression()))
    with pytest.raises(InputError, match="DP-SGD only once"):
        DPSGD(epsilon=1.0)(DPSGD(epsilon=2.0)(TorchRecipe(module)))
    with pytest.raises(InputError, match="several records at once"):
        DPSGD(epsilon=1.0)(TorchRecipe(module, loss=nn.functional.cross_entropy))
    with pytest.raises(InputError, match="without noise nothing is proven"):
        DPSGD(noise_multiplier=0.0)
    with pytest.raises(InputError, match="either a target epsilon or a noise multiplier"):
        DPSGD()
