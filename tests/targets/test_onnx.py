"""ONNX models: inputs and outputs of every usual form, and one sentence for what cannot be read."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import memberscope
from memberscope.errors import InputError
from memberscope.frames.fitted_columns import list_target_columns
from memberscope.targets import (
    OnnxTarget,
    TableLayout,
    load_target,
    read_class_names,
    read_pair,
    resolve_n_classes,
    wrap,
)
from memberscope.targets.frameworks.onnx_file import read_facts
from memberscope.types import Access

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

W = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(10, 4))
REAL = TensorProto.FLOAT


def value(name: str, kind: int, shape: list) -> object:
    return helper.make_tensor_value_info(name, kind, shape)


def saved(path: Path, nodes: list, inputs: list, outputs: list, weights: dict | None = None) -> str:
    """A hand-made model in a file."""
    tensors = [
        numpy_helper.from_array(array, name)
        for name, array in ({"w": W} if weights is None else weights).items()
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, tensors),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)],
    )
    model.ir_version = 9
    path.write_bytes(model.SerializeToString())
    return str(path)


def scores(
    path: Path, last: str | None = None, shape: list | None = None, name: str = "out"
) -> str:
    """x @ w, then one more node."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z" if last else name])]
    nodes += (
        [
            helper.make_node(last, ["z"], [name], axis=1)
            if last == "Softmax"
            else helper.make_node(last, ["z"], [name])
        ]
        if last
        else []
    )
    return saved(path, nodes, [value("x", REAL, shape or ["n", 4])], [value(name, REAL, None)])


def softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def test_scores_are_told_from_answers_and_not_from_names(tmp_path):
    logits = load_target(scores(tmp_path / "z.onnx", name="probabilities")).target
    assert (logits.signal, logits.access, logits.n_classes, logits.n_parameters) == (
        "logits",
        Access.LOGITS,
        3,
        12,
    )
    np.testing.assert_allclose(logits.query(X), X @ W, atol=1e-5)
    proper = load_target(scores(tmp_path / "p.onnx", "Softmax", name="logits")).target
    assert (proper.signal, proper.n_classes) == ("probabilities", 3)
    np.testing.assert_allclose(proper.query(X), softmax(X @ W), atol=1e-6)


def test_numbers_that_are_neither_must_be_declared(tmp_path):
    """Three sigmoids lie in [0, 1] but off the simplex."""
    path = scores(tmp_path / "s.onnx", "Sigmoid")
    with pytest.raises(InputError, match="Declare which they are with --outputs"):
        load_target(path)
    assert load_target(path, outputs="logits").target.signal == "logits"
    with pytest.raises(
        InputError, match="Expected outputs probabilities, logits, labels, got 'votes'"
    ):
        load_target(path, outputs="votes")


def test_a_declared_output_is_taken_at_its_word(tmp_path):
    assert (
        load_target(scores(tmp_path / "p.onnx", "Softmax"), outputs="logits").target.signal
        == "logits"
    )
    with pytest.raises(InputError, match="one output of labels"):
        load_target(scores(tmp_path / "z.onnx"), outputs="labels")


@pytest.mark.parametrize(("last", "signal"), [("Sigmoid", "probabilities"), (None, "logits")])
def test_one_score_is_the_second_class(tmp_path, last, signal):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node(last or "Identity", ["z"], ["out"]),
    ]
    path = saved(
        tmp_path / "b.onnx",
        nodes,
        [value("x", REAL, ["n", 4])],
        [value("out", REAL, None)],
        {"w": W[:, :1]},
    )
    target = load_target(path).target
    z = X @ W[:, 0]
    expected = 1 / (1 + np.exp(-z)) if last else z
    assert (target.signal, target.n_classes) == (signal, 2)
    np.testing.assert_allclose(target.query(X)[:, 1], expected, atol=1e-6)
    np.testing.assert_allclose(target.query(X)[:, 0], 1 - expected if last else 0, atol=1e-6)


