"""Any model object as a target, without importing a framework that the caller has not imported."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from memberscope.errors import InputError
from memberscope.targets.function import FunctionTarget
from memberscope.targets.sklearn import SklearnTarget
from memberscope.targets.torch import TorchTarget
from memberscope.types import Target


def wrap(model: Any, *, n_classes: int | None = None) -> Target:
    """A target from a fitted scikit-learn classifier, a torch module, a function x -> probabilities, or a target itself.

    Raises:
        InputError: The object is none of these.

    >>> from sklearn.tree import DecisionTreeClassifier
    >>> wrap(DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])).n_classes
    2
    """
    if isinstance(model, Target):
        return model
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return TorchTarget(model, n_classes=n_classes)
    if any(hasattr(model, name) for name in ("predict_proba", "decision_function", "predict")):
        return SklearnTarget(model)
    if callable(model) and not isinstance(model, type):
        if n_classes is None:
            raise InputError("Expected n_classes for a function, got none. Wrap it: FunctionTarget(f, n_classes=k).")
        return FunctionTarget(model, n_classes=n_classes)
    raise InputError(
        f"Expected a fitted classifier, a torch module or a function, got {type(model).__name__}. "
        f"Give an object that answers predict_proba, or a function that returns probabilities."
    )


def class_names_of(target: Target) -> tuple[str, ...] | None:
    """Names of the classes if the target knows them."""
    names = getattr(target, "classes", None)
    return None if names is None else tuple(str(name) for name in np.asarray(names))


def fitted_columns_of(target: Target) -> tuple[str, ...]:
    """Names of the columns that the model was fitted with, in its order; none if it was fitted without names.

    >>> fitted_columns_of(FunctionTarget(lambda x: x, n_classes=2))
    ()
    """
    names = getattr(getattr(target, "estimator", None), "feature_names_in_", None)
    return () if names is None else tuple(str(name) for name in np.asarray(names))
