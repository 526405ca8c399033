"""Recognise what a model was trained for.

Classifiers, models that predict numbers and models with several labels a record are audited. A
model of another kind is refused by its name.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np

from memberscope.errors import InputError
from memberscope.types import Task

ModelKind = Literal[
    "classification",
    "regression",
    "several labels",
    "several outputs",
    "clustering",
    "outlier detection",
    "density estimation",
    "survival analysis",
    "ranking",
    "transformation",
    "token classification",
    "question answering",
    "language modelling",
]
# What is offered instead: stored signals need no classifier
SIGNALS = "--signals with the columns member and loss"
LOSS = f"audit its loss a record as stored signals ({SIGNALS})"
WORDS: dict[str, tuple[str, str]] = {  # what such a model is called, and what to do
    "classification": ("the classifier {}", 'Leave out the task, or give task="classification".'),
    "regression": (
        "the regressor {}",
        'Give task="regression": memberscope.targets.wrap(model, task="regression").',
    ),
    "several labels": (
        "the multi-label classifier {}",
        'Give task="multilabel": memberscope.targets.wrap(model, task="multilabel").',
    ),
    "several outputs": (
        "the multi-output classifier {}",
        "Several classes a record are not audited together; give one output with its classes, as a "
        f"function with n_classes, or {LOSS}.",
    ),
    "clustering": (
        "the clustering {}",
        "Clustering is not audited yet; audit a record's distance from its cluster as stored "
        f"signals ({SIGNALS}).",
    ),
    "outlier detection": (
        "the outlier detector {}",
        "Outlier detection is not audited yet; audit a record's outlier score as stored signals "
        f"({SIGNALS}).",
    ),
    "density estimation": (
        "the density estimator {}",
        "Density estimation is not audited yet; audit minus a record's log-density as stored "
        f"signals ({SIGNALS}).",
    ),
    "survival analysis": (
        "the survival model {}",
        f"Survival analysis is not audited yet; {LOSS}.",
    ),
    "ranking": ("the ranker {}", f"Ranking is not audited yet; {LOSS}."),
    "transformation": (
        "{}, which transforms records and predicts nothing",
        "Give the classifier that comes after it.",
    ),
    "token classification": (
        "the token classifier {}",
        f"Labels of tokens are not audited yet; {LOSS}.",
    ),
    "question answering": (
        "the question-answering model {}",
        f"Answers to questions are not audited yet; {LOSS}.",
    ),
    "language modelling": (
        "the language model {}",
        "Give a causal or masked one with its tokenizer, as CausalLMTarget(model, tokenizer), or "
        f"{LOSS}.",
    ),
}
# Kinds of estimators as scikit-learn's tags name them
TYPES: dict[str, ModelKind] = {
    "classifier": "classification",
    "regressor": "regression",
    "clusterer": "clustering",
    "outlier_detector": "outlier detection",
    "density_estimator": "density estimation",
    "ranker": "ranking",
}
# What is audited as which task; a forecast is a regression of several outputs
AUDITED: dict[ModelKind, tuple[Task, ...]] = {
    "classification": ("classification",),
    "regression": ("regression", "forecast"),
    "several labels": ("multilabel",),
}
LIBRARIES = ("sklearn", "imblearn", "lightgbm", "xgboost", "catboost")
ONE_LABEL = "a classifier with one label a record"
ANY_MODEL = "a classifier, a regressor or a multi-label model"
# Endings of the names of language models that are audited as such
CAUSAL, MASKED = ("ForCausalLM", "LMHeadModel"), ("ForMaskedLM",)
# Endings of the names of architectures in transformers, which tell their heads
HEADS: tuple[tuple[str, ModelKind], ...] = (
    ("ForTokenClassification", "token classification"),
    ("ForQuestionAnswering", "question answering"),
    ("ForCausalLM", "language modelling"),
    ("LMHeadModel", "language modelling"),
    ("ForConditionalGeneration", "language modelling"),
    ("ForMaskedLM", "language modelling"),
    ("ForPreTraining", "language modelling"),
)
# Whole names, since LightGBM's objectives have no common prefix
LIGHTGBM_REGRESSION = (
    "regression",
    "regression_l1",
    "regression_l2",
    "l1",
    "l2",
    "mse",
    "mae",
    "rmse",
    "huber",
    "fair",
    "poisson",
    "quantile",
    "mape",
    "gamma",
    "tweedie",
)
# Beginnings of objectives of XGBoost, then of LightGBM
PREFIXES: tuple[tuple[str, ModelKind], ...] = (
    *(
        ("reg:", "regression"),
        ("count:", "regression"),
        ("rank:", "ranking"),
        ("survival:", "survival analysis"),
    ),
    *(("lambdarank", "ranking"), ("rank_xendcg", "ranking")),
)
# Beginnings of CatBoost's losses
CATBOOST: tuple[tuple[str, ModelKind], ...] = (
    *(
        ("MultiLogloss", "several labels"),
        ("MultiCrossEntropy", "several labels"),
        ("MultiRMSE", "regression"),
    ),
    *(
        ("RMSE", "regression"),
        ("MAE", "regression"),
        ("MAPE", "regression"),
        ("Quantile", "regression"),
        ("Huber", "regression"),
    ),
    *(
        ("Poisson", "regression"),
        ("Tweedie", "regression"),
        ("Lq", "regression"),
        ("LogLinQuantile", "regression"),
    ),
    *(
        ("Yeti", "ranking"),
        ("Pair", "ranking"),
        ("Query", "ranking"),
        ("StochasticRank", "ranking"),
    ),
    *(("Cox", "survival analysis"), ("SurvivalAft", "survival analysis")),
)


def recognise_task(model: Any) -> ModelKind | None:
    """Recognise what a model was trained for, by its library's marks; None without any.

    >>> from sklearn.linear_model import LogisticRegression, Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> recognise_task(make_pipeline(Ridge())), recognise_task(LogisticRegression()), recognise_task(abs)
    ('regression', 'classification', None)
    """
    # The outermost first: a wrapper may itself know what it is for
    for part in list_inner_models(model):
        found = _task_of(part)
        if found is not None:
            return found
    return None


def choose_task(model: Any, task: Task | None = None) -> Task:
    """Choose the task that a model is audited as: the given one, or the one that is recognised.

    A model without any mark of its task is taken as a classifier where no task is given.

    Raises:
        InputError: The model does something that is not audited, or contradicts the given task.

    >>> from sklearn.linear_model import Ridge
    >>> choose_task(Ridge()), choose_task(Ridge(), "forecast"), choose_task(abs, "multilabel")
    ('regression', 'forecast', 'multilabel')
    """
    found = recognise_task(model)
    if found is None:
        return task or "classification"
    if found not in AUDITED:
        raise build_task_error(found, _name_model(model))
    fitting = AUDITED[found]
    # One label of two classes is a multi-label model with a single label
    if task is None or task in fitting or (task == "multilabel" and _has_two_classes(model)):
        return task or fitting[0]
    # The name of an output of a session is a hint, no mark
    if hasattr(model, "get_outputs"):
        return task
    words, advice = WORDS[found]
    raise InputError(
        f'Expected a model for task="{task}", got {words.format(_name_model(model))}. {advice}'
    )


def _has_two_classes(model: Any) -> bool:
    """Check whether a model is a classifier of the two classes 0 and 1."""
    try:
        classes = np.asarray(getattr(model, "classes_", ()))
    except ValueError:  # several outputs of several sizes
        return False
    return classes.shape == (2,) and set(classes.tolist()) == {0, 1}


def refuse_unsupported(model: Any) -> None:
    """Refuse a model that is recognised as another kind than a one-label classifier.

    Raises:
        InputError: It is; the message says what it is, and how it can be audited all the same.
    """
    found = recognise_task(model)
    if found is not None and found != "classification":
        raise build_task_error(found, _name_model(model), ONE_LABEL)


def _name_model(model: Any) -> str:
    """Name a model by its type, and what it is the last part of."""
    parts = [type(part).__name__ for part in list_inner_models(model)]
    return parts[-1] if len(parts) == 1 else f"{parts[-1]} in a {parts[0]}"


def build_task_error(kind: ModelKind, name: str, expected: str = ANY_MODEL) -> InputError:
    """Build the error for a model of another kind than the `expected` ones.

    >>> str(build_task_error("ranking", "LGBMRanker"))[:80]
    'Expected a classifier, a regressor or a multi-label model, got the ranker LGBMRa'
    """
    words, advice = WORDS[kind]
    return InputError(f"Expected {expected}, got {words.format(name)}. {advice}")


def recognise_objective(objective: str) -> ModelKind | None:
    """Recognise what a booster with this objective was trained for; None if it is not known.

    >>> recognise_objective("reg:squarederror"), recognise_objective("binary:logistic")
    ('regression', None)
    """
    if objective in LIGHTGBM_REGRESSION:
        return "regression"
    return next((kind for prefix, kind in PREFIXES if objective.startswith(prefix)), None)


def refuse_architectures(names: Any) -> None:
    """Refuse architectures of another task, as the configuration of transformers names them.

    Raises:
        InputError: They are.

    >>> refuse_architectures(["BertForSequenceClassification"])
    """
    for name in names or []:
        task = next((task for words, task in HEADS if words in str(name)), None)
        if task is not None:
            raise build_task_error(task, str(name), ONE_LABEL)


def refuse_continuous_labels(y: Any) -> None:
    """Refuse labels (n,) that are numbers with decimals, as in regression.

    Raises:
        InputError: Some are.

    >>> refuse_continuous_labels([0.0, 1.0])
    """
    values = np.asarray(y)
    if values.dtype.kind != "f":
        return
    known = values[np.isfinite(values)]
    # Whole numbers stored as floats are fine, as pandas gives them after a missing value
    between = known[known != np.floor(known)]
    if len(between):
        raise InputError(
            "Expected one class a record as labels, got numbers with decimals such as "
            f"{between[0]:g}, as in regression. If the model predicts numbers, give "
            'task="regression" (--task regression).'
        )


def refuse_unfitted(estimator: Any) -> None:
    """Refuse an estimator without `classes_`: one that was never fitted, or one that has none.

    Raises:
        InputError: It has none; the message says which of the two it is.
    """
    if getattr(estimator, "classes_", None) is not None:
        return
    name = type(estimator).__name__
    # The two cases need different advice: fit it, or wrap it in a function
    if _is_fitted(estimator):
        raise InputError(
            f"Expected a classifier that names its classes in classes_, got the fitted {name} "
            "without. Wrap it in a function that returns probabilities, with n_classes."
        )
    raise InputError(
        f"Expected a fitted classifier with classes_, got {name}. Fit it before the audit."
    )


def refuse_unfitted_model(estimator: Any) -> None:
    """Refuse a model of a known library that was never fitted.

    Raises:
        InputError: It was not.

    >>> from sklearn.linear_model import Ridge
    >>> refuse_unfitted_model(Ridge().fit([[0.0], [1.0]], [0.0, 1.0]))
    """
    library = type(estimator).__module__.partition(".")[0]
    # Of a class of the user's own nothing shows that it was fitted
    if library in LIBRARIES and not _is_fitted(estimator):
        raise InputError(
            f"Expected a fitted model, got {type(estimator).__name__}. Fit it before the audit."
        )


def _is_fitted(estimator: Any) -> bool:
    """Check whether an estimator has been fitted.

    This is told by its own method, or by attributes that end in an underscore, as fitted ones have.
    """
    # CatBoost has a method of another name
    own = getattr(estimator, "__sklearn_is_fitted__", getattr(estimator, "is_fitted", None))
    if own is not None:
        try:
            return bool(own())
        except Exception:  # some look at what fitting would have made
            return False
    # A pipeline has no attributes of its own that end in an underscore
    steps = getattr(estimator, "steps", None)
    if steps:
        return _is_fitted(steps[-1][1])
    # Nothing to fit, so that it counts as ready
    if not hasattr(estimator, "fit"):
        return True
    return (
        any(name.endswith("_") and not name.startswith("_") for name in vars(estimator))
        if hasattr(estimator, "__dict__")
        else False
    )


def list_inner_models(model: Any) -> list[Any]:
    """List the model, the last step of a pipeline or the estimator of a search, and so on."""
    found = [model]
    # Eight levels are far more than anyone nests; a model that contains itself must not loop
    while len(found) < 8:
        part = found[-1]
        steps, inner = getattr(part, "steps", None), None
        # A pipeline: its last step predicts
        if isinstance(steps, list) and steps and isinstance(steps[-1], tuple):
            inner = steps[-1][1]
        # A search: the best model if it was fitted, else the one that it would fit
        elif hasattr(part, "param_grid") or hasattr(part, "param_distributions"):
            inner = getattr(part, "best_estimator_", getattr(part, "estimator", None))
        # A pipeline of transformers
        elif hasattr(part, "tokenizer") and hasattr(part, "model") and hasattr(part, "preprocess"):
            inner = part.model
        if inner is None or isinstance(inner, str) or inner is part:
            break
        found.append(inner)
    return found


def _task_of(part: Any) -> ModelKind | None:
    """Find the task of one model, by what only such models have, then by its type.

    Give None where neither says it.
    """
    names = [kind.__name__ for kind in type(part).__mro__]
    if any(
        hasattr(part, name)
        for name in ("predict_survival_function", "predict_cumulative_hazard_function")
    ):
        return "survival analysis"
    if hasattr(part, "config") and hasattr(part.config, "to_dict"):
        return _task_of_transformer(part, names[0])
    if hasattr(part, "get_inputs") and hasattr(part, "get_outputs"):
        return _task_of_session(part)
    # A plain function, or a module of torch, has no marks of a task
    if not any(hasattr(part, name) for name in ("fit", "predict", "transform")):
        return None
    # Rankers of boosters have the tags of regressors
    if any(name.endswith("Ranker") for name in names):
        return "ranking"
    kind = TYPES.get(_estimator_type(part) or "")
    # Several labels have the tags of classifiers too
    if kind in (None, "classification"):
        several = _several_of(part)
        if several is not None:
            return several
    predicts = any(
        hasattr(part, name)
        for name in ("predict", "predict_proba", "decision_function", "steps", "__call__")
    )
    return (
        # Clusterings and classifiers may transform too; this is for what does nothing else
        "transformation" if kind is None and hasattr(part, "transform") and not predicts else kind
    )


def _estimator_type(part: Any) -> str | None:
    """Read the kind of estimator from scikit-learn's tags, or from the attribute before them."""
    try:
        found = part.__sklearn_tags__().estimator_type
    except Exception:  # no tags, or those of an unfitted search, or of another version
        found = None
    try:
        return found or getattr(part, "_estimator_type", None)
    except Exception:  # a property that looks at what fitting would have made
        return None


