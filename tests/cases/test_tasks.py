"""The task of a model is recognised by its library's marks.

What is not audited is refused with one true sentence whose advice works.
"""

from __future__ import annotations

import csv

import numpy as np
import pytest
from sklearn import (
    cluster,
    ensemble,
    linear_model,
    mixture,
    multiclass,
    multioutput,
    neural_network,
    preprocessing,
    svm,
    tree,
)
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import memberscope
from memberscope.cli.main import app
from memberscope.errors import InputError
from memberscope.targets import FunctionTarget, SklearnTarget, wrap
from memberscope.targets.tables.records import order_class_names
from memberscope.targets.tasks import recognise_task, refuse_architectures
from memberscope.types import Access

RNG = np.random.default_rng(0)
N = 120
X = RNG.normal(size=(N, 4))
VALUE = X[:, 0] + RNG.normal(size=N)
CLASS = (VALUE > 0).astype(int)
TWO = np.column_stack([CLASS, X[:, 1] > 0]).astype(int)
MANY = np.column_stack([CLASS + (X[:, 2] > 1), X[:, 1] > 0]).astype(int)


class SurvivalForest:
    """As scikit-survival's and lifelines' models."""

    def fit(self, x, y):
        self.event_times_ = y
        return self

    def predict(self, x):
        return x[:, 0]

    def predict_survival_function(self, x):
        return x


FEW = {"n_estimators": 2}
OUTPUTS = [
    (ensemble.RandomForestRegressor(3), VALUE, "regression", 1),
    (ensemble.RandomForestRegressor(3), X[:, :3], "regression", 3),
    (ensemble.HistGradientBoostingRegressor(max_iter=2), VALUE, "regression", 1),
    (make_pipeline(StandardScaler(), linear_model.Ridge()), VALUE, "regression", 1),
    (GridSearchCV(make_pipeline(linear_model.Ridge()), {"ridge__alpha": [1, 2]}, cv=2), VALUE, "regression", 1),
    (GridSearchCV(svm.SVR(), {"C": [1]}), VALUE, "regression", 1),
    (TransformedTargetRegressor(linear_model.Ridge()), VALUE, "regression", 1),
    (multioutput.MultiOutputRegressor(svm.SVR()), X[:, :2], "regression", 2),
    (ensemble.RandomForestClassifier(3), TWO, "multilabel", 2),
    (KNeighborsClassifier(), TWO, "multilabel", 2),
    (neural_network.MLPClassifier((2,), tol=1.0), TWO, "multilabel", 2),
    (linear_model.RidgeClassifier(), TWO, "multilabel", 2),
    (multiclass.OneVsRestClassifier(svm.SVC()), TWO, "multilabel", 2),
    (multiclass.OneVsRestClassifier(linear_model.LogisticRegression()), TWO, "multilabel", 2),
    (make_pipeline(tree.DecisionTreeClassifier()), TWO, "multilabel", 2),
    (multioutput.MultiOutputClassifier(linear_model.LogisticRegression()), TWO, "multilabel", 2),
    (multioutput.ClassifierChain(linear_model.LogisticRegression()), TWO, "multilabel", 2),
]  # fmt: skip


@pytest.mark.parametrize(("model", "y", "task", "width"), OUTPUTS, ids=lambda v: type(v).__name__)
def test_numbers_and_several_labels_are_wrapped_as_such(model, y, task, width):
    target = wrap(model.fit(X, y))
    outputs = target.query(X)
    assert (target.task, target.access) == (task, Access.PREDICTION)
    assert outputs.shape == (N, width) == (N, target.n_classes) and outputs.dtype == np.float64
    # A search holds functions, which have no hash
    assert (target.digest is None) == isinstance(model, GridSearchCV)
    assert target.digest == wrap(model).digest
    np.testing.assert_allclose(target.query(X[5:6]), outputs[5:6], atol=1e-9)
    if task == "multilabel":
        assert outputs.min() >= 0 and outputs.max() <= 1
        # The second column of each label's classes, in the order of the labels
        assert ((outputs >= 0.5) == (model.predict(X) == 1)).mean() > 0.98
        with pytest.raises(InputError, match=r'^Expected a model for task="regression", got the m'):
            wrap(model, task="regression")
        with pytest.raises(InputError, match="one label a record"):
            SklearnTarget(model)
        return
    np.testing.assert_allclose(outputs, model.predict(X).reshape(N, -1))
    assert wrap(model, task="forecast").task == "forecast"
    for other in ("multilabel", "classification"):
        with pytest.raises(InputError, match=rf'task="{other}", got the regressor .* task="regr'):
            wrap(model, task=other)


