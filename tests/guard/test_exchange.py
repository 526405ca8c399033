"""Requests and answers as pure functions.

What is let through, and that it is exactly what the audit's wrapper gives.
"""

from __future__ import annotations

import json

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memberscope.errors import TargetError
from memberscope.guard.asgi.routes import read_request_path, route_request
from memberscope.guard.hashing.pseudonyms import KeyedHasher
from memberscope.guard.policy.tables import ServingConfig
from memberscope.guard.refused import RequestRefused
from memberscope.guard.rewriting.exchange import Exchange
from memberscope.outputs.chain import parse_restriction
from memberscope.outputs.keyed_parts import with_noise_key
from memberscope.targets import FunctionTarget, RestrictedTarget
from memberscope.wire.answers import parse_outputs
from memberscope.wire.batch import Batch
from memberscope.wire.endpoint import Endpoint

DEFENCES = [
    "top:1",
    "top:2",
    "round:1",
    "temperature:2",
    "noise:0.5",
    "label",
    "top:2+round:2",
    "round:3+label",
]
CLASSES = [None, ("a", "b", "c"), ("2", "0", "1")]
SERVINGS = {
    "v2": {"protocol": "v2", "model_name": "m", "answer": "p"},
    "mlflow": {"protocol": "mlflow"},
    "json": {
        "protocol": "json",
        "path": "/score",
        "body": '{"rows": "$rows", "k": 3}',
        "answer": "out[*].scores",
    },
}
SENT = {
    "v2": b'{"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [1, 2, 3, 4]}], "outputs": [{"name": "hidden"}]}',
    "mlflow": b'{"inputs": [[1, 2], [3, 4]]}',
    "json": b'{"rows": [[1, 2], [3, 4]], "k": 9, "debug": true}',
}


def serving(protocol: str, **more) -> ServingConfig:
    return ServingConfig(
        **SERVINGS[protocol] | ({} if "classes" in more else {"n_classes": 3}) | more
    )


def from_server(protocol: str, outputs: np.ndarray) -> bytes:
    """A server's answer with more in it than was declared."""
    if protocol == "v2":
        more = {"name": "hidden", "shape": [1], "datatype": "FP64", "data": [0.125]}
        tensor = {
            "name": "p",
            "shape": list(outputs.shape),
            "datatype": "FP64",
            "data": outputs.ravel().tolist(),
        }
        return json.dumps(
            {"model_name": "m", "trace": "s3cret", "outputs": [more, tensor]}
        ).encode()
    if protocol == "mlflow":
        return json.dumps({"predictions": outputs.tolist(), "trace": "s3cret"}).encode()
    return json.dumps(
        {"out": [{"scores": row, "trace": "s3cret"} for row in outputs.tolist()]}
    ).encode()


def read_back(protocol: str, body: bytes, settings: dict, defence) -> np.ndarray:
    """What an audit's endpoint reads in an answer of the guard."""
    keys = ("protocol", "model_name", "body", "answer", "classes", "n_classes")
    given = {key: value for key, value in settings.items() if key in keys and value is not None}
    hidden = (
        {"top_k": int(defence.name[4])}
        if defence.name.startswith("top") and defence.signal != "labels"
        else {}
    )
    endpoint = Endpoint(
        "http://h/score",
        outputs="labels" if defence.signal == "labels" else "probabilities",
        **given | hidden,
    )
    return parse_outputs(endpoint.serving.answers(orjson.loads(body)), endpoint.declared)


