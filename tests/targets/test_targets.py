"""Targets give what their framework gives, in one shape and class order."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from memberscope.errors import InputError
from memberscope.targets import FunctionTarget, SklearnTarget, TorchTarget, wrap
from memberscope.types import Access, Target


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 4))
    return x, rng.integers(0, 3, 120)


def test_probabilities_equal_the_estimators(data):
    x, y = data
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    target = SklearnTarget(model)
    assert (target.signal, target.access, target.n_classes) == (
        "probabilities",
        Access.PROBABILITIES,
        3,
    )
    np.testing.assert_array_equal(target.query(x), model.predict_proba(x))
    assert target.n_parameters == 4 * 3 + 3
    assert isinstance(target, Target)


def test_words_as_classes_are_columns_in_sorted_order(data):
    x, y = data
    words = np.array(["zebra", "ape", "mule"])[y]
    target = SklearnTarget(DecisionTreeClassifier(max_depth=3, random_state=0).fit(x, words))
    assert target.classes == ("ape", "mule", "zebra")
    assert target.query(x).shape == (120, 3)


def test_decision_functions_are_logits(data):
    x, y = data
    many = SklearnTarget(RidgeClassifier().fit(x, y))
    assert many.signal == "logits" and many.query(x).shape == (120, 3)
    two = SklearnTarget(RidgeClassifier().fit(x, y > 0))
    values = two.query(x)
    assert values.shape == (120, 2) and (values[:, 0] == 0).all()


@pytest.mark.parametrize(
    "wrapped", [lambda model: model, lambda model: make_pipeline(StandardScaler(), model)]
)
def test_decisions_between_pairs_of_classes_are_no_logits(data, wrapped):
    """Of three classes there are three pairs.

    So that nothing but the estimator's own word tells the columns apart.
    """
    x, y = data
    pairs, classes = (
        wrapped(SVC(decision_function_shape=shape)).fit(x, y) for shape in ("ovo", "ovr")
    )
    target = SklearnTarget(pairs)
    assert target.signal == "logits"
    np.testing.assert_allclose(target.query(x), classes.decision_function(x))
    last = pairs.steps[-1][1] if hasattr(pairs, "steps") else pairs
    assert last.decision_function_shape == "ovo", "the user's own estimator stays as it was"
    two = SklearnTarget(wrapped(SVC(decision_function_shape="ovo")).fit(x, y > 0))
    assert two.signal == "logits" and two.query(x).shape == (120, 2)


def test_pairs_that_cannot_be_asked_otherwise_leave_labels(data):
    x, y = data
    search = GridSearchCV(SVC(decision_function_shape="ovo"), {"C": [1.0]}, cv=2).fit(x, y)
    target = SklearnTarget(search)
    assert (target.signal, target.access) == ("labels", Access.LABEL)
    np.testing.assert_array_equal(target.query(x)[:, 0], search.predict(x))


def test_labels_alone_are_positions_in_classes(data):
    x, _ = data

    class Labels:
        def __init__(self):
            self.classes_ = np.array([10, 20, 30])

        def predict(self, inputs):
            return np.full(len(inputs), 20)

    target = SklearnTarget(Labels())
    assert target.access is Access.LABEL and (target.query(x) == 1).all()


def test_digest_follows_what_was_fitted(data):
    x, y = data
    first, again = (SklearnTarget(LogisticRegression().fit(x, y)).digest for _ in range(2))
    other = SklearnTarget(LogisticRegression().fit(x[:60], y[:60])).digest
    assert first == again != other


def test_unfitted_and_foreign_objects_are_refused(data):
    with pytest.raises(InputError, match="Expected a fitted classifier"):
        wrap(LogisticRegression())
    with pytest.raises(InputError, match="n_classes"):
        wrap(lambda x: x)
    with pytest.raises(InputError, match="got int"):
        wrap(3)


def test_function_and_network_counts(data):
    x, y = data
    model = MLPClassifier(hidden_layer_sizes=(5,), max_iter=3, random_state=0)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, y)
    assert SklearnTarget(model).n_parameters == 4 * 5 + 5 + 5 * 3 + 3
    assert FunctionTarget(lambda a: np.ones((len(a), 3)) / 3, n_classes=3).query(x).shape == (
        120,
        3,
    )


def test_torch_module(data):
    torch = pytest.importorskip("torch")
    x, _ = data
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
    ).train()
    target = TorchTarget(module, batch_size=7)
    values = target.query(x)
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(x).float()).double().numpy()
    np.testing.assert_allclose(values, expected, atol=1e-5)
    module.train()
    target.query(x)
    assert module.training, "the module's mode is put back"
    assert target.n_classes == 3 and target.n_parameters == 4 * 8 + 8 + 8 * 3 + 3
    before = target.digest
    with torch.no_grad():
        module[0].weight[0, 0] += 1
    assert target.digest != before
    assert wrap(module).signal == "logits"


def test_torch_single_output_is_two_classes(data):
    torch = pytest.importorskip("torch")
    x, _ = data
    logits = TorchTarget(torch.nn.Linear(4, 1))
    assert logits.query(x).shape == (120, 2) and logits.n_classes == 2
    probability = TorchTarget(
        torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Sigmoid()), outputs="probabilities"
    )
    np.testing.assert_allclose(probability.query(x).sum(axis=1), 1.0)


def test_a_torch_module_may_return_labels(data):
    torch = pytest.importorskip("torch")

    class Hard(torch.nn.Module):
        def forward(self, x):
            return x.argmax(dim=1)

    target = wrap(Hard(), outputs="labels", n_classes=4)
    assert target.access is Access.LABEL
    np.testing.assert_array_equal(target.query(data[0])[:, 0], data[0].argmax(axis=1))
    with pytest.raises(InputError, match="one label a record, got 2"):
        wrap(torch.nn.Linear(4, 2), outputs="labels", n_classes=2).query(data[0])


def test_a_declaration_that_a_model_cannot_keep_is_refused(data):
    x, y = data
    model = LogisticRegression().fit(x, y)
    assert wrap(model, outputs="probabilities").signal == "probabilities"
    for found in (model, SklearnTarget(model), FunctionTarget(model.predict_proba, n_classes=3)):
        with pytest.raises(InputError, match="returns logits, got one of probabilities"):
            wrap(found, outputs="logits")
    assert wrap(model.decision_function, n_classes=3, outputs="logits").signal == "logits"


def test_torch_bad_options():
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match="available device, got 'cuda:7'"):
        TorchTarget(torch.nn.Linear(2, 2), device="cuda:7")
    with pytest.raises(InputError, match="outputs"):
        TorchTarget(torch.nn.Linear(2, 2), outputs="votes")


def test_answers_are_known_by_the_users_code_too(tmp_path, monkeypatch):
    """Else a model whose code was repaired would be audited on the answers that the old code gave."""
    import importlib
    import sys

    monkeypatch.syspath_prepend(str(tmp_path))
    text = "class Scaled:\n    classes_ = [0, 1]\n    def predict_proba(self, x):\n        return x * {}\n"
    digests = []
    for factor in (1, 1, 2):
        (tmp_path / "scaled_for_test.py").write_text(text.format(factor))
        sys.modules.pop("scaled_for_test", None)
        importlib.invalidate_caches()
        digests.append(SklearnTarget(importlib.import_module("scaled_for_test").Scaled()).digest)
    assert digests[0] == digests[1] != digests[2] and None not in digests


def test_a_torch_module_is_known_by_its_code(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    import importlib
    import sys

    monkeypatch.syspath_prepend(str(tmp_path))
    digests = []
    for call in ("self.f(x)", "2 * self.f(x)"):
        (tmp_path / "net_code_for_test.py").write_text(
            "import torch\nclass Net(torch.nn.Module):\n    def __init__(self):\n        "
            "super().__init__()\n"
            "        self.f = torch.nn.Linear(2, 2)\n        torch.nn.init.ones_(self.f.weight)\n"
            "        torch.nn.init.zeros_(self.f.bias)\n    def forward(self, x):\n        return "
            f"{call}\n"
        )
        sys.modules.pop("net_code_for_test", None)
        importlib.invalidate_caches()
        digests.append(TorchTarget(importlib.import_module("net_code_for_test").Net()).digest)
    assert digests[0] != digests[1] and None not in digests
    assert TorchTarget(torch.nn.Linear(2, 2)).digest is not None
