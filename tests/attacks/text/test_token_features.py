"""Features of token signals, and the classifier that learns on them under reference models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from token_signals import ROWS, TOKENS, draw_signals, lowest, mean, window_share

from memberscope.attacks import TokenClassifier, compute_token_features, list_token_features
from memberscope.errors import UnmetNeedError
from memberscope.statistics import auc_value, roc
from memberscope.texts import TokenSignals
from memberscope.types import Evidence

NAMES = list_token_features(TOKENS)
FOUND = dict(zip(NAMES, compute_token_features(TOKENS).T, strict=True))


def correlate(values: list[float], lag: int) -> float:
    centred = [value - mean(values) for value in values]
    variance = mean([value**2 for value in centred])
    pairs = [a * b for a, b in zip(centred, centred[lag:], strict=False)]
    return sum(pairs) / max(len(values) - lag, 1) / variance if variance > 0 else 0.0


def skew(values: list[float]) -> float:
    centred = [value - mean(values) for value in values]
    variance = mean([value**2 for value in centred])
    return mean([value**3 for value in centred]) / variance**1.5 if variance > 0 else 0.0


def hard_gain(row: dict) -> float:
    limit = np.quantile(row["own"], 0.4)
    return mean([d for d, own in zip(row["d"], row["own"], strict=True) if own <= limit + 1e-9])


BY_HAND = {
    "mean": lambda row: mean(row["own"]),
    "spread": lambda row: float(np.std(row["own"])),
    "skewness": lambda row: skew(row["own"]),
    "quantile_0.1": lambda row: np.quantile(row["own"], 0.1),
    "quantile_0.9": lambda row: np.quantile(row["own"], 0.9),
    "min_k": lambda row: lowest(row["own"], 0.2),
    "autocorrelation_1": lambda row: correlate(row["own"], 1),
    "autocorrelation_2": lambda row: correlate(row["own"], 2),
    "sure": lambda row: mean([value > np.log(0.5) for value in row["own"]]),
    "gain_mean": lambda row: mean(row["d"]),
    "gain_quantile_0.5": lambda row: np.median(row["d"]),
    "gain_share": lambda row: mean([value > 0 for value in row["d"]]),
    "gain_hard": hard_gain,
    "gain_windows": lambda row: window_share(row["d"]),
    "z_mean": lambda row: mean(row["z"]),
    "top": lambda row: mean(row["top"]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_features_are_those_of_a_loop_over_texts(name):
    expected = [BY_HAND[name](row) for row in ROWS]
    np.testing.assert_allclose(FOUND[name], expected, rtol=1e-5, atol=1e-6)


def test_there_are_25_with_a_base_and_none_without_a_value():
    bare = TokenSignals(TOKENS.offsets, TOKENS.log_probability)
    assert len(list_token_features(bare)) == 14
    assert len(list_token_features(replace(bare, base=TOKENS.base))) == 25
    assert len(NAMES) == len(set(NAMES)) == 29
    assert np.isfinite(compute_token_features(TOKENS)).all()


def test_no_feature_tells_how_long_a_text_is():
    """Texts of 60 and of 600 tokens of one distribution: no feature's mean differs by much."""
    counts = np.where(np.arange(600) % 2, 60, 600)
    tokens = draw_signals(counts, 5)
    features, long = compute_token_features(tokens), counts == 600
    for name, column in zip(list_token_features(tokens), features.T, strict=True):
        # Short texts vary more, so the shift is against their spread
        shift = (column[long].mean() - column[~long].mean()) / column[~long].std()
        assert abs(shift) < 0.6, name


def reference_scene(n: int, models: int, effect: float, seed: int) -> tuple[Evidence, np.ndarray]:
    """Token features of a target and references that all gain `effect` nats a token on members."""
    rng = np.random.default_rng(seed)
    difficulty = -rng.exponential(2.0, (n, 40))

    def observe(inside: np.ndarray) -> np.ndarray:
        own = difficulty + 0.5 * rng.standard_normal((n, 40)) + effect * inside[:, None]
        tokens = TokenSignals(np.arange(n + 1) * 40, own.ravel(), base=difficulty.ravel())
        return compute_token_features(tokens)[:, None, :]

    member = rng.random(n) < 0.5
    inside = np.argsort(rng.random((models, n)), axis=0) < models // 2
    references = np.stack([observe(row) for row in inside])
    hidden = np.full(n, -1, np.int8)
    evidence = Evidence(
        "token_features",
        observe(member),
        np.zeros(n, int),
        hidden,
        references=references,
        inside=inside,
    )
    return evidence, member


def test_what_references_show_is_found_in_the_target():
    evidence, member = reference_scene(600, 2, 0.2, 0)
    found = TokenClassifier().score(evidence, np.random.default_rng(0))
    # A shift of 0.2 sqrt(40) / 0.5 = 2.5 standard deviations of the mean gain
    assert auc_value(roc(found, member)) > 0.94


def test_nothing_is_found_where_nothing_is_learned_or_nothing_leaks():
    areas = []
    for seed in range(8):
        evidence, member = reference_scene(400, 2, 0.0, seed)
        found = TokenClassifier().score(evidence, np.random.default_rng(0))
        areas.append(auc_value(roc(found, member)))
    assert abs(np.mean(areas) - 0.5) < 4 * np.sqrt(401 / (12 * 200 * 200) / 8)


def test_rows_are_drawn_where_there_are_many_and_other_features_are_refused():
    evidence, member = reference_scene(600, 2, 0.2, 1)
    few = TokenClassifier(max_rows=200)
    first, second = (few.score(evidence, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert auc_value(roc(first, member)) > 0.9
    other = replace(evidence, target=evidence.target[:, :, :-1])
    with pytest.raises(UnmetNeedError, match=r"Expected 24 token features .* got 25"):
        TokenClassifier().score(other, np.random.default_rng(0))
