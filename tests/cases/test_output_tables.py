"""Tables of records with true numbers, several labels or series, through the command line."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import skops.io
from sklearn import ensemble, linear_model

from memberscope.cli.options.build import build_subject
from memberscope.cli.options.table import Options
from memberscope.errors import InputError
from memberscope.targets import load_target

RNG = np.random.default_rng(0)
N = 80
X = RNG.normal(size=(2 * N, 3))
TRUE = np.column_stack([X[:, 0] + RNG.normal(size=2 * N), 100 * X[:, 1]])
LABELS = (TRUE > 0).astype(int)


def write_rows(path, header, rows):
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)


@pytest.fixture
def folder(tmp_path):
    header = ["a", "b", "c", "low", "high", "l1", "l2"]
    for name, part in (("members.csv", slice(0, N)), ("others.csv", slice(N, 2 * N))):
        write_rows(tmp_path / name, header, np.column_stack([X, TRUE, LABELS])[part])
    one, two = ensemble.RandomForestRegressor(3), ensemble.RandomForestRegressor(3)
    skops.io.dump(one.fit(X[:N], TRUE[:N, 0]), tmp_path / "one.skops")
    skops.io.dump(two.fit(X[:N], TRUE[:N]), tmp_path / "two.skops")
    labels = ensemble.RandomForestClassifier(3).fit(X[:N], LABELS[:N])
    skops.io.dump(labels, tmp_path / "labels.skops")
    return tmp_path


def read_subject(folder, model, **given):
    names = {"members": "members.csv", "non_members": "others.csv", "model": model}
    return build_subject(Options(**{k: str(folder / v) for k, v in names.items()}, **given))


@pytest.mark.parametrize(
    ("model", "label", "drop", "task", "expected"),
    [
        ("one.skops", "low", ("high", "l1", "l2"), "regression", TRUE[:, :1]),
        ("two.skops", "low,high", ("l1", "l2"), "regression", TRUE),
        ("two.skops", "high, low", ("l1", "l2"), "regression", TRUE[:, ::-1]),
        ("labels.skops", "l1,l2", ("low", "high"), "multilabel", LABELS),
    ],
)
def test_true_values_are_read_from_their_columns(folder, model, label, drop, task, expected):
    subject = read_subject(folder, model, label=label, drop=drop)
    assert subject.target.task == task
    np.testing.assert_allclose(subject.records.y.reshape(2 * N, -1), expected)
    np.testing.assert_allclose(np.asarray(subject.records.x), X)
    assert subject.records.y.dtype == (np.int64 if task == "multilabel" else np.float64)


def test_tables_that_do_not_fit_the_task_are_refused(folder):
    drop = {"drop": ("l1", "l2")}
    cases = (
        ("one.skops", {"label": "low,high", **drop}, r"true values of 1 outputs .* got 2"),
        ("labels.skops", {"label": "low,high", **drop}, r"Expected 0 or 1 for each label, got"),
        ("one.skops", {"label": "low,depth", **drop}, r"the column 'depth' in .*members.csv"),
        (
            "two.skops",
            {"label": "low,high", "task": "multilabel", **drop},
            r'task="multilabel", got',
        ),
        ("one.skops", {"label": "low", "horizon": 3, **drop}, r"--window with --horizon, got none"),
        (
            "labels.skops",
            {"label": "l1", "window": 3},
            r"forecasts for --window, got one for multil",
        ),
        ("one.skops", {"label": "low", "window": 3}, r"Expected --unit with --window, got none"),
    )
    for model, given, words in cases:
        with pytest.raises(InputError, match=words):
            read_subject(folder, model, **given)
    rows = np.column_stack([X, TRUE, LABELS])[:N].tolist()
    rows[4][3] = rows[7][3] = ""
    write_rows(folder / "members.csv", ["a", "b", "c", "low", "high", "l1", "l2"], rows)
    with pytest.raises(
        InputError, match=r"finite true value .* 'low' .* none in 2 records, the first in row 5"
    ):
        read_subject(folder, "one.skops", label="low", drop=("high", "l1", "l2"))


def test_series_are_cut_and_keep_their_unit(folder):
    """A window of a series never stands apart from the others; short series are left out, counted."""
    steps = np.arange(12)
    for name, first in (("members.csv", 0), ("others.csv", 40)):
        rows = [
            (f"s{first + k}", t, np.sin(t * (1 + first + k)), k)
            for k in range(40)
            for t in (steps if k else steps[:3])
        ]
        write_rows(folder / name, ["series", "when", "value", "site"], rows)
    how = {"unit": "series", "time": "when", "window": 4, "horizon": 2, "label": "value"}
    windows = np.random.default_rng(1).normal(size=(50, 4))
    model = linear_model.LinearRegression().fit(windows, windows[:, :2])
    skops.io.dump(model, folder / "series.skops")
    subject = read_subject(folder, "series.skops", task="forecast", drop=("site",), **how)
    assert subject.target.task == "forecast"
    assert subject.records.x.shape == (78 * 7, 4) and subject.records.y.shape == (78 * 7, 2)
    assert len(np.unique(subject.records.unit)) == 78
    assert any("Left out 2 of 80 series of fewer than 6 time steps" in one for one in subject.notes)
    np.testing.assert_allclose(subject.records.x[0], np.sin(2 * steps[:4]))
    rows = [(f"s{k}", t, np.sin(t * (2 + k)), k) for k in range(39, 80) for t in steps]
    write_rows(folder / "others.csv", ["series", "when", "value", "site"], rows)
    with pytest.raises(InputError, match="both sides"):
        read_subject(folder, "series.skops", task="forecast", drop=("site",), **how)


def test_a_file_keeps_its_digest_whatever_the_task(folder):
    one, two = (load_target(str(folder / "one.skops")).target for _ in range(2))
    assert one.digest == two.digest is not None
    forecast = load_target(str(folder / "one.skops"), task="forecast").target
    assert forecast.task == "forecast" and forecast.digest != one.digest
    with pytest.raises(InputError, match=r'task="classification", got the regressor'):
        load_target(str(folder / "one.skops"), task="classification")
