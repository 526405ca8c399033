"""Advice that fits the model: its kind is known from what its target says, and stored.

What is advised is done, with the names that `memberscope defend` takes.
"""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import (
    LogisticRegression,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from memberscope.auditing import Plan, Policy, audit_signals, judge_again, make_subject
from memberscope.auditing.collect.model_kind import describe_model
from memberscope.auditing.documents.diagnostics import ModelDescription
from memberscope.auditing.documents.policy import Claim
from memberscope.auditing.run import audit_subject
from memberscope.auditing.verdict.model_advice import (
    ServingSetting,
    advise_on_leak,
    choose_limits,
    describe_measures,
    list_training_defences,
)
from memberscope.defences import expand_sweep, parse_defence
from memberscope.outputs import parse_restriction
from memberscope.recipes import SklearnRecipe
from memberscope.targets import FunctionTarget, HttpTarget, RestrictedTarget, StoredSignals, wrap
from memberscope.types import Records
from memberscope.wire import Endpoint

OPEN = ServingSetting("probabilities", "top:3+round:2", has_recipe=True)


def records(n: int = 400, seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float64)
    y = (x[:, 0] + rng.normal(size=n) > 0).astype(np.int64)
    return Records(x, y, np.array([f"{seed}-{i}" for i in range(n)]))


def booster(library: str, name: str, **parameters):
    """A boosted classifier of a library that may not be installed."""
    return getattr(pytest.importorskip(library), name)(**parameters)


SMALL = {"n_estimators": 5, "n_jobs": 1}
MODELS = {
    "LightGBM": (
        lambda: booster("lightgbm", "LGBMClassifier", verbose=-1, **SMALL),
        "boosted_trees",
        "lightgbm",
    ),
    "XGBoost": (lambda: booster("xgboost", "XGBClassifier", **SMALL), "boosted_trees", "xgboost"),
    "XGBoost's forest": (
        lambda: booster("xgboost", "XGBRFClassifier", **SMALL),
        "forest",
        "xgboost",
    ),
    "CatBoost": (
        lambda: booster(
            "catboost", "CatBoostClassifier", iterations=5, verbose=0, allow_writing_files=False
        ),
        "boosted_trees",
        "catboost",
    ),
    "histograms": (
        lambda: HistGradientBoostingClassifier(max_iter=5),
        "boosted_trees",
        "sklearn",
    ),
    "gradient boosting": (
        lambda: GradientBoostingClassifier(n_estimators=5),
        "boosted_trees",
        "sklearn",
    ),
    "forest": (lambda: RandomForestClassifier(5), "forest", "sklearn"),
    "extra trees": (lambda: ExtraTreesClassifier(5), "forest", "sklearn"),
    "tree": (DecisionTreeClassifier, "tree", "sklearn"),
    "logistic": (LogisticRegression, "linear", "sklearn"),
    "gradient descent": (lambda: SGDClassifier(loss="log_loss"), "linear", "sklearn"),
    "ridge": (RidgeClassifier, "linear", "sklearn"),
    "perceptron": (lambda: MLPClassifier((4,), max_iter=300), "neural_network", "sklearn"),
}


def fit(estimator):
    data = records()
    return estimator.fit(data.x, data.y)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "in a pipeline"])
@pytest.mark.parametrize("name", MODELS)
def test_the_kind_is_known_and_every_defence_that_is_advised_can_be_trained(name, wrapped):
    make, kind, library = MODELS[name]
    estimator = make()
    estimator = make_pipeline(StandardScaler(), estimator) if wrapped else estimator
    found = describe_model(wrap(fit(estimator)))
    assert (found.kind, found.library, found.source) == (kind, library, "model")
    assert found.prefix.endswith("__") is wrapped
    names = expand_sweep(list_training_defences(found))
    assert names
    recipe, data = SklearnRecipe(estimator), records()
    plain = recipe(data, 0).query(data.x)
    changed = [
        not np.array_equal(parse_defence(one).recipe(recipe)(data, 0).query(data.x), plain)
        for one in names
    ]
    assert any(changed), "no advice changes anything"


