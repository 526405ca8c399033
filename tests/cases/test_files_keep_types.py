"""Files that lose types: the same model gives the same accuracies from each file as from the data frame that was written."""

from __future__ import annotations

import joblib
import numpy as np
import pandas
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from memberscope.auditing import audit_subject
from memberscope.cli.options.build import build_plan, build_subject, build_training
from memberscope.cli.options.table import Options
from memberscope.errors import InputError

N = 400
PLAN = {"attacks": ("gap", "loss")}


def write_pair(folder, frame, suffix="csv", **options):
    """Write both halves of a frame, and give the options that name them."""
    for name, part in (("train", frame[:N]), ("holdout", frame[N:])):
        path = folder / f"{name}.{suffix}"
        part.to_parquet(path) if suffix == "parquet" else part.to_csv(
            path, **{"index": False, **options}
        )
    return {
        "members": str(folder / f"train.{suffix}"),
        "non_members": str(folder / f"holdout.{suffix}"),
        "label": "out",
    }


def accuracies_of(model, folder, files, **options):
    """Audit a pickled model on files as the command line does.

    And give its accuracies and the notes.
    """
    joblib.dump(model, folder / "model.pkl")
    given = Options(model=str(folder / "model.pkl"), trust_code=True, **files, **PLAN, **options)
    subject = build_subject(given)
    result = audit_subject(build_plan(given), subject)
    found = result.diagnostics
    return [found.train_accuracy.value, found.test_accuracy.value], subject.notes


def right(model, x, y):
    return [
        float((model.predict(x[part]) == y[part]).mean()) for part in (slice(0, N), slice(N, None))
    ]


@pytest.fixture(scope="module")
def codes():
    """Diagnoses, half of them missing: what a model learns of a record is which are."""
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {f"dx{k}": rng.choice(["I10", "E11", "J45", "F32"], 2 * N).astype(object) for k in range(8)}
    )
    for name in frame.columns:
        frame.loc[rng.random(2 * N) < 0.5, name] = np.nan
    return frame.assign(out=np.where(rng.random(2 * N) < 0.5, "yes", "no"))


ENCODERS = {
    "unknown words ignored": lambda: OneHotEncoder(handle_unknown="ignore"),
    "unknown words refused": OneHotEncoder,
    "missing words filled": lambda: make_pipeline(
        SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder()
    ),
}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_an_empty_field_reaches_the_model_as_missing(tmp_path, codes, encoder, suffix):
    x = codes.drop(columns="out")
    steps = make_column_transformer((ENCODERS[encoder](), list(x.columns)))
    model = make_pipeline(steps, RandomForestClassifier(30, random_state=0)).fit(
        x[:N], codes["out"][:N]
    )
    found, _ = accuracies_of(model, tmp_path, write_pair(tmp_path, codes, suffix))
    assert found == right(model, x, codes["out"]) and found[0] > 0.95


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sep": ";", "decimal": ","}, "separated by semicolons, decimal commas"),
        ({"encoding": "utf-16"}, "UTF-16"),
        ({"index": True}, "the index of a data frame"),
        ({"na_rep": "NULL"}, ""),
        ({"float_format": "%.17g"}, ""),
    ],
)
def test_a_table_written_in_another_way(tmp_path, options, said):
    rng = np.random.default_rng(1)
    frame = pandas.DataFrame(
        {
            "a": rng.normal(size=2 * N),
            "b": rng.normal(size=2 * N),
            "w": rng.choice(["x", "ü"], 2 * N),
        }
    )
    frame.loc[::7, "a"] = np.nan
    frame["out"] = (frame["b"] + rng.normal(size=2 * N) > 0).astype(int)
    x = frame.drop(columns="out")
    steps = make_column_transformer((OneHotEncoder(), ["w"]), remainder="passthrough")
    model = make_pipeline(steps, RandomForestClassifier(20, random_state=0)).fit(
        x[:N], frame["out"][:N]
    )
    found, notes = accuracies_of(model, tmp_path, write_pair(tmp_path, frame, **options))
    assert found == right(model, x, frame["out"])
    read = [note for note in notes if note.startswith(("Read", "Left out"))]
    assert len(read) == 2 and said in read[0] if said else not read


