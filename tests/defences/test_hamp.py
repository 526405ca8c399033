"""HAMP's outputs: another input's scores in the record's own order."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from memberscope.errors import InputError
from memberscope.outputs.chain import parse_restriction
from memberscope.outputs.hamp_output import HampOutput
from memberscope.outputs.top_k import TopK

KEY = bytes(range(32))


def bank(n: int = 40, k: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(k, 0.4), n)


GUARD = HampOutput(key=KEY).fit(bank(), np.zeros(40, dtype=bool))


def test_each_answer_is_some_random_input_s_scores_in_its_own_order():
    p = bank(500, seed=1)
    seen = GUARD(p)
    np.testing.assert_array_equal(np.argsort(-seen, axis=1), np.argsort(-p, axis=1))
    np.testing.assert_allclose(seen.sum(axis=1), 1.0)
    scores = np.sort(bank(), axis=1)
    nearest = np.abs(np.sort(seen, axis=1)[:, None] - scores[None]).sum(axis=2)
    assert nearest.min(axis=1).max() < 1e-7
    counts = np.bincount(nearest.argmin(axis=1), minlength=40)
    assert counts.min() > 0 and ((counts - 12.5) ** 2 / 12.5).sum() < 80, (
        "each about equally often: chi-square, 39 degrees"
    )


def test_the_values_say_nothing_of_how_sure_the_model_was():
    sure, unsure = np.array([[0.0, 1.0, 0.0]]), np.array([[0.33, 0.34, 0.33]])
    guard = HampOutput(key=KEY).fit(np.array([[0.2, 0.3, 0.5]]), np.zeros(1, dtype=bool))
    np.testing.assert_array_equal(guard(sure), guard(unsure))


def test_equal_scores_stay_apart_and_the_first_of_equals_leads():
    guard = HampOutput(key=KEY).fit(np.array([[0.5, 0.5, 0.0, 0.0]]), np.zeros(1, dtype=bool))
    seen = guard(np.array([[0.1, 0.4, 0.4, 0.1], [0.25, 0.25, 0.25, 0.25]]))
    assert (np.diff(np.sort(seen, axis=1), axis=1) > 0).all()
    np.testing.assert_array_equal(np.argsort(-seen, axis=1), [[1, 2, 0, 3], [0, 1, 2, 3]])


def test_it_repeats_whoever_is_asked_beside_and_travels():
    p = bank(200, seed=2)
    np.testing.assert_array_equal(GUARD(p)[:50], GUARD(p[:50]))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(GUARD))(p), GUARD(p))
    assert not np.array_equal(HampOutput(1).fit(bank(), np.zeros(40, dtype=bool))(p), GUARD(p))


def test_what_it_is_fitted_to_is_in_its_digest():
    other = HampOutput(key=KEY).fit(bank(seed=3), np.zeros(40, dtype=bool))
    assert other.name == GUARD.name and other.digest != GUARD.digest and other != GUARD
    again = HampOutput(key=KEY).fit(bank(), np.ones(40, dtype=bool))
    assert again == GUARD, "who is a member is not read"
    assert replace(GUARD, key=bytes(16)).digest != GUARD.digest


def test_unfitted_or_before_hidden_answers_it_says_what_to_do():
    with pytest.raises(
        InputError, match=r"Expected a fitted hamp_output, got one without scores. Call fit"
    ):
        parse_restriction("hamp_output")(bank())
    with pytest.raises(InputError, match="Expected whole answers of 6 classes before hamp_output"):
        GUARD(TopK(2)(bank()))
    with pytest.raises(InputError, match="Expected a key for hamp_output, got none"):
        HampOutput().fit(bank(), np.zeros(40, dtype=bool))(bank())
    with pytest.raises(InputError, match="Expected the model's whole answers"):
        HampOutput().fit(bank()[:0], np.zeros(0, dtype=bool))
    with pytest.raises(InputError, match="Expected a noise seed"):
        parse_restriction("hamp_output:-1")
