"""Labels in the forms that people hold them in.

Read right and said in the result, or refused in one sentence.
"""

from __future__ import annotations

import numpy as np
import pandas
import pytest
from sklearn.ensemble import RandomForestClassifier

import memberscope
from memberscope.errors import InputError
from memberscope.targets import FunctionTarget

N = 300
PLAN = memberscope.Plan(attacks=("gap", "loss"))


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * N, 4))
    y = np.digitize(x[:, 0] + rng.normal(size=2 * N), [-0.5, 0.5])
    return RandomForestClassifier(10, random_state=0).fit(x[:N], y[:N]), x, y


def audited(model, x, y, **options):
    return memberscope.audit(model, (x[:N], y[:N]), (x[N:], y[N:]), plan=PLAN, **options)


@pytest.fixture(scope="module")
def expected(scene):
    """The audit with whole numbers from 0 as labels."""
    return audited(*scene)


def notes_of(result):
    return result.diagnostics.notes


def accuracies(result):
    return result.diagnostics.train_accuracy.value, result.diagnostics.test_accuracy.value


FORMS = {
    "floats": lambda y: y.astype(float),
    "one column": lambda y: y[:, None],
    "a list": lambda y: y.tolist(),
    "text": lambda y: y.astype(str),
    "text in objects": lambda y: y.astype(str).astype(object),
    "text with a point": lambda y: y.astype(float).astype(str),
    "a Series with an index of its own": lambda y: pandas.Series(y, index=np.arange(len(y))[::-1]),
    "a nullable Series": lambda y: pandas.Series(y, dtype="Int64"),
    "a categorical": lambda y: pandas.Series(pandas.Categorical(y)),
    "a frame of one column": lambda y: pandas.DataFrame({"y": y}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("named", [True, False])
def test_labels_in_any_form_are_the_same_labels(scene, expected, form, named):
    model, x, y = scene
    target = model if named else FunctionTarget(model.predict_proba, n_classes=3)
    held = FORMS[form](y)
    parts = (held.iloc[:N], held.iloc[N:]) if hasattr(held, "iloc") else (held[:N], held[N:])
    found = memberscope.audit(target, (x[:N], parts[0]), (x[N:], parts[1]), plan=PLAN)
    assert accuracies(found) == accuracies(expected)


def test_truth_values_are_labels(scene):
    _, x, y = scene
    truth = y == 2
    for classes in (truth, truth.astype(int), truth.astype(float), truth.astype(str)):
        model = RandomForestClassifier(10, random_state=0).fit(x[:N], classes[:N])
        found = {
            accuracies(audited(model, x, given))
            for given in (truth, truth.astype(int), truth.astype(float), truth.astype(str))
        }
        assert len(found) == 1


def test_labels_that_start_at_one_are_read_in_order_and_said(scene):
    model, x, y = scene
    target = FunctionTarget(model.predict_proba, n_classes=3)
    expected = audited(target, x, y)
    found = audited(target, x, y + 1)
    assert accuracies(found) == accuracies(expected)
    assert any("labels are 1 to 3" in note for note in notes_of(found))
    assert not any("labels are" in note for note in notes_of(expected))
    fewer = audited(target, x, np.minimum(y, 1) + 1)  # 1 and 2 of three classes may be themselves
    assert not any("labels are" in note for note in notes_of(fewer))
    words = RandomForestClassifier(10, random_state=0).fit(x[:N], np.array(["a", "b", "c"])[y[:N]])
    assert accuracies(audited(words, x, y + 1)) == accuracies(expected)


def test_labels_that_start_at_one_in_files(scene, tmp_path, monkeypatch):
    from memberscope.cli.options.build import build_subject
    from memberscope.cli.options.table import Options

    _, x, y = scene
    for name, part in (("train", slice(0, N)), ("holdout", slice(N, 2 * N))):
        pandas.DataFrame(x[part]).add_prefix("f").assign(y=y[part] + 1).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    (tmp_path / "counted.py").write_text(
        "import torch\n\n\ndef net():\n    return torch.nn.Linear(4, 3)\n"
    )
    monkeypatch.chdir(tmp_path)
    subject = build_subject(
        Options(model="counted:net", members="train.csv", non_members="holdout.csv")
    )
    assert sorted(set(subject.records.y.tolist())) == [0, 1, 2] and subject.class_names == (
        "1",
        "2",
        "3",
    )
    assert any("labels are 1 to 3" in note for note in subject.notes)


def test_a_feature_that_is_the_label_is_named(scene):
    _, x, y = scene
    frame = pandas.DataFrame(x, columns=list("abcd")).assign(
        outcome=np.array(["low", "middle", "high"])[y]
    )
    model = RandomForestClassifier(10, random_state=0).fit(frame[list("abcd")][:N], y[:N])

    class Chosen:
        classes_ = model.classes_

        def predict_proba(self, records):
            return model.predict_proba(records[list("abcd")])

    found = audited(Chosen(), frame, y)
    assert any(
        "The feature outcome tells the label of every record" in note for note in notes_of(found)
    )
    assert not any(
        "tells the label" in note for note in notes_of(audited(model, frame[list("abcd")], y))
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y: np.where(y == 1, np.nan, y), "got none of .* records, first number"),
        (lambda y: np.where(y == 1, None, y.astype(object)), "got none of .* records"),
        (lambda y: np.eye(3)[y], r"one-hot rows y.argmax\(axis=1\)"),
        (lambda y: y + 7, "classes 0, 1, 2"),
        (lambda y: np.array(["a", "b", "c"])[y], "classes 0, 1, 2, got 'a'"),
        (lambda y: -y, "classes 0, 1, 2, got '-"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused(scene, change, words):
    model, x, y = scene
    with pytest.raises(InputError, match=words):
        audited(model, x, change(y))
    with pytest.raises(InputError):
        audited(FunctionTarget(model.predict_proba, n_classes=3), x, change(y))