@pytest.mark.parametrize("name", MODELS)
def test_only_networks_are_advised_what_helps_networks(name):
    make, kind, _ = MODELS[name]
    make()
    found = ModelDescription(kind, "sklearn" if kind == "neural_network" else None, "", "")
    advice = advise_on_leak(found, OPEN)
    assert "augment" not in advice and "dpsgd" not in advice and "DP-SGD" not in advice


def test_boosted_trees_of_lightgbm_are_advised_leaves_rate_and_subsampling():
    found = ModelDescription("boosted_trees", "lightgbm", "LGBMClassifier", "")
    advice = advise_on_leak(found, OPEN)
    for words in ("num_leaves", "min_child_samples", "learning rate with early stopping"):
        assert words in advice
    assert advice.endswith(
        "memberscope defend audit.toml --defences leaves:15,leaf_size:50,rate:0.03,"
        "subsample:0.7+set:subsample_freq=1,top:3+round:2"
    )
    piped = ModelDescription("boosted_trees", "lightgbm", "LGBMClassifier", "lgbm__")
    assert "set:lgbm__subsample_freq=1" in advise_on_leak(piped, OPEN)


def test_searches_and_calibrators_are_looked_into_without_a_way_to_their_parameters():
    tree, grid = DecisionTreeClassifier(), {"max_depth": [2]}
    for estimator in (
        GridSearchCV(tree, grid, cv=2),
        CalibratedClassifierCV(tree, cv=2),
        make_pipeline(StandardScaler(), GridSearchCV(tree, grid, cv=2)),
        GridSearchCV(make_pipeline(StandardScaler(), tree), {}, cv=2),
    ):
        found = describe_model(wrap(fit(estimator)))
        assert (found.kind, found.prefix) == ("tree", None)
        assert list_training_defences(found) == ()
        assert "min_samples_leaf" in describe_measures(found)
        assert "--defences top:3+round:2" in advise_on_leak(found, OPEN)


class OwnForest(RandomForestClassifier):
    """A user's own subclass."""


