"""Data frames as people have them.

Mixed types, other column orders, categories of each side, several libraries, missing values.
"""

from __future__ import annotations

import datetime
import decimal

import lightgbm
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xgboost
from catboost import CatBoostClassifier
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline as make_sampling_pipeline
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from memberscope import Plan, audit
from memberscope.auditing.subject.feature_matrix import build_feature_matrix
from memberscope.errors import InputError
from memberscope.frames.stacking import stack_sides
from memberscope.signals.feature_domain import encode_in_domain
from memberscope.targets import wrap

N, HALF = 240, 120
QUICK = Plan(attacks=("gap", "loss"))
SEARCHES = Plan(attacks=("gap", "boundary", "noise"), search_queries=12)


def patients(n: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "ward": rng.choice(["A", "B", "C"], n),
            "bp": rng.normal(120, 15, n),
            "seen": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 400, n), unit="D"),
            "smoker": rng.random(n) < 0.3,
            "note": rng.choice(["ok", "bad", "fine"], n),
        }
    )
    frame.loc[::11, "bp"] = np.nan
    frame.loc[::13, "ward"] = None
    frame.loc[::17, "seen"] = pd.NaT
    return frame


def days(seen: pd.DataFrame) -> pd.DataFrame:
    return (seen - pd.Timestamp("2024-01-01")).apply(lambda column: column.dt.days).fillna(-1)


def columns():
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "bp"]),
        (
            make_pipeline(
                SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
            ),
            ["ward", "note"],
        ),
        (FunctionTransformer(days), ["seen"]),
        ("passthrough", ["smoker"]),
    )


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(8, random_state=0)


FRAME = patients()
Y = np.where(FRAME["age"] + np.random.default_rng(2).normal(0, 20, N) > 55, "sick", "well")
A, B, YA, YB = FRAME[:HALF], FRAME[HALF:], Y[:HALF], Y[HALF:]
PIPE = make_pipeline(columns(), forest()).fit(A, YA)
PLAIN = FRAME.drop(columns="seen").fillna({"ward": "?", "bp": 0.0})
ENCODER = make_column_transformer(
    (OneHotEncoder(handle_unknown="ignore"), ["ward", "note"]), remainder="passthrough"
)
POLARS = pl.from_pandas(PLAIN)
POLARS_PIPE = make_pipeline(ENCODER, forest()).fit(POLARS[:HALF], YA)


def accuracies(model, members, others, plan=QUICK, **more):
    result = audit(model, members, others, plan=plan, **more)
    found = result.diagnostics
    return result, found.train_accuracy.value, found.test_accuracy.value


def check_alone(model, members, others, plan=QUICK, **more):
    """Audit and compare with what the model predicts of each side alone."""
    result, train, test = accuracies(model, members, others, plan, **more)
    for (x, y), found in zip((members, others), (train, test), strict=True):
        assert found == pytest.approx(
            np.mean(np.asarray(model.predict(x)).ravel() == np.asarray(y))
        )
    return result


ORDERS = {
    "as fitted": (A, B),
    "hold-out reversed": (A, B[B.columns[::-1]]),
    "both reversed": (A[A.columns[::-1]], B[B.columns[::-1]]),
    "one label for all rows": (A.set_axis([0] * HALF), B.set_axis([0] * (N - HALF))),
    "dates as index": (
        A.set_axis(pd.date_range("2020", periods=HALF)),
        B.set_axis(pd.date_range("2020", periods=N - HALF)),
    ),
    "two-level index": (A.set_index([A.index, A.index]), B.set_index([B.index, B.index])),
    "attributes": (A, B.copy()),
}
ORDERS["attributes"][1].attrs["means"] = np.zeros(3)


@pytest.mark.parametrize("name", ORDERS)
def test_columns_are_found_by_name_and_rows_by_place(name):
    np.testing.assert_array_equal(
        wrap(PIPE).query(stack_sides(*ORDERS[name])), PIPE.predict_proba(FRAME)
    )


