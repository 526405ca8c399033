"""Unwrap torch modules from what training put around them."""

from __future__ import annotations

from typing import Any

# Attribute in which each wrapper keeps the module, by the wrapper's name
INNER = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",
    "GradSampleModule": "_module",
    "GradSampleModuleFastGradientClipping": "_module",
    "DPDDP": "module",
    "DifferentiallyPrivateDistributedDataParallel": "module",
}


def unwrap_module(module: Any) -> Any:
    """Take the module out of DataParallel, torch.compile, averages of weights, and Opacus.

    Opacus's hooks stay on its layers while it trains, so they are removed from a copy.

    >>> import torch
    >>> type(unwrap_module(torch.nn.DataParallel(torch.nn.Linear(2, 2)))).__name__
    'Linear'
    """
    private = False
    while True:
        names = [INNER[kind.__name__] for kind in type(module).__mro__ if kind.__name__ in INNER]
        inner = next((getattr(module, name) for name in names if hasattr(module, name)), None)
        if inner is None:
            return _without_hooks(module) if private else module
        private = private or "_module" in names
        module = inner


def _without_hooks(module: Any) -> Any:
    """Copy a module of Opacus without its hooks and without the gradients of single records."""
    import copy

    # Gradients of single records may be larger than the model, and are not copied
    grads = [
        (part, part.__dict__.pop("grad_sample"))
        for part in module.parameters()
        if "grad_sample" in part.__dict__
    ]
    try:
        copied = copy.deepcopy(module)
    finally:
        for part, grad in grads:
            part.grad_sample = grad
    for part in copied.modules():
        for hooks in (part._forward_hooks, part._backward_hooks):
            for key in [key for key, hook in hooks.items() if _is_of_opacus(hook)]:
                del hooks[key]
    return copied


def _is_of_opacus(hook: Any) -> bool:
    """Check whether Opacus put a hook on a layer."""
    while hasattr(hook, "func"):  # a partial function
        hook = hook.func
    return str(getattr(hook, "__module__", "")).startswith("opacus")
