"""Models and tables from files: safe by default, one sentence when they are wrong."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

from memberscope.errors import InputError, UnsafeFileError
from memberscope.frames.fitted_columns import list_target_columns
from memberscope.targets import (
    SklearnTarget,
    StoredTarget,
    TableLayout,
    TrustSettings,
    load_target,
    read_class_names,
    read_pair,
    read_signals,
)


class Bomb:
    """Unpickling this creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (os.mkdir, (str(self.marker),))


@pytest.fixture
def fitted():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3))
    return LogisticRegression().fit(x, rng.integers(0, 2, 80)), x


def test_skops(tmp_path, fitted):
    from skops.io import dump

    model, x = fitted
    path = tmp_path / "model.skops"
    dump(model, path)
    np.testing.assert_allclose(load_target(str(path)).target.query(x), model.predict_proba(x))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="complete skops file"):
        load_target(str(path))


def test_skops_names_the_types_it_does_not_trust(tmp_path, fitted):
    from skops.io import dump

    _, x = fitted
    path = tmp_path / "neighbours.skops"
    dump(KNeighborsClassifier().fit(x, x[:, 0] > 0), path)
    with pytest.raises(UnsafeFileError, match=r"--trust-type sklearn\.neighbors\._kd_tree\.KDTree"):
        load_target(str(path))
    types = (
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.neighbors._kd_tree.KDTree",
    )
    loaded = load_target(str(path), trust=TrustSettings(types=types))
    assert "sklearn.neighbors._kd_tree.KDTree" in loaded.notes[0]


@pytest.mark.parametrize(
    "model",
    [RandomForestClassifier(5, random_state=0), MLPClassifier((4,), tol=1.0, random_state=0)],
)
def test_a_model_from_a_file_has_the_same_digest_each_time(tmp_path, fitted, model):
    """Without it, a killed audit could not go on and the same audit would be refused as another."""
    from skops.io import dump

    x = fitted[1]
    model.fit(x, x[:, 0] > 0)
    for name, save in (("model.skops", dump), ("model.joblib", joblib.dump)):
        save(model, tmp_path / name)
        first, again = (
            load_target(str(tmp_path / name), trust=TrustSettings(code=True)).target
            for _ in range(2)
        )
        assert first.digest == again.digest
    model.fit(x, x[:, 1] > 0)
    joblib.dump(model, tmp_path / "model.joblib")
    assert (
        load_target(str(tmp_path / "model.joblib"), trust=TrustSettings(code=True)).target.digest
        != first.digest
    )


def test_skops_bomb_does_not_run(tmp_path):
    import json

    marker = tmp_path / "ran"
    schema = {
        "__class__": "mkdir",
        "__module__": "os",
        "__loader__": "FunctionNode",
        "__id__": 1,
        "content": str(marker),
    }
    path = tmp_path / "bomb.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "schema.json", json.dumps({**schema, "_skops_version": "0.11", "protocol": 2})
        )
    with pytest.raises((UnsafeFileError, InputError)):
        load_target(str(path))
    assert not marker.exists()


def test_pickle_is_refused_with_its_hash_and_opened_only_on_trust(tmp_path, fitted):
    model, x = fitted
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model))
    with pytest.raises(UnsafeFileError, match=r"SHA-256 [0-9a-f]{64}.*--trust-code"):
        load_target(str(path))
    loaded = load_target(str(path), trust=TrustSettings(code=True))
    np.testing.assert_allclose(loaded.target.query(x), model.predict_proba(x))
    assert "--trust-code allowed" in loaded.notes[0]


@pytest.mark.parametrize("suffix", [".pkl", ".joblib", ".pickle"])
def test_pickle_bomb_does_not_run(tmp_path, suffix):
    marker = tmp_path / "ran"
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(UnsafeFileError):
        load_target(str(path))
    assert not marker.exists()


