"""scikit-learn estimators, and libraries with their interface, as recipes: clone, seed, fit."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from memberscope.errors import InputError
from memberscope.recipes.sources import joined, source_digest, value_digest
from memberscope.targets import SklearnTarget
from memberscope.types import Records


@dataclass(frozen=True)
class SklearnRecipe:
    """Clone `estimator`, set every `random_state` in it to the seed, and fit the clone on the records.

    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> records = Records(np.arange(8.0)[:, None], np.arange(8) % 2, np.arange(8).astype(str))
    >>> SklearnRecipe(DecisionTreeClassifier())(records, seed=1).estimator.random_state
    1
    """

    estimator: Any

    def __post_init__(self) -> None:
        if not (hasattr(self.estimator, "fit") and hasattr(self.estimator, "get_params")):
            raise InputError(
                f"Expected a scikit-learn estimator, got {type(self.estimator).__name__}. Give one with fit and get_params."
            )

    @property
    def digest(self) -> str | None:
        """Hash of the estimator's class, its parameters and its library's version; None if a parameter cannot be hashed."""
        import sklearn

        kind = type(self.estimator)
        library = getattr(sys.modules.get(kind.__module__.split(".")[0]), "__version__", "")
        parameters = self.estimator.get_params()
        values = [part for name in sorted(parameters) for part in (name, value_digest(parameters[name]))]
        return joined([f"{kind.__module__}.{kind.__qualname__}:{library}:{sklearn.__version__}", source_digest(kind), *values])

    def __call__(self, records: Records, seed: int) -> SklearnTarget:
        """A clone fitted on `records`."""
        from sklearn.base import clone

        model = clone(self.estimator)
        seeds = {name: seed for name in model.get_params() if name == "random_state" or name.endswith("__random_state")}
        model.set_params(**seeds)
        return SklearnTarget(model.fit(records.x, records.y))
