"""Handle classifiers that model each class against the rest.

Their probabilities of a record need not sum to one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.targets.tasks import list_inner_models
from memberscope.types import Floats

OBJECTIVES = ("multiclassova", "multiclass_ova", "ova", "ovr")  # what LightGBM calls one-vs-all
NOTE = (
    "The model gives each class a probability of its own (one-vs-all); those of each record were "
    "divided by their sum, which leaves their order unchanged."
)


def is_one_vs_all(estimator: Any) -> bool:
    """Check whether an estimator was fitted with a one-vs-all loss of CatBoost or LightGBM.

    Of a pipeline, the last step counts.

    >>> from lightgbm import LGBMClassifier
    >>> is_one_vs_all(LGBMClassifier(objective="ova")), is_one_vs_all(LGBMClassifier())
    (True, False)
    """
    inner = list_inner_models(estimator)[-1]
    library = type(inner).__module__.partition(".")[0]
    # By the library's name, so that neither need be imported
    if library == "lightgbm":
        return getattr(inner, "objective", None) in OBJECTIVES
    if library == "catboost":
        return "MultiClassOneVsAll" in str(inner.get_param("loss_function"))
    return False


def has_raw_scores(estimator: Any) -> bool:
    """Check whether `predict_proba` may give logits.

    It may with the user's own objective, or in a class of no known library.
    """
    inner = list_inner_models(estimator)[-1]
    objective = getattr(inner, "objective", None)
    if callable(objective) or objective == "binary:logitraw":
        return True
    # Of these libraries it is known that they give probabilities
    known = ("sklearn", "imblearn", "lightgbm", "xgboost", "catboost")
    return hasattr(inner, "predict_proba") and type(inner).__module__.partition(".")[0] not in known


def divide_by_sums(probabilities: Floats) -> Floats:
    """Divide each row (n, k) by its sum; a row of zeros becomes equal probabilities.

    >>> divide_by_sums(np.array([[0.5, 1.0, 0.5], [0.0, 0.0, 0.0]])).round(3).tolist()
    [[0.25, 0.5, 0.25], [0.333, 0.333, 0.333]]
    """
    sums = probabilities.sum(axis=1, keepdims=True)
    equal = np.full_like(probabilities, 1 / probabilities.shape[1])
    return np.where(sums > 0, probabilities / np.where(sums > 0, sums, 1), equal)
