"""Servers whose answers are numbers, one or several a record, or several labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from unruly import Unruly, model, serving

from memberscope.errors import InputError, TargetError
from memberscope.targets import HttpTarget, resolve_n_classes, wrap
from memberscope.types import Access
from memberscope.wire import DeclaredOutputs, Endpoint, parse_outputs

X = np.random.default_rng(0).normal(size=(60, 2))
BODY = {"protocol": "json", "body": '{"records": "$records"}'}


@pytest.mark.parametrize(
    ("path", "settings", "columns"),
    [
        ("/score", {**BODY, "answer": "predictions"}, [0, 1, 2]),
        ("/score", {**BODY, "answer": "predictions[*][1]"}, [1]),
        ("", {"protocol": "mlflow"}, [0, 1, 2]),
        ("", {"protocol": "v2", "model_name": "m"}, [0, 1, 2]),
    ],
)
@pytest.mark.parametrize("task", ["regression", "forecast"])
def test_each_protocol_gives_the_numbers_and_pays_once(path, settings, columns, task):
    app = Unruly()
    with serving(app) as url:
        endpoint = Endpoint(url + path, task=task, backoff=0.01, **settings)
        with HttpTarget(endpoint) as target:
            assert (target.task, target.signal, target.access, target.classes) == (
                task,
                "prediction",
                Access.PREDICTION,
                None,
            )
            assert wrap(target) is target
            # The true values say how many numbers there are, and no query is spent on it
            resolve_n_classes(target, X, len(columns))
            assert sum(app.reached.values()) == 0 and target.n_classes == len(columns)
            np.testing.assert_allclose(target.query(X), model(X)[:, columns], atol=1e-15)
            assert sum(app.reached.values()) == len(X)


def test_another_number_of_answers_is_refused():
    with serving(Unruly()) as url:
        endpoint = Endpoint(f"{url}/score", **BODY, answer="predictions", task="regression")
        with HttpTarget(endpoint) as target:
            resolve_n_classes(target, X, 2)
            with pytest.raises(TargetError, match="Expected 2 numbers a record, got 3"):
                target.query(X)


def test_labels_of_a_server_may_be_logits():
    """The same numbers, read as probabilities and as logits."""
    with serving(Unruly()) as url:
        for outputs, expected in (("probabilities", model(X)), ("logits", expit(model(X)))):
            endpoint = Endpoint(
                f"{url}/score",
                **BODY,
                answer="predictions",
                task="multilabel",
                outputs=outputs,
                n_classes=3,
            )
            with HttpTarget(endpoint) as target:
                assert target.signal == "label_probabilities"
                np.testing.assert_allclose(target.query(X), expected, atol=1e-15)


def test_forms_of_numbers():
    two, open_width = DeclaredOutputs("numbers", n=2), DeclaredOutputs("numbers")
    named = DeclaredOutputs("numbers", names=("b", "a"))
    for answers, declared, expected in (
        ([1.5, -2], open_width, [[1.5], [-2.0]]),
        ([[1], [2.5]], open_width, [[1.0], [2.5]]),
        ([[1, 2], [3, 4]], two, [[1, 2], [3, 4]]),
        ([[[1], [2]], [[3], [4]]], two, [[1, 2], [3, 4]]),
        ([{"low": 1, "high": 2}, {"high": 4, "low": 3}], two, [[1, 2], [3, 4]]),
        (
            [[{"label": "a", "score": 0.9}, {"label": "b", "score": 0.8}]],
            named,
            [[0.8, 0.9]],
        ),
        (np.array([1, 2]), open_width, [[1], [2]]),
    ):
        np.testing.assert_array_equal(parse_outputs(answers, declared), np.array(expected, float))
    for answers, words in (
        ([[1, 2, 3]], "Expected 2 numbers a record, got 3"),
        ([[1, float("nan")]], "1 that are NaN or infinite"),
        ([["a", "b"]], "got something else"),
        ([{"low": 1, "high": 2}, {"low": 1}], "the numbers low, high of each record"),
    ):
        with pytest.raises(TargetError, match=words):
            parse_outputs(answers, two)


def test_declarations_that_contradict_the_task_are_refused():
    for given, words in (
        ({"task": "ranking"}, "Expected task classification, regression"),
        ({"task": "regression", "classes": ("a", "b")}, "Expected no classes of a model for regr"),
        ({"task": "classification", "n_classes": 1}, "at least two classes, got 1"),
    ):
        with pytest.raises(InputError, match=words):
            Endpoint("http://localhost:1", model_name="m", **given)
    plain = Endpoint("http://localhost:1", model_name="m", n_classes=2)
    number = Endpoint("http://localhost:1", model_name="m", n_classes=2, task="regression")
    assert plain.identity != number.identity and plain.scope == number.scope