def test_a_binary_classifier_is_a_model_of_one_label_where_that_is_asked():
    model = linear_model.LogisticRegression().fit(X, CLASS)
    one = wrap(model, task="multilabel").query(X)
    np.testing.assert_array_equal(one, model.predict_proba(X)[:, 1:])
    with pytest.raises(InputError, match=r'task="regression", got the classifier LogisticRegr'):
        wrap(model, task="regression")
    with pytest.raises(InputError, match="Expected task classification, regression"):
        wrap(model, task="ranking")
    words = ensemble.RandomForestClassifier(2).fit(X, np.array(["no", "yes"])[TWO])
    with pytest.raises(InputError, match=r"labels 0 and 1 .* got \['no', 'yes'\] for label 0"):
        wrap(words)
    with pytest.raises(InputError, match="Fit it before the audit"):
        wrap(linear_model.Ridge())


OTHERS = [
    (tree.DecisionTreeClassifier().fit(X, MANY), "the multi-output classifier DecisionTreeClassifier", "Several classes a record"),
    (
        multioutput.MultiOutputClassifier(linear_model.LogisticRegression()).fit(X, MANY),
        "the multi-output classifier MultiOutputClassifier",
        "Several classes a record",
    ),
    (cluster.KMeans(2, n_init=1).fit(X), "the clustering KMeans", "Clustering is not audited yet"),
    (ensemble.IsolationForest(n_estimators=2).fit(X), "the outlier detector IsolationForest", "Outlier detection is not"),
    (mixture.GaussianMixture(2).fit(X), "the density estimator GaussianMixture", "Density estimation is not"),
    (preprocessing.StandardScaler().fit(X), "StandardScaler, which transforms records", "Give the classifier that comes after"),
    (make_pipeline(StandardScaler()).fit(X), "StandardScaler in a Pipeline, which transforms", "Give the classifier"),
    (SurvivalForest().fit(X, VALUE), "the survival model SurvivalForest", "Survival analysis is not audited yet"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "who", "advice"), OTHERS, ids=lambda value: type(value).__name__)
def test_other_tasks_are_named(model, who, advice):
    for given in ({}, {"task": "regression"}):
        with pytest.raises(InputError) as caught:
            memberscope.audit(model, (X[:60], CLASS[:60]), (X[60:], CLASS[60:]), **given)
        text = str(caught.value)
        expected = "Expected a classifier, a regressor or a multi-label model, got"
        assert text.startswith(f"{expected} {who}") and advice in text
        assert "Fit it" not in text
    with pytest.raises(InputError, match="one label a record"):
        SklearnTarget(model)


