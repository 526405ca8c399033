"""The records of models that predict numbers or several labels, and how references are judged."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Lasso, Ridge
from sklearn.neural_network import MLPRegressor

from memberscope.auditing.collect.model_kind import describe_model
from memberscope.auditing.collect.output_references import (
    explain_other_fit,
    mark_fitted_models,
)
from memberscope.auditing.collect.training_comparison import compare_training
from memberscope.auditing.estimates.output_fit import describe_output_fit
from memberscope.auditing.subject.outputs import make_output_subject
from memberscope.auditing.verdict.model_advice import describe_measures
from memberscope.errors import InputError, TargetError
from memberscope.signals import measure_output_quality
from memberscope.targets import wrap
from memberscope.types import Access, Records


class LinearTarget:
    """Predicts the first `n_classes` columns of its records."""

    access = Access.PREDICTION
    digest = None
    n_parameters = None

    def __init__(self, n_classes=1, signal="prediction", task="regression"):
        self.n_classes, self.signal, self.task = n_classes, signal, task

    def query(self, x):
        return np.asarray(x, dtype=np.float64)[:, : self.n_classes]


def draw_sides(d=1, n=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * n, 3))
    y = x[:, :d] + rng.normal(size=(2 * n, d))
    y = y[:, 0] if d == 1 else y
    return (x[:n], y[:n]), (x[n:], y[n:])


def test_records_keep_their_numbers_and_get_groups_by_value():
    subject = make_output_subject(LinearTarget(), *draw_sides())
    assert subject.records.y.dtype == np.float64
    assert subject.class_names == ("regression",)
    assert len(set(subject.records.groups["value"])) == 4
    quarters = [(subject.records.groups["value"] == name).sum() for name in
                set(subject.records.groups["value"])]  # fmt: skip
    assert min(quarters) == max(quarters) == 30


def test_several_outputs_have_no_group_by_value():
    subject = make_output_subject(LinearTarget(2), *draw_sides(2))
    assert subject.records.y.shape == (120, 2)
    assert "value" not in subject.records.groups


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y: np.where(np.arange(len(y)) == 3, np.nan, y), "NaN or infinity for 1 records"),
        (lambda y: np.where(np.arange(len(y)) < 2, np.inf, y), "NaN or infinity for 2 records"),
        (lambda y: np.stack([y, y], axis=1), "as many true values of members as of non-members"),
        (lambda y: y[:, None, None], "of shape (n,) or (n, d), got (60, 1, 1)"),
        (lambda y: np.array(["a"] * len(y)), "Expected numbers as the member"),
        (lambda y: y[:-1], "one length, got member records 60"),
    ],
)
def test_true_values_that_do_not_fit_are_refused(change, words):
    (x, y), others = draw_sides()
    with pytest.raises(InputError) as refused:
        make_output_subject(LinearTarget(), (x, change(y)), others)
    assert words in str(refused.value)


def test_labels_other_than_0_and_1_are_refused():
    (x, _), (x2, _) = draw_sides()
    target = LinearTarget(2, "label_probabilities", "multilabel")
    labels = np.zeros((60, 2))
    labels[5, 1] = 2
    with pytest.raises(InputError, match=r"Expected 0 or 1 for each label, got 2\.0 \(1 values"):
        make_output_subject(target, (x, labels), (x2, np.zeros((60, 2))))


def test_the_same_records_on_both_sides_are_refused():
    side, _ = draw_sides()
    with pytest.raises(InputError, match="the same 60 records"):
        make_output_subject(LinearTarget(), side, side)


def test_equal_features_with_other_numbers_are_other_records():
    (x, y), _ = draw_sides()
    subject = make_output_subject(LinearTarget(), (x, y), (x, y + 1))
    assert len(subject.records) == 120


def test_constant_true_values_are_noted():
    (x, y), (x2, y2) = draw_sides()
    subject = make_output_subject(LinearTarget(), (x, y * 0), (x2, y2 * 0))
    assert any("the same true value for every record" in note for note in subject.notes)


def test_records_keep_their_ids_and_units():
    (x, y), (x2, y2) = draw_sides()
    sides = [
        Records(x, y, np.array([f"a{i}" for i in range(60)]), {}, np.repeat([f"p{i}" for i in range(20)], 3)),
        Records(x2, y2, np.array([f"b{i}" for i in range(60)]), {}, np.repeat([f"q{i}" for i in range(20)], 3)),
    ]  # fmt: skip
    subject = make_output_subject(LinearTarget(), *sides)
    assert len(np.unique(subject.unit_codes)) == 40


def test_quality_is_the_explained_variance():
    rng = np.random.default_rng(1)
    y = rng.normal(size=(500, 2)) * [1.0, 40.0]
    outputs = y + rng.normal(size=(500, 2)) * [0.5, 8.0]
    found = measure_output_quality("prediction", outputs, y)
    naive = 1 - np.mean([((outputs[:, j] - y[:, j]) ** 2).mean() / y[:, j].var() for j in range(2)])
    assert found.mean() == pytest.approx(naive, abs=1e-12)


def test_models_that_explain_nothing_are_kept_where_the_target_explains_nothing():
    assert mark_fitted_models(np.array([-0.1, -3.0, np.nan]), -0.2).tolist() == [True, True, False]


@pytest.mark.parametrize("reference_gain", [0.02, 0.3, 0.9])
def test_references_that_gain_otherwise_are_told(reference_gain):
    rng = np.random.default_rng(2)
    n, m = 2000, 4
    inside = rng.random((m, n)) < 0.5
    member = rng.random(n) < 0.5
    hard = rng.normal(size=n) * 0.1
    target = hard + 0.3 * member
    references = hard + reference_gain * inside + rng.normal(size=(m, n)) * 0.01
    found = compare_training(target, member, references, inside, 0.95)
    why = explain_other_fit(found, "variance")
    assert (why is None) == (reference_gain == 0.3)


def test_the_interval_of_the_fit_covers_and_widens_with_units():
    rng = np.random.default_rng(3)
    unit = np.repeat(np.arange(40), 10)
    y = rng.normal(size=400)
    shared = rng.normal(size=40)[unit]
    sentences = [
        describe_output_fit("prediction", (y + shared)[:, None], y, np.arange(400) < 200, 0.95, code)[0]
        for code in (None, unit)
    ]  # fmt: skip
    widths = []
    for sentence in sentences:
        low, high = sentence.split("(")[1].split(")")[0].split(" to ")
        widths.append(float(high) - float(low))
    assert widths[1] > 1.5 * widths[0]


def test_a_model_that_fails_on_the_first_record_is_named_as_the_cause():
    model = wrap(Ridge().fit(np.zeros((5, 2)), np.arange(5.0)))
    with pytest.raises(TargetError, match="for the first record, got ValueError: X has 3 features"):
        make_output_subject(model, *draw_sides())


def test_true_values_of_another_horizon_are_told_by_it():
    with pytest.raises(InputError, match="of a forecast give the horizon"):
        make_output_subject(LinearTarget(2, task="forecast"), *draw_sides())


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [
        (Ridge(), "linear"),
        (Lasso(), "linear"),
        (MLPRegressor(hidden_layer_sizes=(2,), max_iter=5), "neural_network"),
        (KernelRidge(), "unknown"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_kind_of_a_regressor_is_known(estimator, kind):
    x = np.random.default_rng(0).normal(size=(20, 2))
    found = describe_model(wrap(estimator.fit(x, x[:, 0])))
    assert found.kind == kind
    assert "smaller C" not in describe_measures(found)
