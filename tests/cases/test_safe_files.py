"""Files that are safe open without riddles.

And hostile ones are refused with a sentence and never crash the process.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn import (
    ensemble,
    gaussian_process,
    linear_model,
    model_selection,
    neighbors,
    neural_network,
    svm,
    tree,
)
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from skops.io import dump

from memberscope.errors import InputError, UnsafeFileError
from memberscope.targets import load_target, read_signals
from memberscope.targets.files.archives import check_archive

RNG = np.random.default_rng(0)
N, D = 200, 4
X = RNG.normal(size=(N, D))
Y = (X[:, 0] + X[:, 1] > RNG.normal(size=N)).astype(int)
THREE = Y + (X[:, 2] > 0.5)
COUNTS = np.column_stack([X[:, 0], RNG.integers(0, 5, N)])
BY_CATEGORY = COUNTS[:, 1].astype(int) * 2 % 3
TEXTS = np.array(["red fish", "blue fish", "one dog", "two cats"])[RNG.integers(0, 4, N)]
FEW = {"n_estimators": 3, "random_state": 0}
HIST = {"max_iter": 3, "random_state": 0}
OPEN = {
    "tree": (tree.DecisionTreeClassifier(max_depth=4), X, Y),
    "extra tree": (tree.ExtraTreeClassifier(), X, THREE),
    "best first": (tree.DecisionTreeClassifier(max_leaf_nodes=9), X, Y),
    "pruned": (tree.DecisionTreeClassifier(ccp_alpha=0.01), X, Y),
    "stump": (tree.DecisionTreeClassifier(max_depth=1), X, Y),
    "leaf": (tree.DecisionTreeClassifier(min_samples_leaf=N), X, Y),
    "forest": (ensemble.RandomForestClassifier(**FEW), X, THREE),
    "extra trees": (ensemble.ExtraTreesClassifier(**FEW), X, Y),
    "boosting": (ensemble.GradientBoostingClassifier(**FEW), X, Y),
    "boosting of three": (ensemble.GradientBoostingClassifier(**FEW), X, THREE),
    "boosting from zero": (ensemble.GradientBoostingClassifier(init="zero", **FEW), X, Y),
    "boosting from a model": (ensemble.GradientBoostingClassifier(init=linear_model.LogisticRegression(), **FEW), X, Y),
    "ada": (ensemble.AdaBoostClassifier(**FEW), X, Y),
    "bagging": (ensemble.BaggingClassifier(tree.DecisionTreeClassifier(), 3, max_features=0.5, random_state=0), X, Y),
    "bagged forests": (ensemble.BaggingClassifier(ensemble.RandomForestClassifier(**FEW), 2, max_features=0.5), X, Y),
    "histogram": (ensemble.HistGradientBoostingClassifier(**HIST), X, Y),
    "histogram of three": (ensemble.HistGradientBoostingClassifier(early_stopping=True, **HIST), X, THREE),
    "histogram of categories": (ensemble.HistGradientBoostingClassifier(categorical_features=[1], **HIST), COUNTS, Y),
    "pipeline": (make_pipeline(StandardScaler(), ensemble.RandomForestClassifier(**FEW)), X, Y),
    "columns": (
        make_pipeline(
            make_column_transformer((OneHotEncoder(), [1]), (OrdinalEncoder(), [1]), remainder="passthrough"),
            ensemble.RandomForestClassifier(**FEW),
        ),
        COUNTS,
        Y,
    ),
    "selector": (make_pipeline(SelectKBest(f_classif, k=2), linear_model.LogisticRegression()), X, Y),
    "search": (model_selection.GridSearchCV(ensemble.RandomForestClassifier(**FEW), {"max_depth": [1, 2]}, cv=2), X, Y),
    "scored search": (
        model_selection.GridSearchCV(linear_model.LogisticRegression(), {"C": [1, 2]}, cv=2, scoring="roc_auc"),
        X,
        Y,
    ),
    "calibrated": (CalibratedClassifierCV(ensemble.RandomForestClassifier(**FEW), cv=2), X, Y),
    "vote": (
        ensemble.VotingClassifier([("a", ensemble.RandomForestClassifier(**FEW)), ("b", linear_model.LogisticRegression())], voting="soft"),
        X,
        Y,
    ),
    "stack": (ensemble.StackingClassifier([("a", ensemble.ExtraTreesClassifier(**FEW)), ("b", svm.SVC())], cv=2), X, Y),
    "text": (make_pipeline(TfidfVectorizer(), linear_model.LogisticRegression()), TEXTS, Y),
    "svm": (svm.SVC(), X, Y),
    "network": (neural_network.MLPClassifier((3,), tol=1.0), X, Y),
    "sgd network": (neural_network.MLPClassifier((3,), solver="sgd", tol=1.0), X, Y),
    "gaussian process": (gaussian_process.GaussianProcessClassifier(1.0 * gaussian_process.kernels.Matern()), X[:50], Y[:50]),
    "neighbours": (neighbors.KNeighborsClassifier(algorithm="brute"), X, Y),
}  # fmt: skip


@pytest.mark.parametrize("name", OPEN)
def test_these_open_without_a_flag(tmp_path, name):
    model, x, y = OPEN[name]
    dump(model.fit(x, y), tmp_path / "m.skops")
    loaded = load_target(str(tmp_path / "m.skops"))
    asked = getattr(model, "predict_proba", None) or model.decision_function
    found = loaded.target.query(x)
    np.testing.assert_allclose(found if hasattr(model, "predict_proba") else found[:, 1], asked(x))
    trees = any(word in name for word in ("tree", "forest", "boost", "bag", "histogram"))
    assert not trees or "after checking the nodes of all its" in loaded.notes[0]


def squared(x):
    return x**2


CLOSED = {
    "own function": (
        make_pipeline(FunctionTransformer(squared), linear_model.LogisticRegression()),
        "squared",
    ),
    "memory views": (neighbors.KNeighborsClassifier(algorithm="kd_tree"), "KDTree"),
}


@pytest.mark.parametrize("name", CLOSED)
def test_these_stay_closed_and_name_the_flag(tmp_path, name):
    model, word = CLOSED[name]
    dump(model.fit(X, Y), tmp_path / "m.skops")
    with pytest.raises(UnsafeFileError, match=rf"--trust-type \S*{word}"):
        load_target(str(tmp_path / "m.skops"))


def rewritten(path, out, change):
    """A skops file with its schema and arrays changed.

    `change(schema, arrays)` gets arrays by file name.
    """
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(parts.pop("schema.json"))
    arrays = {name: np.load(io.BytesIO(data), allow_pickle=False) for name, data in parts.items()}
    raw = change(schema, arrays) or {}
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            archive.writestr(name, raw.get(name, buffer.getvalue()))
    return out


def parts_of(schema):
    stack = [schema]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            yield part
        stack.extend(
            part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
        )


def trees_of(schema):
    return [
        part
        for part in parts_of(schema)
        if part.get("__class__") in ("Tree", "TreePredictor") and "content" in part
    ]


def nodes_file(schema, which=0):
    return trees_of(schema)[which]["content"]["content"]["nodes"]["file"]


def node(name, value, where=0):
    """Change one field of a node of the first tree."""

    def change(schema, arrays):
        arrays[nodes_file(schema)][name][where] = value

    return change


def number(key, value):
    def change(schema, arrays):
        trees_of(schema)[0]["content"]["content"][key]["content"] = value

    return change


def argument(place, value):
    def change(schema, arrays):
        trees_of(schema)[0]["__reduce__"]["args"]["content"][place]["content"] = value

    return change


def replaced(key, make):
    def change(schema, arrays):
        file = trees_of(schema)[0]["content"]["content"][key]["file"]
        arrays[file] = make(arrays[file])

    return change


def estimator_number(key, value):
    def change(schema, arrays):
        for part in parts_of(schema):
            if isinstance(part.get(key), dict) and "content" in part[key]:
                part[key]["content"] = value

    return change


def wide_tree(schema, arrays):
    """A tree of a thousand features in a model of four."""
    argument(0, "1000")(schema, arrays)
    node("feature", 900)(schema, arrays)


def two_contents(schema, arrays):
    """The nodes' id stands first for other nodes, which skops would take."""
    good = trees_of(schema)[0]["content"]["content"]["nodes"]
    arrays["bad.npy"] = arrays[good["file"]].copy()
    arrays["bad.npy"]["left_child"][0] = 10**6
    inner = schema["content"]["content"]
    schema["content"]["content"] = {"aaa": {**good, "file": "bad.npy"}, **inner}
    schema["content"]["key_types"]["content"].insert(
        0, schema["content"]["key_types"]["content"][0]
    )


