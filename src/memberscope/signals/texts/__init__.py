"""What a language model says about the tokens of texts, and what it writes itself."""

from memberscope.signals.texts.generations import (
    SAMPLES,
    collect_generation_answers,
    measure_generations,
)
from memberscope.signals.texts.restricted_target import RestrictedTextTarget
from memberscope.signals.texts.tokens import (
    COPIED,
    check_tokens,
    collect_token_answers,
    collect_tokens,
    compute_losses,
    explain_missing_part,
    hide_vocabulary,
    measure_token_features,
)

__all__ = [
    "COPIED",
    "RestrictedTextTarget",
    "SAMPLES",
    "check_tokens",
    "collect_generation_answers",
    "collect_token_answers",
    "collect_tokens",
    "compute_losses",
    "explain_missing_part",
    "hide_vocabulary",
    "measure_generations",
    "measure_token_features",
]
