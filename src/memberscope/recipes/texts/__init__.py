"""Recipes of language models: fine-tuning of a causal model on texts, and canaries among these."""

from memberscope.recipes.texts.canaries import (
    CanarySettings,
    DrawnCanaries,
    TextCanary,
    draw_text_canaries,
    plant_text_canaries,
)
from memberscope.recipes.texts.canary_record import (
    CanaryRecord,
    read_canary_record,
    write_text_record,
)
from memberscope.recipes.texts.causal_lm import CausalLMRecipe
from memberscope.recipes.texts.settings import FineTuning, LoRA
from memberscope.recipes.texts.survival import Survival, check_survival

__all__ = [
    "CanaryRecord",
    "CanarySettings",
    "CausalLMRecipe",
    "DrawnCanaries",
    "FineTuning",
    "LoRA",
    "Survival",
    "TextCanary",
    "check_survival",
    "draw_text_canaries",
    "plant_text_canaries",
    "read_canary_record",
    "write_text_record",
]