def shadowed(schema, arrays):
    """An estimator that does not check the width of its records any more."""
    check = {
        "__class__": "absolute",
        "__module__": "numpy",
        "__loader__": "FunctionNode",
        "__id__": 1,
    }
    schema["content"]["content"]["_validate_X_predict"] = check
    schema["content"]["key_types"]["content"].append(schema["content"]["key_types"]["content"][0])


def other_loader(schema, arrays):
    trees_of(schema)[0]["__loader__"] = "LossNode"


def cut_array(schema, arrays):
    file = nodes_file(schema)
    buffer = io.BytesIO()
    np.save(buffer, arrays[file])
    return {file: buffer.getvalue()[:-100]}


def huge_array(schema, arrays):
    file = nodes_file(schema)
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
    )
    return {file: buffer.getvalue()}


def swapped_stages(schema, arrays):
    """Gradient boosting whose one column of answers is written as three."""
    for part in parts_of(schema):
        stages = part.get("estimators_")
        if isinstance(stages, dict) and stages.get("type") == "json":
            sizes = [size["content"] for size in stages["shape"]["content"]]
            for size, other in zip(stages["shape"]["content"], reversed(sizes), strict=True):
                size["content"] = other
            stages["content"] = [{"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "__id__": -9,
                                  "content": [row["content"][0] for row in stages["content"]]}]  # fmt: skip