@pytest.mark.parametrize("name", ["hold-out reversed", "one label for all rows"])
def test_columns_and_rows_in_another_order_are_audited(name):
    first, second = ORDERS[name]
    _, train, test = accuracies(PIPE, (first, YA), (second, YB))
    assert train == (PIPE.predict(A) == YA).mean() and test == (PIPE.predict(B) == YB).mean()


def test_columns_of_both_sides_take_the_order_of_the_fit():
    numbers = pd.DataFrame(np.random.default_rng(0).normal(size=(N, 4)), columns=list("abcd"))
    model = forest().fit(numbers[:HALF], YA)
    other = numbers[list("dbca")]
    _, train, _ = accuracies(model, (other[:HALF], YA), (other[HALF:], YB))
    assert train == (model.predict(numbers[:HALF]) == YA).mean()


NUMBERS = FRAME[["age", "smoker"]]
NUMBERS_MODEL = forest().fit(NUMBERS[:HALF], YA)
REFUSED = {
    "one more in the hold-out": (PIPE, A, B.assign(extra=1), "'extra' in the non-members only"),
    "one more in the members": (PIPE, A.assign(extra=1), B, "'extra' in the members only"),
    "one less in the hold-out": (PIPE, A, B.drop(columns="note"), "'note' in the members only. Add it to the non-members"),
    "one more in both": (NUMBERS_MODEL, NUMBERS[:HALF].assign(id=1), NUMBERS[HALF:].assign(id=1), "got 'id' too"),
    "one less in both": (NUMBERS_MODEL, NUMBERS[:HALF][["age"]], NUMBERS[HALF:][["age"]], "got no 'smoker'"),
    "numbers beside words": (PIPE, A, B.assign(age="old"), "column 'age', got numbers in the members and text"),
    "with and without time zone": (PIPE, A, B.assign(seen=B["seen"].dt.tz_localize("UTC")), "dates with a time zone"),
    "no columns": (PIPE, A[[]], B[[]], r"fitted with \(age, ward.*got no 'age'"),
    "other columns": (NUMBERS_MODEL, A[["bp", "note"]], B[["bp", "note"]], "got no 'age' in the members and the non-members"),
    "a dict of columns": (PIPE, dict(A), dict(B), "make a data frame of a dict of columns"),
    "a lazy frame": (POLARS_PIPE, POLARS[:HALF], POLARS[HALF:].lazy(), r"got a LazyFrame\. Call collect"),
    "an array of another width": (PIPE, A, B.to_numpy()[:, :3], "got 6 features in the members and 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_one_sentence(name):
    model, first, second, sentence = REFUSED[name]
    with pytest.raises(InputError, match=sentence):
        audit(model, (first, YA), (second, YB), plan=QUICK)


def test_a_pipeline_that_picks_its_columns_may_get_more():
    more = [side.assign(id=np.arange(len(side))) for side in (A, B)]
    check_alone(PIPE, (more[0], YA), (more[1], YB))


def as_categories(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({"ward": "category", "note": "category"})


CATEGORIES = [as_categories(side.drop(columns="seen")) for side in (A, B[B["note"] != "fine"])]
CATEGORIES[1]["ward"] = CATEGORIES[1]["ward"].cat.reorder_categories(["C", "A", "B"])
Y_CATEGORIES = YB[(B["note"] != "fine").to_numpy()]
BOOSTERS = {
    "HistGradientBoosting": HistGradientBoostingClassifier(
        categorical_features="from_dtype", max_iter=8
    ),
    "LightGBM": lightgbm.LGBMClassifier(n_estimators=8, verbose=-1),
    "XGBoost": xgboost.XGBClassifier(n_estimators=8, enable_categorical=True),
}


@pytest.mark.parametrize("name", BOOSTERS)
def test_categories_of_both_sides_are_united(name):
    y, others = (np.where(part == "well", 1, 0) for part in (YA, Y_CATEGORIES))
    model = BOOSTERS[name].fit(CATEGORIES[0], y)
    result = check_alone(model, (CATEGORIES[0], y), (CATEGORIES[1], others), SEARCHES)
    assert not [entry for entry in result.not_run if entry.attack in SEARCHES.attacks]
    target = wrap(model)
    alone = np.vstack([target.query(side) for side in CATEGORIES])
    np.testing.assert_allclose(target.query(stack_sides(*CATEGORIES)), alone, atol=1e-12)


@pytest.mark.parametrize("name", ["LightGBM", "XGBoost"])
def test_boosters_read_categories_from_every_library(name):
    y = np.where(YA == "well", 1, 0)
    model = BOOSTERS[name].fit(CATEGORIES[0], y)
    target = wrap(model.booster_ if name == "LightGBM" else model.get_booster())
    words = CATEGORIES[1].astype({"ward": object, "note": object})
    expected = model.predict_proba(CATEGORIES[1])
    for records in (
        CATEGORIES[1],
        pl.from_pandas(words)[:, ::-1],
        pa.Table.from_pandas(words, preserve_index=False),
    ):
        np.testing.assert_allclose(target.query(records), expected, atol=1e-6)
    np.testing.assert_allclose(target.query(stack_sides(*CATEGORIES))[HALF:], expected, atol=1e-6)


MIXED = {
    "polars": (POLARS[:HALF], POLARS[HALF:]),
    "ages with a point on one side": (
        POLARS[:HALF],
        POLARS[HALF:].with_columns(pl.col("age").cast(pl.Float64)),
    ),
    "polars beside pandas": (PLAIN[:HALF], POLARS[HALF:]),
    "pandas beside polars": (POLARS[:HALF], PLAIN[HALF:]),
    "pyarrow beside pandas": (
        PLAIN[:HALF],
        pa.Table.from_pandas(PLAIN[HALF:], preserve_index=False),
    ),
    "an array beside pandas": (PLAIN[:HALF], PLAIN[HALF:].to_numpy()),
    "lists beside polars": (POLARS[:HALF], PLAIN[HALF:].to_numpy().tolist()),
    "nullable beside plain": (PLAIN[:HALF], PLAIN[HALF:].convert_dtypes()),
    "pyarrow types beside plain": (
        PLAIN[:HALF],
        PLAIN[HALF:].convert_dtypes(dtype_backend="pyarrow"),
    ),
}


@pytest.mark.parametrize("name", MIXED)
def test_sides_of_two_libraries_are_held_as_the_first(name):
    first, second = MIXED[name]
    whole = stack_sides(first, second)
    assert type(whole) is type(first)
    np.testing.assert_array_equal(
        POLARS_PIPE.predict_proba(whole), POLARS_PIPE.predict_proba(PLAIN)
    )


@pytest.mark.parametrize("name", ["polars", "polars beside pandas", "an array beside pandas"])
def test_sides_of_two_libraries_are_audited(name):
    first, second = MIXED[name]
    _, train, test = accuracies(POLARS_PIPE, (first, pl.Series(YA)), (second, YB))
    expected = (POLARS_PIPE.predict(PLAIN) == Y).astype(float)
    assert train == expected[:HALF].mean() and test == expected[HALF:].mean()


REGRESSION = make_pipeline(columns(), LogisticRegression(max_iter=500))
BOTH = [("a", REGRESSION), ("b", make_pipeline(columns(), forest()))]
META = {
    "calibrated": CalibratedClassifierCV(REGRESSION, cv=2),
    "soft votes": VotingClassifier(BOTH, voting="soft"),
    "hard votes": VotingClassifier(BOTH, voting="hard"),
    "stacked": StackingClassifier(BOTH, cv=2),
    "searched": GridSearchCV(REGRESSION, {"logisticregression__C": [0.1, 1]}, cv=2),
}


@pytest.mark.parametrize("name", META)
def test_estimators_of_estimators_take_frames(name):
    check_alone(META[name].fit(A, YA), (A, YA), (B[B.columns[::-1]], YB), Plan(attacks=("gap",)))


def test_missing_values_do_not_turn_searches_off():
    result, *_ = accuracies(PIPE, (A, YA), (B, YB), SEARCHES)
    assert not [entry for entry in result.not_run if entry.attack in ("boundary", "noise")]


def test_a_model_may_like_nullable_types():
    nullable = FRAME[["age", "bp", "smoker"]].convert_dtypes()
    model = HistGradientBoostingClassifier(max_iter=8).fit(nullable[:HALF], YA)
    result = check_alone(model, (nullable[:HALF], YA), (nullable[HALF:], YB), SEARCHES)
    assert not [entry for entry in result.not_run if entry.attack in ("boundary", "noise")]


CLEAN = PLAIN.astype({"smoker": int})
CATBOOST = CatBoostClassifier(
    iterations=4,
    thread_count=1,
    verbose=0,
    cat_features=["ward", "note"],
    allow_writing_files=False,
)
RECIPES = {
    "catboost": CATBOOST,
    "imbalanced-learn": make_sampling_pipeline(
        RandomOverSampler(random_state=0), ENCODER, LogisticRegression(max_iter=500)
    ),
    "catboost after sampling": make_sampling_pipeline(RandomOverSampler(random_state=0), CATBOOST),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_clone_catboost_and_sampling_pipelines(name):
    model = RECIPES[name].fit(CLEAN[:HALF], YA)
    plan = Plan(attacks=("gap", "lira"), references=4)
    result = check_alone(model, (CLEAN[:HALF], YA), (CLEAN[HALF:], YB), plan, recipe=model)
    assert [entry.attack for entry in result.estimates if entry.attack == "lira"]


class Ages:
    """A model of one column, whatever else there is."""

    classes_ = np.array(["sick", "well"])

    def predict_proba(self, x):
        values = np.asarray(
            x["age"].to_numpy() if hasattr(x["age"], "to_numpy") else x["age"], dtype=float
        )
        p = 1 / (1 + np.exp((values - 55) / 10))
        return np.column_stack([1 - p, p])


ODD = {
    "dates of Python": [datetime.date(2024, 1, 1 + i % 28) for i in range(N)],
    "decimals": [decimal.Decimal(i) / 4 for i in range(N)],
    "numbers and None": [None if i % 5 == 0 else i for i in range(N)],
    "numbers and words": [i if i % 2 else "unknown" for i in range(N)],
    "lists": [[i, str(i)] for i in range(N)],
    "nothing": [None] * N,
    "durations": pd.to_timedelta(np.arange(N), unit="h"),
    "time zone": pd.date_range("2024", periods=N, tz="Europe/Paris"),
    "periods": pd.period_range("2000", periods=N, freq="M"),
    "intervals": pd.cut(np.arange(N), 4),
    "grades": pd.Categorical(
        np.array(["low", "mid", None], dtype=object)[np.arange(N) % 3], ["low", "mid"], ordered=True
    ),
    "texts": [f"visit {i}" for i in range(N)],
    "nullable truth": pd.array(
        [None if i % 7 == 0 else i % 2 == 0 for i in range(N)], dtype="boolean"
    ),
    "arrow dates": pd.array([datetime.date(2024, 1, 1)] * N, dtype=pd.ArrowDtype(pa.date32())),
    "arrow text": pd.array(["a", None] * HALF, dtype="string[pyarrow]"),
    "sparse": pd.arrays.SparseArray(np.arange(N) % 2 * 1.0),
    "complex": np.arange(N) * 1j,
}


def check_odd(frame, sides):
    result, *_ = accuracies(Ages(), (sides[0], YA), (sides[1], YB), SEARCHES)
    assert not [entry for entry in result.not_run if entry.attack in ("boundary", "noise")]


def test_columns_of_all_types_are_audited():
    frame = pd.DataFrame({"age": FRAME["age"]} | ODD)
    check_odd(frame, (frame[:HALF], frame[HALF:]))


@pytest.mark.parametrize("name", ODD)
def test_a_column_of_any_type_is_moved_and_comes_back(name):
    frame = pd.DataFrame({"age": FRAME["age"], "": ODD[name]})
    whole = stack_sides(frame[:HALF], frame[HALF:])
    domain, z = encode_in_domain(whole)
    pd.testing.assert_frame_equal(domain.decode(z[::-2]), frame[::-2].reset_index(drop=True))
    moved = domain.decode(
        domain.inside(z + domain.scale * np.random.default_rng(0).normal(size=z.shape))
    )
    assert dict(moved.dtypes) == dict(frame.dtypes) and (moved.isna() == frame.isna()).all().all()
    matrix = build_feature_matrix(whole)
    assert (np.isnan(matrix) == frame.isna().to_numpy()).all()


POLARS_ODD = {
    "categorical": pl.Series(["a", "b", None] * (N // 3), dtype=pl.Categorical),
    "enum": pl.Series(["a", "b", None] * (N // 3), dtype=pl.Enum(["b", "a", "c"])),
    "dates": pl.date_range(
        datetime.date(2024, 1, 1), datetime.date(2024, 1, 1) + datetime.timedelta(N - 1), eager=True
    ),
    "lists": pl.Series([[1, 2], [3]] * HALF),
    "structs": pl.Series([{"a": 1}, {"a": None}] * HALF),
    "decimals": pl.Series([decimal.Decimal("1.5"), None] * HALF),
    "nulls": pl.Series([None] * N),
}


@pytest.mark.parametrize("as_arrow", [False, True], ids=["polars", "pyarrow"])
def test_columns_of_all_types_of_polars_and_pyarrow_are_audited(as_arrow):
    frame = pl.DataFrame({"age": FRAME["age"].to_numpy()} | POLARS_ODD)
    check_odd(
        frame, [part.to_arrow() if as_arrow else part for part in (frame[:HALF], frame[HALF:])]
    )


@pytest.mark.parametrize("as_arrow", [False, True], ids=["polars", "pyarrow"])
@pytest.mark.parametrize("name", POLARS_ODD)
def test_a_column_of_any_type_of_polars_and_pyarrow_is_moved_and_comes_back(name, as_arrow):
    frame = pl.DataFrame({"age": FRAME["age"].to_numpy(), "odd": POLARS_ODD[name]})
    frame = frame.to_arrow() if as_arrow else frame
    domain, z = encode_in_domain(stack_sides(frame.slice(0, HALF), frame.slice(HALF, N - HALF)))
    back = domain.decode(z)
    assert back.equals(frame)
    assert (
        np.isnan(build_feature_matrix(frame)).sum()
        == (pl.from_arrow(frame) if as_arrow else frame)["odd"].null_count()
    )


def unlike(model_of, change):
    """A model fitted on categories, and the same records held in another way."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"ward": pd.Categorical(rng.choice(list("abc"), 400)), "age": rng.integers(18, 90, 400)}
    )
    y = ((frame["ward"] == "a") ^ (rng.random(400) < 0.2)).astype(int).to_numpy()
    model = model_of().fit(frame[:200], y[:200])
    return model, frame, change(frame), y


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.assign(ward=frame["ward"].cat.add_categories(["zz"])),
        lambda frame: frame.assign(ward=frame["ward"].astype(object)),
        lambda frame: frame.assign(ward=frame["ward"].cat.set_categories(["c", "b", "a"])),
    ],
    ids=["an unused category", "words", "another order"],
)
def test_a_model_of_categories_gets_its_own(library, change):
    make = {
        "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1),
        "xgboost": lambda: xgboost.XGBClassifier(n_estimators=5, enable_categorical=True, n_jobs=1),
    }[library]
    model, frame, held, y = unlike(make, change)
    result = audit(model, (held[:200], y[:200]), (held[200:], y[200:]), plan=Plan(attacks=("gap",)))
    right = model.predict(frame) == y
    assert result.diagnostics.train_accuracy.value == pytest.approx(right[:200].mean())
    assert result.diagnostics.test_accuracy.value == pytest.approx(right[200:].mean())
