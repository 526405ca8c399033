"""Tables of stored predictions beside true values, as numbers and as several labels."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import memberscope
from memberscope.auditing import make_signals_subject
from memberscope.errors import InputError
from memberscope.targets import read_signals
from memberscope.types import Access

RNG = np.random.default_rng(0)
N = 200
MEMBER = np.arange(N) < N // 2
TRUE = RNG.normal(size=(N, 2))
GUESS = TRUE + RNG.normal(size=(N, 2)) * np.where(MEMBER, 0.1, 1.0)[:, None]
LABELS = (TRUE > 0).astype(int)
PROBABLE = 1 / (1 + np.exp(-GUESS))


def write(path, **columns):
    """A CSV, or an NPZ by the suffix of `path`, of the columns and membership."""
    columns = {"member": MEMBER.astype(int), **columns}
    if path.suffix == ".npz":
        np.savez(path, **columns)
    else:
        with path.open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(columns)
            rows.writerows(zip(*(np.asarray(c).tolist() for c in columns.values()), strict=True))
    return path


def split(name, values):
    return {f"{name}_{k}": values[:, k] for k in range(values.shape[1])}


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
@pytest.mark.parametrize(
    ("columns", "given", "width"),
    [
        ({"y": TRUE[:, 0], "prediction": GUESS[:, 0]}, {}, 1),
        ({"y_true": TRUE[:, 0], "y_pred": GUESS[:, 0]}, {}, 1),
        ({**split("y", TRUE), **split("prediction", GUESS)}, {}, 2),
        (
            {
                "low": TRUE[:, 0],
                "high": TRUE[:, 1],
                "pred_high": GUESS[:, 1],
                "pred_low": GUESS[:, 0],
            },
            {"label": "low,high", "task": "forecast"},
            2,
        ),
    ],
)
def test_numbers_are_read_as_numbers(tmp_path, suffix, columns, given, width):
    found = read_signals(write(tmp_path / f"s{suffix}", **columns), **given)
    assert (found.task, found.signal) == (given.get("task", "regression"), "prediction")
    np.testing.assert_allclose(found.labels, TRUE[:, :width], atol=1e-9)
    np.testing.assert_allclose(found.outputs, GUESS[:, :width], atol=1e-9)
    subject = make_signals_subject(found)
    assert subject.target.access == Access.PREDICTION and subject.target.n_classes == width
    assert subject.target.query(np.arange(3)).shape == (3, width)


def test_arrays_and_labels(tmp_path):
    whole = read_signals(write(tmp_path / "s.npz", y=TRUE, prediction=GUESS))
    np.testing.assert_array_equal(whole.outputs, GUESS)
    labels = write(tmp_path / "l.csv", **split("y", LABELS), **split("p", PROBABLE))
    found = read_signals(labels, task="multilabel")
    assert found.signal == "label_probabilities"
    subject = make_signals_subject(found)
    assert subject.records.y.dtype == np.int64 and subject.records.y.tolist() == LABELS.tolist()
    wrong = write(tmp_path / "w.csv", **split("y", LABELS + 1), **split("p", PROBABLE))
    with pytest.raises(InputError, match="Expected 0 or 1 for each label, got 2"):
        make_signals_subject(read_signals(wrong, task="multilabel"))


def test_what_does_not_fit_is_refused(tmp_path):
    odd = GUESS[:, 0].copy()
    odd[[3, 9]] = np.nan
    whole = np.round(TRUE[:, 0]).astype(int)
    cases = (
        (
            {"y": TRUE[:, 0], "prediction": odd},
            {},
            r"finite prediction .*'prediction' of .* in 2 records.* row 4",
        ),
        (
            {"y": odd, "prediction": TRUE[:, 0]},
            {},
            r"finite true value .*'y' of .* in 2 records, the first in row 4",
        ),
        ({"y": whole, "prediction": whole}, {}, r"whose meaning is open.*--task regression"),
        ({"y": whole}, {"task": "regression"}, r"Add 'prediction'"),
        ({"prediction": TRUE[:, 0]}, {"task": "regression"}, r"Add 'y'"),
        (
            {**split("y", TRUE), "prediction": TRUE[:, 0]},
            {"task": "regression"},
            r"got 1 \(prediction\) for 2 \(y_0, y_1\)",
        ),
        ({"y": whole, "prediction": whole}, {"task": "rank"}, "Expected task classification"),
    )
    for columns, given, words in cases:
        with pytest.raises(InputError, match=words):
            read_signals(write(tmp_path / "s.csv", **columns), **given)
    numbers = write(tmp_path / "n.csv", y=whole, prediction=whole)
    assert read_signals(numbers, task="regression").labels.shape == (N, 1)


def test_a_table_of_predictions_is_audited_as_a_regression(tmp_path):
    """Errors of members are a tenth of the others'."""
    table = write(tmp_path / "s.csv", y=TRUE[:, 0], prediction=GUESS[:, 0])
    result = memberscope.audit_signals(read_signals(table))
    assert result.plan.task == "regression"
    best = max(e.value for e in result.estimates if e.metric == "auc" and e.group is None)
    assert best > 0.85