@pytest.mark.parametrize("protocol", SERVINGS)
@settings(max_examples=60)
@given(
    scores=st.lists(st.lists(st.floats(-30, 30), min_size=3, max_size=3), min_size=1, max_size=4),
    name=st.sampled_from(DEFENCES),
    classes=st.sampled_from(CLASSES),
    logits=st.booleans(),
)
def test_through_the_guard_is_to_the_last_bit_what_the_audits_wrapper_gives(
    protocol, scores, name, classes, logits
):
    raw = np.array(scores)
    outputs = raw if logits else np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    level = "logits" if logits else "probabilities"
    declared = serving(protocol, classes=classes, n_classes=3, outputs=level)
    order = declared.endpoint("http://h").declared.order
    wrapped = RestrictedTarget(
        FunctionTarget(
            lambda x: outputs[:, order], n_classes=3, signal="logits" if logits else "probabilities"
        ),
        defence := with_noise_key(parse_restriction(name), bytes(32)),
    )
    expected = wrapped.query(np.zeros((len(outputs), 1)))
    body, labels = Exchange.of(declared).answer(
        from_server(protocol, outputs), len(outputs), defence
    )
    found = read_back(
        protocol, body, SERVINGS[protocol] | {"classes": classes, "n_classes": 3}, defence
    )
    np.testing.assert_array_equal(found, expected)
    seen = (
        expected[:, 0]
        if defence.signal == "labels"
        else np.where(np.isnan(expected), -1, expected).argmax(axis=1)
    )
    np.testing.assert_array_equal(labels, seen)
    assert b"s3cret" not in body and b"hidden" not in body and b"trace" not in body


@pytest.mark.parametrize("protocol", SERVINGS)
def test_the_server_is_asked_for_what_was_counted_and_nothing_else(protocol):
    query = Exchange.of(serving(protocol)).query(SENT[protocol], restricted=True)
    np.testing.assert_array_equal(query.batch.array, [[1, 2], [3, 4]])
    document = json.loads(query.body)
    assert b"hidden" not in query.body and b"debug" not in query.body
    expected = {
        "v2": lambda: (
            document["outputs"] == [{"name": "p"}] and document["inputs"][0]["data"] == [1, 2, 3, 4]
        ),
        "mlflow": lambda: document == {"inputs": [[1, 2], [3, 4]]},
        "json": lambda: document == {"rows": [[1, 2], [3, 4]], "k": 3},
    }
    assert expected[protocol]()


def test_an_unrestricted_class_keeps_its_choice_of_outputs():
    query = Exchange.of(serving("v2")).query(SENT["v2"], restricted=False)
    assert json.loads(query.body)["outputs"] == [{"name": "hidden"}]


@pytest.mark.parametrize(
    ("protocol", "settings", "body"),
    [
        ("mlflow", {}, {"dataframe_split": {"columns": ["b", "a"], "data": [[2, 1]]}}),
        (
            "mlflow",
            {},
            {"dataframe_split": {"columns": ["a", "b"], "data": [[1.0, 2]], "index": [5]}},
        ),
        ("mlflow", {}, {"dataframe_records": [{"b": 2, "a": 1.0}]}),
        ("mlflow", {}, {"inputs": {"b": [2], "a": [1]}}),
        ("mlflow", {}, {"inputs": [[1, 2]]}),
        ("mlflow", {}, {"instances": [{"a": 1, "b": 2}]}),
        (
            "v2",
            {},
            {
                "inputs": [
                    {"name": "b", "shape": [1, 1], "datatype": "FP32", "data": [2]},
                    {"name": "a", "shape": [1], "datatype": "INT64", "data": [1]},
                ],
                "parameters": {"content_type": "pd", "sequence_id": 4},
            },
        ),
        (
            "v2",
            {},
            {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [[1, 2]]}]},
        ),
    ],
)
def test_one_record_has_one_name_however_it_is_written(protocol, settings, body):
    exchange = Exchange.of(serving(protocol, columns=("a", "b"), **settings))
    query = exchange.query(json.dumps(body).encode(), restricted=True)
    names = KeyedHasher(bytes(32))
    assert names.records(query.batch) == names.records(
        Batch(columns={"a": np.array([1.0]), "b": np.array([2.0])})
    )
    assert len(set(names.records(Batch(np.array([[1.0, 2.0], [2.0, 1.0]]))))) == 2


