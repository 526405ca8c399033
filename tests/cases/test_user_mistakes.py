"""Mistakes that people make: each is one or two sentences that name the value and what to do.

And the right exit code.
"""

from __future__ import annotations

import re
import shutil
import sys

import joblib
import numpy as np
import pandas
import pytest

import memberscope
from memberscope.cli.main import run
from memberscope.errors import MemberscopeError

N = 60
DATA = "--members train.csv --non-members holdout.csv"
FOREST = "--model forest.pkl --trust-code"

FACTORIES = """
import numpy as np


def unfitted():
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier()


def broken():
    raise RuntimeError("no licence")


def net():
    import torch

    return torch.nn.Linear(3, 2)


def wide():
    import torch

    return torch.nn.Linear(9, 2)


def sick():
    return Sick()


class Sick:
    classes_ = np.array([0, 1])

    def predict_proba(self, x):
        return np.full((len(x), 2), np.nan)


def many():
    return Many()


class Many(Sick):
    def predict_proba(self, x):
        return np.full((len(x), 3), 1 / 3)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a table, models of several kinds, and files that are not what they seem."""
    from sklearn.cluster import KMeans
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    place = tmp_path_factory.mktemp("mistakes")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * N, 3))
    y = rng.integers(0, 2, 2 * N)
    frame = pandas.DataFrame(x, columns=["a", "b", "c"]).assign(
        y=y, id=np.arange(2 * N), sex=rng.choice(["f", "m"], 2 * N)
    )
    columns = ["a", "b", "c", "y"]
    train, holdout = frame[:N], frame[N:]
    tables = {
        "train": train[columns], "holdout": holdout[columns], "ids": train[[*columns, "id"]].assign(id=1),
        "shared": holdout[[*columns, "id"]].assign(id=np.arange(N)), "own": train[[*columns, "id"]], "sexes": train[[*columns, "sex"]],
        "less": holdout[["a", "b", "y"]], "more": holdout[[*columns, "sex"]], "one": train[columns].assign(y=0), "single": holdout[columns].assign(y=0),
        "gaps": train[columns].assign(y=train["y"].where(train["y"] == 1)), "words": train[columns].assign(y="cat"),
        "codes": train[columns].assign(y=10**9 + train["y"]), "typo": train[columns].assign(a=train["a"].astype(object).where(train.index != 3, "1,5x")),
        "decimals": train[columns].assign(y=train["a"]),
    }  # fmt: skip
    for name, table in tables.items():
        table.to_csv(place / f"{name}.csv", index=False)
    text = (place / "train.csv").read_text()
    (place / "cut.csv").write_text(text[:-20])
    (place / "header.csv").write_text("a,b,c,y\n")
    (place / "empty.csv").write_bytes(b"")
    (place / "twice.csv").write_text("a,a,c,y\n1,2,3,0\n4,5,6,1\n")
    (place / "picture.csv").write_bytes(bytes(range(256)) * 8)
    (place / "table.xlsx").write_bytes(b"PK")
    np.savez(place / "objects.npz", x=np.array([{}], dtype=object), y=[0])
    np.savez(place / "uneven.npz", x=np.zeros((5, 3)), y=[0, 1])
    plain = pandas.DataFrame(x, columns=["a", "b", "c"])
    joblib.dump(
        RandomForestClassifier(5, random_state=0).fit(plain[:N], y[:N]), place / "forest.pkl"
    )
    joblib.dump(RandomForestRegressor(3).fit(plain[:N], x[:N, 0]), place / "regressor.pkl")
    joblib.dump(KMeans(2, n_init=1).fit(plain[:N]), place / "clusters.pkl")
    joblib.dump(
        RandomForestClassifier(3).fit(plain[:N], np.column_stack([y, 1 - y])[:N]),
        place / "several.pkl",
    )
    (place / "cut.onnx").write_bytes(b"\x08\x07")
    (place / "cut.skops").write_bytes(b"PK\x03\x04")
    (place / "model.h5").write_bytes(b"\x89HDF")
    import torch

    torch.save(torch.nn.Linear(3, 2).state_dict(), place / "net.pt")
    (place / "mine.py").write_text(FACTORIES)
    signals = pandas.DataFrame({"member": [1, 0] * 10, "label": [0, 1] * 10, "p0": 0.4, "p1": 0.6})
    signals.to_csv(place / "signals.csv", index=False)
    signals.drop(columns="member").to_csv(place / "no-member.csv", index=False)
    signals.assign(member=2).to_csv(place / "twos.csv", index=False)
    signals.assign(p0=40.0, p1=60.0).to_csv(place / "percent.csv", index=False)
    (place / "unknown.toml").write_text("[data]\nlable = 'y'\n")
    (place / "typed.toml").write_text("[audit]\nfolds = 'five'\n")
    (place / "broken.toml").write_text("[data\n")
    (place / "policy.toml").write_text("[policy]\nmax_trp = [{ fpr = 0.1, tpr = 0.2 }]\n")
    (place / "nothing").mkdir()
    return place