def test_torch_weights(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    (tmp_path / "net_for_test.py").write_text(
        "import torch\ndef build():\n    return torch.nn.Linear(3, 2)\n"
    )
    monkeypatch.chdir(tmp_path)
    module = torch.nn.Linear(3, 2)
    torch.save(module.state_dict(), tmp_path / "net.pt")
    x = np.ones((2, 3))
    target = load_target("net.pt", factory="net_for_test:build").target
    np.testing.assert_allclose(
        target.query(x), module(torch.ones(2, 3)).detach().numpy(), atol=1e-6
    )
    from safetensors.torch import save_file

    save_file(module.state_dict(), tmp_path / "net.safetensors")
    np.testing.assert_allclose(
        load_target("net.safetensors", factory="net_for_test:build").target.query(x),
        target.query(x),
    )
    with pytest.raises(InputError, match="--factory"):
        load_target("net.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "net.pt").read_bytes()[:300])
    with pytest.raises(InputError, match="complete torch weights"):
        load_target("cut.pt", factory="net_for_test:build")
    assert load_target("net_for_test:build").target.n_classes == 2


def test_a_factory_may_say_what_its_module_returns_and_the_device_is_the_users(
    tmp_path, monkeypatch
):
    torch = pytest.importorskip("torch")
    (tmp_path / "soft_for_test.py").write_text(
        "import torch\nfrom memberscope import TorchTarget\n"
        "def build():\n    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Softmax(1))\n"
        "    return TorchTarget(net, outputs='probabilities', batch_size=7)\n"
    )
    monkeypatch.chdir(tmp_path)
    torch.save({"0.weight": torch.ones(2, 3), "0.bias": torch.zeros(2)}, "net.pt")
    for arguments in (
        {"spec": "soft_for_test:build"},
        {"spec": "net.pt", "factory": "soft_for_test:build"},
    ):
        target = load_target(**arguments, device="cpu").target
        assert (target.signal, target.batch_size, target.n_classes) == ("probabilities", 7, 2)
        with pytest.raises(InputError, match="Expected an available device, got 'cuda:99'"):
            load_target(**arguments, device="cuda:99")
    torch.save(torch.nn.Linear(4, 2).state_dict(), "other.pt")
    with pytest.raises(InputError, match="weights that fit soft_for_test:build"):
        load_target("other.pt", factory="soft_for_test:build")


def test_torch_bomb_does_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    marker = tmp_path / "ran"
    torch.save({"weight": Bomb(marker)}, tmp_path / "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(marker)))
    for name in ("bomb.pt", "plain.pt"):
        with pytest.raises(UnsafeFileError, match="could run code"):
            load_target(str(tmp_path / name), factory="memberscope:audit")
    assert not marker.exists()


def test_torchscript_is_code(tmp_path):
    torch = pytest.importorskip("torch")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(3, 2)).save(str(tmp_path / "net.pt"))
    with pytest.raises(UnsafeFileError, match="cannot run code"):
        load_target(str(tmp_path / "net.pt"), factory="memberscope:audit")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nowhere.skops", "which is not there"),
        ("no_such_module_here:build", "importable module:factory"),
        ("memberscope:no_such_name", "importable module:factory"),
    ],
)
def test_missing_models(spec, words):
    with pytest.raises(InputError, match=words):
        load_target(spec)


def test_unknown_suffix(tmp_path):
    (tmp_path / "model.h5").write_bytes(b"x")
    with pytest.raises(InputError, match=r"\.skops"):
        load_target(str(tmp_path / "model.h5"))


def signals_csv(
    path: Path, header: str = "member,label,p0,p1,site", rows: list[str] | None = None
) -> Path:
    body = ["1,0,0.9,0.1,a", "0,1,0.3,0.7,b"] if rows is None else rows
    path.write_text("\n".join([header, *body]) + "\n", encoding="utf-8-sig")
    return path