def test_of_several_outputs_the_scores_count_and_are_chosen_by_what_is_declared(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
        helper.make_node("ArgMax", ["z"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [
        value("label", TensorProto.INT64, None),
        value("z", REAL, None),
        value("p", REAL, None),
    ]
    path = saved(tmp_path / "m.onnx", nodes, [value("x", REAL, ["n", 4])], outputs)
    expected = {
        None: softmax(X @ W),
        "probabilities": softmax(X @ W),
        "logits": X @ W,
        "labels": (X @ W).argmax(axis=1)[:, None],
    }
    digests = set()
    for word, numbers in expected.items():
        target = load_target(path, outputs=word).target
        np.testing.assert_allclose(target.query(X), numbers, atol=1e-5)
        digests.add(target.digest)
    assert len(digests) == 3, "answers kept of one output are not taken for another's"
    path = saved(
        tmp_path / "two.onnx",
        [*nodes[:2], helper.make_node("Neg", ["z"], ["y"])],
        [value("x", REAL, ["n", 4])],
        [value("z", REAL, None), value("y", REAL, None)],
    )
    with pytest.raises(InputError, match="one output of logits, got z, y"):
        load_target(path)


@pytest.mark.parametrize("fixed", [1, 4])
def test_a_fixed_batch_is_filled_up(tmp_path, fixed):
    target = load_target(scores(tmp_path / "f.onnx", shape=[fixed, 4])).target
    np.testing.assert_allclose(target.query(X), X @ W, atol=1e-5)
    np.testing.assert_allclose(target.query(X[:1]), X[:1] @ W, atol=1e-5)


def test_types_and_shapes_of_records(tmp_path):
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"], axis=1),
        helper.make_node("Cast", ["f"], ["r"], to=REAL),
        helper.make_node("MatMul", ["r", "w"], ["out"]),
    ]
    path = saved(
        tmp_path / "i.onnx",
        nodes,
        [value("x", TensorProto.UINT8, ["n", 1, 2, 2])],
        [value("out", REAL, None)],
    )
    target = load_target(path).target
    pixels = np.random.default_rng(2).integers(0, 256, (6, 2, 2))
    np.testing.assert_allclose(
        target.query(pixels.astype(float)), pixels.reshape(6, 4) @ W, rtol=1e-4, atol=1e-3
    )
    for wrong, words in (
        (pixels + 0.5, "whole numbers from 0 to 255"),
        (pixels + 300, "whole numbers from 0 to 255"),
        (pixels.reshape(6, 4), r"shape \(1, 2, 2\)"),
        (np.full((6, 2, 2), np.nan), "whole numbers"),
    ):
        with pytest.raises(InputError, match=words):
            target.query(wrong)
    double = load_target(scores(tmp_path / "z.onnx")).target
    for x in (
        X.tolist(),
        X.astype(np.float32),
        X.astype(object),
        __import__("scipy.sparse").sparse.csr_matrix(X),
    ):
        np.testing.assert_allclose(double.query(x), X @ W, atol=1e-5)
    with pytest.raises(InputError, match="4 features for the input 'x', got 3"):
        double.query(X[:, :3])
    with pytest.raises(InputError, match="numbers for the input 'x', got words"):
        double.query(np.array([["a"] * 4]))


def mixed():
    """A data frame of numbers and words, its labels, and a pipeline on it."""
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "age": rng.normal(40, 9, 200),
            "income": rng.normal(size=200),
            "city": rng.choice(["oslo", "rome"], 200),
        }
    )
    y = np.where(frame["age"] + 9 * (frame["city"] == "rome") > 44, "yes", "no")
    steps = ColumnTransformer(
        [("n", StandardScaler(), ["age", "income"]), ("c", OneHotEncoder(), ["city"])]
    )
    return frame, y, make_pipeline(steps, LogisticRegression()).fit(frame, y)


def test_a_data_frames_columns_are_inputs_by_name(tmp_path):
    skl2onnx = pytest.importorskip("skl2onnx")
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    frame, y, model = mixed()
    types = [
        ("age", FloatTensorType([None, 1])),
        ("income", FloatTensorType([None, 1])),
        ("city", StringTensorType([None, 1])),
    ]
    for zipmap in (True, False):
        graph = skl2onnx.convert_sklearn(
            model, initial_types=types, target_opset=17, options={id(model): {"zipmap": zipmap}}
        )
        (tmp_path / "m.onnx").write_bytes(graph.SerializeToString())
        target = load_target(str(tmp_path / "m.onnx")).target
        assert list_target_columns(target) == ("age", "income", "city") and read_class_names(
            target
        ) == ("no", "yes")
        np.testing.assert_allclose(
            target.query(frame[["city", "income", "age"]]), model.predict_proba(frame), atol=1e-5
        )
        for name in ("a.csv", "b.csv"):
            frame[["city", "age", "income"]].assign(y=y).to_csv(tmp_path / name, index=False)
        inside, _, names = read_pair(
            tmp_path / "a.csv",
            tmp_path / "b.csv",
            TableLayout(fitted=list_target_columns(target)),
            target.classes,
        )
        np.testing.assert_allclose(target.query(inside.x), model.predict_proba(frame), atol=1e-5)
        assert names == ("no", "yes") and inside.y.tolist() == (y == "yes").astype(int).tolist()
        with pytest.raises(InputError, match="column 'income' for the ONNX model"):
            target.query(frame[["city", "age"]])
        labels = load_target(str(tmp_path / "m.onnx"), outputs="labels").target
        assert labels.n_classes == 2
        np.testing.assert_array_equal(labels.query(frame)[:, 0], model.predict(frame) == "yes")


