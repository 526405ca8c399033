"""Undoing noise: a public seed and small noise give votes back, a secret key does not."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from memberscope.errors import InputError
from memberscope.outputs import (
    HampOutput,
    MemGuard,
    find_recovery,
    list_randomised_parts,
    parse_restriction,
    try_inversion,
    with_noise_key,
    without_noise_keys,
)
from memberscope.outputs.noise import OutputNoise
from memberscope.outputs.noise_keys import draw_keyed_words

KEY = bytes(range(32))


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
    defence = OutputNoise(0.5, key=KEY)
    assert find_recovery(defence(true), defence) is None, "not even to whoever holds the object"


def test_noise_that_is_small_beside_the_grid_is_snapped_away_without_any_key():
    true = votes(600, 3, 20)
    seen = OutputNoise(0.03, key=KEY)(true)
    found = find_recovery(seen, OutputNoise(0.03))
    assert found.seed is None and found.votes == 20 and found.share > 0.9
    right = (np.abs(found(seen) - true) < 1e-9).all(axis=1).mean()
    assert right > 0.9 and abs(right - found.share) < 0.1, "it knows how often it is right"


@pytest.mark.parametrize(
    ("name", "k", "seed", "right"),
    [
        ("noise:0.3:7+round:2", 3, 7, 0.9),
        ("noise:0.3:5+top:1", 3, 5, 1.0),
        ("noise:0.3:4+top:2+round:2", 3, 4, 0.9),
        ("top:3+noise:0.1:5", 5, 5, 1.0),
        ("temperature:2+noise:0.5:3", 4, 3, 1.0),
        ("noise:0.5:2+temperature:2", 4, 2, 1.0),
    ],
)
def test_parts_without_a_key_before_and_after_do_not_hide_a_public_seed(name, k, seed, right):
    true, defence = votes(600, k, 20), parse_restriction(name)
    seen = defence(true)
    tried = try_inversion(seen, without_noise_keys(defence))
    assert tried.recovery.seed == seed and tried.share > 0.99
    assert tried.recovery.is_comparable != name.startswith("top")
    found = tried.recovery(seen)
    same = np.isnan(found) | (np.abs(found - true) < 1e-9)
    assert same.all(axis=1).mean() >= right
    assert np.isnan(found).any() == name.startswith("top"), "what was hidden first stays hidden"


@pytest.mark.parametrize(
    ("name", "k"),
    [("noise:0.05+round:2", 3), ("top:3+noise:0.05", 30), ("temperature:2+noise:0.03", 3)],
)
def test_small_noise_in_a_chain_is_snapped_away_and_large_noise_is_not(name, k):
    true = votes(200, k, 20)
    seen = with_noise_key(parse_restriction(name), KEY)(true)
    tried = try_inversion(seen, parse_restriction(name))
    found = tried.recovery(seen)
    right = (np.isnan(found) | (np.abs(found - true) < 1e-9)).all(axis=1).mean()
    assert right > 0.85 and abs(right - tried.share) < 0.1, "it knows how often it is right"
    large = name.replace("noise:0.05", "noise:0.7").replace("noise:0.03", "noise:0.7")
    seen = with_noise_key(parse_restriction(large), KEY)(true)
    tried = try_inversion(seen, parse_restriction(large))
    assert tried.recovery is None and "in vain" in tried.why


@pytest.mark.parametrize(
    ("name", "k", "why", "is_whole"),
    [
        ("noise:0.5+label", 3, "shows labels alone", True),
        ("noise:0.05+round:2", 30, "the others were not tried", False),
        ("noise:0.5+noise:0.1", 3, "it has 2 parts with draws of their own", False),
        ("memguard:1", 3, "what memguard:1 is fitted to is not known", False),
        ("hamp_output+round:2", 3, "what hamp_output is fitted to is not known", False),
    ],
)
def test_what_cannot_be_tried_is_said(name, k, why, is_whole):
    tried = try_inversion(votes(100, k, 20), parse_restriction(name))
    assert tried.recovery is None and why in tried.why and tried.is_whole == is_whole


@pytest.mark.parametrize("name", ["noise:0.05", "noise:0.05+round:3", "top:2+noise:0.05"])
def test_nothing_comes_back_of_pure_noise(name):
    pure = np.random.default_rng(4).dirichlet(np.ones(3), 150)
    defence = with_noise_key(parse_restriction(name), KEY)
    assert find_recovery(defence(pure), defence) is None


def test_of_hamp_only_the_order_is_left_but_with_a_public_seed_votes_come_back():
    random = np.random.default_rng(1).dirichlet(np.ones(3), 1000)
    outside, true = np.zeros(1000, dtype=bool), votes(600, 3, 20)
    secret = HampOutput(key=KEY).fit(random, outside)
    tried = try_inversion(secret(true), secret, secret)
    assert tried.recovery is None and tried.is_whole
    assert "Nothing but the order of the classes is left in hamp_output" in tried.why
    public = HampOutput(seed=3).fit(random, outside)
    found = find_recovery(public(true), without_noise_keys(public))
    assert found.seed == 3
    assert (np.abs(found(public(true)) - true).max(axis=1) < 1e-9).mean() > 0.9


@pytest.mark.parametrize("stop", ["undecided", "crossed"])
def test_memguard_hides_no_votes_from_whoever_has_its_classifier(stop):
    """The noise follows from the answer; the key decides only whether it is used."""
    true = votes(200, 3, 20)
    guard = MemGuard(0.3, stop=stop, key=KEY).fit(true, true.max(axis=1) > 0.7)
    seen = guard(true)
    assert (np.abs(seen - true).max(axis=1) < 1e-9).mean() < 0.8
    tried = try_inversion(seen, parse_restriction(guard.name), guard)
    assert tried.share > 0.95 and "by whoever has its fitted classifier" in tried.why
    # Noise can end at one point for several answers
    assert (np.abs(tried.recovery(seen) - true).max(axis=1) < 1e-9).mean() > 0.75


def test_memguard_on_real_data_comes_back_only_where_it_stops_beyond(real_data: Path):
    """Location-30, by the AUC of the label's probability."""
    stored = np.load(real_data / "location30.npz")
    order = np.random.default_rng(0).permutation(len(stored["y"]))
    x, y = stored["X"][order].astype(float), stored["y"][order].astype(int)
    model = MLPClassifier((256, 128), max_iter=60, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        plain = model.fit(x[:1000], y[:1000]).predict_proba(x)
    member = np.arange(2000) < 1000
    guard = MemGuard(1.0, key=KEY).fit(plain[:2000], member)
    rows = np.r_[0:1000, 3000:4000]

    def area(answers: np.ndarray) -> float:
        return roc_auc_score(member, answers[np.arange(2000), y[rows]])

    undefended, before, after, share = area(plain[rows]), {}, {}, {}
    for stop in ("undecided", "crossed"):
        guarded = replace(guard, stop=stop)
        seen = guarded(plain[rows])
        tried = try_inversion(seen, parse_restriction(guarded.name), guarded)
        before[stop], after[stop] = area(seen), area(tried.recovery(seen))
        share[stop] = tried.share
        assert tried.is_undone == (stop == "crossed")
    assert before["undecided"] < undefended - 0.1 and before["crossed"] < undefended - 0.2
    assert after["crossed"] > undefended - 0.05, "all but all comes back"
    assert after["undecided"] < before["undecided"] + 0.03, "next to nothing comes back"
    assert 0 < share["undecided"] < 0.5 < share["crossed"]


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
