"""Find out what kind of model is audited, by what its target says of itself.

Advice depends on it: what helps a neural network does not help boosted trees.
"""

from __future__ import annotations

from typing import Any

from memberscope.auditing.documents.diagnostics import ModelDescription
from memberscope.facts import ModelKind, TargetFacts, read_target_facts
from memberscope.targets import HuggingFaceTarget, KerasTarget, TorchTarget
from memberscope.targets.wrappers import find_metered_target
from memberscope.types import Target

# Words in the name of a class, in the order in which they are looked for
NAMED_KINDS: tuple[tuple[str, ModelKind], ...] = (
    ("XGBRF", "forest"),
    ("LGBM", "boosted_trees"),
    ("XGB", "boosted_trees"),
    ("CatBoost", "boosted_trees"),
    ("GradientBoosting", "boosted_trees"),
    ("RandomForest", "forest"),
    ("ExtraTrees", "forest"),
    ("DecisionTree", "tree"),
    ("ExtraTree", "tree"),
    ("MLPClassifier", "neural_network"),
    ("MLPRegressor", "neural_network"),
    ("NeuralNet", "neural_network"),
    ("KerasClassifier", "neural_network"),
    ("KerasRegressor", "neural_network"),
    ("LogisticRegression", "linear"),
    ("SGDClassifier", "linear"),
    ("SGDRegressor", "linear"),
    ("Ridge", "linear"),
    ("Lasso", "linear"),
    ("ElasticNet", "linear"),
    ("LinearSVC", "linear"),
    ("LinearSVR", "linear"),
    ("Perceptron", "linear"),
)
NETWORKS: dict[type, str] = {
    TorchTarget: "torch",
    KerasTarget: "keras",
    HuggingFaceTarget: "transformers",
}
# Not linear, or without a strength to set, whatever their names hold
OTHERS = ("KernelRidge", "BayesianRidge")
# Where estimators that choose, calibrate or threshold another one keep it
INNER = ("best_estimator_", "estimator_", "calibrated_classifiers_", "estimator")


def describe_model(target: Target) -> ModelDescription:
    """Describe the model behind a target, whatever wraps it.

    >>> from sklearn.linear_model import LogisticRegression
    >>> from memberscope.targets import wrap
    >>> found = describe_model(wrap(LogisticRegression().fit([[0.0], [1.0]], [0, 1])))
    >>> found.kind, found.library, found.name
    ('linear', 'sklearn', 'LogisticRegression')
    """
    # What a server runs cannot be known
    if find_metered_target(target) is not None:
        return ModelDescription("unknown", source="endpoint")
    inner, facts = target, read_target_facts(target)
    while facts.target is not None:
        inner, facts = facts.target, read_target_facts(facts.target)
    if facts.stored:
        return ModelDescription("unknown", source="signals")
    if facts.estimator is not None:
        return _describe_estimator(facts.estimator, facts)
    if facts.booster is not None:
        owner = type(facts.booster).__module__.split(".")[0]
        return ModelDescription("boosted_trees", owner, "Booster", "")
    library = next((name for kind, name in NETWORKS.items() if isinstance(inner, kind)), None)
    return ModelDescription(facts.model_kind or "unknown", library)


def _describe_estimator(estimator: Any, facts: TargetFacts) -> ModelDescription:
    """Describe an estimator; of a pipeline, its last step."""
    prefix: str | None = ""
    while True:
        if hasattr(estimator, "steps"):
            name, estimator = estimator.steps[-1]
            prefix = None if prefix is None else f"{prefix}{name}__"
            continue
        held = next((getattr(estimator, name) for name in INNER if hasattr(estimator, name)), None)
        # Of several calibrated copies the first is as good as any
        held = held[0] if isinstance(held, list) and held else held
        if held is None or _find_kind(estimator) is not None:
            break
        estimator, prefix = held, None
    kind = _find_kind(estimator) or facts.model_kind or "unknown"
    owner = next(
        (one for one in type(estimator).__mro__ if _find_kind_by_name(one.__name__)),
        type(estimator),
    )
    return ModelDescription(kind, owner.__module__.split(".")[0], owner.__name__, prefix)


def _find_kind(estimator: Any) -> ModelKind | None:
    """Find the kind of an estimator by the names of its class and of those that it extends."""
    names = (one.__name__ for one in type(estimator).__mro__)
    return next((kind for name in names if (kind := _find_kind_by_name(name))), None)


def _find_kind_by_name(name: str) -> ModelKind | None:
    """Find the kind that a class's name tells, None for any other name.

    >>> _find_kind_by_name("HistGradientBoostingClassifier"), _find_kind_by_name("KNeighborsClassifier")
    ('boosted_trees', None)
    """
    known = (kind for word, kind in NAMED_KINDS if word in name)
    return None if name in OTHERS else next(known, None)
