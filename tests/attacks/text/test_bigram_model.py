"""Attacks on a bigram model fitted by counting, where leak and no leak are known in closed form."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from memberscope.attacks import (
    BASE,
    EZ,
    RMIA,
    TEXT_ATTACKS,
    WBC,
    AttackR,
    BaseDifference,
    Calibrated,
    LiRA,
    Loss,
    RobustLiRA,
)
from memberscope.attacks.text import compute_token_features
from memberscope.statistics import auc_value, roc
from memberscope.texts import TokenSignals
from memberscope.types import Evidence

VOCABULARY, LENGTH, TEXTS = 20, 40, 200
HIDDEN = np.full(2 * TEXTS, -1, np.int8)
MEMBER = np.arange(2 * TEXTS) < TEXTS
TOKEN_ATTACKS = [
    attack
    for attack in TEXT_ATTACKS
    if attack.needs.spec.name == "tokens" and attack.needs.known == "none"
]


def draw_language(seed: int) -> np.ndarray:
    """True probabilities (v, v) of the next token."""
    return np.random.default_rng(seed).dirichlet(np.ones(VOCABULARY), VOCABULARY)


def write_texts(language: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Texts (n, LENGTH + 1) of a language; the first token has no prediction."""
    texts = np.empty((n, LENGTH + 1), dtype=int)
    texts[:, 0] = rng.integers(0, VOCABULARY, n)
    for t in range(LENGTH):
        reached = np.cumsum(language[texts[:, t]], axis=1) < rng.random(n)[:, None]
        texts[:, t + 1] = np.minimum(reached.sum(axis=1), VOCABULARY - 1)
    return texts


def fit(texts: np.ndarray, language: np.ndarray, prior: float = 5.0) -> np.ndarray:
    """Probabilities (v, v) by counting, `prior` observations of the language added a row."""
    counts = prior * language
    np.add.at(counts, (texts[:, :-1].ravel(), texts[:, 1:].ravel()), 1)
    return counts / counts.sum(axis=1, keepdims=True)


def observe(model: np.ndarray, language: np.ndarray, texts: np.ndarray) -> TokenSignals:
    before, after = texts[:, :-1].ravel(), texts[:, 1:].ravel()
    log_p = np.log(model)
    mean = (model * log_p).sum(axis=1)
    variance = (model * log_p**2).sum(axis=1) - mean**2
    lower = texts // 2 * 2
    # A prefix changes only what the first token follows on; the same one before every text
    copies = {
        "lowercase": log_p[lower[:, :-1], lower[:, 1:]].mean(axis=1),
        "recall": (log_p[0, texts[:, 0]] + log_p[texts[:, :-1], texts[:, 1:]].sum(axis=1))
        / (LENGTH + 1),
    }
    return TokenSignals(
        np.arange(len(texts) + 1) * LENGTH,
        log_p[before, after].astype(np.float32),
        mean=mean[before],
        variance=variance[before],
        is_top=model.argmax(axis=1)[before] == after,
        base=np.log(language)[before, after].astype(np.float32),
        zlib_bytes=np.full(len(texts), 50),
        copies=copies,
    )


def run(attack, tokens: TokenSignals) -> float:
    evidence = Evidence("tokens", np.zeros((len(HIDDEN), 1, 1)), np.zeros(len(HIDDEN), int), HIDDEN)
    scores = attack.score(
        Evidence("tokens", evidence.target, evidence.labels, HIDDEN, tokens=tokens),
        np.random.default_rng(0),
    )
    return auc_value(roc(scores, MEMBER))


def test_the_gap_of_members_is_the_number_of_parameters_over_the_number_of_tokens():
    """Of a fit by maximum likelihood, training texts are k / n nats a token likelier than others."""
    gaps = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        language = 0.5 * draw_language(seed) + 0.5 / VOCABULARY
        texts = write_texts(language, 2 * TEXTS, rng)
        model = fit(texts[:TEXTS], language, prior=0.5)
        values = observe(model, language, texts).mean_log_probability()
        gaps.append(values[:TEXTS].mean() - values[TEXTS:].mean())
    expected = VOCABULARY * (VOCABULARY - 1) / (TEXTS * LENGTH)
    assert np.mean(gaps) == pytest.approx(expected, rel=0.1)


