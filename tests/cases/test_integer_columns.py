"""Records that are no plain frame.

Integer and repeated column names, sparse matrices, texts, sequences and dictionaries.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from memberscope import Plan, audit
from memberscope.errors import InputError
from memberscope.frames.stacking import stack_sides

N, HALF = 200, 100
RNG = np.random.default_rng(1)
X, Y = RNG.normal(size=(N, 5)), RNG.integers(0, 2, N)
PLAN = Plan(attacks=("gap", "loss"))
SEARCHES = Plan(attacks=("gap", "loss", "boundary", "noise"), search_queries=12)
FOREST = RandomForestClassifier(10, random_state=0)


def train_accuracy(model, first, second, plan=PLAN, **more):
    result = audit(model, (first, Y[:HALF]), (second, Y[HALF:]), plan=plan, **more)
    moved = [entry for entry in result.not_run if entry.attack in ("boundary", "noise")]
    return result.diagnostics.train_accuracy.value, bool(moved)


def named(names) -> pd.DataFrame:
    return pd.DataFrame(X, columns=names)


NAMES = {
    "numbers": list(range(5)),
    "numbers from 10 down": list(range(10, 5, -1)),
    "words and numbers": ["a", 1, "b", 2, 3],
    "two levels": pd.MultiIndex.from_product([["lab"], list("abcde")]),
    "an empty word": ["", "a", "b", "c", "d"],
    "dates": pd.date_range("2024", periods=5),
    "truth values": [True, False, "a", "b", "c"],
}


@pytest.mark.parametrize("name", NAMES)
def test_column_names_may_be_anything(name):
    frame = named(NAMES[name])
    values = frame.to_numpy()
    by_place = make_pipeline(FunctionTransformer(np.asarray), FOREST).fit(values[:HALF], Y[:HALF])
    result = audit(
        by_place,
        (frame[:HALF], Y[:HALF]),
        (frame[HALF:][frame.columns[::-1]], Y[HALF:]),
        plan=SEARCHES,
    )
    for side, part in (("train", slice(None, HALF)), ("test", slice(HALF, None))):
        assert (
            getattr(result.diagnostics, f"{side}_accuracy").value
            == (by_place.predict(values[part]) == Y[part]).mean()
        )
    assert not [entry for entry in result.not_run if entry.attack in ("boundary", "noise")]


@pytest.mark.parametrize("model", ["array", "frame"])
def test_numbers_as_names_work_with_scikit_learn_itself(model):
    frame = named(range(5))
    forest = FOREST.fit(frame[:HALF] if model == "frame" else X[:HALF], Y[:HALF])
    assert train_accuracy(forest, frame[:HALF], frame[HALF:])[0] > 0.9


def test_numbers_as_names_and_their_words_are_the_same():
    frame, words = named(range(5)), named([str(k) for k in range(5)])
    forest = make_pipeline(FunctionTransformer(np.asarray), FOREST).fit(X[:HALF], Y[:HALF])
    result = audit(
        forest, (frame[:HALF], Y[:HALF]), (words[HALF:][words.columns[::-1]], Y[HALF:]), plan=PLAN
    )
    assert result.diagnostics.test_accuracy.value == (forest.predict(X[HALF:]) == Y[HALF:]).mean()


def test_a_name_twice_is_read_by_place_or_refused_in_one_sentence():
    frame = named(list("aabcd"))
    forest = FOREST.fit(X[:HALF], Y[:HALF])
    with pytest.raises(InputError, match="of different names, got 'a' more than once"):
        train_accuracy(forest, frame[:HALF], frame[HALF:])
    assert (
        train_accuracy(
            lambda x: forest.predict_proba(np.asarray(x)), frame[:HALF], frame[HALF:], n_classes=2
        )[0]
        > 0.9
    )
    with pytest.raises(InputError, match="got 'a' more than once"):
        train_accuracy(forest, frame[:HALF], frame[HALF:][["b", "a", "c", "d"]])


ZEROS = np.where(np.abs(X) > 1, X, 0)
S = sparse.csr_matrix(ZEROS)
FORMATS = {
    **{name: getattr(S, f"to{name}") for name in ("csr", "csc", "coo", "lil", "dok")},
    "csr_array": lambda: sparse.csr_array(S),
    "coo_array": lambda: sparse.coo_array(S),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_sparse_format(name):
    forest = FOREST.fit(S[:HALF], Y[:HALF])
    sides = [type(FORMATS[name]())(part) for part in (S[:HALF], S[HALF:])]
    train, refused = train_accuracy(
        forest, *sides, SEARCHES if name in ("csc", "csr_array") else PLAN
    )
    assert train == (forest.predict(S[:HALF]) == Y[:HALF]).mean() and not refused


@pytest.mark.parametrize("sides", ["sparse", "sparse and dense", "sparse and frame"])
def test_sparse_beside_others(sides):
    forest = FOREST.fit(S[:HALF], Y[:HALF])
    second = {
        "sparse": S[HALF:],
        "sparse and dense": ZEROS[HALF:],
        "sparse and frame": pd.DataFrame(ZEROS[HALF:]),
    }[sides]
    assert train_accuracy(forest, S[:HALF], second)[0] > 0.8


def test_sparse_frames():
    frame = pd.DataFrame.sparse.from_spmatrix(S, columns=list("abcde"))
    forest = FOREST.fit(frame[:HALF], Y[:HALF])
    train, refused = train_accuracy(forest, frame[:HALF], frame[HALF:], SEARCHES)
    assert train > 0.8 and not refused


WORDS = np.array(
    ["fever", "cough", "pain", "rash", "fatigue", "chills", "nausea", "dizzy", "sweat", "ache"]
)
TEXTS = [" ".join(RNG.choice(WORDS, RNG.integers(2, 9))) for _ in range(N)]
READER = make_pipeline(TfidfVectorizer(), LogisticRegression(C=100)).fit(TEXTS[:HALF], Y[:HALF])
HOLDERS = {
    "list": list,
    "tuple": tuple,
    "numpy words": np.array,
    "objects": lambda texts: np.array(texts, dtype=object),
    "pandas series": pd.Series,
    "pandas nullable": lambda texts: pd.Series(texts, dtype="string"),
    "polars series": pl.Series,
    "pyarrow": lambda texts: pa.chunked_array([[str(text) for text in texts]]),
    "frame": lambda texts: pd.DataFrame({"text": texts}),
    "polars frame": lambda texts: pl.DataFrame({"text": texts}),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_texts(name):
    reader = (
        make_pipeline(FunctionTransformer(lambda x: [str(text) for text in x]), READER)
        if name == "pyarrow"
        else READER
    )
    train, refused = train_accuracy(
        reader, HOLDERS[name](TEXTS[:HALF]), HOLDERS[name](TEXTS[HALF:]), SEARCHES
    )
    assert train == READER.score(TEXTS[:HALF], Y[:HALF]) and refused


@pytest.mark.parametrize("second", ["list", "objects", "pandas series", "frame"])
@pytest.mark.parametrize("first", ["list", "objects", "pandas series"])
def test_texts_of_two_holders_are_held_as_the_first(first, second):
    whole = stack_sides(HOLDERS[first](TEXTS[:HALF]), HOLDERS[second](TEXTS[HALF:]))
    assert isinstance(whole, type(HOLDERS[first](TEXTS))) and list(whole) == TEXTS


def test_a_model_gets_a_series_where_a_series_was_given():
    lower = make_pipeline(
        FunctionTransformer(lambda texts: texts.str.upper().str.lower()),
        TfidfVectorizer(),
        LogisticRegression(C=100),
    )
    series = pd.Series(TEXTS, index=[0] * N)
    lower.fit(series[:HALF], Y[:HALF])
    assert train_accuracy(lower, series[:HALF], series[HALF:])[0] == lower.score(
        series[:HALF], Y[:HALF]
    )


SEQUENCES = [RNG.normal(size=RNG.integers(3, 9)).tolist() for _ in range(N)]


def objects(values) -> np.ndarray:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


@pytest.mark.parametrize(
    "hold",
    [list, objects, lambda s: [np.array(one) for one in s]],
    ids=["lists", "objects", "arrays"],
)
def test_sequences_of_several_lengths(hold):
    def model(records):
        p = 1 / (1 + np.exp(-np.array([sum(one) for one in records])))
        return np.column_stack([1 - p, p])

    train, refused = train_accuracy(
        model, hold(SEQUENCES[:HALF]), hold(SEQUENCES[HALF:]), SEARCHES, n_classes=2
    )
    assert (
        train == ((np.array([sum(one) for one in SEQUENCES[:HALF]]) > 0) == Y[:HALF]).mean()
        and refused
    )


def test_dictionaries():
    records = [
        {"age": int(row[0] * 10), "job": str(word)}
        for row, word in zip(X, RNG.choice(WORDS, N), strict=True)
    ]
    model = make_pipeline(DictVectorizer(), LogisticRegression(C=100)).fit(records[:HALF], Y[:HALF])
    train, refused = train_accuracy(model, records[:HALF], records[HALF:], SEARCHES)
    assert train == model.score(records[:HALF], Y[:HALF]) and refused


@pytest.mark.parametrize(
    ("second", "sentence"), [(X[HALF:, :3], "5 features in the members and 3"), ("text", "got str")]
)
def test_other_shapes_are_one_sentence(second, sentence):
    with pytest.raises(InputError, match=sentence):
        audit(
            FOREST.fit(X[:HALF], Y[:HALF]),
            (X[:HALF], Y[:HALF]),
            (second, Y[HALF:][: len(second)]),
            plan=PLAN,
        )


def test_missing_numbers_in_an_array_stay_missing_in_searches():
    x = X.copy()
    x[::7, 1], x[::5, 4] = np.nan, np.nan
    seen = []

    def model(records):
        seen.append(records)
        p = 1 / (1 + np.exp(-np.nan_to_num(records).sum(axis=1)))
        return np.column_stack([1 - p, p])

    _, refused = train_accuracy(model, x[:HALF], x[HALF:], SEARCHES, n_classes=2)
    assert not refused
    assert {float(np.isnan(part[:, 0]).mean()) for part in seen} == {0.0} and any(
        np.isnan(part[:, 1]).any() for part in seen
    )
