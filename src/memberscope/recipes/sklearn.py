"""Train scikit-learn estimators, and libraries with their interface: clone, seed, fit."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from typing import Any

from memberscope._own_code import digest_source, digest_value, join_digests
from memberscope.errors import InputError
from memberscope.targets import wrap
from memberscope.types import Records, Target


@dataclass(frozen=True)
class SklearnRecipe:
    """Recipe that fits a clone of `estimator`, with every `random_state` in it set to the seed.

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
                f"Expected a scikit-learn estimator, got {type(self.estimator).__name__}. Give one "
                "with fit and get_params."
            )

    @property
    def digest(self) -> str | None:
        """Hash of the estimator's class, its parameters and its library's version.

        It is None if a parameter cannot be hashed.
        """
        import sklearn

        kind = type(self.estimator)
        # Another version of the library may fit another model
        library = getattr(sys.modules.get(kind.__module__.split(".")[0]), "__version__", "")
        parameters = self.estimator.get_params()
        values = [
            part for name in sorted(parameters) for part in (name, digest_value(parameters[name]))
        ]
        return join_digests(
            [
                f"{kind.__module__}.{kind.__qualname__}:{library}:{sklearn.__version__}",
                digest_source(kind),
                *values,
            ]
        )

    def __call__(self, records: Records, seed: int) -> Target:
        """Fit a clone on `records`."""
        model = _copy_unfitted(self.estimator)
        # Also of estimators inside, or their fits would not differ between models
        model.set_params(**dict.fromkeys(_list_seed_parameters(model), seed))
        return wrap(model.fit(records.x, records.y))


def _copy_unfitted(estimator: Any) -> Any:
    """Clone an estimator, also where CatBoost with a list of columns is inside.

    `clone` refuses that one, since it copies the list.

    >>> from sklearn.tree import DecisionTreeClassifier
    >>> hasattr(_copy_unfitted(DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])), "tree_")
    False
    """
    from sklearn.base import clone

    if _is_catboost(estimator):
        return type(estimator)(**estimator.get_params())
    parts = {
        name: _copy_unfitted(part)
        for name, part in estimator.get_params().items()
        if _is_catboost(part)
    }
    # The usual case
    if not parts:
        return clone(estimator)
    model = copy.deepcopy(estimator)  # everything fitted in it is fitted again later
    return model.set_params(**parts)


def _is_catboost(part: Any) -> bool:
    """Check whether an object is an estimator of CatBoost.

    >>> _is_catboost(3)
    False
    """
    return type(part).__module__.split(".")[0] == "catboost" and hasattr(part, "get_params")


def _list_seed_parameters(estimator: Any) -> list[str]:
    """List all parameters that seed an estimator and those inside it.

    CatBoost lists its own only once it is set.

    >>> from sklearn.tree import DecisionTreeClassifier
    >>> _list_seed_parameters(DecisionTreeClassifier())
    ['random_state']
    """
    parameters = estimator.get_params()
    found = [name for name in parameters if name.split("__")[-1] == "random_state"]
    for prefix, part in [
        ("", estimator),
        *((f"{name}__", value) for name, value in parameters.items()),
    ]:
        if _is_catboost(part) and f"{prefix}random_state" not in parameters:
            found.append(f"{prefix}random_seed")
    return found
