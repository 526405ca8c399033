"""Set parameters of scikit-learn estimators and of boosters with the same interface.

A sweep over parameters that an estimator already has is a defence too.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, fields, replace
from typing import Any

from memberscope.errors import InputError
from memberscope.recipes import SklearnRecipe, TorchRecipe
from memberscope.types import Recipe

# Names that a setting has in different estimators, in the order in which they are looked for, and
# whether the estimator's parameter is the inverse.
KNOBS: dict[str, tuple[tuple[str, bool], ...]] = {
    "depth": (("max_depth", False),),
    "leaves": (("max_leaf_nodes", False), ("num_leaves", False), ("max_leaves", False)),
    "leaf_size": (
        ("min_samples_leaf", False),
        ("min_child_samples", False),
        ("min_child_weight", False),
    ),
    "rate": (("learning_rate", False), ("learning_rate_init", False), ("eta0", False)),
    "subsample": (("subsample", False), ("max_samples", False), ("bagging_fraction", False)),
    "strength": (
        ("reg_lambda", False),
        ("l2_regularization", False),
        ("C", True),
        ("alpha", False),
        ("ccp_alpha", False),
    ),
}
WHOLE = ("depth", "leaves", "leaf_size")  # settings that take whole numbers


@dataclass(frozen=True)
class EstimatorParameter:
    """Set an estimator's own parameter for `knob` to `value`.

    A knob is depth, leaves, leaf_size, rate, subsample or strength of regularisation.

    >>> from sklearn.linear_model import LogisticRegression
    >>> EstimatorParameter("strength", 100.0)(SklearnRecipe(LogisticRegression())).estimator
    LogisticRegression(C=0.01)
    """

    knob: str
    value: float

    def __post_init__(self) -> None:
        if (
            self.knob not in KNOBS
            or not self.value > 0
            or (self.knob in WHOLE and self.value != int(self.value))
        ):
            raise InputError(
                f"Expected one of {', '.join(KNOBS)} with a number above 0, got "
                f"{self.knob}:{self.value:g}. Give for example depth:4; {', '.join(WHOLE)} take "
                "whole numbers."
            )

    @property
    def name(self) -> str:
        """Name `knob:value`."""
        return f"{self.knob}:{self.value:g}"

    def __call__(self, recipe: Recipe) -> Recipe:
        """Give the recipe of the estimator with that parameter.

        In a pipeline, it is the parameter of its last step. Torch recipes have a rate, too.

        Raises:
            InputError: It is no estimator, or has no such parameter.
        """
        # The one of these parameters that training by torch has as well
        if isinstance(recipe, TorchRecipe) and self.knob == "rate":
            return replace(recipe, optimiser=replace(recipe.optimiser, lr=self.value))
        if not isinstance(recipe, SklearnRecipe):
            raise InputError(
                f"Expected an estimator for the defence {self.name}, got {type(recipe).__name__}. "
                "Set the parameter in your own recipe."
            )
        has = recipe.estimator.get_params()
        # scikit-learn's own way to name a parameter of a pipeline's step
        prefix = f"{recipe.estimator.steps[-1][0]}__" if hasattr(recipe.estimator, "steps") else ""
        for parameter, inverse in KNOBS[self.knob]:
            if prefix + parameter in has:
                # C of a logistic regression is one over the strength
                value: Any = (
                    1 / self.value
                    if inverse
                    else int(self.value)
                    if self.knob in WHOLE
                    else self.value
                )
                return _with_parameters(recipe, {prefix + parameter: value})
        raise InputError(
            f"Expected an estimator with a parameter for {self.knob}, got "
            f"{type(recipe.estimator).__name__}. Name the parameter yourself, as in "
            "set:parameter=value."
        )


@dataclass(frozen=True)
class Setting:
    """Change any one setting of a recipe, by the name that the recipe has for it.

    >>> from sklearn.tree import DecisionTreeClassifier
    >>> Setting("max_depth", 3)(SklearnRecipe(DecisionTreeClassifier())).estimator
    DecisionTreeClassifier(max_depth=3)
    """

    key: str
    value: Any

    @property
    def name(self) -> str:
        """Name `set:key=value`."""
        return f"set:{self.key}={self.value}"

    def __call__(self, recipe: Recipe) -> Recipe:
        """Give the recipe with that setting.

        Raises:
            InputError: It has no such setting.
        """
        if isinstance(recipe, SklearnRecipe):
            return _with_parameters(recipe, {self.key: self.value})
        if isinstance(recipe, TorchRecipe) and self.key in {
            entry.name for entry in fields(recipe)
        } - {"model"}:
            try:
                return replace(recipe, **{self.key: self.value})
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"Expected a value that {self.key} can take, got {self.value!r} ({error}). "
                    f"Change it in set:{self.key}=value."
                ) from error
        raise InputError(
            f"Expected a recipe with the setting {self.key!r}, got {type(recipe).__name__}. Check "
            "the setting's name."
        )


def _with_parameters(recipe: SklearnRecipe, parameters: dict[str, Any]) -> SklearnRecipe:
    """Give the recipe of a clone of the estimator with these parameters.

    Raises:
        InputError: The estimator has no such parameter.
    """
    from sklearn.base import clone

    try:
        # A clone: the estimator that was given stays as it is
        return replace(recipe, estimator=clone(recipe.estimator).set_params(**parameters))
    except ValueError as error:
        raise InputError(
            f"Expected parameters of {type(recipe.estimator).__name__}, got "
            f"{', '.join(parameters)}. Check their names."
        ) from error


def parse_setting(text: str) -> Setting:
    """Parse a setting from `key=value`.

    The value is a number, a word, or any literal of Python.

    Raises:
        InputError: There is no `=`.

    >>> parse_setting("max_depth=3"), parse_setting("schedule=cosine").value
    (Setting(key='max_depth', value=3), 'cosine')
    """
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise InputError(
            f"Expected set:parameter=value, got set:{text}. Give for example set:max_depth=4."
        )
    try:
        # Literals alone: a value is never run as code
        return Setting(key, ast.literal_eval(value))
    except (ValueError, SyntaxError):
        return Setting(key, value)
