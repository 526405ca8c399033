"""Recipes: how to train a model like the target, who is in which model, and fleets of them."""

from memberscope.recipes.canaries import draw_canaries, draw_canary_rows
from memberscope.recipes.dp_accounting import Privacy, Proof, prove_epsilon
from memberscope.recipes.fleet.execution import Execution
from memberscope.recipes.fleet.fleet import ReferenceFleet, TrainingJob, train_fleet
from memberscope.recipes.fleet.membership_design import (
    build_balanced_design,
    check_design,
    read_design,
)
from memberscope.recipes.function import FunctionRecipe, as_recipe, load_recipe
from memberscope.recipes.loss_log import (
    LossLog,
    make_keras_callback,
    make_lightgbm_callback,
    make_xgboost_callback,
)
from memberscope.recipes.precision import ProductRates, measure_product_rates, with_precision
from memberscope.recipes.sklearn import SklearnRecipe
from memberscope.recipes.tables import TableRecipe
from memberscope.recipes.texts import (
    CanaryRecord,
    CanarySettings,
    CausalLMRecipe,
    DrawnCanaries,
    FineTuning,
    LoRA,
    Survival,
    TextCanary,
    check_survival,
    draw_text_canaries,
    plant_text_canaries,
    read_canary_record,
    write_text_record,
)
from memberscope.recipes.torch.losses import Distilling, HighEntropy, RelaxLossObjective
from memberscope.recipes.torch.recipe import TorchRecipe
from memberscope.recipes.torch.settings import SGD, Adam, EarlyStoppingSettings, Steps
from memberscope.recipes.worst_case_canaries import COPY, GROUP, NATURAL, plant_canaries

__all__ = [
    "Adam",
    "COPY",
    "CanaryRecord",
    "CanarySettings",
    "CausalLMRecipe",
    "DrawnCanaries",
    "Distilling",
    "EarlyStoppingSettings",
    "Execution",
    "FineTuning",
    "FunctionRecipe",
    "GROUP",
    "HighEntropy",
    "LoRA",
    "LossLog",
    "NATURAL",
    "Privacy",
    "ProductRates",
    "Proof",
    "ReferenceFleet",
    "RelaxLossObjective",
    "SGD",
    "SklearnRecipe",
    "Steps",
    "Survival",
    "TableRecipe",
    "TextCanary",
    "TorchRecipe",
    "TrainingJob",
    "as_recipe",
    "build_balanced_design",
    "check_design",
    "check_survival",
    "draw_canaries",
    "draw_canary_rows",
    "draw_text_canaries",
    "load_recipe",
    "make_keras_callback",
    "make_lightgbm_callback",
    "make_xgboost_callback",
    "measure_product_rates",
    "plant_canaries",
    "plant_text_canaries",
    "prove_epsilon",
    "read_canary_record",
    "read_design",
    "train_fleet",
    "with_precision",
    "write_text_record",
]
