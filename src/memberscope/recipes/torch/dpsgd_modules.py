"""Check modules for DP-SGD, and replace layers that mix records."""

from __future__ import annotations

from typing import Any

from memberscope.errors import InputError
from memberscope.recipes.dp_accounting import Privacy
from memberscope.recipes.torch.linear_layers import find_linear_layers


def import_opacus() -> tuple[Any, Any]:
    """Import Opacus's ModuleValidator and GradSampleModule.

    Raises:
        InputError: Opacus is not installed.
    """
    try:
        from opacus import GradSampleModule
        from opacus.validators import ModuleValidator
    except ImportError as error:
        raise InputError(
            "Expected opacus for private training of such layers, got none. Run `pip install "
            "memberscope[dp]`."
        ) from error
    return ModuleValidator, GradSampleModule


def _suggest_layer_fix(kind: str) -> str:
    """Suggest what to do about a layer that DP-SGD cannot train."""
    if "BatchNorm" in kind:
        return "Use GroupNorm in its place, or give Privacy(..., fix=True), which replaces it."
    return "Give Privacy(..., fix=True), which replaces it where Opacus knows how."


def make_trainable(module: Any, privacy: Privacy) -> Any:
    """Give the module, with layers that mix records replaced if `privacy.fix` allows it.

    Raises:
        InputError: A layer mixes the records of a batch, so that no record's gradient is its own,
    or Opacus is not installed.
    """
    # Fully connected networks have an engine of their own, which does without Opacus
    if find_linear_layers(module) is not None:
        return module
    validator, samples = import_opacus()
    if privacy.fix:
        module = validator.fix(module.train())
    for path, part in module.named_modules():
        if type(part) in validator.VALIDATORS and validator.VALIDATORS[type(part)](part):
            raise InputError(
                f"Expected layers that treat every record on its own, got {type(part).__name__} at "
                f"{path or 'the top'!r}. {_suggest_layer_fix(type(part).__name__)}"
            )
    # Buffers and shared layers that Opacus cannot follow
    errors = samples.validate(module, strict=False)
    if errors:
        raise InputError(
            "Expected a model whose layers all suit DP-SGD, got one with an obstacle "
            f"({errors[0]}). Replace that layer."
        )
    return module
