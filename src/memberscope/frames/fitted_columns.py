"""Find the columns that a model was fitted with."""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.facts import read_target_facts
from memberscope.types import Target


def list_target_columns(target: Target) -> tuple[str, ...]:
    """Give the names of the columns that the model was fitted with, in its order.

    They are empty if it was fitted without names.

    >>> from memberscope.targets import FunctionTarget
    >>> list_target_columns(FunctionTarget(lambda x: x, n_classes=2))
    ()
    """
    facts = read_target_facts(target)
    return facts.columns or list_estimator_columns(facts.estimator)


def list_estimator_columns(estimator: Any) -> tuple[str, ...]:
    """Give the names of the columns that an estimator was fitted with, in its order.

    They are empty if it was fitted without names.

    >>> import pandas
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> list_estimator_columns(DecisionTreeClassifier().fit(pandas.DataFrame({"age": [1, 2]}), [0, 1]))
    ('age',)
    """
    found = getattr(estimator, "feature_names_in_", None)
    # What LightGBM calls the columns of an array
    made_up = "Column_"
    if found is None:
        # CatBoost, which numbers them
        found, made_up = getattr(estimator, "feature_names_", None), ""
    names = () if found is None else tuple(str(name) for name in np.asarray(found))
    # Made-up names say nothing of the order in which a data frame must be given
    return () if names == tuple(f"{made_up}{place}" for place in range(len(names))) else names
