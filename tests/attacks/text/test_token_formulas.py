"""Each token attack against its formula, text by text and token by token, and the known traps."""

from __future__ import annotations

import zlib
from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
from scipy.special import ndtr
from token_signals import ROWS, TOKENS, draw_signals, error_zone, lowest, mean, window_share

from memberscope.attacks import (
    EZ,
    TEXT_ATTACKS,
    WBC,
    BaseDifference,
    BaseRatio,
    Loss,
    Lowercase,
    MinK,
    MinKPlusPlus,
    ReCaLL,
    TokenDynamics,
    Zlib,
)
from memberscope.attacks.text import _blocks
from memberscope.attacks.text.token_dynamics import compute_token_dynamics
from memberscope.errors import InputError, UnmetNeedError
from memberscope.statistics import auc_value, roc
from memberscope.texts import TokenSignals
from memberscope.types import Access, Evidence


def as_evidence(tokens: TokenSignals, known: np.ndarray | None = None) -> Evidence:
    n = len(tokens)
    hidden = np.full(n, -1, np.int8) if known is None else known
    return Evidence("tokens", np.zeros((n, 1, 1)), np.zeros(n, int), hidden, tokens=tokens)


def score(attack, tokens: TokenSignals) -> np.ndarray:
    return attack.score(as_evidence(tokens), np.random.default_rng(0))


NAIVE = {
    Zlib(): lambda r: sum(r["own"]) / r["zlib"],
    Lowercase(): lambda r: r["lowercase"] / mean(r["own"]),
    ReCaLL(): lambda r: r["recall"] / mean(r["own"]),
    BaseDifference(): lambda r: mean(r["d"]),
    BaseRatio(): lambda r: mean(r["base"]) / mean(r["own"]),
    MinK(): lambda r: lowest(r["own"], 0.2),
    MinK(0.05): lambda r: lowest(r["own"], 0.05),
    MinKPlusPlus(): lambda r: lowest(r["z"], 0.2),
    WBC(): lambda r: window_share(r["d"]),
    EZ(): lambda r: error_zone(r["d"], r["top"]),
}


