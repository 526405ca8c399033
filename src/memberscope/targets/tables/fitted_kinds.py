"""Find what a fitted model says of its columns.

It may say which it takes as text or categories, and which values it has seen there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from memberscope.facts import read_target_facts
from memberscope.frames import ColumnSpec, list_estimator_columns

INNER = ("best_estimator_", "estimator_", "classifier_", "estimator")  # one model within another
SEVERAL = ("calibrated_classifiers_", "estimators_")  # models that are all given the same columns


def find_fitted_columns(target: Any) -> dict[str, ColumnSpec]:
    """Find the columns that a target's model must get as text or as categories, by name.

    Columns of numbers are not listed.

    >>> from sklearn.preprocessing import OneHotEncoder
    >>> import types
    >>> encoder = OneHotEncoder().fit(np.array([["a"], ["b"]], dtype=object))
    >>> encoder.feature_names_in_ = np.array(["job"], dtype=object)
    >>> find_fitted_columns(types.SimpleNamespace(estimator=encoder))["job"].categories
    ('a', 'b')
    """
    facts = read_target_facts(target)
    if facts.booster is not None:
        return dict(_find_booster_categories(facts.booster))
    # ONNX declares a type for each input, where each is a column
    if len(facts.inputs) > 1 and facts.estimator is None:
        return {
            entry.name: ColumnSpec("text")
            for entry in facts.inputs
            if getattr(getattr(entry, "dtype", None), "kind", "") in "OUS"
        }
    # Without names nothing could be found in a table
    names = list_estimator_columns(facts.estimator)
    return dict(_find_estimator_columns(facts.estimator, names)) if names else {}


def is_text_model(estimator: Any) -> bool:
    """Check whether a scikit-learn model takes texts themselves.

    Such a model was fitted without a number of features.

    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> is_text_model(CountVectorizer().fit(["a text"]))
    True
    """
    while hasattr(estimator, "steps") and estimator.steps:
        estimator = next(
            (step for _, step in estimator.steps if step not in (None, "passthrough")), None
        )
    # Only a search: it may hold a whole pipeline
    for name in INNER[:1]:
        if hasattr(estimator, name):
            return is_text_model(getattr(estimator, name))
    return hasattr(estimator, "build_analyzer")


def _find_estimator_columns(
    estimator: Any, names: Sequence[str]
) -> Iterator[tuple[str, ColumnSpec]]:
    """Yield the columns that an estimator takes as text or categories, of `names` in this order.

    It is followed inwards as far as it passes the columns on unchanged.
    """
    if hasattr(estimator, "steps"):
        missing: Any = np.nan
        for _, step in estimator.steps:
            if step in (None, "passthrough"):
                continue
            yield from (
                (name, _with_missing(want, missing))
                for name, want in _find_estimator_columns(step, names)
            )
            # An imputer passes columns on one by one; anything else makes new ones
            if not hasattr(step, "statistics_") or len(step.statistics_) != len(names):
                return  # the next step gets other columns
            missing = getattr(step, "missing_values", np.nan)
        return
    # A column transformer: each part gets some of the columns
    if hasattr(estimator, "transformers_"):
        places = getattr(estimator, "_transformer_to_input_indices", {})
        for name, inner, _ in estimator.transformers_:
            if name in places and not isinstance(inner, str):
                yield from _find_estimator_columns(inner, [names[k] for k in places[name]])
    # CatBoost
    elif hasattr(estimator, "get_cat_feature_indices"):
        yield from (
            (names[k], ColumnSpec("text"))
            for k in estimator.get_cat_feature_indices()
            if k < len(names)
        )
    # LightGBM's, then XGBoost's classifiers
    elif hasattr(estimator, "booster_"):
        yield from _find_booster_categories(estimator.booster_)
    elif hasattr(estimator, "get_booster"):
        yield from _find_booster_categories(estimator.get_booster())
    elif (
        # Histogram gradient boosting, which encodes categories by itself
        hasattr(estimator, "is_categorical_")
        and getattr(estimator, "_preprocessor", None) is not None
    ):
        found = dict(_find_estimator_columns(estimator._preprocessor, names))
        yield from ((name, ColumnSpec("category", want.categories)) for name, want in found.items())
        yield from _numbered_categories(estimator._preprocessor, names)
    # An encoder
    elif len(getattr(estimator, "categories_", ())) == len(names) > 0:
        for name, values in zip(names, estimator.categories_, strict=True):
            values = np.asarray(values, dtype=object)
            # Categories that are all numbers stay numbers
            if any(isinstance(value, str) for value in values):
                yield (
                    name,
                    ColumnSpec(
                        "text",
                        tuple(values),
                        None if any(value is None for value in values) else np.nan,
                    ),
                )
    else:
        for part in _inner_models(estimator):
            yield from _find_estimator_columns(part, names)


def _inner_models(estimator: Any) -> list[Any]:
    """List the models within a model that get its columns."""
    found = [
        getattr(estimator, name) for name in INNER if hasattr(getattr(estimator, name, None), "fit")
    ]
    # Members of an ensemble were all fitted with the same columns
    for name in SEVERAL:
        parts = getattr(estimator, name, None)
        if isinstance(parts, list | tuple):
            found += [part for part in parts if part is not None and not isinstance(part, str)]
    # Of a search only the best model predicts
    return found[:1] if hasattr(estimator, "best_estimator_") else found


def _numbered_categories(
    preprocessor: Any, names: Sequence[str]
) -> Iterator[tuple[str, ColumnSpec]]:
    """Find columns that were categories of numbers.

    A gradient boosting of scikit-learn encodes them like words.
    """
    places = getattr(preprocessor, "_transformer_to_input_indices", {})
    for name, inner, _ in preprocessor.transformers_:
        for k, values in zip(places.get(name, ()), getattr(inner, "categories_", ()), strict=False):
            if not any(isinstance(value, str) for value in values):
                yield names[k], ColumnSpec("category", tuple(values))


def _with_missing(want: ColumnSpec, missing: Any) -> ColumnSpec:
    """Apply what an imputer before the encoder uses for a missing value."""
    return ColumnSpec(want.kind, want.categories, None if missing is None else want.missing)


def _find_booster_categories(booster: Any) -> Iterator[tuple[str, ColumnSpec]]:
    """Find the columns that a booster of LightGBM or XGBoost takes as categories."""
    if hasattr(booster, "pandas_categorical"):
        yield from _match_lightgbm_categories(booster)
        return
    kinds, names = booster.feature_types or [], booster.feature_names or []
    lists = _xgboost_categories(booster)
    for name, kind in zip(names, kinds, strict=False):
        # XGBoost's mark of a category
        if kind == "c":
            yield name, ColumnSpec("category", lists.get(name))


def _match_lightgbm_categories(booster: Any) -> Iterator[tuple[str, ColumnSpec]]:
    """Match LightGBM's lists of categories with columns.

    First with those that it split by categories, else also with those that it never split.
    """
    from memberscope.targets.files.booster_files import parse_lightgbm_header

    lists = booster.pandas_categorical or []
    # The header alone is needed
    text = booster.model_to_string(num_iteration=1)
    header = parse_lightgbm_header(text)
    infos = dict(
        line.split("=", 1) for line in text.partition("\n\n")[0].splitlines() if "=" in line
    ).get("feature_infos", "")
    unused = {
        name
        for name, info in zip(header.features, infos.split(" "), strict=False)
        if info == "none"
    }
    for chosen in (
        header.categories,
        tuple(n for n in header.features if n in unused or n in header.categories),
    ):
        # LightGBM keeps lists without names: they can be matched only if there are as many
        if len(chosen) == len(lists):
            yield from (
                (name, ColumnSpec("category", tuple(values)))
                for name, values in zip(chosen, lists, strict=True)
            )
            return


def _xgboost_categories(booster: Any) -> Mapping[str, tuple[Any, ...]]:
    """Give XGBoost's own lists of categories, where this version keeps them."""
    try:
        found = booster.get_categories(export_to_arrow=True).to_arrow()
    except (AttributeError, TypeError, ValueError, ImportError):
        return {}
    return {name: tuple(values.to_pylist()) for name, values in found if values is not None}
