"""Keras models: what their answers are, and files that could run code."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from memberscope.errors import InputError, UnsafeFileError
from memberscope.frames.several_inputs import Inputs
from memberscope.targets import KerasTarget, TrustSettings, load_target, wrap
from memberscope.targets.frameworks.keras import import_keras, silence_keras

pytestmark = pytest.mark.skipif(
    not (find_spec("keras") and find_spec("torch")), reason="needs keras and torch"
)
X = np.random.default_rng(0).normal(size=(30, 4))


@pytest.fixture(autouse=True)
def without_remarks():
    with silence_keras():
        yield


def dense(units: int, activation: str | None, *more):
    keras = import_keras()
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((4,)), *more, keras.layers.Dense(units, activation=activation)]
    )


@pytest.mark.parametrize(
    ("units", "activation", "signal", "n_classes"),
    [
        (3, "softmax", "probabilities", 3),
        (3, None, "logits", 3),
        (1, "sigmoid", "probabilities", 2),
        (1, None, "logits", 2),
    ],
)
def test_what_the_answers_are_is_told(units, activation, signal, n_classes):
    model = dense(units, activation)
    target = wrap(model)
    assert isinstance(target, KerasTarget), "a model on the torch backend is a torch module too"
    assert (target.signal, target.n_classes, target.n_parameters) == (signal, n_classes, 5 * units)
    expected = X @ model.get_weights()[0]
    expected = {
        "softmax": np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True),
        "sigmoid": 1 / (1 + np.exp(-expected)),
    }.get(activation, expected)
    np.testing.assert_allclose(target.query(X)[:, -units:], expected, atol=1e-5)


def test_neither_probabilities_nor_logits_must_be_declared():
    with pytest.raises(InputError, match="Declare which they are with --outputs"):
        wrap(dense(3, "sigmoid"))
    assert wrap(dense(3, "sigmoid"), outputs="logits").signal == "logits"


def test_dropout_and_batch_statistics_are_left_alone():
    keras = import_keras()
    model = dense(3, "softmax", keras.layers.BatchNormalization(), keras.layers.Dropout(0.5))
    target = wrap(model)
    before = [weight.copy() for weight in model.get_weights()]
    np.testing.assert_array_equal(target.query(X), target.query(X))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_several_inputs_are_a_tuple_or_a_dict_by_name():
    keras = import_keras()
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    model = keras.Model(
        [a, b], keras.layers.Dense(2, activation="softmax")(keras.layers.Concatenate()([a, b]))
    )
    target, parts = wrap(model), (X[:, :2], X[:, 2:])
    expected = target.query(Inputs(parts))
    assert target.signal == "probabilities" and expected.shape == (len(X), 2)
    np.testing.assert_array_equal(target.query(Inputs(parts[::-1], ("b", "a"))), expected)
    named = keras.Model(
        {"a": a, "b": b},
        keras.layers.Dense(2, activation="softmax")(keras.layers.Concatenate()([a, b])),
    )
    named.set_weights(model.get_weights())
    np.testing.assert_allclose(wrap(named).query(Inputs(parts, ("a", "b"))), expected, atol=1e-6)
    with pytest.raises(InputError, match="Expected 2 inputs for the Keras model"):
        target.query(X)


def test_the_scores_are_found_among_several_outputs():
    keras = import_keras()
    given = keras.Input((4,))
    hidden = keras.layers.Dense(8)(given)
    probabilities = keras.layers.Dense(3, activation="softmax")(hidden)
    only = wrap(keras.Model(given, probabilities)).query(X)
    for outputs in (
        {"hidden": hidden, "probs": probabilities},
        [hidden, probabilities],
        {"probabilities": probabilities},
    ):
        target = wrap(keras.Model(given, outputs))
        target.find_outputs(X, n_classes=3)
        assert (target.signal, target.n_classes) == ("probabilities", 3)
        np.testing.assert_array_equal(target.query(X), only)
    with pytest.raises(
        InputError, match="Expected one tensor of scores in the model's answer, got 0 of shape"
    ):
        wrap(keras.Model(given, [hidden, probabilities])).query(X)


def test_wrong_shapes_are_one_sentence():
    with pytest.raises(InputError, match="4 features for the input 'input', got 3"):
        wrap(dense(3, None)).query(X[:, :3])


def rewritten(path: Path, change) -> str:
    """The same archive with another architecture."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            target.writestr(name, content)
    path.write_bytes(out.getvalue())
    return str(path)


def test_code_in_a_file_is_opened_only_on_trust(tmp_path):
    keras = import_keras()
    dense(3, "softmax", keras.layers.Lambda(lambda x: 2 * x)).save(tmp_path / "l.keras")
    with pytest.raises(UnsafeFileError, match=r"__lambda__.*SHA-256 [0-9a-f]{64}.*--trust-code"):
        load_target(str(tmp_path / "l.keras"))
    loaded = load_target(str(tmp_path / "l.keras"), trust=TrustSettings(code=True))
    assert "as --trust-code allowed" in loaded.notes[0] and loaded.target.query(X).shape == (30, 3)
    dense(3, "softmax").save(tmp_path / "p.keras")
    assert load_target(str(tmp_path / "p.keras"), trust=TrustSettings(code=True)).notes == ()


@pytest.mark.parametrize(
    ("module", "name", "registered"),
    [
        ("os", "system", None),
        ("builtins", "eval", "function"),
        ("keras.utils", "get_file", None),
        ("keras.config", "enable_unsafe_deserialization", None),
        ("keras.src.utils.file_utils", "get_file", None),
        ("keras", "Lambda", None),
        ("keras.layers", "TorchModuleWrapper", None),
        ("keras.layers", "TFSMLayer", None),
        (None, "Own", "Custom>Own"),
    ],
)
def test_whatever_is_no_layer_never_reaches_keras(tmp_path, module, name, registered):
    dense(3, "softmax").save(tmp_path / "m.keras")

    def planted(config):
        part = {"module": module, "class_name": name, "config": {}, "registered_name": registered}
        config["config"]["layers"][1]["config"]["kernel_regularizer"] = part

    path = rewritten(tmp_path / "m.keras", planted)
    with pytest.raises(UnsafeFileError, match=name):
        load_target(path)


def test_damaged_archives_are_one_sentence(tmp_path):
    path = tmp_path / "m.keras"
    dense(3, "softmax").save(path)
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], whole.replace(b"\x89HDF", b"xxxx")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"^Expected a complete [^\n]*$"):
            load_target(str(path))
    dense(3, "softmax").save(path)
    with pytest.raises(InputError, match=r"^Expected a complete Keras model[^\n]*$"):
        load_target(
            rewritten(
                path, lambda config: config["config"]["layers"][1].update(class_name="Nothing")
            )
        )


def test_a_file_opens_on_torch_where_the_usual_backend_is_missing(tmp_path):
    dense(3, "softmax").save(tmp_path / "m.keras")
    code = f"from memberscope.targets import load_target; print(load_target({str(tmp_path / 'm.keras')!r}).target.signal)"
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stdout.strip() == "probabilities" and "Warning" not in found.stderr
