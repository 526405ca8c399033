"""Recipes: how to train a model like the target, who is in which, and fleets of them."""

from memberscope.recipes.canaries import draw_canaries
from memberscope.recipes.dp_accounting import Privacy, Proof, prove_epsilon
from memberscope.recipes.fleet.execution import Execution
from memberscope.recipes.fleet.fleet import ReferenceFleet, TrainingJob, train_fleet
from memberscope.recipes.fleet.membership_design import build_balanced_design, check_design, read_design
from memberscope.recipes.function import FunctionRecipe, as_recipe, load_recipe, with_precision
from memberscope.recipes.sklearn import SklearnRecipe
from memberscope.recipes.torch.losses import Distilling, HighEntropy, RelaxLossObjective
from memberscope.recipes.torch.recipe import TorchRecipe
from memberscope.recipes.torch.settings import SGD, Adam, EarlyStoppingSettings, Steps

__all__ = [
    "SGD",
    "Adam",
    "Distilling",
    "EarlyStoppingSettings",
    "Execution",
    "ReferenceFleet",
    "FunctionRecipe",
    "HighEntropy",
    "TrainingJob",
    "Privacy",
    "Proof",
    "RelaxLossObjective",
    "SklearnRecipe",
    "Steps",
    "TorchRecipe",
    "as_recipe",
    "build_balanced_design",
    "draw_canaries",
    "check_design",
    "load_recipe",
    "prove_epsilon",
    "read_design",
    "train_fleet",
    "with_precision",
]