SKOPS = {
    "child": ("tree", node("left_child", 10**6)),
    "negative child": ("tree", node("right_child", -7)),
    "cycle": ("tree", node("left_child", 0)),
    "shared": ("tree", node("left_child", 2)),
    "feature": ("tree", node("feature", 10**9)),
    "negative feature": ("tree", node("feature", -5)),
    "half a leaf": ("tree", node("right_child", 3, -1)),
    "count": ("tree", number("node_count", "100000")),
    "fewer": ("tree", number("node_count", "1")),
    "negative count": ("tree", number("node_count", "-1")),
    "depth": ("tree", number("max_depth", "0")),
    "wide": ("tree", wide_tree),
    "outputs": ("tree", argument(2, "1000000")),
    "no outputs": ("tree", argument(2, "0")),
    "short values": ("tree", replaced("values", lambda values: values[:1])),
    "thin values": ("tree", replaced("values", lambda values: values[:, :, :1])),
    "other values": ("tree", replaced("values", lambda values: values.astype(np.float32))),
    "short nodes": ("tree", replaced("nodes", lambda nodes: nodes[:3])),
    "plain nodes": ("tree", replaced("nodes", lambda nodes: np.zeros(len(nodes)))),
    "no nodes": ("tree", replaced("nodes", lambda nodes: nodes[:0])),
    "cut": ("tree", cut_array),
    "huge": ("tree", huge_array),
    "two contents": ("tree", two_contents),
    "other loader": ("tree", other_loader),
    "forest member": ("forest", wide_tree),
    "forest shadow": ("forest", shadowed),
    "forest width": ("forest", estimator_number("n_features_in_", "3")),
    "boosting child": ("boosting", node("left_child", 10**6)),
    "boosting width": ("boosting", wide_tree),
    "boosting stages": ("boosting", swapped_stages),
    "bagging width": ("bagging", wide_tree),
    "ada cycle": ("ada", node("right_child", 0)),
    "histogram child": ("histogram", node("left", 10**6)),
    "histogram cycle": ("histogram", node("right", 0)),
    "histogram feature": ("histogram", node("feature_idx", 10**9)),
    "histogram negative": ("histogram", node("feature_idx", -3)),
    "histogram no leaf": ("histogram", node("is_leaf", 0, -1)),
    "histogram category": ("histogram", node("is_categorical", 1)),
    "histogram set": (
        "histogram of categories",
        lambda s, a: a[nodes_file(s)]["bitset_idx"].fill(10**6),
    ),
    "histogram nodes": ("histogram", replaced("nodes", lambda nodes: np.zeros(len(nodes)))),
    "histogram words": (
        "histogram",
        replaced("raw_left_cat_bitsets", lambda words: np.zeros((1, 2), np.uint32)),
    ),
}


