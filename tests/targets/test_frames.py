"""Records are counted, cut and put together whatever holds them.

And no value changes on the way.
"""

from __future__ import annotations

import decimal
import subprocess
import sys

import lightgbm
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from memberscope.auditing.subject.feature_matrix import build_feature_matrix
from memberscope.errors import InputError
from memberscope.frames.access import (
    choose_rows,
    count_rows,
    is_frame,
    read_frame_columns,
    slice_rows,
)
from memberscope.frames.fitted_columns import list_estimator_columns
from memberscope.frames.stacking import match_records, stack_sides, take_fitted_order
from memberscope.signals.store import digest_records
from memberscope.targets import wrap
from memberscope.targets.tables import find_fitted_columns
from memberscope.types import Records
from memberscope.wire.batch import build_request_batch

FRAME = pd.DataFrame(
    {
        "age": [30, 40, 50],
        "job": ["cook", None, "smith"],
        "seen": pd.to_datetime(["2024-01-01", None, "2024-03-01"]),
    }
)
HOLDERS = {
    "pandas": FRAME,
    "pandas, one label": FRAME.set_axis([7, 7, 7]),
    "polars": pl.from_pandas(FRAME),
    "pyarrow": pa.Table.from_pandas(FRAME, preserve_index=False),
    "array": np.arange(6).reshape(3, 2),
    "csr": sparse.csr_matrix(np.eye(3)),
    "coo": sparse.coo_matrix(np.eye(3)),
    "list": ["a", "b", "c"],
    "tuple": ("a", "b", "c"),
    "series": pd.Series(["a", "b", "c"], index=[2, 1, 0]),
    "polars series": pl.Series(["a", "b", "c"]),
    "chunked array": pa.chunked_array([["a", "b"], ["c"]]),
}


def listed(x) -> list:
    if is_frame(x):
        return [tuple(map(str, row)) for row in zip(*read_frame_columns(x).values(), strict=True)]
    values = (
        x.toarray() if hasattr(x, "toarray") else x.to_pylist() if hasattr(x, "to_pylist") else x
    )
    return [np.asarray(value).tolist() for value in values]


@pytest.mark.parametrize("name", HOLDERS)
def test_records_are_counted_and_cut_whatever_holds_them(name):
    x = HOLDERS[name]
    whole = listed(x)
    assert count_rows(x) == 3
    assert listed(slice_rows(x, 1, 3)) == whole[1:] and listed(slice_rows(x, 2, 9)) == whole[2:]
    assert listed(choose_rows(x, np.array([2, 0, 2]))) == [whole[2], whole[0], whole[2]]
    assert listed(stack_sides(x, x)) == whole * 2


def test_rows_chosen_twice_get_an_index_that_does_not_repeat():
    assert choose_rows(FRAME, np.array([1, 1])).index.is_unique
    assert choose_rows(FRAME.set_axis(list("abc")), np.array([2, 0])).index.tolist() == ["c", "a"]
    dates = FRAME.set_axis(pd.date_range("2024", periods=3))
    assert stack_sides(dates, dates).index.tolist() == dates.index.tolist() * 2


TYPES = {
    "whole and real": ([1, 2], [1.0, 2.0], "int64"),
    "whole and fractions": ([1, 2], [1.5, 2.0], "float64"),
    "whole and missing": ([1, 2], [1.0, None], "float64"),
    "too large for a float": ([2**60 + 1], [1.5], "object"),
    "plain and nullable": ([1, 2], pd.array([1, 2], dtype="Int64"), "int64"),
    "plain and missing nullable": ([1, 2], pd.array([1, None], dtype="Int64"), "Int64"),
    "truth and numbers": ([True, False], [0, 2], "int64"),
    "nothing and numbers": ([None, None], [1, 2], "float64"),
    "numbers and nothing": ([1, 2], [None, None], "float64"),
    "nothing and words": ([None, None], ["a", "b"], "str"),
    "words and objects": (["a", "b"], pd.Series(["c", None], dtype=object), "str"),
    "words and numbers mixed": (["a", "b"], ["c", 1], "object"),
    "units of time": (
        pd.to_datetime(["2024"]).as_unit("s"),
        pd.to_datetime(["2024-01-01 00:00:00.5"]),
        "datetime64[us]",
    ),
    "decimals": ([decimal.Decimal("1.5")], [1.5], "object"),
}


@pytest.mark.parametrize("name", TYPES)
def test_types_are_united_without_loss(name):
    first, second, expected = TYPES[name]
    a, b = pd.DataFrame({"x": first}), pd.DataFrame({"x": second})
    whole = stack_sides(a, b)["x"]
    if name != "decimals":
        assert str(whole.dtype) == expected
    before = [*a["x"], *b["x"]]
    assert all(
        (pd.isna(new) and pd.isna(old)) or new == old
        for new, old in zip(whole, before, strict=True)
    )


@given(
    st.lists(st.one_of(st.none(), st.integers(-(2**40), 2**40)), min_size=1, max_size=6),
    st.lists(
        st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False, width=32)),
        min_size=1,
        max_size=6,
    ),
)
def test_numbers_of_any_two_types_keep_their_values(first, second):
    for library in (pd, pl):
        whole = stack_sides(library.DataFrame({"x": first}), library.DataFrame({"x": second}))
        found = [
            None if value is None or value != value else value for value in whole["x"].to_list()
        ]
        assert found == [*first, *second]


