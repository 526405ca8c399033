"""The blind control for texts: shifts are caught on both sides, random splits pass, units stay."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.auditing.controls.text_blind import run_text_blind_control
from memberscope.auditing.controls.text_features import extract_text_features
from memberscope.texts import Chat, Completion

WORDS = np.array([f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"])
SIDE = 200
MEMBER = np.arange(2 * SIDE) < SIDE


def draw_sentences(n: int, seed: int, length: int = 25) -> list[str]:
    """Texts of words of unequal frequency, as those of a language."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, len(WORDS) + 1)
    drawn = rng.choice(WORDS, (n, length), p=share / share.sum())
    return [" ".join(row).capitalize() + "." for row in drawn]


def _check(texts, member=MEMBER, **options):
    return run_text_blind_control(texts, member, fprs=(0.01,), **options)


def _with_years(texts, share: float):
    """Put a year into the first texts, in the middle."""
    marked = int(share * len(texts))
    return [f"{t[:40]} {2021 + i % 3} {t[40:]}" for i, t in enumerate(texts[:marked])] + texts[
        marked:
    ]


def test_years_in_three_of_ten_members_are_caught():
    texts = draw_sentences(2 * SIDE, 0)
    control = _check(_with_years(texts[:SIDE], 0.3) + texts[SIDE:])
    assert control.passed is False and control.details["p_value"] < 1e-4
    # A share of members is found that chance does not explain
    assert control.details["classifier"] == "style"
    assert control.details["tpr"][0]["of"] == "members" and control.details["tpr"][0]["tpr"] > 0.2


def test_a_mark_on_non_members_is_caught_as_well():
    texts = draw_sentences(2 * SIDE, 1)
    control = _check(texts[:SIDE] + _with_years(texts[SIDE:], 0.3))
    assert control.passed is False


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text.replace("bal", "kus"), id="words"),
        pytest.param(lambda text: text[:-60] + ".", id="length"),
        pytest.param(lambda text: text.replace(" ", "\n", 1), id="form"),
        pytest.param(lambda text: f"<s>{text}", id="template"),
        pytest.param(lambda text: Completion("Go on: ", text), id="prompt"),
        pytest.param(lambda text: Chat((("assistant", text),)), id="chat"),
    ],
)
def test_another_source_is_caught(change):
    texts = draw_sentences(2 * SIDE, 2)
    control = _check([*map(change, texts[:SIDE]), *texts[SIDE:]])
    assert control.passed is False and control.value > 0.7


def test_random_splits_pass_and_say_what_they_could_have_seen():
    failed, texts = 0, draw_sentences(2 * SIDE, 3)
    features = extract_text_features(texts)
    for seed in range(8):
        control = _check(features, np.random.default_rng(seed).permutation(MEMBER))
        failed += control.passed is False or control.details["below"]
        assert 0.5 < control.smallest_detectable < 0.75
    # Each fails with a probability below one in a hundred
    assert failed <= 1


def test_order_changes_nothing_and_kept_features_give_the_same():
    texts = draw_sentences(2 * SIDE, 4)
    first = _check(texts)
    order = np.random.default_rng(0).permutation(2 * SIDE)
    assert _check([texts[row] for row in order], MEMBER[order]) == first
    assert _check(extract_text_features(texts)) == first


def test_units_are_kept_together():
    """Ten texts of each author carry a name of the author.

    The name says nothing of authors that were not learned from; text by text it gives them away.
    """
    texts = [
        f"{text} {''.join(np.random.default_rng(row // 10).choice(list('xyzwvq'), 9))}"
        for row, text in enumerate(draw_sentences(2 * SIDE, 5))
    ]
    unit = np.arange(2 * SIDE) // 10
    by_unit = _check(texts, unit=unit)
    assert by_unit.passed is True
    assert _check(texts).passed is False


def test_an_attack_is_compared_with_the_blind_classifiers():
    texts = draw_sentences(2 * SIDE, 6)
    rng = np.random.default_rng(0)
    control = _check(texts, strongest=rng.normal(size=2 * SIDE) + 2 * MEMBER)
    assert control.details["beyond_blind"]["low"] > 0.2


def test_nothing_is_said_without_texts_or_of_too_few():
    assert _check(None).passed is None
    few = _check(draw_sentences(10, 0), np.arange(10) < 5)
    assert few.passed is None and "needs 8" in few.why


def test_features_of_odd_texts_are_numbers():
    odd = ["", " ", "\ud800", "数据集 是 2021年", "x" * 20_000, "12/03/2021 10:15 2021-03-04"]
    features = extract_text_features(odd)
    # Years alone may be missing
    missing = np.isnan(features.style).sum(axis=1)
    assert missing.tolist() == [2, 2, 2, 0, 2, 0]
    assert np.isfinite(features.grams.data).all() and len(features.take(np.array([1, 3]))) == 2
