"""Wrap language models: causal and masked ones of transformers, adapters, and functions."""

from memberscope.targets.texts.causal import CausalLMTarget
from memberscope.targets.texts.folders import (
    find_local_tokenizer,
    is_language_model_folder,
    load_causal_lm,
    load_language_model,
)
from memberscope.targets.texts.function import TokenFunctionTarget
from memberscope.targets.texts.masked import MaskedLMTarget

__all__ = [
    "CausalLMTarget",
    "MaskedLMTarget",
    "TokenFunctionTarget",
    "find_local_tokenizer",
    "is_language_model_folder",
    "load_causal_lm",
    "load_language_model",
]