def test_signals_from_each_format_are_the_same(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    csv = read_signals(signals_csv(tmp_path / "s.csv"), groups=("site",), features=("site", "p0"))
    columns = {
        "member": [1, 0],
        "label": [0, 1],
        "p0": [0.9, 0.3],
        "p1": [0.1, 0.7],
        "site": ["a", "b"],
    }
    parquet.write_table(pa.table(columns), tmp_path / "s.parquet")
    np.savez(
        tmp_path / "s.npz",
        member=[1, 0],
        label=[0, 1],
        p=[[0.9, 0.1], [0.3, 0.7]],
        site=np.array(["a", "b"]),
    )
    for name, features in (("s.parquet", ("site", "p0")), ("s.npz", ("site",))):
        found = read_signals(tmp_path / name, groups=("site",), features=features)
        assert found.signal == csv.signal == "probabilities"
        np.testing.assert_array_equal(found.outputs, csv.outputs)
        np.testing.assert_array_equal(found.member, [True, False])
        assert found.groups["site"].tolist() == ["a", "b"]
    assert csv.features.tolist() == [[0.0, 0.9], [1.0, 0.3]]
    np.testing.assert_array_equal(StoredTarget(csv).query(np.array([1])), [[0.3, 0.7]])


def test_losses_and_logits(tmp_path):
    loss = read_signals(
        signals_csv(tmp_path / "l.csv", "member,label,loss,id", ["1,0,0.1,a", "0,1,2.5,b"])
    )
    assert loss.signal == "loss" and loss.ids.tolist() == ["a", "b"]
    logits = read_signals(
        signals_csv(tmp_path / "z.csv", "member,label,z0,z1", ["1,0,3,-1", "0,1,0,0"])
    )
    assert logits.signal == "logits" and logits.outputs.tolist() == [[3.0, -1.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        ("member,p0,p1", ["1,.5,.5"], "Add 'label'"),
        ("member,label", ["1,0"], "either p0, p1"),
        ("member,label,p0,p1,loss", ["1,0,.5,.5,1"], "Keep one kind"),
        ("member,label,p0,p2", ["1,0,.5,.5"], "without gaps"),
        ("member,label,p0", ["1,0,.5"], "at least two classes"),
        ("member,label,p0,p1", ["2,0,.5,.5"], "Expected 0 or 1 in the column member"),
        ("member,label,p0,p1", ["1,cat,.5,.5"], "got 'cat' in row 1"),
        ("member,label,p0,p1", ["1,0.5,.5,.5"], "0-based class numbers"),
        ("member,label,p0,p1", ["1,0,.5,.5", "0,1,.5"], "got 3 in line 3"),
        ("member,label,p0,p1", ["1,0,high,.5"], "Expected numbers in the column 'p0'"),
        ("member,label,p0,p0", ["1,0,.5,.5"], "'p0' twice"),
        ("member,label,p0,p1", [], "empty table"),
    ],
)
def test_bad_signals_are_one_sentence(tmp_path, header, rows, words):
    with pytest.raises(InputError, match=words):
        read_signals(signals_csv(tmp_path / "s.csv", header, rows))


def test_numbers_with_a_gap_stay_numbers_and_endless_ones_are_refused(tmp_path):
    rows = [f"1,0,.5,.5,{value}" for value in ("10", "", "9")]
    found = read_signals(
        signals_csv(tmp_path / "s.csv", "member,label,p0,p1,age", rows), features=("age",)
    )
    np.testing.assert_array_equal(found.features, [[10.0], [np.nan], [9.0]])
    signals_csv(tmp_path / "inf.csv", "member,label,p0,p1,age", ["1,0,.5,.5,3", "0,1,.5,.5,inf"])
    with pytest.raises(InputError, match="got inf in row 2"):
        read_signals(tmp_path / "inf.csv", features=("age",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": np.array(2)}, "single value 'k'"),
        ({"label": np.array([[0, 1], [1, 0]])}, r"'label' of .* got shape \(2, 2\)"),
        ({"member": np.array([[0, 1], [1, 0]])}, r"'member' of .* got shape"),
        ({"p": np.full((2, 2, 1), 0.5)}, "one array"),
        ({"p": np.full((2, 2), 0.5j)}, "complex"),
        ({"label": np.array([0, 10**12])}, "class numbers below 100000"),
    ],
)
def test_arrays_of_another_shape_are_one_sentence(tmp_path, change, words):
    arrays = {"member": np.array([1, 0]), "label": np.array([0, 1]), "p": np.full((2, 2), 0.5)}
    np.savez(tmp_path / "s.npz", **(arrays | change))
    with pytest.raises(InputError, match=words):
        read_signals(tmp_path / "s.npz")


def test_npz_bomb_does_not_run(tmp_path):
    marker = tmp_path / "ran"
    np.savez(tmp_path / "bomb.npz", member=np.array([Bomb(marker)], dtype=object), label=[0])
    with pytest.raises(UnsafeFileError, match="pickled object"):
        read_signals(tmp_path / "bomb.npz")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["s.npz", "s.parquet"])
def test_truncated_tables(tmp_path, name):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    np.savez(
        tmp_path / "s.npz",
        member=np.arange(2000) % 2,
        label=np.zeros(2000),
        p=np.full((2000, 2), 0.5),
    )
    parquet.write_table(pa.table({"member": list(range(2000))}), tmp_path / "s.parquet")
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(InputError, match="complete"):
        read_signals(path)


