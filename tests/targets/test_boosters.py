"""LightGBM and XGBoost as their own libraries hold them.

Objectives, names, categories and damaged files.
"""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.errors import InputError
from memberscope.frames.fitted_columns import list_target_columns
from memberscope.targets import load_target, wrap

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")
pandas = pytest.importorskip("pandas")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4))
Y = (X[:, 0] + RNG.normal(size=300) > 0).astype(int) + (X[:, 1] > 1)
QUIET = {"verbose": -1, "num_threads": 1, "num_leaves": 7}


def light(objective: str, y: np.ndarray = Y, x=X, **more):
    return lightgbm.train({"objective": objective, **QUIET, **more}, lightgbm.Dataset(x, y), 10)


def extreme(objective: str, y: np.ndarray = Y, x=X, **more):
    data = xgboost.DMatrix(x, y, enable_categorical=True)
    return xgboost.train({"objective": objective, "nthread": 1, "max_depth": 3, **more}, data, 10)


def test_each_objective_gives_what_it_gives():
    many, two = {"num_class": 3}, (Y > 0).astype(int)
    for booster in (light("multiclass", **many), extreme("multi:softprob", **many)):
        target = wrap(booster)
        native = (
            booster.predict(X)
            if booster.__module__.startswith("lightgbm")
            else booster.predict(xgboost.DMatrix(X))
        )
        assert (target.signal, target.n_classes) == ("probabilities", 3)
        np.testing.assert_allclose(target.query(X), native, atol=1e-7)
    for booster in (light("binary", two), extreme("binary:logistic", two)):
        assert (wrap(booster).signal, wrap(booster).n_classes) == ("probabilities", 2)
    hard = wrap(extreme("multi:softmax", **many))
    np.testing.assert_allclose(
        hard.query(X), wrap(extreme("multi:softprob", **many)).query(X), atol=1e-6
    )
    hinge = wrap(extreme("binary:hinge", two))
    assert hinge.signal == "labels" and set(np.unique(hinge.query(X))) == {0.0, 1.0}
    assert wrap(extreme("binary:logitraw", two)).signal == "logits"


@pytest.mark.parametrize("k", [2, 3])
def test_declared_logits_are_those_of_the_probabilities(k):
    y, more = np.minimum(Y, k - 1), {"num_class": 3} if k == 3 else {}
    pairs = (
        light(
            "binary" if k == 2 else "multiclass", y, **more, **({"sigmoid": 2.0} if k == 2 else {})
        ),
        extreme("binary:logistic" if k == 2 else "multi:softprob", y, **more),
    )
    for booster in pairs:
        logits, probabilities = wrap(booster, outputs="logits"), wrap(booster)
        z, p = logits.query(X), probabilities.query(X)
        np.testing.assert_allclose(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), p, atol=1e-6)
        assert logits.digest != probabilities.digest
        with pytest.raises(InputError, match="outputs probabilities or logits"):
            wrap(booster, outputs="labels")


def test_the_objective_says_the_task(tmp_path):
    """The file of a regression is loaded as such; what no library lists needs a declared task."""
    numbers = (
        light("regression"),
        light("poisson"),
        extreme("reg:squarederror"),
        extreme("count:poisson"),
    )
    for booster in numbers:
        own = booster.predict(X if hasattr(booster, "num_trees") else xgboost.DMatrix(X))
        file = tmp_path / ("m.txt" if hasattr(booster, "num_trees") else "m.ubj")
        booster.save_model(file)
        loaded = load_target(str(file)).target
        assert (loaded.task, loaded.signal, loaded.n_classes) == ("regression", "prediction", 1)
        np.testing.assert_allclose(loaded.query(X)[:, 0], own, rtol=1e-6)
        assert load_target(str(file), task="forecast").target.task == "forecast"
        with pytest.raises(InputError, match=r'task="multilabel", got the regressor of'):
            load_target(str(file), task="multilabel")
        with pytest.raises(InputError, match="Expected no declared outputs"):
            wrap(booster, outputs="logits")
    rare = light("cross_entropy", (Y > 0).astype(int))
    with pytest.raises(
        InputError, match=r"known objective.*got 'cross_entropy'.*task=\"regression\""
    ):
        wrap(rare)
    np.testing.assert_array_equal(wrap(rare, task="regression").query(X)[:, 0], rare.predict(X))
    one = extreme("binary:logistic", (Y > 0).astype(int))
    np.testing.assert_allclose(
        wrap(one, task="multilabel").query(X)[:, 0], wrap(one).query(X)[:, 1], rtol=1e-6
    )


