"""Requests and answers of the three protocols.

Documents as their specifications say, and each way round.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from memberscope.errors import InputError, TargetError
from memberscope.targets.http.target import count_metadata_classes, dump_json, parse_json
from memberscope.wire.answers import DeclaredOutputs, format_answers, parse_outputs
from memberscope.wire.batch import Batch, build_request_batch
from memberscope.wire.json_path import build_document, parse_path, pick_value
from memberscope.wire.protocols import MLflow, OpenInference, TemplatedJSON
from memberscope.wire.tensors import Tensor, read_input_tensors

NAMES = ("ape", "bee", "cat")
PROTOCOLS = [
    OpenInference("m", answer="p"),
    MLflow(),
    TemplatedJSON('{"model": "m", "instances": "$records"}', "predictions"),
    TemplatedJSON('{"inner": [{"x": "$rows"}]}', "answers.0.scores"),
    TemplatedJSON('{"x": "$record"}', "scores"),
]
floats = st.floats(-1e6, 1e6, width=64)


def roundtrip(document):
    """The document as the other side reads it."""
    return json.loads(json.dumps(document))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: type(p).__name__)
@given(x=arrays(np.float64, array_shapes(min_dims=2, max_dims=3, max_side=4), elements=floats))
def test_records_survive_the_request_bit_for_bit(protocol, x):
    x = x[:1] if protocol.one_by_one else x
    np.testing.assert_array_equal(
        protocol.records(parse_json(dump_json(protocol.request(Batch(x))))).array, x
    )


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: type(p).__name__)
@given(p=arrays(np.float64, st.tuples(st.integers(1, 5), st.just(3)), elements=floats))
def test_scores_survive_the_answer_in_any_order_of_classes(protocol, p):
    p = p[:1] if protocol.one_by_one else p
    declared = DeclaredOutputs(names=("2", "0", "1"))
    document = parse_json(dump_json(protocol.response(format_answers(p, declared))))
    np.testing.assert_array_equal(parse_outputs(protocol.answers(document), declared), p)


@given(
    p=arrays(np.float64, st.tuples(st.integers(1, 5), st.just(3)), elements=floats),
    keep=st.lists(st.sets(st.integers(0, 2), min_size=1, max_size=2), min_size=5, max_size=5),
)
def test_hidden_classes_are_nan_and_stay_hidden(p, keep):
    for row, kept in zip(p, keep, strict=False):
        row[[k for k in range(3) if k not in kept]] = np.nan
    declared = DeclaredOutputs(names=NAMES, top_k=2)
    told = roundtrip(format_answers(p, declared))
    np.testing.assert_array_equal(parse_outputs(told, declared), p)
    pairs = [[[name, value] for name, value in answer.items()] for answer in told]
    np.testing.assert_array_equal(parse_outputs(pairs, declared), p)
    objects = [
        [{"label": name, "score": value} for name, value in answer.items()] for answer in told
    ]
    np.testing.assert_array_equal(parse_outputs(objects, declared), p)


def test_frames_keep_names_words_and_missing_values():
    frame = pd.DataFrame({"age": [30.5, np.nan], "job": ["cook", "smith"]})
    batch = build_request_batch(frame)
    assert MLflow().request(batch) == {
        "dataframe_split": {"columns": ["age", "job"], "data": [[30.5, "cook"], [None, "smith"]]}
    }
    served = TemplatedJSON('{"rows": "$records"}', "out")
    assert served.request(batch)["rows"][1] == {"age": None, "job": "smith"}
    back = MLflow().records(roundtrip(MLflow().request(batch))).columns
    np.testing.assert_array_equal(back["age"], frame["age"])
    assert back["job"].tolist() == ["cook", "smith"]


def test_v2_asks_for_one_tensor_a_column_where_columns_have_names():
    batch = build_request_batch(pd.DataFrame({"age": [30, 40], "job": ["cook", "smith"]}))
    document = OpenInference("m").request(batch)
    assert document["parameters"] == {"content_type": "pd"}
    assert document["inputs"] == [
        {"name": "age", "shape": [2, 1], "datatype": "INT64", "data": [30, 40]},
        {
            "name": "job",
            "shape": [2, 1],
            "datatype": "BYTES",
            "data": ["cook", "smith"],
            "parameters": {"content_type": "str"},
        },
    ]
    back = OpenInference("m").records(roundtrip(document)).columns
    assert back["job"].tolist() == ["cook", "smith"] and back["age"].tolist() == [30, 40]


def test_v2_follows_the_servers_metadata():
    metadata = {
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 2, 2]}],
        "outputs": [{"name": "p", "datatype": "FP32", "shape": [-1, 7]}],
    }
    served = OpenInference("m", "3", tensors=read_input_tensors(metadata))
    assert served.address("http://h:1/") == "http://h:1/v2/models/m/versions/3/infer"
    tensor = served.request(Batch(np.arange(8.0).reshape(2, 4) / 10))["inputs"][0]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("image", "FP32", [2, 2, 2])
    assert tensor["data"] == (np.arange(8) / 10).astype(np.float32).tolist()
    assert count_metadata_classes(metadata, None, "probabilities") == 7
    assert count_metadata_classes(metadata, None, "labels") is None
    with pytest.raises(InputError, match=r"shape \[2, 2\]"):
        served.request(Batch(np.zeros((2, 5))))
    two = OpenInference("m", tensors=(Tensor("age", "INT64"), Tensor("job", "BYTES")))
    with pytest.raises(InputError, match="none called 'age'"):
        two.request(Batch(columns={"job": np.array(["cook"], dtype=object)}))
    with pytest.raises(InputError, match="whole numbers"):
        two.request(
            Batch(columns={"age": np.array([0.5]), "job": np.array(["cook"], dtype=object)})
        )
    with pytest.raises(InputError, match="--columns"):
        two.request(Batch(np.eye(2)))


def test_v2_answers_flat_or_nested_by_name():
    tensor = {"name": "p", "shape": [2, 2], "datatype": "FP64", "data": [0.1, 0.9, 0.4, 0.6]}
    flat = {
        "outputs": [tensor, {"name": "other", "shape": [2], "datatype": "INT64", "data": [1, 1]}]
    }
    np.testing.assert_array_equal(
        OpenInference("m", answer="p").answers(flat), [[0.1, 0.9], [0.4, 0.6]]
    )
    nested = {"outputs": [tensor | {"data": [[0.1, 0.9], [0.4, 0.6]]}]}
    np.testing.assert_array_equal(OpenInference("m").answers(nested), [[0.1, 0.9], [0.4, 0.6]])
    with pytest.raises(TargetError, match="got p, other"):
        OpenInference("m").answers(flat)
    for broken in (tensor | {"shape": [3, 2]}, {"name": "p"}, tensor | {"data": [[1], [1, 2]]}):
        with pytest.raises(TargetError):
            OpenInference("m").answers({"outputs": [broken]})


def test_labels_by_name_by_number_and_by_place():
    declared = DeclaredOutputs("labels", names=("no", "maybe", "yes"))
    assert declared.classes == ("no", "maybe", "yes")
    np.testing.assert_array_equal(parse_outputs(["yes", "no", "maybe"], declared)[:, 0], [2, 0, 1])
    np.testing.assert_array_equal(parse_outputs([2, 0.0, [1]], declared)[:, 0], [2, 0, 1])
    numbers = DeclaredOutputs("labels", names=("10", "9", "11"))
    np.testing.assert_array_equal(parse_outputs(np.array([9.0, 10, 11]), numbers)[:, 0], [0, 1, 2])
    with pytest.raises(TargetError, match="got '0'"):
        parse_outputs([0], numbers)
    with pytest.raises(TargetError, match="got 'perhaps'"):
        parse_outputs(["perhaps"], declared)
    with pytest.raises(TargetError, match="one label a record"):
        parse_outputs([[0.1, 0.9]], declared)


def test_one_score_is_the_second_of_two_classes():
    two = DeclaredOutputs(names=("no", "yes"))
    np.testing.assert_allclose(parse_outputs([0.25], two), [[0.75, 0.25]])
    np.testing.assert_allclose(parse_outputs([[0.5]], two), [[0.5, 0.5]])
    np.testing.assert_array_equal(
        parse_outputs([1.5], DeclaredOutputs("logits", n=2)), [[0.0, 1.5]]
    )
    with pytest.raises(TargetError, match="got one"):
        parse_outputs([0.5], DeclaredOutputs(n=3))


@pytest.mark.parametrize(
    "answers",
    [
        [[0.1, 0.2]],
        [[0.1, 0.2, 0.3, 0.4]],
        [[0.1, 0.2, None]],
        [[0.1, 0.2, float("nan")]],
        [[0.1, 0.2, float("inf")]],
        [[0.1, 0.2, "x"]],
        [[0.1, 0.2, 0.7], [0.5, 0.5]],
        [{"ape": 0.5, "bee": 0.5}],
        [{"ape": 0.5, "bee": 0.2, "dog": 0.3}],
        [[["ape", 0.5], ["ape", 0.5]]],
        [{"ape": 0.2, "bee": 0.3, "cat": 0.5}, "cat"],
        [[[0.1, 0.2, 0.7]]],
        ["ape"],
    ],
)
def test_what_was_not_declared_is_an_error_and_never_a_score(answers):
    with pytest.raises(TargetError, match=r"^Expected .*, got .*\. .*\.$"):
        parse_outputs(answers, DeclaredOutputs(names=NAMES))


@given(
    st.recursive(st.integers(), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=5)
)
def test_paths_find_what_they_put(value):
    for path in ("a.b", "[2].x", "a['b c'].0", "", "out[*].p"):
        steps = parse_path(path)
        listed = [value] if "*" in steps else value
        assert pick_value(roundtrip(build_document(steps, listed)), steps) == listed


def test_paths_say_how_far_they_led():
    with pytest.raises(TargetError, match=r"'probs' in the answer.*an object with p, q"):
        pick_value({"predictions": [{"p": 1, "q": 2}]}, parse_path("predictions[*].probs"))
    with pytest.raises(TargetError, match="a list of 1"):
        pick_value({"predictions": [1]}, parse_path("predictions.1"))
    with pytest.raises(InputError, match="Correct --answer"):
        parse_path("a[")


@pytest.mark.parametrize("body", ["", "no json", "{}", '{"a": "$records", "b": "$rows"}'])
def test_a_template_has_one_place_for_the_records(body):
    with pytest.raises(InputError, match=r"--body"):
        TemplatedJSON(body, "x")


def test_fingerprints_tell_values_types_shapes_and_names_apart():
    batches = [
        Batch(np.array([[1.0, 2.0]])),
        Batch(np.array([[1.0, 2.0]], dtype=np.float32)),
        Batch(np.array([[1, 2]])),
        Batch(np.array([[[1.0], [2.0]]])),
        Batch(np.array([[2.0, 1.0]])),
        Batch(columns={"a": np.array([1.0]), "b": np.array([2.0])}),
        Batch(columns={"b": np.array([1.0]), "a": np.array([2.0])}),
        Batch(columns={"a": np.array(["1.0"], dtype=object), "b": np.array([2.0])}),
    ]
    prints = [batch.fingerprints(b"s")[0] for batch in batches]
    assert len(set(prints)) == len(prints) and prints[0] != batches[0].fingerprints(b"t")[0]
    assert Batch(np.asfortranarray(np.eye(3))).fingerprints(b"s") == Batch(np.eye(3)).fingerprints(
        b"s"
    )


def test_infinite_and_missing_values_are_refused_where_a_protocol_cannot_say_them():
    with pytest.raises(InputError, match="infinite"):
        MLflow().request(Batch(np.array([[np.inf]])))
    with pytest.raises(InputError, match="missing or infinite"):
        OpenInference("m").request(Batch(np.array([[np.nan]])))
    with pytest.raises(InputError, match="missing or infinite"):
        OpenInference("m").request(
            Batch(columns={"job": np.array([None, "cook"], dtype=object), "x": np.ones(2)})
        )