def _several_of(part: Any) -> ModelKind | None:
    """Recognise several labels or outputs a record, where a classifier was fitted with them."""
    names = {kind.__name__ for kind in type(part).__mro__}
    # Its name differs between the estimators of scikit-learn
    binarizer = getattr(part, "_label_binarizer", getattr(part, "label_binarizer_", None))
    if getattr(part, "multilabel_", False) is True or str(
        getattr(binarizer, "y_type_", "")
    ).startswith("multilabel"):
        return "several labels"
    # A list of arrays, one for each output; one array is a single output
    if isinstance(getattr(part, "classes_", None), list) and all(
        np.ndim(c) == 1 for c in part.classes_
    ):
        # Outputs of two classes each are present or absent labels
        one = all(len(c) == 2 for c in part.classes_)
        return "several labels" if one else "several outputs"
    if "ClassifierChain" in names:
        return "several labels"
    if "MultiOutputClassifier" in names:
        return "several outputs"
    # CatBoost tells its loss only once it is fitted
    if hasattr(part, "get_all_params") and getattr(part, "is_fitted", bool)():
        loss = str(part.get_all_params().get("loss_function"))
        return next((task for prefix, task in CATBOOST if loss.startswith(prefix)), None)
    # XGBoost's classifiers take several labels without another class
    if hasattr(part, "get_booster"):
        try:
            facts = json.loads(part.get_booster().save_config())["learner"]["learner_model_param"]
        except Exception:  # not fitted yet
            return None
        return "several labels" if int(facts.get("num_target", 1)) > 1 else None
    return None


def _task_of_transformer(part: Any, name: str) -> ModelKind | None:
    """Find the task of a model of transformers, by its head and its configuration."""
    head = next((task for words, task in HEADS if words in name), None)
    if head is not None:
        return head
    # The same head serves three tasks; the configuration says which
    problem = getattr(part.config, "problem_type", None)
    if problem == "multi_label_classification":
        return "several labels"
    # transformers itself takes one label for regression
    if "Classification" in name and (
        problem == "regression" or getattr(part.config, "num_labels", 2) == 1
    ):
        return "regression"
    return None


def _task_of_session(part: Any) -> ModelKind | None:
    """Recognise regression in an ONNX session by the name that exporters give its output."""
    outputs = part.get_outputs()
    if len(outputs) != 1 or outputs[0].name != "variable" or "float" not in outputs[0].type:
        return None
    return "regression" if len(outputs[0].shape or ()) == 2 and outputs[0].shape[1] == 1 else None
