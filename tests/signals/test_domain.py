"""What values records may take is read off them, and nothing that is made from them leaves it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix, issparse

from memberscope.errors import UnmetNeedError
from memberscope.signals.feature_domain import encode_in_domain
from memberscope.signals.perturbation import perturb_records


def frame(n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "job": rng.choice(["clerk", "farmer", "nurse"], n),
            "smoker": rng.random(n) < 0.5,
            "class": pd.Categorical(
                rng.choice(["low", "mid"], n), categories=["never", "low", "mid"], ordered=True
            ),
            "town": np.where(rng.random(n) < 0.2, None, "here"),
            "age": rng.integers(18, 90, n),
            "income": rng.gamma(2.0, 1e4, n),
        }
    )


def test_bits_categories_whole_and_real_numbers_are_told_apart():
    rng = np.random.default_rng(0)
    x = np.column_stack(
        [
            rng.integers(0, 2, 80),
            rng.integers(0, 5, 80),
            rng.integers(0, 500, 80),
            rng.standard_normal(80),
        ]
    )
    domain, z = encode_in_domain(x)
    assert domain.discrete.tolist() == [True, True, False, False]
    assert domain.whole.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(domain.decode(z), x)


@pytest.mark.parametrize("strength", [0.05, 1.0, 30.0])
def test_noise_stays_in_the_domain(strength):
    x = frame()
    domain, z = encode_in_domain(x)
    rng = np.random.default_rng(1)
    copies = [
        domain.decode(
            perturb_records(domain, z, np.full(60, strength), tuple(rng.standard_normal((2, 6))))
        )
        for _ in range(40)
    ]
    every = pd.concat(copies)
    assert dict(every.dtypes) == dict(x.dtypes) and list(every.columns) == list(x.columns)
    assert set(every["job"]) <= set(x["job"]) and set(every["smoker"]) <= {True, False}
    for name in ("age", "income"):
        assert x[name].min() <= every[name].min() and every[name].max() <= x[name].max()
    assert (every["income"].to_numpy() != np.tile(x["income"].to_numpy(), 40)).any()


def test_a_frame_comes_back_as_it_was():
    x = frame()
    domain, z = encode_in_domain(x)
    pd.testing.assert_frame_equal(domain.decode(z), x)
    pd.testing.assert_frame_equal(
        domain.decode(z[50:40:-2]), x.iloc[50:40:-2].reset_index(drop=True)
    )


def every_kind(n: int = 40) -> pd.DataFrame:
    """A frame with a column of each type that pandas holds, some entries missing."""
    rng = np.random.default_rng(0)
    absent = rng.random(n) < 0.2
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 90, n), unit="D")
    columns = {
        "words": pd.Series(rng.choice(["a", "b"], n), dtype=object).where(~absent, None),
        "typed": pd.Series(rng.choice(["a", "b"], n), dtype="string").where(~absent),
        "mixed": pd.Series([f"{k}" if k % 2 else k for k in range(5)] * (n // 5), dtype=object),
        "category": pd.Categorical(rng.choice(["x", "y"], n), categories=["z", "x", "y"]),
        "truth": pd.array(rng.random(n) < 0.5, dtype="boolean"),
        "flag": rng.random(n) < 0.5,
        "whole": pd.array(np.where(absent, None, rng.integers(0, 900, n)), dtype="Int64"),
        "small": rng.integers(0, 200, n).astype(np.uint8),
        "real": np.where(absent, np.nan, rng.standard_normal(n)).astype(np.float32),
        "sparse": pd.arrays.SparseArray(rng.standard_normal(n) * (rng.random(n) < 0.5)),
        "day": days.where(~absent),
        "zoned": days.tz_localize("Europe/Berlin"),
        "span": days - days[0],
        "text": [f"note {k}" for k in range(n)],
        "none": [None] * n,
    }
    return pd.DataFrame(columns)


def test_every_type_of_column_comes_back_in_any_order_of_rows():
    x = every_kind().set_index(np.arange(40) * 3)
    domain, z = encode_in_domain(x)
    rows = np.random.default_rng(1).integers(0, 40, 100)
    back = domain.decode(z[rows])
    expected = x.iloc[rows].reset_index(drop=True)
    # What is missing in a column of objects may come back as another record's missing value
    pd.testing.assert_frame_equal(back, expected)
    for name in x:
        assert back[name].isna().equals(expected[name].isna()), name


def test_images_have_one_range_and_one_spread():
    rng = np.random.default_rng(0)
    bytes_, real = (
        rng.integers(3, 200, (5, 4, 4), dtype=np.uint8),
        rng.random((5, 3, 4, 4)).astype(np.float32),
    )
    domain, z = encode_in_domain(bytes_)
    assert (
        domain.is_image
        and (domain.low == 0).all()
        and (domain.high == 255).all()
        and len(set(domain.scale)) == 1
    )
    wild = domain.decode(domain.inside(z + 1e3 * rng.standard_normal(z.shape)))
    assert (
        wild.dtype == np.uint8
        and wild.shape == bytes_.shape
        and {0, 255} <= set(wild.ravel().tolist())
    )
    domain, z = encode_in_domain(real)
    assert domain.low[0] == real.min() and domain.decode(z).dtype == np.float32
    np.testing.assert_array_equal(domain.decode(z), real)


def test_sparse_records_are_sparse_again():
    x = csr_matrix(np.random.default_rng(0).integers(0, 2, (30, 6)).astype(np.float32))
    domain, z = encode_in_domain(x)
    back = domain.decode(z)
    assert issparse(back) and back.dtype == x.dtype and (back != x).nnz == 0


def test_distances_are_sums_of_differences():
    domain, z = encode_in_domain(frame())
    placed = domain.placed(z)
    ours = ((placed[:30] - placed[30:]) ** 2).sum(axis=1)
    np.testing.assert_allclose(ours, domain.differences(z[:30], z[30:]).sum(axis=1), rtol=1e-12)
    pairs = np.random.default_rng(0).integers(0, 60, (20000, 2))
    squares = domain.differences(z[pairs[:, 0]], z[pairs[:, 1]]).sum(axis=1)
    assert domain.unit == pytest.approx(0.1 * squares.mean() ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (None, "Expected records with features"),
        (np.array(["a long story", "another one"]), r"text\?"),
        (
            pd.DataFrame({"note": [f"a note about visit {i}" for i in range(50)]}),
            r"column 'note', got text",
        ),
        (pd.DataFrame({"age": [1.0, np.nan]}), "missing"),
        (np.array([[1.0, np.nan]]), "missing"),
    ],
)
def test_what_cannot_be_moved_is_refused(x, sentence):
    with pytest.raises(UnmetNeedError, match=sentence):
        encode_in_domain(x)
