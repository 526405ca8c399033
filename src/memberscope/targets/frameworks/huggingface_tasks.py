"""Tell which tasks of Hugging Face's models can be audited."""

from __future__ import annotations

from typing import Any

from memberscope.errors import InputError


def require_classifier(model: Any, config: Any) -> None:
    """Refuse a model of another task than classification with one label a record.

    Raises:
        InputError: It is of another task.
    """
    task, n_labels = getattr(config, "problem_type", None), getattr(config, "num_labels", 0)
    what = f"{type(model).__name__} with {n_labels} labels"
    if not hasattr(model, "num_labels"):
        what = f"{type(model).__name__}, which has no classes"
    elif task == "multi_label_classification":
        what = f"{type(model).__name__} for several labels a record"
    elif task == "regression" or n_labels == 1:
        what = f"{type(model).__name__} for regression (num_labels is {n_labels})"
    elif n_labels > 1:
        return
    raise InputError(
        f"Expected a classifier with one label a record, got {what}. Give a model that was trained "
        "with a class for each label."
    )
