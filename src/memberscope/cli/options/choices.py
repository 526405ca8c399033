"""The values that options take: what a shell completes, and what the help writes for a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Of classifiers alone, about which `init` asks
CLASS_ACCESS = ("label", "probabilities", "logits", "white_box")
ACCESS = "memberscope.types:list_access_words"
TEXT_PROTOCOLS = ("vllm", "openai-completions", "llama.cpp", "openai-chat")
ATTACKS = "memberscope.attacks:list_attacks"
POLICIES = "memberscope.auditing:list_bundled_policies"
TOPICS = "memberscope.reports:list_topics"
FORMATS = "memberscope.reports:list_formats"
FUNCTION = "module:function"

# By the names of `Options`: an option that is not here has any value of its type
VALUES: Mapping[str, Mapping[str, Any]] = {
    "model": {"value": "module:factory|path"},
    "url": {"value": "url"},
    "label": {"value": "column"},
    "recipe": {"value": FUNCTION},
    "access": {"choices": ACCESS, "value": "level"},
    "policy": {"choices": POLICIES, "value": "name|path"},
    "factory": {"value": FUNCTION},
    "outputs": {"choices": ("labels", "probabilities", "logits")},
    "task": {"choices": ("classification", "regression", "multilabel", "forecast")},
    "protocol": {"choices": ("v2", "mlflow", "json", *TEXT_PROTOCOLS), "value": "protocol"},
    "member": {"value": "column"},
    "number": {"value": "column"},
    "higher": {"choices": ("member", "non_member")},
    "signals_layout": {"choices": ("lira", "privacy-meter", "leakpro")},
    "signals_model": {"value": "name"},
    "id": {"value": "column"},
    "groups": {"value": "column"},
    "unit": {"value": "column"},
    "time": {"value": "column"},
    "features": {"value": "column"},
    "drop": {"value": "column"},
    "types": {"value": "column=type"},
    "precision": {"choices": ("float32", "bfloat16", "float64")},
    "backend": {"choices": ("loky", "sequential", "dask", "ray")},
    "attacks": {"choices": ATTACKS, "value": "name"},
    "defences": {"value": "defence"},
    "questions": {"choices": "memberscope.auditing.sets:list_questions"},
    "effort": {"choices": ("quick", "normal", "thorough")},
    "attack_file": {"value": "path"},
    "canary_kind": {"choices": ("natural", "mislabelled")},
}
