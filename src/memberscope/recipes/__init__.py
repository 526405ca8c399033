"""Recipes: how to train a model like the target, who is in which, and fleets of them."""

from memberscope.recipes.canaries import canaries
from memberscope.recipes.dp_accounting import Privacy, Proof, proof
from memberscope.recipes.fleet.execution import Execution
from memberscope.recipes.fleet.fleet import Fleet, Order, train
from memberscope.recipes.fleet.membership_design import balanced, fixed, read_design
from memberscope.recipes.function import FunctionRecipe, as_recipe, load_recipe, with_precision
from memberscope.recipes.sklearn import SklearnRecipe
from memberscope.recipes.torch.losses import Distilling, HighEntropy, RelaxLoss
from memberscope.recipes.torch.recipe import TorchRecipe
from memberscope.recipes.torch.settings import SGD, Adam, EarlyStopping, Steps

__all__ = [
    "SGD",
    "Adam",
    "Distilling",
    "EarlyStopping",
    "Execution",
    "Fleet",
    "FunctionRecipe",
    "HighEntropy",
    "Order",
    "Privacy",
    "Proof",
    "RelaxLoss",
    "SklearnRecipe",
    "Steps",
    "TorchRecipe",
    "as_recipe",
    "balanced",
    "canaries",
    "fixed",
    "load_recipe",
    "proof",
    "read_design",
    "train",
    "with_precision",
]