def days_of(frame):
    return frame.apply(lambda column: (column - pandas.Timestamp("2024-01-01")).dt.days).fillna(-1)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_dates_and_truth_values(tmp_path, suffix):
    rng = np.random.default_rng(2)
    n = 2 * N
    dates = pandas.Timestamp("2024-01-01") + pandas.to_timedelta(rng.integers(0, 400, n), unit="D")
    frame = pandas.DataFrame(
        {"admitted": dates, "smoker": rng.random(n) < 0.4, "age": rng.integers(18, 90, n)}
    )
    frame.loc[::9, "admitted"] = pandas.NaT
    y = (frame["age"] + rng.normal(0, 20, n) > 55).to_numpy()
    steps = make_column_transformer(
        (FunctionTransformer(days_of), ["admitted"]), remainder="passthrough"
    )
    model = make_pipeline(steps, RandomForestClassifier(20, random_state=0)).fit(frame[:N], y[:N])
    table = frame.assign(out=y, patient=10**15 + rng.permutation(n))
    found, _ = accuracies_of(model, tmp_path, write_pair(tmp_path, table, suffix), id="patient")
    assert found == right(model, frame, y)


@pytest.mark.parametrize("features", [None, ("note",)])
def test_one_column_of_text_is_text(tmp_path, features):
    rng = np.random.default_rng(3)
    words = [
        "fever",
        "cough",
        "pain",
        "rash",
        "fatigue",
        "chills",
        "nausea",
        "dizzy",
        "sweat",
        "ache",
    ]
    notes = pandas.Series([" ".join(rng.choice(words, 8)) for _ in range(2 * N)])
    y = rng.integers(0, 2, 2 * N)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=100)).fit(notes[:N], y[:N])
    files = write_pair(tmp_path, pandas.DataFrame({"note": notes, "out": y}))
    found, _ = accuracies_of(model, tmp_path, files, features=features)
    assert found == right(model, notes, y)
    more = write_pair(tmp_path, pandas.DataFrame({"note": notes, "ward": "A", "out": y}))
    with pytest.raises(InputError, match=r"got note, ward\. Name it with --features COLUMN"):
        accuracies_of(model, tmp_path, more)
    assert accuracies_of(model, tmp_path, more, features=("note",))[0] == found


RECIPE = """
import lightgbm

SEEN = []


def train(records, seed):
    SEEN.append(dict(records.x.dtypes.astype(str)))
    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1, random_state=seed, min_child_samples=2)
    return model.fit(records.x, records.y)
"""


def test_a_recipe_gets_the_types_that_the_target_got(tmp_path, monkeypatch):
    import sys

    import lightgbm

    rng = np.random.default_rng(4)
    frame = pandas.DataFrame(
        {"n": rng.integers(0, 9, 2 * N), "w": pandas.Categorical(rng.choice(list("abc"), 2 * N))}
    )
    y = (frame["n"] + 5 * rng.normal(size=2 * N) > 4).astype(int)
    lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1).fit(
        frame[:N], y[:N]
    ).booster_.save_model(tmp_path / "m.txt")
    files = write_pair(tmp_path, frame.assign(out=y))
    (tmp_path / "typed_recipe.py").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    options = Options(
        model=str(tmp_path / "m.txt"), recipe="typed_recipe:train", references=2, backend="sequential", jobs=1, **files,
        attacks=("loss", "calibrated"),
    )  # fmt: skip
    subject = build_subject(options)
    result = audit_subject(build_plan(options), subject, training=build_training(options, subject))
    assert {entry["w"] for entry in sys.modules["typed_recipe"].SEEN} == {"category"}
    assert result.cost.models_trained == 2 and result.cost.models_failed == 0
