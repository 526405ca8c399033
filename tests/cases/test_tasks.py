"""What is no classification with one label a record is recognised first.

With one true sentence whose advice works.
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

RNG = np.random.default_rng(0)
N = 120
X = RNG.normal(size=(N, 4))
VALUE = X[:, 0] + RNG.normal(size=N)
CLASS = (VALUE > 0).astype(int)
TWO = np.column_stack([CLASS, X[:, 1] > 0]).astype(int)
MANY = np.column_stack([CLASS + (X[:, 2] > 1), X[:, 1] > 0]).astype(int)
REGRESSION = "Regression is not audited yet; audit its loss a record as stored signals"


class SurvivalForest:
    """As scikit-survival's and lifelines' models."""

    def fit(self, x, y):
        self.event_times_ = y
        return self

    def predict(self, x):
        return x[:, 0]

    def predict_survival_function(self, x):
        return x


OTHERS = [
    (ensemble.RandomForestRegressor(3).fit(X, VALUE), "the regressor RandomForestRegressor", REGRESSION),
    (ensemble.HistGradientBoostingRegressor(max_iter=2), "the regressor HistGradientBoostingRegressor", REGRESSION),
    (make_pipeline(StandardScaler(), linear_model.Ridge()).fit(X, VALUE), "the regressor Ridge in a Pipeline", REGRESSION),
    (
        GridSearchCV(make_pipeline(linear_model.Ridge()), {"ridge__alpha": [1, 2]}, cv=2).fit(X, VALUE),
        "the regressor Ridge in a GridSearchCV",
        REGRESSION,
    ),
    (GridSearchCV(svm.SVR(), {"C": [1]}), "the regressor SVR in a GridSearchCV", REGRESSION),
    (TransformedTargetRegressor(linear_model.Ridge()), "the regressor TransformedTargetRegressor", REGRESSION),
    (ensemble.RandomForestClassifier(3).fit(X, TWO), "the multi-label classifier RandomForestClassifier", "Several labels a record"),
    (tree.DecisionTreeClassifier().fit(X, MANY), "the multi-output model DecisionTreeClassifier", "Several outputs a record"),
    (KNeighborsClassifier().fit(X, TWO), "the multi-label classifier KNeighborsClassifier", "Several labels"),
    (neural_network.MLPClassifier((2,), tol=1.0).fit(X, TWO), "the multi-label classifier MLPClassifier", "Several labels"),
    (linear_model.RidgeClassifier().fit(X, TWO), "the multi-label classifier RidgeClassifier", "Several labels"),
    (multiclass.OneVsRestClassifier(svm.SVC()).fit(X, TWO), "the multi-label classifier OneVsRestClassifier", "Several labels"),
    (make_pipeline(tree.DecisionTreeClassifier()).fit(X, TWO), "the multi-label classifier DecisionTreeClassifier in a", "Several"),
    (
        multioutput.MultiOutputClassifier(linear_model.LogisticRegression()).fit(X, MANY),
        "the multi-output model MultiOutputClassifier",
        "Several outputs",
    ),
    (
        multioutput.ClassifierChain(linear_model.LogisticRegression()).fit(X, TWO),
        "the multi-label classifier ClassifierChain",
        "Several labels",
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
    with pytest.raises(InputError) as caught:
        memberscope.audit(model, (X[:60], CLASS[:60]), (X[60:], CLASS[60:]))
    text = str(caught.value)
    assert (
        text.startswith(f"Expected a classifier with one label a record, got {who}")
        and advice in text
    )
    assert "Fit it" not in text
    with pytest.raises(InputError, match="one label a record"):
        SklearnTarget(model)


def test_boosters_of_other_tasks_are_named():
    xgboost, lightgbm, catboost = map(pytest.importorskip, ("xgboost", "lightgbm", "catboost"))
    few = {"n_estimators": 2}
    quiet = {"iterations": 2, "verbose": False, "allow_writing_files": False, "thread_count": 1}
    groups = {"group": [N]}
    ranks = CLASS + (X[:, 1] > 1)
    cases = [
        (xgboost.XGBRegressor(n_jobs=1, **few).fit(X, VALUE), "the regressor XGBRegressor"),
        (xgboost.XGBRegressor(n_jobs=1, **few).fit(X, VALUE).get_booster(), "regressor of XGBoost with the objective reg:squarederror"),
        (xgboost.XGBRanker(n_jobs=1, **few).fit(X, ranks, **groups), "the ranker XGBRanker"),
        (xgboost.XGBRanker(n_jobs=1, **few).fit(X, ranks, **groups).get_booster(), "the ranker of XGBoost"),
        (xgboost.XGBClassifier(n_jobs=1, **few).fit(X, TWO), "the multi-label classifier XGBClassifier"),
        (xgboost.XGBClassifier(n_jobs=1, **few).fit(X, TWO).get_booster(), "the multi-label classifier of XGBoost"),
        (xgboost.train({"objective": "survival:cox", "nthread": 1}, xgboost.DMatrix(X, np.abs(VALUE)), 2), "the survival model of XGBoost"),
        (lightgbm.LGBMRegressor(verbose=-1, n_jobs=1, **few).fit(X, VALUE), "the regressor LGBMRegressor"),
        (lightgbm.LGBMRegressor(verbose=-1, n_jobs=1, **few).fit(X, VALUE).booster_, "the regressor of LightGBM"),
        (lightgbm.LGBMRanker(verbose=-1, n_jobs=1, **few).fit(X, ranks, **groups), "the ranker LGBMRanker"),
        (lightgbm.LGBMRanker(verbose=-1, n_jobs=1, **few).fit(X, ranks, **groups).booster_, "the ranker of LightGBM"),
        (catboost.CatBoostRegressor(**quiet).fit(X, VALUE), "the regressor CatBoostRegressor"),
        (catboost.CatBoost({"loss_function": "RMSE", **quiet}).fit(X, VALUE), "the regressor CatBoost"),
        (catboost.CatBoostRanker(**quiet).fit(X, ranks, group_id=np.zeros(N, int)), "the ranker CatBoostRanker"),
        (catboost.CatBoostClassifier(loss_function="MultiLogloss", **quiet).fit(X, TWO), "the multi-label classifier CatBoost"),
    ]  # fmt: skip
    for model, who in cases:
        with pytest.raises(
            InputError, match=rf"^Expected a classifier with one label a record, got .*{who}"
        ):
            wrap(model)
    for model in (
        xgboost.XGBClassifier(n_jobs=1, **few).fit(X, CLASS),
        lightgbm.LGBMClassifier(verbose=-1, n_jobs=1, **few).fit(X, CLASS),
        catboost.CatBoostClassifier(**quiet).fit(X, CLASS),
    ):
        assert recognise_task(model) == "classification" and wrap(model).n_classes == 2


def test_networks_and_functions_with_values_to_predict():
    values = VALUE[:60], VALUE[60:]
    with pytest.raises(InputError, match=r"n_classes=1.*regression is not audited yet.*--signals"):
        memberscope.audit(lambda x: x[:, 0], (X[:60], values[0]), (X[60:], values[1]), n_classes=1)
    ask = FunctionTarget(lambda x: np.tile([0.5, 0.5], (len(x), 1)), n_classes=2)
    with pytest.raises(
        InputError,
        match=r"numbers with decimals such as .*as in regression\. Regression is not audited yet",
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
            with pytest.raises(InputError, match=rf"the regressor InferenceSession\. {REGRESSION}"):
                wrap(session)


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