def test_columns_go_by_name_whatever_their_order(tmp_path):
    """LightGBM itself takes the columns of a frame as they come."""
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "d"])
    y = (Y > 0).astype(int)
    booster = light("binary", y, frame)
    booster.save_model(tmp_path / "m.txt")
    other = extreme("binary:logistic", y, frame)
    other.save_model(tmp_path / "m.json")
    for name in ("m.txt", "m.json"):
        target = load_target(str(tmp_path / name)).target
        assert list_target_columns(target) == ("a", "b", "c", "d")
        expected = target.query(frame)
        np.testing.assert_array_equal(
            target.query(frame[["d", "b", "a", "c"]].assign(more=1)), expected
        )
        np.testing.assert_array_equal(target.query(X), expected)
        with pytest.raises(InputError, match="column 'c'"):
            target.query(frame[["a", "b", "d"]])
        with pytest.raises(InputError, match="Expected 4 features"):
            target.query(X[:, :3])
    assert (
        list_target_columns(wrap(light("binary", y)))
        == list_target_columns(wrap(extreme("binary:logistic", y)))
        == ()
    )


def test_words_are_the_categories_that_the_model_knows(tmp_path):
    words = np.array(["oslo", "rome", "lima"])[RNG.integers(0, 3, 300)]
    y = ((words == "rome") ^ (X[:, 0] > 1)).astype(int)
    frame = pandas.DataFrame({"n": X[:, 0], "city": pandas.Categorical(words)})
    light("binary", y, frame).save_model(tmp_path / "m.txt")
    extreme("binary:logistic", y, frame).save_model(tmp_path / "m.json")
    for name, expected in (
        ("m.txt", light("binary", y, frame).predict(frame)),
        (
            "m.json",
            extreme("binary:logistic", y, frame).predict(
                xgboost.DMatrix(frame, enable_categorical=True)
            ),
        ),
    ):
        target = load_target(str(tmp_path / name)).target
        plain = pandas.DataFrame({"city": words.astype(object), "n": X[:, 0]})
        np.testing.assert_allclose(target.query(plain)[:, 1], expected, atol=1e-7)
        some = plain[plain["city"] != "lima"]
        np.testing.assert_allclose(
            target.query(some)[:, 1], expected[(plain["city"] != "lima").to_numpy()], atol=1e-7
        )


def test_early_stopping_counts_as_in_the_classifier(tmp_path):
    y = RNG.integers(0, 2, 300)
    model = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=3, n_jobs=1)
    model.fit(X[:200], y[:200], eval_set=[(X[200:], y[200:])], verbose=False)
    model.save_model(tmp_path / "m.ubj")
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    np.testing.assert_allclose(
        load_target(str(tmp_path / "m.ubj")).target.query(X), model.predict_proba(X), atol=1e-6
    )


def test_nodes_are_counted():
    booster = light("binary", (Y > 0).astype(int))
    assert wrap(booster).n_parameters == len(booster.trees_to_dataframe())
    other = extreme("binary:logistic", (Y > 0).astype(int))
    assert wrap(other).n_parameters == len(other.trees_to_dataframe())


@pytest.mark.parametrize(
    ("old", "new"),
    [("split_feature=", "split_feature=9"), ("left_child=", "left_child=7"), ("right_child=", "right_child=-"), ("leaf_value=", "leaf_value"),
     ("num_leaves=", "num_leaves=9"), ("tree_sizes=", "tree_sizes=1"), ("max_feature_idx=", "max_feature_idx=1")],
)  # fmt: skip
def test_a_damaged_lightgbm_file_never_reaches_the_library(tmp_path, old, new):
    """The library trusts these numbers and reads where they point."""
    light("binary", (Y > 0).astype(int)).save_model(tmp_path / "m.txt")
    text = (tmp_path / "m.txt").read_text()
    (tmp_path / "m.txt").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match="complete LightGBM model"):
        load_target(str(tmp_path / "m.txt"))


def test_files_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("shopping list\n")
    (tmp_path / "data.json").write_text('{"a": 1}')
    (tmp_path / "data.ubj").write_bytes(b"\x80\x05nothing")
    for name in ("notes.txt", "data.json", "data.ubj"):
        with pytest.raises(InputError, match=r"^Expected a complete [^\n]*\.$") as caught:
            load_target(str(tmp_path / name))
        assert "/workspace/" not in str(caught.value)
