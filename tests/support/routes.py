"""One model by every route that leads to a target: objects, files, factories and stored answers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier

from memberscope.targets import StoredTarget, TrustSettings, load_target, read_signals, wrap
from memberscope.types import Target

K, F = 24, 16  # classes and features
STARS = tuple(f"{k} stars" for k in range(K))
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "good",
    "bad",
    "dull",
    "fine",
    "plot",
    "cast",
    "film",
    "very",
    "not",
    "so",
]
FACTORY = """
import torch
from memberscope import TorchTarget
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear({f}, 64), torch.nn.ReLU(), torch.nn.Linear(64, {k}), torch.nn.Softmax(1))
def build():
    return TorchTarget(net(), outputs="probabilities", batch_size=100)
def filled():
    from safetensors.torch import load_file
    module = net()
    module.load_state_dict(load_file({path!r}))
    return TorchTarget(module, outputs="probabilities")
"""


@dataclass(frozen=True)
class Route:
    """How to make the target afresh, what it is asked with, and the file behind it.

    If there is one.
    """

    make: Callable[[], Target]
    x: Any
    file: Path | None = None
    reload: Callable[[Path], Target] | None = None


def sides(seed: int = 0, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Records (2 n, f) and labels that are mostly noise; the first n are members."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * n, F)).astype(np.float32).astype(np.float64)
    scores = x @ rng.normal(size=(F, K)) + 8.0 * rng.normal(size=(2 * n, K))
    return x, scores.argmax(axis=1)


@cache
def network() -> MLPClassifier:
    """The one network, which remembers its members.

    Its weights are single precision, as most files hold them.
    """
    x, y = sides()
    model = MLPClassifier((64,), max_iter=120, learning_rate_init=0.01, alpha=1e-3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x[:300], y[:300])
    for parts in (model.coefs_, model.intercepts_):
        parts[:] = [part.astype(np.float32).astype(np.float64) for part in parts]
    return model


def weights() -> list[np.ndarray]:
    """Kernel and bias of both layers, in single precision."""
    model = network()
    return [
        part.astype(np.float32)
        for pair in zip(model.coefs_, model.intercepts_, strict=True)
        for part in pair
    ]


def network_routes(folder: Path) -> dict[str, Route]:
    """The network by every route, with all files in `folder`."""
    x, _ = sides()
    (folder / "net_of_contract.py").write_text(
        FACTORY.format(f=F, k=K, path=str(folder / "net.safetensors"))
    )
    for write in (write_skops, write_onnx, write_torch, write_keras, write_signals):
        write(folder)
    build = "net_of_contract:build"

    def filed(name: str, **options: Any) -> Route:
        def reload(path: Path) -> Target:
            return load_target(str(path), **options).target

        return Route(lambda: reload(folder / name), x, folder / name, reload)

    return {
        "sklearn": Route(lambda: wrap(network()), x),
        "skops": filed(
            "net.skops",
            trust=TrustSettings(
                types=("sklearn.neural_network._stochastic_optimizers.AdamOptimizer",)
            ),
        ),
        "onnx": filed("net.onnx"),
        "onnx of skl2onnx": filed("converted.onnx"),
        "onnx session": Route(lambda: wrap(session(folder / "net.onnx")), x),
        "torch": Route(lambda: load_target("net_of_contract:filled").target, x),
        "torch weights": filed("net.pt", factory=build),
        "torch weights, declared": filed(
            "net.pt", factory="net_of_contract:net", outputs="probabilities"
        ),
        "torch safetensors": filed("net.safetensors", factory=build),
        "keras": Route(lambda: wrap(keras_network()), x),
        "keras file": filed("net.keras"),
        "signals": Route(
            lambda: StoredTarget(read_signals(folder / "signals.npz")),
            np.arange(len(x)),
            folder / "signals.npz",
        ),
    }


def write_skops(folder: Path) -> None:
    from skops.io import dump

    dump(network(), folder / "net.skops")


def write_onnx(folder: Path) -> None:
    """One graph written node by node, and one as skl2onnx writes it.

    With a list of dictionaries.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    names = ["k0", "b0", "k1", "b1"]
    nodes = [
        helper.make_node("Gemm", ["x", "k0", "b0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "k1", "b1"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", F])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", K])],
        [
            numpy_helper.from_array(value, name)
            for name, value in zip(names, weights(), strict=True)
        ],
    )
    onnx.save(model_of(graph), folder / "net.onnx")
    from skl2onnx import to_onnx

    converted = to_onnx(network(), np.zeros((1, F), np.float32), target_opset=17)
    (folder / "converted.onnx").write_bytes(converted.SerializeToString())