@pytest.mark.parametrize(
    "model", [DecisionTreeClassifier(max_depth=3), SVC(), LogisticRegression()]
)
def test_what_skl2onnx_writes(tmp_path, model):
    """Its scores are called probabilities even where, as for support vector machines.

    They are not.
    """
    skl2onnx = pytest.importorskip("skl2onnx")
    y = np.random.default_rng(0).integers(0, 3, 80) * 10
    x = (np.random.default_rng(1).normal(size=(80, 4)) + y[:, None] / 20).astype(np.float32)
    model.fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of scikit-learn, about attributes that the converter reads
        graph = skl2onnx.to_onnx(model, x[:1], target_opset=17)
    (tmp_path / "m.onnx").write_bytes(graph.SerializeToString())
    target, own = load_target(str(tmp_path / "m.onnx")).target, wrap(model)
    assert (target.signal, target.n_classes, target.classes) == (own.signal, 3, ("0", "10", "20"))
    np.testing.assert_allclose(target.query(x), own.query(x), atol=1e-4)


def test_labels_alone(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("ArgMax", ["z"], ["out"], axis=1, keepdims=0),
    ]
    path = saved(
        tmp_path / "l.onnx",
        nodes,
        [value("x", REAL, ["n", 4])],
        [value("out", TensorProto.INT64, None)],
    )
    target = load_target(path).target
    assert (target.signal, target.access) == ("labels", Access.LABEL)
    np.testing.assert_array_equal(target.query(X)[:, 0], (X @ W).argmax(axis=1))
    with pytest.raises(InputError, match="n_classes"):
        _ = target.n_classes
    assert wrap(target.session, n_classes=3).n_classes == 3