class OwnRule(ClassifierMixin, BaseEstimator):
    """A classifier of no known kind."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x):
        return np.tile([0.4, 0.6], (len(x), 1))


def test_subclasses_count_as_what_they_extend_and_others_are_unknown():
    assert describe_model(wrap(fit(OwnForest(3)))).kind == "forest"
    for estimator in (OwnRule(), KNeighborsClassifier()):
        found = describe_model(wrap(fit(estimator)))
        assert found.kind == "unknown" and describe_measures(found).startswith("stop training")


def test_networks_are_networks_behind_any_wrapper():
    torch = pytest.importorskip("torch")
    target = wrap(torch.nn.Sequential(torch.nn.Linear(4, 2)))
    hidden = RestrictedTarget(target, parse_restriction("top:1"))
    for one in (target, hidden):
        found = describe_model(one)
        assert (found.kind, found.library) == ("neural_network", "torch")
    advice = advise_on_leak(found, OPEN)
    assert "augment the training data" in advice and "dpsgd:eps=8" in advice


def test_a_booster_without_an_interface_of_scikit_learn_is_known_too():
    lightgbm = pytest.importorskip("lightgbm")
    data = records()
    trained = lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1},
        lightgbm.Dataset(data.x, data.y),
        2,
    )
    found = describe_model(wrap(trained))
    assert (found.kind, found.library, found.prefix) == ("boosted_trees", "lightgbm", "")


class DeclaredTarget(FunctionTarget):
    """A target that says what it is."""

    model_kind = "boosted_trees"


def test_a_target_of_ones_own_may_say_what_it_is():
    def answer(x):
        return np.tile([0.5, 0.5], (len(x), 1))

    assert describe_model(DeclaredTarget(answer, n_classes=2)).kind == "boosted_trees"
    assert describe_model(FunctionTarget(answer, n_classes=2)).kind == "unknown"
    served = HttpTarget(Endpoint("http://localhost:1", model_name="m", classes=("a", "b")))
    found = describe_model(RestrictedTarget(served, parse_restriction("round:2")))
    assert (found.kind, found.source) == ("unknown", "endpoint")


def test_an_endpoint_is_advised_what_it_can_answer_less():
    setting = ServingSetting("probabilities", "top:3+round:2", has_recipe=False)
    advice = advise_on_leak(ModelDescription("unknown", source="endpoint"), setting)
    assert "memberscope audit audit.toml --restrict top:3+round:2 --out" in advice
    assert "memberscope guard init --from memberscope-restricted" in advice


def test_what_cannot_be_restricted_further_is_not_advised():
    assert choose_limits("label", None, 10) is None is choose_limits("white_box", None, 10)
    assert choose_limits("probabilities", None, 3) == "top:1+round:2"
    forest = ModelDescription("forest", "sklearn", "RandomForestClassifier", "")
    advice = advise_on_leak(forest, ServingSetting("label", None, has_recipe=False))
    assert "answer less" not in advice and "--recipe my_training:recipe" in advice
    inside = advise_on_leak(forest, ServingSetting("white_box", None, has_recipe=True))
    assert "in place of the model itself" in inside


def test_a_failure_says_what_to_do_about_this_model_and_a_stored_result_says_the_same():
    # Labels by chance: a tree can only learn them by heart
    train, test = (
        replace(data, y=np.random.default_rng(seed).integers(0, 5, 300))
        for seed, data in enumerate((records(300), records(300, 1)))
    )
    model = make_pipeline(StandardScaler(), DecisionTreeClassifier()).fit(train.x, train.y)
    result = audit_subject(
        Plan(
            attacks=("gap", "loss"),
            policy=Policy("p", (Claim(0.1, 0.2),)),
            assume_exchangeable=True,
        ),
        make_subject(wrap(model), train, test),
    )
    assert result.verdict == "FAIL"
    described = result.diagnostics.model
    assert (described.kind, described.name, described.prefix) == (
        "tree",
        "DecisionTreeClassifier",
        "decisiontreeclassifier__",
    )
    (finding,) = [finding for finding in result.findings if finding.verdict == "FAIL"]
    assert "grow a shallower tree (max_depth)" in finding.advice
    assert (
        "memberscope defend audit.toml --recipe my_training:recipe --defences 'leaf_size:10|50,"
        "depth:4|8,top:3+round:2'" in finding.advice
    )
    assert judge_again(result, result.arrays, None).findings == result.findings
    again = type(result).model_validate_json(result.model_dump_json())
    assert again.diagnostics.model == described


def test_stored_answers_are_advised_what_the_same_file_can_show():
    rng = np.random.default_rng(0)
    member, labels = np.arange(800) < 400, rng.integers(0, 2, 800)
    outputs = np.eye(2)[labels] * (rng.normal(size=800) + 3 * member)[:, None]
    ids = np.arange(800).astype(str)
    policy = Policy("p", (Claim(0.1, 0.2),))
    plan = Plan(attacks=("gap", "loss"), policy=policy, assume_exchangeable=True)
    result = audit_signals(StoredSignals("logits", outputs, labels, member, ids), plan=plan)
    (finding,) = [finding for finding in result.findings if finding.verdict == "FAIL"]
    assert result.diagnostics.model == ModelDescription("unknown", source="signals")
    assert "memberscope audit audit.toml --restrict top:1+round:2 --out" in finding.advice
    # Losses have no classes that could be hidden
    loss = np.log1p(np.exp(-outputs[np.arange(800), labels]))[:, None]
    bare = audit_signals(StoredSignals("loss", loss, labels, member, ids), plan=plan)
    (finding,) = [finding for finding in bare.findings if finding.verdict == "FAIL"]
    assert "--restrict" not in finding.advice and finding.advice.endswith("Then audit again.")


def test_every_word_of_the_table_is_an_estimator_or_a_wrapper_of_a_known_library():
    """Names are looked for in classes: one that no library has would never be found."""
    from memberscope.auditing.collect.model_kind import NAMED_KINDS

    modules = ["sklearn.ensemble", "sklearn.tree", "sklearn.linear_model", "sklearn.svm"]
    modules += ["sklearn.neural_network", "lightgbm", "xgboost", "catboost"]
    names = []
    for module in modules:
        try:
            names += dir(importlib.import_module(module))
        except ImportError:
            continue
    elsewhere = {
        "NeuralNet",
        "KerasClassifier",
        "KerasRegressor",
        "LGBM",
        "XGB",
        "XGBRF",
        "CatBoost",
    }
    missing = {word for word, _ in NAMED_KINDS if not any(word in name for name in names)}
    assert missing <= elsewhere
