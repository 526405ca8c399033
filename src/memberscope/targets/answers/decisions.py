"""Tell whether an estimator's `predict` may give another class than its top one."""

from __future__ import annotations

from typing import Any

# Estimators whose `predict` is by their own code the top class of `predict_proba` or
# `decision_function`.
TOP_CLASS = (
    "sklearn.linear_model._logistic.",
    "sklearn.linear_model._ridge.",
    "sklearn.tree.",
    "sklearn.ensemble._forest.",
    "sklearn.ensemble._hist_gradient_boosting.",
    "sklearn.ensemble._gb.",
    "sklearn.neural_network.",
    "sklearn.naive_bayes.",
    "sklearn.discriminant_analysis.",
    "sklearn.calibration.CalibratedClassifierCV",
    "sklearn.svm._classes.LinearSVC",
    "lightgbm.sklearn.LGBMClassifier",
)
SEARCHES = (
    "sklearn.model_selection._search.",
    "sklearn.model_selection._search_successive_halving.",
)


def has_own_decision_rule(estimator: Any) -> bool:
    """Check whether `predict` has to be called for the class, as it may not be the top one.

    A tuned threshold, votes of pairs of classes, and the user's own code may decide otherwise.

    >>> from sklearn.linear_model import LogisticRegression
    >>> has_own_decision_rule(LogisticRegression())
    False
    """
    if not hasattr(estimator, "predict"):
        return False
    name = f"{type(estimator).__module__}.{type(estimator).__qualname__}"
    if name in ("sklearn.pipeline.Pipeline", "imblearn.pipeline.Pipeline"):
        return has_own_decision_rule(estimator.steps[-1][1])
    # A search answers as the best model that it found
    if name.startswith(SEARCHES) and hasattr(estimator, "best_estimator_"):
        return has_own_decision_rule(estimator.best_estimator_)
    return not name.startswith(TOP_CLASS)
