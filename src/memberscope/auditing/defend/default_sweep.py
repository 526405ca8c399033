"""Choose the sweep where nothing is named: defences that fit the recipe, and canaries."""

from __future__ import annotations

from memberscope.defences import expand_sweep, parse_defence
from memberscope.errors import InputError
from memberscope.recipes import SklearnRecipe, TorchRecipe
from memberscope.types import OUTPUT_TASKS, Recipe, Task

# One of each kind: in the loss, the training, its end, the outputs, and the labels alone
TORCH_DEFENCES = (
    "l2:0.001",
    "dropout:0.5",
    "early_stopping",
    "relaxloss:1",
    "hamp:0.5:0.001+hamp_output",
    "memguard:1",
    "top:1",
    "label",
)
SKLEARN_DEFENCES = ("depth:2|4|8", "leaf_size:10|50", "top:1", "label")
OUTPUT_DEFENCES = ("memguard:1", "top:1", "label")
# What an endpoint may do to numbers, and to the probabilities of several labels
NUMBER_LIMITS = ("digits:2", "digits:1")
LABEL_LIMITS = ("decimals:1", "labels:0.5")
MOST_CANARIES = 240
# One canary of each kind to so many records: more would change what the model learns.
RECORDS_A_CANARY = 30


def choose_default_defences(recipe: Recipe, task: Task = "classification") -> tuple[str, ...]:
    """Choose the defences to compare where none are named: those that `recipe` can have.

    Models that predict numbers or several labels have restrictions of their own.

    >>> from sklearn.linear_model import Ridge
    >>> choose_default_defences(SklearnRecipe(Ridge()), "regression")
    ('digits:2', 'digits:1')
    """
    if task in OUTPUT_TASKS:
        limits = LABEL_LIMITS if task == "multilabel" else NUMBER_LIMITS
        own = SKLEARN_DEFENCES[:2] if isinstance(recipe, SklearnRecipe) else ()
        return (*(name for name in own if _is_applicable(name, recipe)), *limits)
    if isinstance(recipe, TorchRecipe):
        return TORCH_DEFENCES
    if isinstance(recipe, SklearnRecipe):
        # Estimators differ in what they can be given, so defences that do not apply are left out
        return tuple(name for name in SKLEARN_DEFENCES if _is_applicable(name, recipe)) or (
            "top:1",
            "label",
        )
    return OUTPUT_DEFENCES


def choose_default_canaries(n_records: int) -> int:
    """Choose how many worst-case records of each kind to insert among `n_records`.

    >>> choose_default_canaries(600), choose_default_canaries(100_000)
    (20, 240)
    """
    return min(MOST_CANARIES, n_records // RECORDS_A_CANARY)


def _is_applicable(name: str, recipe: Recipe) -> bool:
    """Tell whether the recipe has what a defence of this name changes."""
    # Applying it is the only sure way to know
    try:
        for single in expand_sweep((name,)):
            parse_defence(single).recipe(recipe)
    except InputError:
        return False
    return True
