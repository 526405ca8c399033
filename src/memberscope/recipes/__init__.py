"""Recipes: how to train a model like the target, who is in which, and fleets of them."""

from memberscope.recipes.canaries import canaries
from memberscope.recipes.design import balanced, fixed, read_design
from memberscope.recipes.execution import Execution
from memberscope.recipes.fleet import Fleet, Order, train
from memberscope.recipes.function import FunctionRecipe, as_recipe, load_recipe, with_precision
from memberscope.recipes.losses import Distilling, HighEntropy, RelaxLoss
from memberscope.recipes.privacy import Privacy, Proof, proof
from memberscope.recipes.settings import SGD, Adam, EarlyStopping, Steps
from memberscope.recipes.sklearn import SklearnRecipe
from memberscope.recipes.torch import TorchRecipe

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