CATEGORIES = {
    "the first's order": (pd.Categorical(["y", "x"], ["y", "x"]), pd.Categorical(["x"], ["x", "y"]), ["y", "x"]),
    "more in the second": (pd.Categorical(["y"]), pd.Categorical(["a", "y"]), ["a", "y"]),
    "unused ones of the second": (pd.Categorical(["y"]), pd.Categorical(["y"], ["a", "y"]), ["y"]),
    "words beside categories": (["y", "x"], pd.Categorical(["z"]), ["x", "y", "z"]),
    "whole numbers": (pd.Categorical([3, 1]), pd.Categorical([2]), [1, 3, 2]),
    "grades": (pd.Categorical(["lo", "hi"], ["lo", "hi"], ordered=True), pd.Categorical(["mid"], ["lo", "mid", "hi"], ordered=True), ["lo", "mid", "hi"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CATEGORIES)
def test_categories_are_united(name):
    first, second, expected = CATEGORIES[name]
    whole = stack_sides(pd.DataFrame({"x": first}), pd.DataFrame({"x": second}))["x"]
    assert whole.cat.categories.tolist() == expected and whole.tolist() == [*first, *second]
    assert whole.cat.ordered == (name == "grades")


def test_a_population_is_held_as_the_records():
    like = pd.DataFrame({"a": [1, 2], "b": pd.Categorical(["x", "y"])})
    found = match_records(
        pl.DataFrame({"b": ["y", "z"], "a": [5, 6]}), like, ("records", "population")
    )
    assert list(found.columns) == ["a", "b"] and found["b"].cat.categories.tolist() == [
        "x",
        "y",
        "z",
    ]
    with pytest.raises(InputError, match=r"got 'b' in the records only\. Add it to the population"):
        match_records(like[["a"]], like, ("records", "population"))


def test_the_matrix_is_the_same_from_all_libraries_and_types():
    expected = build_feature_matrix(FRAME)
    assert np.isnan(expected[1, 1:]).all() and expected[2, 2] > 1.7e9
    nullable, arrow = FRAME.convert_dtypes(), FRAME.convert_dtypes(dtype_backend="pyarrow")
    for other in (HOLDERS["polars"], HOLDERS["pyarrow"], nullable, arrow):
        np.testing.assert_array_equal(build_feature_matrix(other), expected)
    assert build_feature_matrix([[1, 2], [3]]).shape == (2, 1) and build_feature_matrix(
        [{"b": 1, "a": 2}, {"a": 3}]
    ).shape == (
        2,
        2,
    )


def test_digests_follow_contents():
    def digest(x):
        return digest_records(Records(x, np.zeros(3), np.array(list("abc"))))

    words = FRAME.astype({"job": object})
    assert digest(FRAME) == digest(HOLDERS["polars"]) != digest(words.fillna({"job": "None"}))
    assert (
        digest(sparse.csr_matrix(np.eye(3)))
        == digest(sparse.coo_matrix(np.eye(3)))
        != digest(sparse.csr_matrix(2 * np.eye(3)))
    )
    assert digest([[1], [2, 3], []]) != digest([[1], [2, 4], []])
    assert digest(FRAME) != digest(FRAME.rename(columns={"age": 0}))


def test_dates_and_missing_values_are_sent_as_json_knows_them():
    rows_sent = build_request_batch(FRAME.convert_dtypes()).rows()
    assert (
        rows_sent[0][:2] == [30, "cook"]
        and rows_sent[0][2].startswith("2024-01-01")
        and rows_sent[1] == [40, None, None]
    )


def test_columns_take_the_order_of_the_fit_only_where_they_are_its_columns():
    x = pd.DataFrame({"b": [1], "a c": [2]})
    assert list(take_fitted_order(x, ("a_c", "b")).columns) == ["a c", "b"]
    assert take_fitted_order(x, ("b", "q")) is x and take_fitted_order(x, ()) is x
    assert list_estimator_columns(LogisticRegression().fit([[0.0], [1.0]], [0, 1])) == ()


WARDS = pd.DataFrame(
    {"age": np.arange(60), "the ward": pd.Categorical(["b", "a", None] * 20, ["b", "a"])}
)
Y = np.arange(60) % 2


def test_models_tell_the_categories_that_they_were_fitted_with():
    forest = lightgbm.LGBMClassifier(n_estimators=1, verbose=-1).fit(WARDS, Y)
    trees = xgboost.XGBClassifier(n_estimators=1, enable_categorical=True).fit(WARDS, Y)
    encoder = make_column_transformer((OneHotEncoder(), ["the ward"]), remainder="passthrough")
    for model, name in (
        (forest, "the_ward"),
        (forest.booster_, "the_ward"),
        (trees, "the ward"),
        (trees.get_booster(), "the ward"),
    ):
        assert {key: want.categories for key, want in find_fitted_columns(wrap(model)).items()} == {
            name: ("b", "a")
        }
    for model in (
        HistGradientBoostingClassifier(max_iter=1),
        make_pipeline(encoder, LogisticRegression()),
    ):
        found = find_fitted_columns(wrap(model.fit(WARDS, Y)))["the ward"].categories
        assert [value for value in found if value == value and value is not None] == ["a", "b"]
    assert find_fitted_columns(wrap(LogisticRegression().fit([[0.0], [1.0]], [0, 1]))) == {}


def test_nothing_heavy_is_imported():
    modules = (
        "memberscope.frames.access, memberscope.frames.fitted_columns, memberscope.frames.stacking"
    )
    check = f"import {modules}, sys; print([m for m in ('pandas', 'polars', 'pyarrow') if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