def test_words_and_what_is_missing_are_records_too():
    exchange = Exchange.of(serving("mlflow"))
    body = b'{"dataframe_split": {"columns": ["job", "pay"], "data": [["cook", 1], [null, null], ["x", NaN], ["y", Infinity]]}}'
    query = exchange.query(body, restricted=True)
    assert query.batch.array.tolist() == [["cook", 1], [None, None], ["x", None], ["y", np.inf]]
    assert b"NaN" in query.body and b"Infinity" in query.body
    assert len(set(KeyedHasher().records(query.batch))) == 4


BAD = [
    b"",
    b"nothing",
    b"[]",
    b"{}",
    b"null",
    b'{"inputs": 3}',
    b'{"inputs": []}',
    b'{"inputs": [[]]}',
    b'{"inputs": [[1], [1, 2]]}',
    b'{"inputs": [{}]}',
    b'{"inputs": [[{}]]}',
    b'{"inputs": [[1]], "params": {"raw": true}}',
    b'{"inputs": [[1]], "instances": [[2]]}',
    b'{"inputs": [["a", ["b"]]]}',
    b'{"inputs": [{"a": 1}, {"b": 1}]}',
    b'{"inputs": [{"a": 1}, {"a": 1, "b": 1}]}',
    b'{"inputs": {"a": [1], "b": [1, 2]}}',
    b'{"inputs": {"a": 1}}',
    b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}',
    b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}',
    b'{"dataframe_split": {"columns": ["a"], "data": [["x"], [["y"]]]}}',
    b'{"dataframe_split": [1]}',
    b'{"inputs": ' + b"[" * 20 + b"1" + b"]" * 20 + b"}",
    b'{"inputs": ' + b"[" * 200_000,
    b'{"inputs": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}",
    b'{"inputs": [NaN, ' + b"[" * 100_000,
    b'{"inputs": [[1' + b"0" * 5000 + b"]], NaN}",
    b'{"inputs": [["' + b'\\ud800"]]}',
    b'\xff\xfe{"inputs": [[1]]}',
]


@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
def test_what_the_protocol_does_not_allow_is_refused_with_a_sentence(body):
    with pytest.raises(RequestRefused) as caught:
        Exchange.of(serving("mlflow")).query(body, restricted=True)
    # So many lists are too much for the parser that reads NaN
    assert caught.value.status == (413 if body.startswith(b'{"inputs": [NaN, [') else 400)


TENSOR = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1]}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"shape": [2, 1]}, 400),
        ({"shape": [-1, 1]}, 400),
        ({"shape": []}, 400),
        ({"shape": [True, 1]}, 400),
        ({"shape": [10**12, 10**12]}, 400),
        ({"data": ["1"]}, 400),
        ({"data": None}, 400),
        ({"name": 3}, 400),
        ({"datatype": "FP65"}, 400),
        ({"datatype": "INT64", "data": [1.5]}, 400),
        ({"datatype": "INT64", "data": [None]}, 400),
        ({"datatype": "UINT8", "data": [256]}, 400),
        ({"datatype": "BOOL", "data": [2]}, 400),
        ({"parameters": {"binary_data_size": 8}}, 415),
        ({"parameters": {"content_type": "base64"}}, 415),
        ({"parameters": 3}, 400),
    ],
)
def test_tensors_that_are_read_in_two_ways_are_refused(change, status):
    body = json.dumps({"inputs": [TENSOR | change]}).encode()
    with pytest.raises(RequestRefused) as caught:
        Exchange.of(serving("v2")).query(body, restricted=True)
    assert caught.value.status == status