def test_boosters_show_their_task():
    xgboost, lightgbm, catboost = map(pytest.importorskip, ("xgboost", "lightgbm", "catboost"))
    quiet = {"iterations": 2, "verbose": False, "allow_writing_files": False, "thread_count": 1}
    groups = {"group": [N]}
    ranks = CLASS + (X[:, 1] > 1)
    numbers = [
        (xgboost.XGBRegressor(n_jobs=1, **FEW).fit(X, VALUE), 1),
        (xgboost.XGBRegressor(n_jobs=1, **FEW).fit(X, X[:, :2]), 2),
        (xgboost.XGBRegressor(n_jobs=1, **FEW).fit(X, VALUE).get_booster(), 1),
        (xgboost.XGBRegressor(n_jobs=1, **FEW).fit(X, X[:, :2]).get_booster(), 2),
        (xgboost.XGBRegressor(n_jobs=1, objective="count:poisson", **FEW).fit(X, VALUE**2).get_booster(), 1),
        (xgboost.train({"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9], "nthread": 1}, xgboost.DMatrix(X, VALUE), 2), 2),
        (lightgbm.LGBMRegressor(verbose=-1, n_jobs=1, **FEW).fit(X, VALUE), 1),
        (lightgbm.LGBMRegressor(verbose=-1, n_jobs=1, **FEW).fit(X, VALUE).booster_, 1),
        (catboost.CatBoostRegressor(**quiet).fit(X, VALUE), 1),
        (catboost.CatBoostRegressor(loss_function="MultiRMSE", **quiet).fit(X, X[:, :2]), 2),
        (catboost.CatBoost({"loss_function": "RMSE", **quiet}).fit(X, VALUE), 1),
    ]  # fmt: skip
    for model, width in numbers:
        target = wrap(model)
        assert (target.task, target.signal) == ("regression", "prediction")
        assert target.query(X).shape == (N, width) == (N, target.n_classes)
        assert wrap(model, task="forecast").task == "forecast"
        with pytest.raises(InputError, match=r'task="classification", got the regressor'):
            wrap(model, task="classification")
    labels = [
        xgboost.XGBClassifier(n_jobs=1, **FEW).fit(X, TWO),
        xgboost.XGBClassifier(n_jobs=1, **FEW).fit(X, TWO).get_booster(),
        catboost.CatBoostClassifier(loss_function="MultiLogloss", **quiet).fit(X, TWO),
    ]
    for model in labels:
        target = wrap(model)
        assert (target.task, target.signal) == ("multilabel", "label_probabilities")
        assert target.query(X).shape == (N, 2) == (N, target.n_classes)
        assert ((target.query(X) > 0.5) == TWO).mean() > 0.7
    refused = [
        (xgboost.XGBRanker(n_jobs=1, **FEW).fit(X, ranks, **groups), "the ranker XGBRanker"),
        (xgboost.XGBRanker(n_jobs=1, **FEW).fit(X, ranks, **groups).get_booster(), "the ranker of XGBoost"),
        (xgboost.train({"objective": "survival:cox", "nthread": 1}, xgboost.DMatrix(X, np.abs(VALUE)), 2), "the survival model of XGBoost"),
        (lightgbm.LGBMRanker(verbose=-1, n_jobs=1, **FEW).fit(X, ranks, **groups), "the ranker LGBMRanker"),
        (lightgbm.LGBMRanker(verbose=-1, n_jobs=1, **FEW).fit(X, ranks, **groups).booster_, "the ranker of LightGBM"),
        (catboost.CatBoostRanker(**quiet).fit(X, ranks, group_id=np.zeros(N, int)), "the ranker CatBoostRanker"),
    ]  # fmt: skip
    for model, who in refused:
        with pytest.raises(InputError, match=rf"^Expected a classifier, a regressor .*got {who}"):
            wrap(model)
    for model in (
        xgboost.XGBClassifier(n_jobs=1, **FEW).fit(X, CLASS),
        lightgbm.LGBMClassifier(verbose=-1, n_jobs=1, **FEW).fit(X, CLASS),
        catboost.CatBoostClassifier(**quiet).fit(X, CLASS),
    ):
        assert recognise_task(model) == "classification" and wrap(model).n_classes == 2


def test_networks_and_functions_with_values_to_predict():
    values = VALUE[:60], VALUE[60:]
    with pytest.raises(
        InputError, match=r'n_classes=1.*if it predicts numbers, give task="regression"'
    ):
        memberscope.audit(lambda x: x[:, 0], (X[:60], values[0]), (X[60:], values[1]), n_classes=1)
    ask = FunctionTarget(lambda x: np.tile([0.5, 0.5], (len(x), 1)), n_classes=2)
    with pytest.raises(
        InputError,
        match=r'numbers with decimals such as .*as in regression\. .* give task="regression"',
    ):
        memberscope.audit(ask, (X[:60], values[0]), (X[60:], values[1]))
    with pytest.raises(InputError, match="as in regression"):
        order_class_names([VALUE.round(3).astype(str)], None)
    assert order_class_names([np.array(["0.5", "1.5"])], None) == ("0.5", "1.5")


def test_sessions_of_regressors(tmp_path):
    onnxruntime, skl2onnx = map(pytest.importorskip, ("onnxruntime", "skl2onnx"))
    for model, target in (
        (linear_model.LinearRegression(), VALUE),
        (linear_model.LogisticRegression(), CLASS),
    ):
        proto = skl2onnx.to_onnx(model.fit(X, target), X[:1].astype(np.float32))
        session = onnxruntime.InferenceSession(proto.SerializeToString())
        if target is CLASS:
            assert wrap(session).n_classes == 2
        else:
            found = wrap(session)
            assert found.signal == "prediction" and found.n_classes == 1
            np.testing.assert_allclose(found.query(X)[:, 0], model.predict(X), atol=1e-5)


class Config:
    """As a configuration of transformers."""

    def __init__(self, **given):
        self.__dict__.update(given)

    def to_dict(self):
        return vars(self)


@pytest.mark.parametrize(
    ("name", "config", "task"),
    [
        ("BertForTokenClassification", {"num_labels": 3}, "token classification"),
        ("GPT2LMHeadModel", {}, "language modelling"),
        ("LlamaForCausalLM", {}, "language modelling"),
        ("T5ForConditionalGeneration", {}, "language modelling"),
        ("BertForQuestionAnswering", {}, "question answering"),
        ("BertForSequenceClassification", {"num_labels": 1}, "regression"),
        (
            "BertForSequenceClassification",
            {"num_labels": 3, "problem_type": "regression"},
            "regression",
        ),
        (
            "BertForSequenceClassification",
            {"num_labels": 3, "problem_type": "multi_label_classification"},
            "several labels",
        ),
        ("BertForSequenceClassification", {"num_labels": 3}, None),
    ],
)
def test_heads_of_transformers(name, config, task):
    model = type(name, (), {"config": Config(**config)})()
    assert recognise_task(model) == task
    if name.endswith(("TokenClassification", "CausalLM")):
        with pytest.raises(InputError, match=r"got the (token classifier|language model)"):
            refuse_architectures([name])


def test_fit_it_is_told_only_to_what_is_not_fitted():
    with pytest.raises(InputError, match="Fit it before the audit"):
        wrap(linear_model.LogisticRegression())
    with pytest.raises(InputError, match="Fit it before the audit"):
        wrap(make_pipeline(StandardScaler(), svm.SVC()))

    class Own:
        def fit(self, x, y):
            self.weights_ = x.mean(axis=0)
            return self

        def predict_proba(self, x):
            return np.tile([0.5, 0.5], (len(x), 1))

    with pytest.raises(
        InputError,
        match=r"names its classes in classes_, got the fitted Own without. Wrap it in a function",
    ):
        wrap(Own().fit(X, CLASS))
    model = Own().fit(X, CLASS)
    assert wrap(model.predict_proba, n_classes=2).n_classes == 2  # what the sentence says works
    with pytest.raises(InputError, match="Fit it"):
        wrap(Own())


@pytest.mark.parametrize("labels", [False, True])
def test_the_advice_works(tmp_path, labels):
    """A regression's loss a record, as the sentence says."""
    x = RNG.normal(size=(600, 4))
    y = x[:, 0] + RNG.normal(size=600)
    model = tree.DecisionTreeRegressor(random_state=0).fit(x[:300], y[:300])
    with (tmp_path / "s.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["member", *(["y"] if labels else []), "loss"])
        for i, loss in enumerate((model.predict(x) - y) ** 2):
            rows.writerow([int(i < 300), *([y[i]] if labels else []), loss])
    where = ["--out", str(tmp_path / "out"), "--policy", "demo", "--assume-exchangeable"]
    done = CliRunner().invoke(app, ["audit", "--signals", str(tmp_path / "s.csv"), *where])
    assert done.exit_code == 1 and "FAIL" in done.output