def model_of(graph: Any) -> Any:
    """A graph as a model that the runtime at hand reads."""
    from onnx import helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def session(path: Path) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def write_torch(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    k0, b0, k1, b1 = (torch.from_numpy(value) for value in weights())
    state = {
        "0.weight": k0.T.contiguous(),
        "0.bias": b0,
        "2.weight": k1.T.contiguous(),
        "2.bias": b1,
    }
    torch.save(state, folder / "net.pt")
    save_file(state, folder / "net.safetensors")


@cache
def keras_network() -> Any:
    """The network in Keras."""
    from memberscope.targets.frameworks.keras import import_keras, silence_keras

    with silence_keras():
        keras = import_keras()
        layers = [
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(K, activation="softmax"),
        ]
        model = keras.Sequential([keras.Input((F,)), *layers])
        model.set_weights(weights())
    return model


def write_keras(folder: Path) -> None:
    from memberscope.targets.frameworks.keras import silence_keras

    with silence_keras():
        keras_network().save(folder / "net.keras")


def write_signals(folder: Path) -> None:
    x, y = sides()
    member = np.arange(len(x)) < len(x) // 2
    np.savez(folder / "signals.npz", member=member, label=y, p=network().predict_proba(x))


def booster_routes(folder: Path) -> dict[str, dict[str, Route]]:
    """Each booster by its classifier, its booster and its native files."""
    import lightgbm
    import xgboost

    x, y = sides()
    found: dict[str, dict[str, Route]] = {}
    for k in (2, 8):
        labels = y % k
        light = lightgbm.LGBMClassifier(n_estimators=20, num_leaves=15, n_jobs=1, verbose=-1).fit(
            x[:300], labels[:300]
        )
        extreme = xgboost.XGBClassifier(n_estimators=20, max_depth=4, n_jobs=1).fit(
            x[:300], labels[:300]
        )
        light.booster_.save_model(folder / f"light{k}.txt")
        for suffix in ("json", "ubj"):
            extreme.save_model(folder / f"extreme{k}.{suffix}")
        objects = {"lightgbm": (light, light.booster_), "xgboost": (extreme, extreme.get_booster())}
        files = {"lightgbm": [f"light{k}.txt"], "xgboost": [f"extreme{k}.json", f"extreme{k}.ubj"]}
        for library, (classifier, booster) in objects.items():
            routes = {
                "classifier": Route(wrapped(classifier), x),
                "booster": Route(wrapped(booster), x),
            }
            for name in files[library]:
                routes[name] = Route(lambda name=name: load(folder / name), x, folder / name, load)
            found[f"{library}, {k} classes"] = routes
    return found


def wrapped(model: Any) -> Callable[[], Target]:
    return lambda: wrap(model)


def load(path: Path) -> Target:
    return load_target(str(path), trust=TrustSettings()).target


def texts(n: int = 600, seed: int = 0) -> np.ndarray:
    """Reviews (n, 1) of two to twelve known words."""
    rng = np.random.default_rng(seed)
    words = WORDS[4:]
    return np.array(
        [" ".join(rng.choice(words, rng.integers(2, 13))) for _ in range(n)], dtype=object
    )[:, None]


def huggingface_routes(folder: Path) -> dict[str, Route]:
    """A small BERT for reviews as an object and as a folder."""
    import transformers

    home = folder / "reviews"
    home.mkdir()
    (home / "vocab.txt").write_text("\n".join(WORDS))
    (home / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": 16})
    )
    model = tiny_bert()
    from memberscope.targets.frameworks.huggingface_folder import silence_transformers

    with silence_transformers(transformers):
        model.save_pretrained(home)
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(home), local_files_only=True)
    pipeline = transformers.TextClassificationPipeline(model=model, tokenizer=tokenizer)
    x = texts()
    return {
        "pipeline": Route(wrapped(pipeline), x),
        "folder": Route(
            lambda: load(home), x, home / "model.safetensors", lambda path: load(path.parent)
        ),
    }


def tiny_bert(n_labels: int = K) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        num_labels=n_labels,
        id2label=dict(enumerate(STARS[:n_labels])),
        initializer_range=1.0,
    )
    return transformers.BertForSequenceClassification(config)


def changed(file: Path) -> bytes:
    """The file with one weight or threshold another, as another training would leave it."""
    content = file.read_bytes()
    if file.suffix in (".skops", ".keras", ".pt", ".onnx"):
        return rewritten(file)
    marks = {
        ".txt": b"leaf_value=0.",
        ".json": b'"split_conditions":[',
        ".ubj": b"split_conditions",
    }
    if file.suffix == ".safetensors":
        at = len(content) - 2
    else:
        at = (
            content.index(marks[file.suffix])
            + len(marks[file.suffix])
            + {".txt": 2, ".json": 3, ".ubj": 15}[file.suffix]
        )
    other = (
        content[at] ^ 1
        if file.suffix in (".ubj", ".safetensors")
        else ord("1" if content[at] != ord("1") else "2")
    )
    return bytes([*content[:at], other, *content[at + 1 :]])


def rewritten(file: Path) -> bytes:
    """The bytes of an archive or a graph with its first weights doubled."""
    import io
    import zipfile

    out = io.BytesIO()
    if file.suffix == ".pt":
        import torch

        state = torch.load(file, weights_only=True)
        torch.save({name: value * 2 for name, value in state.items()}, out)
        return out.getvalue()
    if file.suffix == ".onnx":
        import onnx

        model = onnx.load(file)
        first = model.graph.initializer[0]
        first.CopyFrom(
            onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(first), first.name)
        )
        return model.SerializeToString()
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            target.writestr(name, doubled(name, source.read(name)))
    return out.getvalue()


def doubled(name: str, content: bytes) -> bytes:
    """The weights in one member of an archive, doubled where they are real numbers."""
    import io

    out = io.BytesIO(content)
    if name.endswith(".npy"):
        values = np.load(out)
        out = io.BytesIO()
        np.save(out, 2 * values if values.dtype.kind == "f" else values)
    elif name.endswith(".h5"):
        import h5py

        def double(_: str, part: Any) -> None:
            if isinstance(part, h5py.Dataset) and part.size > 1 and part.dtype.kind == "f":
                part[...] = 2 * part[...]

        with h5py.File(out, "r+") as tree:
            tree.visititems(double)
    return out.getvalue()