@settings(max_examples=150)
@given(
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["inputs", "a", "data"]), inner, max_size=3)
        ),
        max_leaves=12,
    ),
    protocol=st.sampled_from(sorted(SERVINGS)),
)
def test_any_document_is_a_query_or_is_refused(document, protocol):
    key = {"v2": "inputs", "mlflow": "inputs", "json": "rows"}[protocol]
    exchange = Exchange.of(serving(protocol))
    for body in (
        json.dumps(document),
        json.dumps({key: document}),
        json.dumps({key: [TENSOR | {"data": document}]}),
    ):
        try:
            query = exchange.query(body.encode(), restricted=True)
        except RequestRefused as refused:
            assert refused.status in (400, 415)
        else:
            assert len(KeyedHasher().records(query.batch)) == len(query.batch) >= 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"predictions": []}',
        b'{"predictions": [[0.5, 0.5]]}',
        b'{"predictions": [[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]]}',
        b'{"predictions": [["a", "b", "c"]]}',
        b'{"predictions": [[NaN, 0.3, 0.5]]}',
        b'{"error": "no"}',
    ],
)
def test_an_answer_that_is_not_as_declared_is_an_error(body):
    with pytest.raises(TargetError):
        Exchange.of(serving("mlflow")).answer(body, 1, parse_restriction("round:1"))


def test_also_passes_and_labels_of_label_servers_stay():
    exchange = Exchange.of(serving("v2", also=("hidden",)))
    body, _ = exchange.answer(
        from_server("v2", np.array([[0.2, 0.3, 0.5]])), 1, parse_restriction("label")
    )
    assert [entry["name"] for entry in json.loads(body)["outputs"]] == ["p", "hidden"]
    exchange = Exchange.of(serving("mlflow", classes=("a", "b"), outputs="labels"))
    body, labels = exchange.answer(
        b'{"predictions": ["b", "a"], "scores": [1, 2]}', 2, parse_restriction("label")
    )
    assert json.loads(body) == {"predictions": ["b", "a"]} and labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v2/models/m/infer", "query"),
        ("POST", "/v2/models/m/versions/3/infer", "query"),
        ("GET", "/v2", "passed"),
        ("GET", "/v2/health/live", "passed"),
        ("HEAD", "/v2/models/m", "passed"),
        ("GET", "/v2/models/m/versions/3/ready", "passed"),
        ("GET", "/docs", "passed"),
        ("POST", "/docs", "refused"),
        ("GET", "/v2/models/other", "refused"),
        ("POST", "/v2/models/other/infer", "refused"),
        ("POST", "/v2/models/m/generate", "refused"),
        ("POST", "/v2/models/m/infer/", "refused"),
        ("POST", "/v2/models/m%2Finfer", "refused"),
        ("POST", "/v2/models/./m/infer", "refused"),
        ("POST", "/x/../v2/models/m/infer", "refused"),
        ("POST", "//v2/models/m/infer", "refused"),
        ("POST", "/V2/models/m/infer", "refused"),
        ("GET", "/v2/models/m/infer", "refused"),
        ("PUT", "/v2/repository/models/m/load", "refused"),
        ("GET", "/metrics", "refused"),
        ("GET", "/docs;x", "refused"),
    ],
)
def test_routes(method, path, kind):
    assert (
        route_request(
            serving("v2", passed=("GET /docs",)), method, read_request_path({"path": path})
        ).kind
        == kind
    )


def test_a_path_with_escapes_is_read_in_one_way_only():
    assert read_request_path({"path": "/invocations", "raw_path": b"/%69nvocations"}) is None
    assert (
        read_request_path(
            {"path": "/api/invocations", "raw_path": b"/api/invocations", "root_path": "/api"}
        )
        == "/invocations"
    )


def test_a_label_implies_no_more_classes_than_memory_has_room_for():
    exchange = Exchange.of(ServingConfig(protocol="mlflow", outputs="labels"))
    assert exchange.tops(b'{"predictions": [2, 0]}', 2).tolist() == [2, 0]
    for label in (b"3000000", b"9223372036854775808", b"1e300"):
        assert exchange.tops(b'{"predictions": [%b, 0]}' % label, 2).tolist() == [-1, -1]