@pytest.mark.parametrize("attack", NAIVE, ids=lambda attack: attack.name)
def test_scores_are_those_of_a_loop_over_texts(attack):
    expected = [NAIVE[attack](row) for row in ROWS]
    np.testing.assert_allclose(score(attack, TOKENS), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("attack", [*NAIVE, TokenDynamics()], ids=lambda attack: attack.name)
def test_scores_do_not_depend_on_blocks(attack, monkeypatch):
    known = np.where(np.arange(len(TOKENS)) < 40, np.arange(len(TOKENS)) % 2, -1).astype(np.int8)
    evidence = as_evidence(TOKENS, known)
    whole = attack.score(evidence, np.random.default_rng(0))
    assert np.array_equal(np.isnan(whole), known >= 0)
    monkeypatch.setattr(
        _blocks.iterate_token_blocks, "__defaults__", (64,)
    )  # blocks of few texts each
    monkeypatch.setattr(_blocks.compute_by_blocks, "__defaults__", (64,))
    np.testing.assert_array_equal(attack.score(evidence, np.random.default_rng(0)), whole)


def test_blocks_cover_each_record_once_and_stay_small():
    rows = [rows for rows, _ in _blocks.iterate_token_blocks(TOKENS, 200)]
    assert [rows.start for rows in rows[1:]] == [rows.stop for rows in rows[:-1]]
    assert rows[0].start == 0 and rows[-1].stop == len(TOKENS)
    for rows, block in _blocks.iterate_token_blocks(TOKENS, 200):
        assert block.offsets[-1] <= 200 or len(block) == 1
        np.testing.assert_array_equal(block.log_probability, TOKENS.take(rows).log_probability)
        assert block.log_probability.base is not None, "a view, not a copy"


@pytest.mark.parametrize(
    "attack",
    [attack for attack in TEXT_ATTACKS if attack.needs.spec.name == "tokens"],
    ids=lambda attack: attack.name,
)
def test_texts_of_one_token_have_finite_scores(attack):
    counts = np.ones(40, dtype=int)
    known = np.where(np.arange(40) < 20, np.arange(40) % 2, -1).astype(np.int8)
    found = attack.score(as_evidence(draw_signals(counts), known), np.random.default_rng(0))
    assert np.isfinite(found[20:]).all() and np.isnan(found[:20]).all()


@pytest.mark.parametrize(
    "attack",
    [attack for attack in TEXT_ATTACKS if attack.needs.spec.name == "tokens"],
    ids=lambda attack: attack.name,
)
def test_impossible_and_certain_tokens_have_finite_scores(attack):
    tokens = draw_signals(np.full(40, 8))
    own, base = tokens.log_probability.copy(), tokens.base.copy()
    own[:8], base[:8] = 0.0, 0.0
    own[8:16], base[8:16] = -np.inf, -np.inf
    variance = tokens.variance.copy()
    variance[:24] = 0.0
    tokens = replace(tokens, log_probability=own, base=base, variance=variance)
    known = np.where(np.arange(40) >= 20, np.arange(40) % 2, -1).astype(np.int8)
    found = attack.score(as_evidence(tokens, known), np.random.default_rng(0))
    assert np.isfinite(found[:20]).all()


def test_records_without_tokens_are_refused():
    tokens = TokenSignals(np.array([0, 2, 2]), np.array([-1.0, -2.0]))
    with pytest.raises(UnmetNeedError, match=r"at least one scored token .* got none for 1 of 2"):
        score(MinK(), tokens)


def test_zlib_does_not_tell_long_texts_from_short_ones():
    """The mean over tokens divided by bytes, as published code has it, is a detector of length."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{i:03d}" for i in range(1000)])
    counts = np.where(np.arange(400) % 2, 500, 1500)
    texts = [" ".join(rng.choice(words, count)) for count in counts]
    sizes = np.array([len(zlib.compress(text.encode())) for text in texts])
    tokens = replace(draw_signals(counts, 1), zlib_bytes=sizes)
    long = counts == 1500

    def area(values: np.ndarray) -> float:
        return auc_value(roc(values, long))

    assert area(tokens.mean_log_probability() / sizes) > 0.99
    assert abs(np.log(np.mean(score(Zlib(), tokens)[long] / score(Zlib(), tokens)[~long]))) < 0.06
    proportional = replace(tokens, zlib_bytes=counts)
    assert abs(area(score(Zlib(), proportional)) - 0.5) < 4 / np.sqrt(12 * 200)


def test_min_k_takes_one_token_of_a_text_too_short_for_its_share():
    tokens = TokenSignals(np.array([0, 4, 5]), np.array([-1.0, -7, -2, -3, -4]))
    assert score(MinK(0.2), tokens).tolist() == [-7.0, -4.0]
    with pytest.raises(InputError, match="fraction above 0"):
        MinK(0.0)
    with pytest.raises(InputError, match=r"got 1\.5"):
        MinKPlusPlus(1.5)


def test_min_k_plus_plus_weighs_the_vocabulary_by_its_probability():
    """A vocabulary of three with p = 1/2, 1/4, 1/4; mu = sum p log p, var = sum p log^2 p - mu^2."""
    p = np.array([0.5, 0.25, 0.25])
    mu = -1.5 * log(2)
    variance = 0.25 * log(2) ** 2
    assert (p * np.log(p)).sum() == pytest.approx(mu)
    tokens = TokenSignals(
        np.array([0, 2]),
        np.log([0.5, 0.25]),
        mean=np.full(2, mu),
        variance=np.full(2, variance),
    )
    # (log 1/2 - mu) / sd = 1 and (log 1/4 - mu) / sd = -1
    np.testing.assert_allclose(score(MinKPlusPlus(0.5), tokens), [-1.0])
    np.testing.assert_allclose(score(MinKPlusPlus(1.0), tokens), [0.0], atol=1e-12)


def test_ez_puts_the_most_memorised_text_first():
    """Without any loss against the base, the published ratio divides by zero and gives zero."""
    own = np.array([-1.0, -1, -1, -1, -1, -4])
    base = np.array([-5.0, -5, -5, -1.5, -0.5, -4])
    tokens = TokenSignals(np.array([0, 3, 6]), own, is_top=np.zeros(6, bool), base=base)
    first, second = score(EZ(), tokens)
    assert exp(first) == pytest.approx(13.0) and exp(second) == pytest.approx(1.0)
    # All tokens right: judged on all of them, not left at zero
    flawless = replace(tokens, is_top=np.array([True, True, True, False, False, False]))
    assert score(EZ(), flawless)[0] == pytest.approx(log(13.0))


def test_ez_scores_the_first_token_and_texts_with_one_error():
    tokens = TokenSignals(
        np.array([0, 2]),
        np.array([-1.0, -1.0]),
        is_top=np.array([False, True]),
        base=np.array([-3.0, -9.0]),
    )
    assert score(EZ(), tokens)[0] == pytest.approx(log(3.0))
    assert score(EZ(0.5), tokens)[0] == pytest.approx(log(5.0)) and EZ(0.5).name == "ez_0.5"
    with pytest.raises(InputError, match="smoothing above 0"):
        EZ(0.0)


def test_wbc_does_not_count_ties():
    # Sums of tenths are not exact: 0.1 + 0.2 - 0.3 is not zero
    own = np.array([-1.0, -1, -1, -1])
    same = TokenSignals(np.array([0, 4]), own, base=own.copy())
    assert score(WBC(), same).tolist() == [0.0]
    level = TokenSignals(np.array([0, 3]), own[:3] + np.array([0.1, 0.2, -0.3]), base=own[:3])
    # Of windows of two one is better; whole texts of three tie
    assert score(WBC(), level)[0] == pytest.approx(0.1 * 0.5)


@pytest.mark.parametrize("name", ["recall", "lowercase"])
def test_copies_that_the_model_finds_harder_raise_the_score(name):
    tokens = TokenSignals(
        np.array([0, 1, 2]), np.array([-2.0, -2.0]), copies={name: np.array([-6.0, -2.0])}
    )
    attack = ReCaLL() if name == "recall" else Lowercase()
    np.testing.assert_allclose(score(attack, tokens), [3.0, 1.0])


def test_the_base_difference_has_the_auc_of_its_normal_distribution():
    """Gains of N(0, 1) a token, N(0.1, 1) for members: the mean of T has a shift of 0.1 sqrt(T)."""
    n, length, shift = 6000, 50, 0.1
    rng = np.random.default_rng(4)
    member = np.arange(n) < n // 2
    gains = rng.standard_normal((n, length)) + shift * member[:, None]
    base = -rng.exponential(3.0, (n, length)) - 10
    tokens = TokenSignals(np.arange(n + 1) * length, (base + gains).ravel(), base=base.ravel())
    area = auc_value(roc(score(BaseDifference(), tokens), member))
    assert area == pytest.approx(ndtr(shift * length**0.5 / 2**0.5), abs=0.02)


def test_token_dynamics_by_its_definition():
    features = compute_token_dynamics(TOKENS)
    for found, row in zip(features, ROWS, strict=True):
        own, t = row["own"], len(row["own"])
        cut = [mean(own[:k]) for k in (10, 25, 50, 100, 200)]
        better = sum(own[i] > mean(own[:i]) for i in range(1, t)) / max(t - 1, 1)
        shares = [mean([value > -loss for value in own]) for loss in (0.5, 1, 2, 4)]
        expected = [mean(own), float(np.std(own)), *shares, *cut, better]
        np.testing.assert_allclose(found[[0, 1, *range(6, 16)]], expected, rtol=1e-6, atol=1e-9)
        slope = np.polyfit(np.arange(t) / (t - 1), own, 1)[0] if t > 1 else 0.0
        assert found[3] == pytest.approx(slope, abs=1e-6)


def test_token_dynamics_sees_what_the_mean_hides():
    """Members fall by two nats along the text and others rise by as much, with one mean."""
    n, length = 800, 60
    rng = np.random.default_rng(2)
    member = rng.random(n) < 0.5
    course = np.where(member[:, None], -1, 1) * np.linspace(-1, 1, length)
    values = -5 + course + rng.standard_normal((n, length))
    tokens = TokenSignals(np.arange(n + 1) * length, values.ravel())
    known = np.where(np.arange(n) < 400, member, -1).astype(np.int8)
    evidence = as_evidence(tokens, known)
    hidden = evidence.hidden
    found = TokenDynamics().score(evidence, rng)
    assert auc_value(roc(found[hidden], member[hidden])) > 0.99
    loss = Loss().score(
        Evidence("loss", -tokens.mean_log_probability()[:, None, None], evidence.labels, known), rng
    )
    assert abs(auc_value(roc(loss[hidden], member[hidden])) - 0.5) < 0.1


def test_levels_and_parts_are_the_weakest_that_feed_each_attack():
    needed = {attack.name: attack.needs for attack in TEXT_ATTACKS}
    assert needed["min_k_plus_plus"].access is Access.VOCABULARY
    assert needed["ngram_coverage"].access is Access.GENERATIONS
    assert needed["gradient_norm"].access.at("text") is Access.WEIGHTS
    others = set(needed) - {"min_k_plus_plus", "ngram_coverage", "gradient_norm"}
    assert {needed[name].access.at("text") for name in others} == {Access.TOKEN_PROBABILITIES}
    assert all("text" in needs.tasks for needs in needed.values())
    assert needed["ez"].tokens == ("base", "top") and needed["wbc"].tokens == ("base",)
