"""Reference models: who is in which, where they are trained, and what is kept of them."""

from memberscope.recipes.fleet.attempts import Failure
from memberscope.recipes.fleet.execution import limit_threads
from memberscope.recipes.fleet.fleet import (
    Progress,
    ResumeState,
    read_resume_state,
    try_train_fleet,
)
from memberscope.recipes.fleet.label_transfer import score_by_transfer
from memberscope.recipes.fleet.observe_model import (
    LARGEST,
    find_top_confidence,
    restrict_own_model,
    select_records,
    train_models,
)
from memberscope.recipes.fleet.observe_texts import require_equal_reading
from memberscope.recipes.fleet.tuning_cache import PLAIN, tune_recipe

__all__ = [
    "Failure",
    "LARGEST",
    "PLAIN",
    "Progress",
    "ResumeState",
    "find_top_confidence",
    "limit_threads",
    "read_resume_state",
    "require_equal_reading",
    "restrict_own_model",
    "score_by_transfer",
    "select_records",
    "train_models",
    "try_train_fleet",
    "tune_recipe",
]