def outcomes(paths):
    """What came of each file, all in one process of their own.

    A file after which it died is told.
    """
    command = [sys.executable, str(Path(__file__).with_name("hostile.py")), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    found = dict(line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line)
    assert done.returncode == 0, (
        f"died of {next(p.name for p in paths if p.name not in found)}: {done.returncode} "
        f"{done.stderr[-400:]}"
    )
    return found


def test_hostile_skops_files_are_refused_and_crash_nothing(tmp_path):
    made = {}
    for name, (kind, change) in SKOPS.items():
        model, x, y = OPEN[kind]
        if kind not in made:
            made[kind] = tmp_path / f"{kind}.skops"
            dump(model.fit(x, y), made[kind])
        rewritten(made[kind], tmp_path / f"{name}-{x.shape[1]}.skops", change)
    same = rewritten(made["tree"], tmp_path / f"same-{D}.skops", lambda schema, arrays: None)
    deep = tmp_path / "nested-4.skops"
    with zipfile.ZipFile(deep, "w") as archive:
        archive.writestr("schema.json", "[" * 100_000 + "]" * 100_000)
    found = outcomes(sorted(tmp_path.glob("*-*.skops")))
    assert found.pop(same.name) == "opened"
    assert "nested too deeply" in found.pop(deep.name)
    strange = {
        name: words
        for name, words in found.items()
        if not words.startswith(("UnsafeFileError: Expected", "InputError: Expected"))
    }
    assert strange == {} and len(found) == len(SKOPS)
    soft = {name for name, words in found.items() if words.startswith("InputError")}
    assert soft <= {f"cut-{D}.skops", f"huge-{D}.skops"}


def xgboost_models(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    options = {
        "objective": "multi:softprob",
        "num_class": 3,
        "max_depth": 3,
        "nthread": 1,
        "max_cat_to_onehot": 1,
    }
    data = xgboost.DMatrix(COUNTS, BY_CATEGORY, feature_types=["q", "c"], enable_categorical=True)
    booster = xgboost.train(options, data, 2)
    booster.save_model(tmp_path / "good-2.json")
    booster.save_model(tmp_path / "good-2.ubj")
    return json.loads((tmp_path / "good-2.json").read_text())


def deep(document, path, value):
    """Set a value far inside."""
    *way, last = path
    for name in way:
        document = document[name]
    document[last] = value(document[last]) if callable(value) else value


MODEL = ("learner", "gradient_booster", "model")
TREE = (*MODEL, "trees", 0)
XGBOOST = {
    "child": ((*TREE, "left_children", 0), 10**6),
    "negative": ((*TREE, "left_children", 0), -9),
    "cycle": ((*TREE, "right_children", 0), 0),
    "float": ((*TREE, "left_children", 0), 1.5),
    "wraps": ((*TREE, "left_children", 0), 2**32 + 1),
    "feature": ((*TREE, "split_indices", 0), 2),
    "far feature": ((*TREE, "split_indices", 0), 10**9),
    "negative feature": ((*TREE, "split_indices", 0), -1),
    "short": ((*TREE, "default_left"), [1]),
    "short conditions": ((*TREE, "split_conditions"), [0.5]),
    "short parents": ((*TREE, "parents"), []),
    "nodes": ((*TREE, "tree_param", "num_nodes"), "1000000"),
    "width": ((*TREE, "tree_param", "size_leaf_vector"), "5"),
    "segments": ((*TREE, "categories_segments"), lambda old: [10**6] * len(old)),
    "sizes": ((*TREE, "categories_sizes"), lambda old: [10**6] * len(old)),
    "owners": ((*TREE, "categories_nodes"), lambda old: [10**6 + i for i in range(len(old))]),
    "category": ((*TREE, "categories"), lambda old: [2**31 - 1] * len(old)),
    "lone category": ((*TREE, "categories_nodes"), []),
    "group": ((*MODEL, "tree_info", 0), 10**6),
    "negative group": ((*MODEL, "tree_info", 0), -1),
    "trees": ((*MODEL, "gbtree_model_param", "num_trees"), "1000"),
    "rounds": ((*MODEL, "iteration_indptr"), [0, 3, 600]),
    "names": ((*MODEL, "cats"), {"enc": [], "feature_segments": [0, 0, 10**6], "sorted_idx": []}),
    "features": (("learner", "learner_model_param", "num_feature"), "1"),
    "classes": (("learner", "learner_model_param", "num_class"), "1"),
    "many classes": (("learner", "learner_model_param", "num_class"), "1000000000"),
    "objective": (("learner", "objective", "softmax_multiclass_param", "num_class"), "500"),
    "score": (("learner", "learner_model_param", "base_score"), "[0.5,0.5,0.5,0.5,0.5]"),
}


def as_ubjson(value):
    """A document in binary JSON."""
    if isinstance(value, dict):
        return (
            b"{"
            + b"".join(as_ubjson(name)[1:] + as_ubjson(part) for name, part in value.items())
            + b"}"
        )
    if isinstance(value, list):
        return b"[#" + as_ubjson(len(value)) + b"".join(map(as_ubjson, value))
    if isinstance(value, str):
        return b"S" + as_ubjson(len(value.encode())) + value.encode()
    return (
        b"D" + np.array(value, ">f8").tobytes()
        if isinstance(value, float)
        else b"L" + np.array(value, ">i8").tobytes()
    )


def test_hostile_xgboost_files_are_refused_and_crash_nothing(tmp_path):
    good = json.dumps(xgboost_models(tmp_path))
    for name, (path, value) in XGBOOST.items():
        document = json.loads(good)
        deep(document, path, value)
        (tmp_path / f"{name}-2.json").write_text(json.dumps(document))
        (tmp_path / f"{name}-2.ubj").write_bytes(as_ubjson(document))
    twice = good.replace(
        '"left_children":', '"left_children": [1000000, -1, -1], "left_children":', 1
    )
    (tmp_path / "twice-2.json").write_text(twice)
    (tmp_path / "deep-2.json").write_text('{"learner":' + "[" * 100_000 + "]" * 100_000 + "}")
    (tmp_path / "deep-2.ubj").write_bytes(b"[" * 100_000)
    (tmp_path / "long-2.ubj").write_bytes(b"{L" + np.array(2**62, ">i8").tobytes())
    chain = json.loads(good)
    n = 20_001
    tree_of = chain["learner"]["gradient_booster"]["model"]["trees"][0]
    left = [i + 1 if i % 2 == 0 and i < n - 1 else -1 for i in range(n)]
    right = [i + 2 if i % 2 == 0 and i < n - 1 else -1 for i in range(n)]
    flat = dict.fromkeys(("split_indices", "parents", "default_left", "split_type"), [0] * n)
    sums = dict.fromkeys(
        ("split_conditions", "base_weights", "loss_changes", "sum_hessian"), [0.0] * n
    )
    tree_of |= {"left_children": left, "right_children": right, **flat, **sums} | {
        name: [] for name in tree_of if name.startswith("categories")
    }
    tree_of["tree_param"]["num_nodes"] = str(n)
    (tmp_path / "chain-2.json").write_text(json.dumps(chain))
    found = outcomes(sorted(tmp_path.glob("*-2.*")))
    assert [found.pop(f"good-2.{kind}") for kind in ("json", "ubj")] == ["opened", "opened"]
    assert {
        name: words
        for name, words in found.items()
        if not words.startswith(("UnsafeFileError: Expected", "InputError: Expected"))
    } == {}
    assert len(found) == 2 * len(XGBOOST) + 5


LIGHTGBM = {
    "child": ("left_child=", "left_child=70"),
    "feature": ("split_feature=", "split_feature=9"),
    "negative feature": ("split_feature=", "split_feature=-1"),
    "leaves": ("num_leaves=", "num_leaves=9"),
    "no leaves": ("num_leaves=", "num_leaves=-"),
    "classes": ("num_class=3", "num_class=2"),
    "round": ("num_tree_per_iteration=3", "num_tree_per_iteration=9"),
    "objective": ("multiclass num_class:3", "multiclass num_class:3000"),
    "sets": ("num_cat=", "num_cat=9"),
    "boundaries": ("cat_boundaries=0 ", "cat_boundaries=0 9"),
    "decision": ("decision_type=", "decision_type=11 "),
    "linear": ("is_linear=0", "is_linear=1"),
}


def test_hostile_lightgbm_files_are_refused_and_crash_nothing(tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    options = {
        "objective": "multiclass",
        "num_class": 3,
        "verbose": -1,
        "num_threads": 1,
        "num_leaves": 5,
        "min_data_per_group": 1,
    }
    data = lightgbm.Dataset(COUNTS, BY_CATEGORY, categorical_feature=[1])
    lightgbm.train({**options, "cat_smooth": 0, "min_data_in_leaf": 5}, data, 2).save_model(
        tmp_path / "good-2.txt"
    )
    good = (tmp_path / "good-2.txt").read_text()
    for name, (old, new) in LIGHTGBM.items():
        head, _, rest = good.partition("\n\n")
        sizes = [int(word) for word in head.rsplit("tree_sizes=", 1)[1].split()]
        trees, end = rest[: sum(sizes)], rest[sum(sizes) :]
        parts = [trees[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
        changed = [part.replace(old, new, 1) for part in parts]
        head = (
            head.replace(old, new, 1).rsplit("tree_sizes=", 1)[0]
            + "tree_sizes="
            + " ".join(str(len(part)) for part in changed)
        )
        (tmp_path / f"{name}-2.txt").write_text(head + "\n\n" + "".join(changed) + end)
    found = outcomes(sorted(tmp_path.glob("*-2.txt")))
    assert found.pop("good-2.txt") == "opened"
    assert {
        name: words for name, words in found.items() if not words.startswith("InputError: Expected")
    } == {}


def test_archives_that_would_fill_the_memory(tmp_path):
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p.npy", bytes(1000))
        archive.filelist[0].file_size = 3 << 29  # what it claims; nothing more is ever inflated
    with pytest.raises(InputError, match="inflates to at most 1 GiB"):
        read_signals(bomb)
    for shape in ((10**15,), (-5,), (10**18, 7)):
        with (
            zipfile.ZipFile(tmp_path / "s.npz", "w") as archive,
            archive.open("p.npy", "w") as stream,
        ):
            np.lib.format.write_array_header_1_0(
                stream, {"descr": "<f8", "fortran_order": False, "shape": shape}
            )
        with pytest.raises(InputError, match="claims shape"):
            check_archive(tmp_path / "s.npz")
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        archive.writestr("p.npy", b"")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("p.npy", b"")
    with pytest.raises(InputError, match="got one twice"):
        check_archive(tmp_path / "many.npz")
    np.savez(tmp_path / "object.npz", p=np.array([None]))
    with pytest.raises(UnsafeFileError, match="pickled object"):
        check_archive(tmp_path / "object.npz")
    np.savez_compressed(tmp_path / "plain.npz", words=np.array(["", "é"]), p=np.zeros((1000, 1000)))
    check_archive(tmp_path / "plain.npz")