MISTAKES = [
    ("audit", 2, "Expected --signals FILE, or --model, --url or --released with --members"),
    (f"audit {FOREST} --members trian.csv --non-members holdout.csv", 2, "got 'trian.csv', which is not there. Check the path"),
    (f"audit --model forrest.pkl --trust-code {DATA}", 2, "got 'forrest.pkl', which is not there"),
    (f"audit {FOREST} --members train.csv", 2, "with --members and --non-members"),
    (f"audit {FOREST} --members train.csv --non-members train.csv", 2, "got the same 60 records as members and as non-members"),
    (f"audit {FOREST} --members table.xlsx --non-members holdout.csv", 2, "got 'table.xlsx'. Convert the table"),
    (f"audit {FOREST} --members empty.csv --non-members holdout.csv", 2, "got an empty file"),
    (f"audit {FOREST} --members header.csv --non-members holdout.csv", 2, "got an empty table"),
    (f"audit {FOREST} --members cut.csv --non-members holdout.csv", 2, "Expected 4 values in each line of cut.csv, got .* in line"),
    (f"audit {FOREST} --members twice.csv --non-members holdout.csv", 2, "got 'a' twice. Rename one"),
    (f"audit {FOREST} --members picture.csv --non-members holdout.csv", 2, "bytes that are not text"),
    (f"audit {FOREST} {DATA} --label target", 2, "Expected the column 'target' in train.csv, got a, b, c, y"),
    (f"audit {FOREST} {DATA} --features a,d", 2, "Expected the column 'd' in train.csv"),
    (f"audit {FOREST} {DATA} --groups sex", 2, "Expected the column 'sex' in train.csv"),
    (f"audit {FOREST} {DATA} --id id", 2, "Expected the column 'id' in train.csv"),
    (f"audit {FOREST} {DATA} --drop z", 2, "Expected the column 'z' in train.csv"),
    (f"audit {FOREST} {DATA} --types a=int", 2, "Expected --types column=kind with the kinds number, boolean, .*, got 'a=int'"),
    (f"audit {FOREST} --members ids.csv --non-members shared.csv --id id", 2, "got .* repeated ids|ids on both sides"),
    (f"audit {FOREST} --members own.csv --non-members shared.csv --id id", 2, "got 60 ids on both sides, first '0'. Take them out"),
    (f"audit {FOREST} --members train.csv --non-members less.csv", 2, "got no c. Rename the columns"),
    (f"audit {FOREST} --members train.csv --non-members more.csv", 2, "got sex too. Rename the columns, or leave some out with --drop"),
    (f"audit {FOREST} --members one.csv --non-members single.csv", 2, "got only class 0. Give the other classes too"),
    (f"audit {FOREST} --members gaps.csv --non-members holdout.csv", 2, "Expected a label of each record in 'y' of gaps.csv, got none in"),
    (f"audit {FOREST} --members words.csv --non-members holdout.csv", 2, "Expected labels among 0, 1 in words.csv, got 'cat' in row 1"),
    ("audit --model net.pt --factory mine:net --members codes.csv --non-members codes.csv", 2, "class numbers below 100000 as labels"),
    (f"audit {FOREST} --members decimals.csv --non-members holdout.csv", 2, "Expected labels among 0, 1 in decimals.csv, got"),
    ("audit --model net.pt --factory mine:net --members typo.csv --non-members holdout.csv", 2, "'1,5x'|numbers"),
    (f"audit {FOREST} --members objects.npz --non-members holdout.csv", 2, "pickled object in x.npy, which could run code"),
    (f"audit {FOREST} --members uneven.npz --non-members holdout.csv", 2, "columns of one length in uneven.npz, got x 5, y 2"),
    (f"audit --model forest.pkl {DATA}", 2, "could run code|--trust-code"),
    (f"audit --model net.pt {DATA}", 2, "--factory"),
    (f"audit --model net.pt --factory mine:nets {DATA}", 2, "got 'mine:nets'.*Check both names"),
    (f"audit --model net.pt --factory yours:net {DATA}", 2, "got 'yours:net'.*Check both names"),
    (f"audit --model net.pt --factory mine:wide {DATA}", 2, "weight"),
    (f"audit --model mine:broken {DATA}", 2, "got RuntimeError: no licence. Call it yourself to see why"),
    (f"audit --model mine:unfitted {DATA}", 2, "Fit it before the audit"),
    (f"audit --model mine:sick {DATA}", 2, "got NaN or infinity for 120 of 120 records, first record 'train:0'"),
    (f"audit --model mine:many {DATA}", 2, "Expected 2 columns of probabilities, got 3"),
    (f"audit --model regressor.pkl --trust-code {DATA} --task ranking", 2, "Expected task"),
    (f"audit --model clusters.pkl --trust-code {DATA}", 2, "(?i)cluster"),
    (f"audit --model several.pkl --trust-code {DATA}", 2, "true values of 2 outputs as the model answers, got 1"),
    (f"audit --model cut.onnx {DATA}", 2, "cut.onnx"),
    (f"audit --model cut.skops {DATA}", 2, "complete skops file, got cut.skops"),
    (f"audit --model model.h5 {DATA}", 2, "got 'model.h5'. Convert it"),
    (f"audit {FOREST} {DATA} --outputs scores", 2, "Expected outputs probabilities, logits, labels, got 'scores'"),
    (f"audit {FOREST} {DATA} --access blackbox", 2, "Expected access label, probabilities, logits, white_box or of a language model .*, got 'blackbox'"),
    (f"audit {FOREST} {DATA} --attacks lyra", 2, "lyra"),
    (f"audit {FOREST} {DATA} --policy strictest", 2, "strictest"),
    (f"audit {FOREST} {DATA} --policy policy.toml", 2, "max_trp"),
    (f"audit {FOREST} {DATA} --fpr 1%", 2, "Expected numbers such as 0.01,0.001 for --fpr, got '1%'"),
    (f"audit {FOREST} {DATA} --prior 2", 2, "prior"),
    (f"audit {FOREST} {DATA} --confidence 95", 2, "confidence"),
    (f"audit {FOREST} {DATA} --folds 1", 2, "folds"),
    (f"audit {FOREST} {DATA} --unit y", 2, "units"),
    (f"audit {FOREST} {DATA} --references 8", 2, "Add --recipe module:function, or leave --references out"),
    (f"audit {FOREST} {DATA} --recipe mine:train", 2, "got 'mine:train'.*Check both names"),
    (f"audit {FOREST} {DATA} --recipe mine.py:recipe", 2, r"Name the module, not its file: mine:recipe\."),
    (f"audit {FOREST} {DATA} --restrict bottom:3", 2, "bottom:3"),
    (f"audit {FOREST} {DATA} --effort lazy", 2, "Expected .*quick, normal, thorough, got .?lazy"),
    (f"audit {FOREST} {DATA} --time-budget 0", 2, "more than 0 seconds, got 0.*--time-budget"),
    (f"audit {FOREST} {DATA} --time-budget 0.000001", 2, "one query of each of 120 records.*--time-budget"),
    (f"audit {FOREST} {DATA} --effort normal --time-budget 5", 2, "Expected --effort quick for a time budget, got normal"),
    (f"audit {FOREST} {DATA} --boundary-queries -1", 2, "--boundary-queries"),
    ("audit unknown.toml", 2, "got 'lable'; the nearest is 'label'"),
    ("audit typed.toml", 2, "Expected a whole number for folds in \\[audit\\] of typed.toml, got 'five'"),
    ("audit broken.toml", 2, "Expected TOML in broken.toml"),
    ("audit missing.toml", 2, "got 'missing.toml', which is not there. Run `memberscope init`"),
    ("audit --signals no-member.csv", 2, "member"),
    ("audit --signals twos.csv", 2, "member"),
    ("audit --signals percent.csv", 2, "100"),
    (f"audit --signals signals.csv {FOREST}", 2, "got both. Leave one out"),
    (f"audit --url http://127.0.0.1:9 {DATA} --n-classes 2 --retries 0 --model-name m", 4, "127.0.0.1:9"),
    ("check nothing", 2, "nothing"),
    ("check nowhere", 2, "nowhere"),
    ("report nothing", 2, "nothing"),
    ("verify nothing", 2, "nothing"),
    ("compare nothing nowhere", 2, "nothing|nowhere"),
    ("explain lyra", 2, "lyra"),
    (f"plan {FOREST} {DATA} --attacks lyra", 2, "lyra"),
    (f"defend {FOREST} {DATA}", 2, "recipe"),
    ("guard run --policy nowhere.toml --upstream http://127.0.0.1:9", 2, "nowhere.toml"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "code", "words"), MISTAKES, ids=[line for line, _, _ in MISTAKES])