def test_missing_and_foreign_tables(tmp_path):
    with pytest.raises(InputError, match="not there"):
        read_signals(tmp_path / "none.csv")
    (tmp_path / "s.xlsx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"\.parquet, \.feather or \.npz"):
        read_signals(tmp_path / "s.xlsx")
    (tmp_path / "latin.csv").write_bytes("member,label,p0,p1\n1,0,.5,é".encode("latin-1"))
    with pytest.raises(
        InputError, match="Expected numbers in the column 'p1'"
    ):  # read as Windows-1252
        read_signals(tmp_path / "latin.csv")


def test_pairs_of_tables(tmp_path):
    (tmp_path / "train.csv").write_text("a,b,sex,y\n1,2,f,yes\n3,4,m,no\n")
    (tmp_path / "hold.csv").write_text("a,b,sex,y\n5,6,f,no\n")
    layout = TableLayout(groups=("sex",), drop=("sex",))
    inside, outside, names = read_pair(tmp_path / "train.csv", tmp_path / "hold.csv", layout)
    assert names == ("no", "yes") and inside.y.tolist() == [1, 0] and outside.y.tolist() == [0]
    assert inside.x.tolist() == [[1, 2], [3, 4]] and inside.ids.tolist() == ["train:0", "train:1"]
    assert inside.groups["sex"].tolist() == ["f", "m"]
    with pytest.raises(InputError, match="labels among yes, maybe"):
        read_pair(tmp_path / "train.csv", tmp_path / "hold.csv", layout, classes=("yes", "maybe"))
    (tmp_path / "other.csv").write_text("a,c,sex,y\n5,6,f,no\n")
    with pytest.raises(InputError, match="same columns"):
        read_pair(tmp_path / "train.csv", tmp_path / "other.csv", layout)
    with pytest.raises(InputError, match="column 'target'"):
        read_pair(tmp_path / "train.csv", tmp_path / "hold.csv", TableLayout(label="target"))


def test_files_of_one_name_in_two_folders_hold_different_records(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv").write_text("a,y\n1,0\n2,1\n")
    inside, outside, _ = read_pair(
        tmp_path / "train" / "data.csv", tmp_path / "test" / "data.csv", TableLayout()
    )
    assert not set(inside.ids) & set(outside.ids)


def test_columns_go_to_the_model_under_the_names_it_was_fitted_with(tmp_path):
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"a": rng.normal(size=60), "b": 100 + rng.normal(size=60)})
    model = LogisticRegression().fit(frame, frame["a"] > 0)
    target = SklearnTarget(model)
    for name in ("train.csv", "hold.csv"):
        frame[["b", "a"]].assign(y=(frame["a"] > 0).astype(int)).to_csv(
            tmp_path / name, index=False
        )
    layout = TableLayout(fitted=list_target_columns(target))
    inside, _, _ = read_pair(
        tmp_path / "train.csv", tmp_path / "hold.csv", layout, read_class_names(target)
    )
    np.testing.assert_allclose(target.query(inside.x), model.predict_proba(frame))
    assert inside.y.tolist() == (frame["a"] > 0).astype(int).tolist()
    for more, less, words in (("c", None, "got c too"), (None, "a", "got no a")):
        table = frame.assign(y=0, **({more: 1.0} if more else {}))
        for name in ("train.csv", "hold.csv"):
            table.drop(columns=[less] if less else []).to_csv(tmp_path / name, index=False)
        with pytest.raises(InputError, match=words):
            read_pair(
                tmp_path / "train.csv", tmp_path / "hold.csv", layout, read_class_names(target)
            )


@pytest.mark.parametrize(
    ("classes", "written"),
    [(("0.0", "1.0"), "0,1"), (("False", "True"), "0,1"), (("0", "1"), "0.0,1.0")],
)
def test_one_class_written_in_two_ways_is_one_class(tmp_path, classes, written):
    first, second = written.split(",")
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"x,y\n1,{second}\n2,{first}\n")
    assert read_pair(tmp_path / "a.csv", tmp_path / "b.csv", TableLayout(), classes)[
        0
    ].y.tolist() == [1, 0]


def test_labels_too_large_to_be_classes(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x,y\n1,0\n2,1000000000000\n")
    with pytest.raises(InputError, match="class numbers below 100000 as labels, got 1000000000000"):
        read_pair(tmp_path / "a.csv", tmp_path / "b.csv", TableLayout())


def test_npz_pair_keeps_images(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 5, 5)), y=[0, 1, 0, 1])
    np.savez(tmp_path / "b.npz", x=np.ones((2, 5, 5)), y=[0, 1])
    inside, outside, names = read_pair(tmp_path / "a.npz", tmp_path / "b.npz", TableLayout())
    assert inside.x.shape == (4, 5, 5) and outside.x.shape == (2, 5, 5) and names == ("0", "1")
