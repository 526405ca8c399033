"""One table over every route to a target that predicts numbers or several labels.

The same model by each route answers the same, and every target keeps what all targets keep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unruly import Unruly, model, serving

from memberscope.errors import InputError
from memberscope.facts import read_target_facts
from memberscope.frames import slice_rows
from memberscope.outputs import Decimals
from memberscope.targets import (
    HttpTarget,
    RestrictedTarget,
    StoredTarget,
    load_target,
    read_signals,
    resolve_n_classes,
    wrap,
)
from memberscope.targets.frameworks.keras import import_keras, silence_keras
from memberscope.targets.wrappers import find_metered_target
from memberscope.types import OUTPUT_TASKS, Access, Target
from memberscope.wire import Endpoint

EXTRAS = ("torch", "onnxruntime", "skl2onnx", "lightgbm", "xgboost", "keras", "pandas")
ABSENT = [name for name in EXTRAS if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"needs {', '.join(ABSENT)}")

RNG = np.random.default_rng(0)
N = 70
X = RNG.normal(size=(N, 3)).astype(np.float32).astype(np.float64)
TRUE = np.column_stack([X[:, 0] - X[:, 1], 100 + 3 * X[:, 2]]) + RNG.normal(size=(N, 2))
LABELS = (np.median(TRUE, axis=0) < TRUE).astype(int)


@dataclass(frozen=True)
class Route:
    """One way to a target, the records in the form that it takes, and what it must answer."""

    make: Callable[[], Target]
    task: str
    expected: np.ndarray
    x: Any = None
    names: tuple[str, ...] = ()


def linear_routes(folder: Path) -> dict[str, Route]:
    """One linear map of two outputs, in every library that can hold it, and its first output."""
    import onnxruntime
    import skl2onnx
    import skops.io
    import torch
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    keras = import_keras()
    fitted = LinearRegression().fit(X, TRUE)
    expected = fitted.predict(X)
    net = torch.nn.Linear(3, 2).double()
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(fitted.coef_))
        net.bias.copy_(torch.from_numpy(fitted.intercept_))
    layers = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with silence_keras():
        layers.set_weights([fitted.coef_.T, fitted.intercept_])
        layers.save(folder / "m.keras")
    skops.io.dump(fitted, folder / "m.skops")
    proto = skl2onnx.to_onnx(fitted, X[:1].astype(np.float32)).SerializeToString()
    (folder / "m.onnx").write_bytes(proto)
    rows = np.column_stack([np.arange(N) % 2, TRUE, expected])
    header = "member,y_0,y_1,prediction_0,prediction_1"
    np.savetxt(folder / "s.csv", rows, delimiter=",", header=header, comments="")
    one = make_pipeline(StandardScaler(), LinearRegression()).fit(X, TRUE[:, 0])
    makers: dict[str, tuple[Callable[[], Target], Any]] = {
        "sklearn": (lambda: wrap(fitted), X),
        "skops": (lambda: load_target(str(folder / "m.skops")).target, X),
        "torch": (lambda: wrap(net, task="regression"), X),
        "keras": (lambda: wrap(layers, task="regression"), X),
        "keras file": (lambda: load_target(str(folder / "m.keras"), task="regression").target, X),
        "onnx": (lambda: load_target(str(folder / "m.onnx"), task="regression").target, X),
        "onnx session": (lambda: wrap(onnxruntime.InferenceSession(proto), task="regression"), X),
        "function": (lambda: wrap(fitted.predict, task="regression"), X),
        "signals": (lambda: StoredTarget(read_signals(folder / "s.csv")), np.arange(N)),
    }
    found = {name: Route(make, "regression", expected, x) for name, (make, x) in makers.items()}
    found["function, one number"] = Route(
        lambda: wrap(one.predict, task="regression"), "regression", one.predict(X)[:, None], X
    )
    found["torch, forecast of two series"] = Route(
        lambda: wrap(torch.nn.Sequential(net, torch.nn.Unflatten(1, (2, 1))), task="forecast"),
        "forecast",
        expected,
        X,
    )
    return found


def booster_routes(folder: Path) -> dict[str, Route]:
    """Boosters of numbers and of labels, as estimators, boosters and files; columns by name."""
    import lightgbm
    import pandas
    import xgboost

    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    few = {"n_estimators": 5, "n_jobs": 1}
    light = lightgbm.LGBMRegressor(verbose=-1, min_child_samples=5, **few).fit(frame, TRUE[:, 0])
    several = xgboost.XGBRegressor(**few).fit(frame, TRUE)
    labels = xgboost.XGBClassifier(**few).fit(frame, LABELS)
    light.booster_.save_model(folder / "m.txt")
    several.save_model(folder / "m.json")
    labels.save_model(folder / "l.ubj")
    table = {
        "lightgbm": (light, folder / "m.txt", light.booster_, "regression", light.predict(frame)),
        "xgboost": (several, folder / "m.json", several.get_booster(), "regression", several.predict(frame)),
        "xgboost labels": (labels, folder / "l.ubj", labels.get_booster(), "multilabel", labels.predict_proba(frame)),
    }  # fmt: skip
    found = {}
    for name, (estimator, file, booster, task, answer) in table.items():
        expected = np.asarray(answer, np.float64).reshape(N, -1)
        for how, make in (
            ("estimator", lambda e=estimator: wrap(e)),
            ("booster", lambda b=booster: wrap(b)),
            ("file", lambda f=file: load_target(str(f)).target),
        ):
            found[f"{name}, {how}"] = Route(make, task, expected, frame, ("a", "b", "c"))
    return found


def label_routes(folder: Path) -> dict[str, Route]:
    """One sigmoid for each label: logits and probabilities of the same model answer the same."""
    import onnxruntime
    import skl2onnx
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.multioutput import ClassifierChain, MultiOutputClassifier

    keras = import_keras()
    heads = MultiOutputClassifier(LogisticRegression()).fit(X, LABELS)
    rest = OneVsRestClassifier(LogisticRegression()).fit(X, LABELS)
    chain = ClassifierChain(LogisticRegression()).fit(X, LABELS)
    expected = np.column_stack([part[:, 1] for part in heads.predict_proba(X)])
    net = torch.nn.Linear(3, 2).double()
    weights = np.concatenate([head.coef_ for head in heads.estimators_])
    bias = np.concatenate([head.intercept_ for head in heads.estimators_])
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(weights))
        net.bias.copy_(torch.from_numpy(bias))
    sigmoid = torch.nn.Sequential(net, torch.nn.Sigmoid())
    layers = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="sigmoid")])
    with silence_keras():
        layers.set_weights([weights.T, bias])
    how = {id(rest): {"zipmap": False}}
    proto = skl2onnx.to_onnx(rest, X[:1].astype(np.float32), options=how).SerializeToString()
    session = onnxruntime.InferenceSession(proto)
    makers: dict[str, Callable[[], Target]] = {
        "heads": lambda: wrap(heads),
        "one against the rest": lambda: wrap(rest),
        "torch logits": lambda: wrap(net, task="multilabel"),
        "torch sigmoid": lambda: wrap(sigmoid, task="multilabel"),
        "torch, declared": lambda: wrap(net, task="multilabel", outputs="logits"),
        "keras": lambda: wrap(layers, task="multilabel"),
        "onnx": lambda: wrap(session, task="multilabel"),
        "function": lambda: wrap(rest.predict_proba, task="multilabel"),
    }
    found = {f"labels, {n}": Route(make, "multilabel", expected, X) for n, make in makers.items()}
    found["labels, chain"] = Route(lambda: wrap(chain), "multilabel", chain.predict_proba(X), X)
    return found


@pytest.fixture(scope="module")
def routes(tmp_path_factory) -> dict[str, Route]:
    folder = tmp_path_factory.mktemp("routes")
    return linear_routes(folder) | booster_routes(folder) | label_routes(folder)


def test_every_route_answers_what_its_library_does(routes):
    assert len(routes) == 29
    for name, route in routes.items():
        target = resolve_n_classes(route.make(), route.x, route.expected.shape[1])
        outputs = target.query(route.x)
        np.testing.assert_allclose(outputs, route.expected, atol=2e-5, err_msg=name)
        assert outputs.dtype == np.float64 and outputs.shape == (N, target.n_classes), name


def test_every_route_says_what_its_answers_are(routes):
    for name, route in routes.items():
        target = resolve_n_classes(route.make(), route.x, route.expected.shape[1])
        assert isinstance(target, Target) and wrap(target) is target, name
        assert target.access == Access.PREDICTION, name
        assert read_target_facts(target).task == route.task in OUTPUT_TASKS, name
        labels = route.task == "multilabel"
        assert target.signal == ("label_probabilities" if labels else "prediction"), name
        with pytest.raises(InputError):
            wrap(target, task="classification")


def test_order_and_single_records_do_not_matter_and_asking_changes_nothing(routes):
    for name, route in routes.items():
        target = resolve_n_classes(route.make(), route.x, route.expected.shape[1])
        before, first = target.digest, target.query(route.x)
        if hasattr(target, "batch_size"):
            target.batch_size = 7
            np.testing.assert_allclose(target.query(route.x), first, atol=1e-5, err_msg=name)
        part = target.query(slice_rows(route.x, 5, 6))
        np.testing.assert_allclose(part, first[5:6], atol=1e-5, err_msg=name)
        back = target.query(slice_rows(route.x, 0, N)[::-1])
        np.testing.assert_allclose(back, first[::-1], atol=1e-5, err_msg=name)
        again = resolve_n_classes(route.make(), route.x, route.expected.shape[1])
        assert target.digest == before == again.digest, name


def test_columns_of_a_frame_go_by_name(routes):
    for name, route in routes.items():
        if route.names:
            target = route.make()
            turned = route.x[["c", "a", "b"]]
            np.testing.assert_allclose(
                target.query(turned), route.expected, atol=2e-5, err_msg=name
            )


def test_a_restriction_keeps_the_task(routes):
    """Rounded answers of every route, also where it learns its number of outputs late."""
    for name, route in routes.items():
        target = RestrictedTarget(route.make(), Decimals(1))
        resolve_n_classes(target, route.x, route.expected.shape[1])
        facts = read_target_facts(target)
        assert (facts.task, target.access) == (route.task, Access.PREDICTION), name
        assert target.n_classes == route.expected.shape[1], name
        seen = target.query(route.x)
        np.testing.assert_allclose(seen, route.expected, atol=0.05 + 2e-5, err_msg=name)
        np.testing.assert_allclose(seen, np.round(seen, 1), atol=1e-12, err_msg=name)


def test_a_budget_is_found_behind_a_restriction_of_numbers():
    with serving(Unruly()) as url:
        endpoint = Endpoint(
            f"{url}/score",
            protocol="json",
            body='{"records": "$records"}',
            answer="predictions",
            task="regression",
        )
        with HttpTarget(endpoint) as served:
            target = RestrictedTarget(served, Decimals(1))
            resolve_n_classes(target, X[:, :2], 3)
            assert find_metered_target(target) is served and target.n_classes == 3
            seen = target.query(X[:, :2])
            np.testing.assert_allclose(seen, np.round(model(X[:, :2]), 1), atol=1e-12)