def test_a_mistake_at_the_command_line(folder, monkeypatch, capsys, line, code, words):
    monkeypatch.chdir(folder)
    shutil.rmtree("memberscope-out", ignore_errors=True)
    monkeypatch.setattr(sys, "argv", ["memberscope", *line.split()])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with pytest.raises(SystemExit) as stopped:
        run()
    shown = capsys.readouterr()
    said = " ".join(shown.err.split())
    assert stopped.value.code == code, shown
    assert re.search(words, said), said
    assert "Traceback" not in said and len(re.findall(r"[.?!](?= [A-Z]|$)", said)) <= 4, said
    assert not (folder / "memberscope-out" / "result.json").exists()


def forest():
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2 * N, 3)), rng.integers(0, 2, 2 * N)
    return RandomForestClassifier(5, random_state=0).fit(x[:N], y[:N]), x, y


PYTHON = {
    "a class in place of a model": (
        lambda m, x, y: (type(m), (x[:N], y[:N]), (x[N:], y[N:])),
        "fitted|instance|class",
    ),
    "a function without classes": (
        lambda m, x, y: (m.predict_proba, (x[:N], y[:N]), (x[N:], y[N:])),
        "n_classes",
    ),
    "records without labels": (
        lambda m, x, y: (m, x[:N], x[N:]),
        r"as \(x, y\) or Records, got ndarray",
    ),
    "more labels than records": (
        lambda m, x, y: (m, (x[:N], y), (x[N:], y[N:])),
        "60.*120|120.*60",
    ),
    "labels with decimals": (lambda m, x, y: (m, (x[:N], x[:N, 0]), (x[N:], x[N:, 0])), "labels"),
    "labels as one column a class": (
        lambda m, x, y: (m, (x[:N], np.eye(2)[y[:N]]), (x[N:], np.eye(2)[y[N:]])),
        "argmax|one",
    ),
    "labels that the model has not": (
        lambda m, x, y: (m, (x[:N], y[:N] + 5), (x[N:], y[N:] + 5)),
        "classes 0, 1",
    ),
    "labels that are missing": (
        lambda m, x, y: (m, (x[:N], np.where(y[:N] == 1, 1, np.nan)), (x[N:], y[N:])),
        "(?i)label",
    ),
    "no members": (lambda m, x, y: (m, (x[:0], y[:0]), (x[N:], y[N:])), "empty set|no members"),
    "the training data as hold-out": (
        lambda m, x, y: (m, (x[:N], y[:N]), (x[:N], y[:N])),
        "the same 60 records",
    ),
    "a column too few": (
        lambda m, x, y: (m, (x[:N, :2], y[:N]), (x[N:, :2], y[N:])),
        "3 features|2 features",
    ),
    "sides of unlike width": (
        lambda m, x, y: (m, (x[:N], y[:N]), (x[N:, :2], y[N:])),
        "columns|width|shape|features",
    ),
    "a path in place of a model": (
        lambda m, x, y: ("model.pkl", (x[:N], y[:N]), (x[N:], y[N:])),
        "got str",
    ),
    "nothing in place of a model": (
        lambda m, x, y: (None, (x[:N], y[:N]), (x[N:], y[N:])),
        "got NoneType",
    ),
    "a misspelt policy": (
        lambda m, x, y: (m, (x[:N], y[:N]), (x[N:], y[N:]), {"policy": "standart"}),
        "standart",
    ),
    "a misspelt attack": (
        lambda m, x, y: (
            m,
            (x[:N], y[:N]),
            (x[N:], y[N:]),
            {"plan": memberscope.Plan(attacks=("lyra",))},
        ),
        "lyra",
    ),
    "references without a recipe": (
        lambda m, x, y: (m, (x[:N], y[:N]), (x[N:], y[N:]), {"references": 8}),
        "recipe",
    ),
    "a model that was never fitted": (
        lambda m, x, y: (type(m)(), (x[:N], y[:N]), (x[N:], y[N:])),
        "Fit it",
    ),
}


@pytest.mark.parametrize("name", PYTHON)
def test_a_mistake_in_python(name):
    make, words = PYTHON[name]
    with pytest.raises(MemberscopeError) as stopped:
        target, members, non_members, *options = make(*forest())
        memberscope.audit(target, members, non_members, **(options[0] if options else {}))
    assert re.search(words, str(stopped.value)), str(stopped.value)
    assert str(stopped.value).startswith("Expected"), str(stopped.value)


def test_the_table_is_as_long_as_promised():
    assert len(MISTAKES) + len(PYTHON) >= 60
