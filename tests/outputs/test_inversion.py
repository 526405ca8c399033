"""Undoing noise: a public seed and small noise give votes back, a secret key does not."""

from __future__ import annotations

import os

import numpy as np
import pytest

from memberscope.errors import InputError
from memberscope.outputs import (
    find_recovery,
    list_randomised_parts,
    parse_restriction,
    with_noise_key,
    without_noise_keys,
)
from memberscope.outputs.noise import OutputNoise
from memberscope.outputs.noise_keys import draw_keyed_words


def votes(n: int, k: int, trees: int, seed: int = 0) -> np.ndarray:
    """Answers of a forest: shares of the votes of its trees."""
    rng = np.random.default_rng(seed)
    counts = [rng.multinomial(trees, p) for p in rng.dirichlet(np.full(k, 0.7), n)]
    return np.array(counts) / trees


@pytest.mark.parametrize(("k", "trees", "seed"), [(2, 100, 0), (3, 20, 7), (4, 20, 1000)])
def test_a_public_seed_gives_every_answer_of_a_forest_back(k, trees, seed):
    true = votes(600, k, trees)
    seen = OutputNoise(0.3, seed=seed)(true)
    found = find_recovery(seen, OutputNoise(0.3))
    assert (found.seed, found.votes, found.share) == (seed, trees, 1.0)
    np.testing.assert_allclose(found(seen), true, atol=1e-12)


def test_a_secret_key_does_not():
    true = votes(600, 3, 20)
    defence = OutputNoise(0.5, key=os.urandom(32))
    assert find_recovery(defence(true), defence) is None, "not even to whoever holds the object"


def test_noise_that_is_small_beside_the_grid_is_snapped_away_without_any_key():
    true = votes(600, 3, 20)
    seen = OutputNoise(0.03, key=os.urandom(32))(true)
    found = find_recovery(seen, OutputNoise(0.03))
    assert found.seed is None and found.votes == 20 and found.share > 0.9
    right = (np.abs(found(seen) - true) < 1e-9).all(axis=1).mean()
    assert right > 0.9 and abs(right - found.share) < 0.1, "it knows how often it is right"


def test_answers_on_no_grid_are_left_alone():
    true = np.random.default_rng(0).dirichlet(np.ones(3), 600)
    defence = OutputNoise(0.03, key=bytes(32))
    assert find_recovery(defence(true), defence) is None


def test_spellings_of_one_answer_get_one_draw_and_other_answers_others():
    answer = np.array([[0.25, 0.0, 0.75]])
    drawn = draw_keyed_words(answer, bytes(32), "noise:1", 3)
    for spelled in (
        answer + np.array([[1e-12, -1e-12, 0.0]]),
        np.array([[0.25, -0.0, 0.75]]),
        answer.astype(np.float32),
        np.asfortranarray(np.repeat(answer, 2, axis=0))[1:],
    ):
        np.testing.assert_array_equal(draw_keyed_words(spelled, bytes(32), "noise:1", 3), drawn)
    hidden = np.array([[0.25, np.nan, 0.75]])
    for key, name, values in (
        (bytes(16), "noise:1", answer),
        (bytes(32), "noise:2", answer),
        (bytes(32), "noise:1", answer + 1e-5),
        (bytes(32), "noise:1", hidden),
    ):
        assert not (draw_keyed_words(values, key, name, 3) == drawn).any()


def test_keys_are_given_taken_away_and_never_shown():
    chain = parse_restriction("temperature:2+noise:0.5+memguard:1+hamp_output:3+round:2")
    assert [part.name for part in list_randomised_parts(chain)] == [
        "noise:0.5",
        "memguard:1",
        "hamp_output:3",
    ]
    key = bytes(range(32))
    keyed = with_noise_key(chain, key)
    assert [part.key for part in list_randomised_parts(keyed)] == [key, key, None]
    shown = f"{keyed!r} {keyed.name} {keyed.digest}"
    assert repr(key)[2:-1] not in shown and key.hex()[:8] not in shown
    assert (
        without_noise_keys(keyed).name == "temperature:2+noise:0.5+memguard:1+hamp_output+round:2"
    )
    with pytest.raises(InputError, match=r"Expected a key for noise:0\.5, got none"):
        parse_restriction("noise:0.5")(np.full((1, 2), 0.5))
    with pytest.raises(InputError, match="Expected a noise key of 16 to 64 bytes, got 8"):
        with_noise_key(chain, bytes(8))
