"""Check that ensembles use their trees only with features that their records have.

Compiled code does not check it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from memberscope.errors import UnsafeFileError
from memberscope.targets.files.tree_nodes import check_histogram_features


def check_owners(model: Any) -> None:
    """Refuse a model in which a tree may get records of another width than it was grown with.

    Raises:
        UnsafeFileError: There is such a tree, or one that belongs to no estimator.
    """
    from sklearn.tree._tree import Tree

    try:
        parts = list(_iterate_held_parts(model))
        for part in parts:
            _refuse_shadowed_methods(part)
            _check_owner(part)
        # By identity: equal trees may belong to different estimators
        owned = {id(part.tree_) for part in parts if _is_tree(part)}
        # Nothing would check the records that such a tree gets
        if any(isinstance(part, Tree) and id(part) not in owned for part in parts):
            raise ValueError("a tree belongs to no estimator")
    except (ValueError, AttributeError, TypeError, IndexError, KeyError) as error:
        raise UnsafeFileError(
            f"Expected trees that fit their {type(model).__name__}, got a file where {error}. Do "
            "not use it; save the model again."
        ) from error


def _iterate_held_parts(model: Any) -> Iterator[Any]:
    """Yield the model and everything that it holds, each once."""
    stack, seen = [model], set()
    while stack:
        part = stack.pop()
        # Objects may refer to each other in a circle
        if id(part) in seen or isinstance(part, str | bytes | int | float | type(None)):
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, dict):
            stack.extend(part.values())
        elif isinstance(part, list | tuple | set):
            stack.extend(part)
        elif isinstance(part, np.ndarray) and part.dtype == object:
            stack.extend(part.ravel().tolist())
        elif not isinstance(part, np.ndarray | type):
            stack.extend(getattr(part, "__dict__", {}).values())
            stack.extend(part.steps if hasattr(part, "steps") else [])


def _refuse_shadowed_methods(part: Any) -> None:
    """Refuse an estimator that holds an attribute in place of one of its methods.

    One of these is the method that checks records.

    Raises:
        ValueError: It does.
    """
    # Classes from elsewhere were trusted by name
    if not type(part).__module__.startswith("sklearn."):
        return
    # A file could replace the method that checks the number of features
    for name in getattr(part, "__dict__", {}):
        if callable(getattr(type(part), name, None)):
            raise ValueError(f"{type(part).__name__}.{name} is replaced")


def _is_tree(part: Any) -> bool:
    """Check whether a part is an estimator of one fitted tree."""
    from sklearn.tree import BaseDecisionTree

    return isinstance(part, BaseDecisionTree) and hasattr(part, "tree_")


def _check_owner(part: Any) -> None:
    """Check a part that uses trees by itself: a tree, a forest, boosting, or bagging.

    Raises:
        ValueError: A tree has another number of features than it will be given, or answers of
    another width.
    """
    from sklearn.ensemble import BaseEnsemble
    from sklearn.ensemble._bagging import BaseBagging
    from sklearn.ensemble._forest import BaseForest
    from sklearn.ensemble._gb import BaseGradientBoosting
    from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting

    if _is_tree(part):
        # The estimator checks records by its own number, the tree reads by the other
        _refuse_width(part.tree_.n_features, _count_features(part))
    elif isinstance(part, BaseHistGradientBoosting) and hasattr(part, "_predictors"):
        _check_histogram(part)
    elif isinstance(part, BaseBagging) and hasattr(part, "estimators_"):
        # Bagging gives each member some of the columns
        for member, columns in zip(part.estimators_, part.estimators_features_, strict=True):
            if _is_tree(member):
                _refuse_width(len(columns), _count_features(member))
    elif isinstance(part, BaseForest | BaseGradientBoosting) and hasattr(part, "estimators_"):
        members = np.ravel(np.asarray(part.estimators_, dtype=object)).tolist()
        for member in members:
            if not _is_tree(member):
                raise ValueError(f"a {type(part).__name__} holds something else than trees")
            _refuse_width(_count_features(member), _count_features(part))
        # It writes each stage into columns, whose number the first prediction sets
        if isinstance(part, BaseGradientBoosting):
            _check_stages(part)
    elif isinstance(part, BaseEnsemble):
        return


def _check_stages(model: Any) -> None:
    """Refuse gradient boosting whose stages write more columns than exist.

    Raises:
        ValueError: They do.
    """
    # As the model itself starts: the columns that stages add to
    start = np.asarray(
        model._raw_predict_init(np.zeros((1, _count_features(model)), dtype=np.float32))
    )
    if np.ndim(model.estimators_) != 2 or start.shape != (1, model.estimators_.shape[1]):
        raise ValueError(f"stages of a {type(model).__name__} have another number of columns")
    if any(member.tree_.value.shape[1:] != (1, 1) for member in model.estimators_.ravel()):
        raise ValueError(f"trees of a {type(model).__name__} give several values")


def _check_histogram(model: Any) -> None:
    """Refuse histogram gradient boosting whose trees use missing features or categories.

    Raises:
        ValueError: They do.
    """
    width = _count_features(model)
    mapper = model._bin_mapper
    categorical = np.asarray(getattr(mapper, "is_categorical_", np.zeros(width)))
    if categorical.shape != (width,):
        raise ValueError("categories are of other features")
    for stage in model._predictors:
        for predictor in stage:
            check_histogram_features(predictor.nodes, width, categorical.astype(bool))
    preprocessor = getattr(model, "_preprocessor", None)
    if preprocessor is not None:
        _check_encoder(preprocessor, width)


def _check_encoder(preprocessor: Any, width: int) -> None:
    """Refuse an encoder of categories that makes another number of columns than the model has.

    Raises:
        ValueError: It does.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

    parts = {
        name: (kind, columns)
        for name, kind, columns in preprocessor.transformers_
        if kind != "drop"
    }
    # Exactly what scikit-learn builds; a subclass could make other columns
    kinds = [type(preprocessor), *(type(kind) for kind, _ in parts.values())]
    if set(parts) != {"encoder", "numerical"} or kinds != [
        ColumnTransformer,
        OrdinalEncoder,
        FunctionTransformer,
    ]:
        raise ValueError("categories are encoded in another way")
    encoder, numbers = (np.asarray(columns) for _, columns in parts.values())
    if (
        len(parts["encoder"][0].categories_) != encoder.sum()
        or encoder.sum() + numbers.sum() != width
    ):
        raise ValueError("categories are encoded into another number of columns")


def _count_features(estimator: Any) -> int:
    """Give the number of features that an estimator was fitted with.

    Raises:
        ValueError: It has no such number.
    """
    width = estimator.n_features_in_
    if not isinstance(width, int | np.integer) or width < 1:
        raise ValueError(f"a {type(estimator).__name__} has no number of features")
    return int(width)


def _refuse_width(found: int, wanted: int) -> None:
    """Refuse a tree of another width.

    Raises:
        ValueError: It is.
    """
    if int(found) != int(wanted):
        raise ValueError(f"a tree of {found} features is used with {wanted}")
