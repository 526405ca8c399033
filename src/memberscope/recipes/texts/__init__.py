"""Recipes of language models: fine-tuning of a causal model on texts, fully or by LoRA."""

from memberscope.recipes.texts.causal_lm import CausalLMRecipe
from memberscope.recipes.texts.settings import FineTuning, LoRA

__all__ = ["CausalLMRecipe", "FineTuning", "LoRA"]
