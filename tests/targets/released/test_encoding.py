"""Records of mixed columns in one space: what is near, and what cannot be compared."""

import numpy as np
import pytest

from memberscope.errors import InputError
from memberscope.targets.released import (
    find_closest_distances,
    fit_encoding,
    mark_copies,
    measure_nearness,
)


def build_table(n=200, seed=0):
    """A table of numbers, words, truth values and dates, with gaps in each but the dates."""
    rng = np.random.default_rng(seed)
    age = rng.normal(40, 10, n)
    age[::17] = np.nan
    job = rng.choice(["cook", "nurse", "pilot"], n).astype(object)
    job[::13] = None
    return {
        "age": age,
        "job": job,
        "smokes": rng.random(n) < 0.3,
        "since": np.datetime64("2020-01-01") + rng.integers(0, 900, n),
    }


def distance(first, second, spreads, mean):
    """Distance of two records column by column; a gap in a number is filled with its `mean`."""
    total = 0.0
    for name, spread in spreads.items():
        a, b = first[name], second[name]
        gaps = [x is None or x != x for x in (a, b)]
        if any(gaps) or spread is None:
            total += float(gaps[0] != gaps[1] or (not any(gaps) and a != b))
        if spread is not None and not all(gaps):
            total += ((mean if gaps[0] else a) - (mean if gaps[1] else b)) ** 2 / spread**2
    return np.sqrt(total)


def test_distances_are_those_of_the_columns_written_out():
    table, records = build_table(), build_table(20, 1)
    encoding = fit_encoding(table)
    found = find_closest_distances(encoding.encode(records), encoding.encode(table))
    for columns in (table, records):
        columns["since"] = (columns["since"] - np.datetime64("1970-01-01")).astype(float)
    spreads = {
        "age": np.nanstd(table["age"]),
        "job": None,
        "smokes": None,
        "since": table["since"].std(),
    }
    mean = np.nanmean(table["age"])
    for row in range(20):
        one = {name: values[row] for name, values in records.items()}
        every = [
            distance(one, {name: values[k] for name, values in table.items()}, spreads, mean)
            for k in range(200)
        ]
        assert found[row] == pytest.approx(min(every), abs=1e-9)


def test_a_copy_is_at_distance_zero_and_is_marked():
    table = build_table()
    encoding = fit_encoding(table)
    places = encoding.encode(table)
    assert find_closest_distances(places[:5], places).tolist() == [0.0] * 5
    assert mark_copies(places[:5], places).sum() >= 5
    assert find_closest_distances(places, places, skip_itself=True).min() > 0


def test_blocks_do_not_change_what_is_measured(monkeypatch):
    places = np.random.default_rng(0).normal(size=(300, 4))
    whole = measure_nearness(places[:100], places[100:], 0.3)
    monkeypatch.setattr("memberscope.targets.released.nearness.BLOCK", 700)
    parts = measure_nearness(places[:100], places[100:], 0.3)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-12)
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-12)


def test_the_density_is_the_mean_of_the_kernels():
    rng = np.random.default_rng(0)
    x, table = rng.normal(size=(30, 3)), rng.normal(size=(50, 3))
    squared = ((x[:, None] - table) ** 2).sum(axis=2)
    kernels = np.exp(-squared / (2 * 0.7**2)).mean(axis=1)
    np.testing.assert_allclose(measure_nearness(x, table, 0.7)[1], np.log(kernels), rtol=1e-10)


def test_words_that_the_table_lacks_are_as_far_as_any_other_word():
    encoding = fit_encoding({"job": np.array(["cook", "nurse"], dtype=object)})
    places = encoding.encode({"job": np.array(["cook", "pilot"], dtype=object)})
    rows = encoding.encode({"job": np.array(["cook", "nurse"], dtype=object)})
    np.testing.assert_allclose(find_closest_distances(places, rows), [0.0, 1.0])


def test_free_text_is_left_out_and_a_table_of_it_is_refused():
    names = np.array([f"person {k}" for k in range(600)], dtype=object)
    encoding = fit_encoding({"name": names, "age": np.arange(600.0)})
    assert encoding.columns == ("age",) and encoding.left_out == ("name",)
    with pytest.raises(InputError, match="columns of numbers or of at most 500 words"):
        fit_encoding({"name": names})


def test_missing_columns_and_other_kinds_are_one_sentence():
    encoding = fit_encoding({"age": np.arange(5.0), "sex": np.array(list("mfmfm"), dtype=object)})
    with pytest.raises(InputError, match="got none named 'sex'"):
        encoding.encode({"age": np.arange(5.0)}, "members")
    with pytest.raises(InputError, match="numbers in the column 'age' of the members"):
        encoding.encode({"age": np.array(["old"], dtype=object), "sex": np.array(["m"])}, "members")


def test_numbers_and_words_are_spelt_alike():
    """A column of words in one file may be read as numbers in another, such as postcodes."""
    encoding = fit_encoding({"code": np.array(["1", "2", "x"], dtype=object)})
    rows = encoding.encode({"code": np.array(["1", "2", "x"], dtype=object)})
    places = encoding.encode({"code": np.array([1.0, 2.0])})
    assert find_closest_distances(places, rows).tolist() == [0.0, 0.0]