def test_labels_alone_by_the_command_line_take_the_classes_of_the_records(tmp_path):
    from typer.testing import CliRunner

    from memberscope.cli.main import app

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("ArgMax", ["z"], ["out"], axis=1, keepdims=0),
    ]
    path = saved(
        tmp_path / "l.onnx",
        nodes,
        [value("x", REAL, ["n", 4])],
        [value("out", TensorProto.INT64, None)],
    )
    x = np.random.default_rng(3).normal(size=(200, 4))
    y = (x @ W).argmax(axis=1)
    y[100:] = np.random.default_rng(4).integers(0, 3, 100)
    for name, half in (("a.csv", slice(0, 100)), ("b.csv", slice(100, 200))):
        rows = np.column_stack([x[half], y[half]])
        np.savetxt(
            tmp_path / name,
            rows,
            delimiter=",",
            header="a,b,c,d,y",
            comments="",
            fmt=["%.9g"] * 4 + ["%d"],
        )
    data = [
        "--members",
        str(tmp_path / "a.csv"),
        "--non-members",
        str(tmp_path / "b.csv"),
        "--access",
        "label",
    ]
    result = CliRunner().invoke(
        app, ["audit", "--model", path, *data, "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    wrong = CliRunner().invoke(
        app, ["audit", "--model", path, *data, "--outputs", "logits", "--out", str(tmp_path / "o2")]
    )
    assert isinstance(wrong.exception, InputError) and "Leave out --outputs" in str(wrong.exception)


def test_weights_beside_the_file_count_and_elsewhere_are_refused(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    plain = onnx.load(scores(folder / "m.onnx"))
    tensor = plain.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key = "location"
    for file in (folder / "w.bin", tmp_path / "w.bin"):
        file.write_bytes(W.tobytes())
    os.symlink(tmp_path / "w.bin", folder / "link.bin")
    digests = []
    for location in ("w.bin", "../w.bin", str(tmp_path / "w.bin"), "link.bin", "none.bin"):
        entry.value = location
        (folder / "m.onnx").write_bytes(plain.SerializeToString())
        if location != "w.bin":
            with pytest.raises(InputError, match="beside it"):
                load_target(str(folder / "m.onnx"))
            continue
        target = load_target(str(folder / "m.onnx")).target
        np.testing.assert_allclose(target.query(X), X @ W, atol=1e-5)
        (folder / "w.bin").write_bytes((2 * W).tobytes())
        digests = [target.digest, load_target(str(folder / "m.onnx")).target.digest]
    assert digests[0] != digests[1]


def test_custom_operators_and_other_files_are_refused(tmp_path):
    path = saved(
        tmp_path / "c.onnx",
        [helper.make_node("Foo", ["x"], ["out"], domain="own")],
        [value("x", REAL, ["n", 4])],
        [value("out", REAL, None)],
    )
    with pytest.raises(InputError, match="standard operators"):
        load_target(path)
    for content in (b"", b"hello world, this is no model", bytes(100)):
        (tmp_path / "o.onnx").write_bytes(content)
        with pytest.raises(InputError, match="complete ONNX model"):
            load_target(str(tmp_path / "o.onnx"))
    with pytest.raises(InputError, match="device"):
        load_target(scores(tmp_path / "z.onnx"), device="tpu")


def test_a_file_with_any_byte_changed_is_read_or_refused(tmp_path):
    content = Path(scores(tmp_path / "z.onnx", "Softmax")).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        at, byte = int(rng.integers(len(content))), int(rng.integers(256))
        (tmp_path / "f.onnx").write_bytes(bytes([*content[:at], byte, *content[at + 1 :]]))
        try:
            read_facts(tmp_path / "f.onnx")
        except InputError:
            refused += 1
    assert 10 < refused < 400


def test_inputs_that_are_no_records_are_refused(tmp_path):
    nodes = [helper.make_node("Add", ["a", "b"], ["out"])]
    path = saved(
        tmp_path / "t.onnx",
        nodes,
        [value("a", REAL, ["n", 4]), value("b", REAL, ["n", 4])],
        [value("out", REAL, None)],
    )
    with pytest.raises(InputError, match="one input of records, or one a column, got a, b"):
        load_target(path)


def test_a_session_made_from_bytes_is_not_cached_and_threads_are_as_asked(tmp_path, monkeypatch):
    import onnxruntime

    path = scores(tmp_path / "z.onnx")
    assert OnnxTarget(onnxruntime.InferenceSession(Path(path).read_bytes())).digest is None
    for said, threads in (("3", 3), ("", 0)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert (
            load_target(path).target.session.get_session_options().intra_op_num_threads == threads
        )


def test_features_of_unknown_number_are_logits_unless_named(tmp_path):
    nodes = [helper.make_node("Softmax", ["x"], ["probs"], axis=1)]
    path = saved(
        tmp_path / "u.onnx", nodes, [value("x", REAL, ["n", "m"])], [value("probs", REAL, None)], {}
    )
    target = load_target(path).target
    assert target.signal == "probabilities"
    with pytest.raises(InputError, match="n_classes"):
        _ = target.n_classes
    assert resolve_n_classes(target, X, 2).n_classes == 4, (
        "the model's answer tells more than the labels at hand"
    )
    np.testing.assert_allclose(target.query(X), softmax(X), atol=1e-6)


def test_a_session_that_tells_labels_is_told_its_classes():
    import onnxruntime

    skl2onnx = pytest.importorskip("skl2onnx")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)).astype(np.float32), rng.integers(1, 4, 60)
    model = LogisticRegression().fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the converter's own
        graph = skl2onnx.to_onnx(model, x[:1], target_opset=17, options={"zipmap": False})
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    np.testing.assert_array_equal(
        OnnxTarget(session, outputs="labels", classes=(1, 2, 3)).query(x)[:, 0],
        model.predict(x) - 1,
    )
    with pytest.raises(InputError, match="Declare the model's classes"):
        memberscope.audit(
            OnnxTarget(session, outputs="labels", n_classes=3),
            (x[:30], y[:30] - 1),
            (x[30:], y[30:] - 1),
        )
