"""Wrap language models: causal and masked ones of transformers, adapters, and functions."""

from memberscope.targets.frameworks.huggingface_folder import load_folder_tokenizer
from memberscope.targets.texts.causal import CausalLMTarget
from memberscope.targets.texts.encoding import TextEncoder, hash_tokenizer
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
    "TextEncoder",
    "TokenFunctionTarget",
    "find_local_tokenizer",
    "hash_tokenizer",
    "is_language_model_folder",
    "load_causal_lm",
    "load_folder_tokenizer",
    "load_language_model",
]