def test_contexts_of_one_text_each_leak_completely_and_by_the_counts():
    """Context i stands in text i alone: p = (count + prior / v) / (length + prior), or 1 / v."""
    rng = np.random.default_rng(0)
    prior, n = 4.0, 2 * TEXTS
    drawn = rng.integers(0, VOCABULARY, (n, LENGTH))
    counts = np.zeros((n, VOCABULARY))
    np.add.at(counts, (np.repeat(np.arange(n), LENGTH), drawn.ravel()), 1)
    p = np.where(MEMBER[:, None], (counts + prior / VOCABULARY) / (LENGTH + prior), 1 / VOCABULARY)
    own = np.log(np.take_along_axis(p, drawn, axis=1))
    base = np.full(own.shape, -log(VOCABULARY))
    tokens = TokenSignals(
        np.arange(n + 1) * LENGTH, own.ravel(), is_top=np.zeros(own.size, bool), base=base.ravel()
    )
    row = counts[0]
    gain = (row * np.log((row + prior / VOCABULARY) / (LENGTH + prior) * VOCABULARY)).sum() / LENGTH
    evidence = Evidence("tokens", np.zeros((n, 1, 1)), np.zeros(n, int), HIDDEN, tokens=tokens)
    scores = BaseDifference().score(evidence, rng)
    assert scores[0] == pytest.approx(gain) and np.all(scores[TEXTS:] == 0.0)
    for attack in (BaseDifference(), EZ(), WBC()):
        assert run(attack, tokens) > 0.995, attack.name
    # Nobody in: all contexts have the same probabilities, and every score ties
    flat = TokenSignals(tokens.offsets, base.ravel(), is_top=tokens.is_top, base=base.ravel())
    for attack in (BaseDifference(), EZ(), WBC()):
        assert run(attack, flat) == 0.5, attack.name


@pytest.mark.parametrize("attack", TOKEN_ATTACKS, ids=lambda attack: attack.name)
def test_no_token_attack_finds_texts_that_were_not_counted(attack):
    areas = []
    for seed in range(10):
        rng, language = np.random.default_rng(seed), draw_language(seed)
        texts = write_texts(language, 3 * TEXTS, rng)
        model = fit(texts[2 * TEXTS :], language)
        areas.append(run(attack, observe(model, language, texts[: 2 * TEXTS])))
    assert abs(np.mean(areas) - 0.5) < 4 * np.sqrt((2 * TEXTS + 1) / (12 * TEXTS**2) / 10)


@pytest.mark.parametrize(
    "attack",
    # A prefix and a coarser spelling say nothing in a model that knows one token back
    [attack for attack in TOKEN_ATTACKS if attack.name not in ("recall", "lowercase")],
    ids=lambda attack: attack.name,
)
def test_every_token_attack_finds_texts_that_were_counted(attack):
    language = draw_language(1)
    texts = write_texts(language, 2 * TEXTS, np.random.default_rng(1))
    model = fit(texts[:TEXTS], language, prior=1.0)
    assert run(attack, observe(model, language, texts)) > 0.55


def test_references_beat_what_the_base_alone_shows():
    rng, language = np.random.default_rng(3), draw_language(3)
    texts = write_texts(language, 2 * TEXTS, rng)
    inside = np.argsort(rng.random((4, 2 * TEXTS)), axis=0) < 2
    signals = [
        observe(fit(texts[rows], language, prior=1.0), language, texts)
        for rows in (MEMBER, *inside)
    ]
    means = [part.mean_log_probability() for part in signals]
    best = run(BaseDifference(), signals[0])

    def area(attack) -> float:
        (name,) = attack.needs.signals
        logs = np.stack(means)
        values = logs if name == "log_confidence" else logs - np.log(-np.expm1(logs))
        if name == "token_features":
            values = np.stack([compute_token_features(part) for part in signals])
        else:
            values = values[..., None]
        evidence = Evidence(
            name,
            values[0][:, None],
            np.zeros(len(MEMBER), int),
            HIDDEN,
            references=values[1:][:, :, None],
            inside=inside,
        )
        return auc_value(roc(attack.score(evidence, np.random.default_rng(0)), MEMBER))

    for attack in (
        RMIA(gamma=1.0, temperature=1.0),
        BASE(temperature=1.0),
        Calibrated("log_confidence"),
        LiRA(),
        LiRA("offline"),
        RobustLiRA(),
    ):
        assert area(attack) > best - 0.02, attack.name
    # With a factor of two, as for classes, no text would beat another
    assert area(RMIA(temperature=1.0)) == 0.5
    assert area(AttackR()) > 0.6
    assert area(TEXT_ATTACKS[[one.name for one in TEXT_ATTACKS].index("token_classifier")]) > 0.6


def test_the_loss_attack_reads_the_mean_log_probability():
    tokens = TokenSignals(np.array([0, 2, 3]), np.array([-1.0, -3.0, -0.5]))
    losses = -tokens.mean_log_probability()
    evidence = Evidence("loss", losses[:, None, None], np.zeros(2, int), np.full(2, -1, np.int8))
    assert Loss().score(evidence, np.random.default_rng(0)).tolist() == [-2.0, -0.5]
