"""Duplicates of texts across the sides, by unit, and members' phrases in non-members."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.auditing.controls.ngram_overlap import (
    add_ngram_overlap,
    describe_ngram_overlap,
    measure_ngram_shares,
    summarise_ngram_shares,
)
from memberscope.auditing.controls.overlap import run_overlap_control
from memberscope.auditing.subject import text_duplicates
from memberscope.auditing.subject.text_duplicates import find_text_overlap
from memberscope.auditing.subject.text_hashes import (
    hash_character_ngrams,
    hash_word_ngrams,
    split_words,
)
from memberscope.texts import Completion

SIDE = 150
MEMBER = np.arange(2 * SIDE) < SIDE


def _draw(n: int, seed: int, length: int = 40) -> list[str]:
    """Texts of words that hardly ever repeat a phrase."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnop"))
    return [" ".join("".join(rng.choice(letters, 4)) for _ in range(length)) for _ in range(n)]


def test_exact_copies_are_equal_after_case_and_white_space():
    texts = _draw(2 * SIDE, 0)
    texts[SIDE + 3] = "  " + texts[7].upper().replace(" ", "\n\n")
    overlap = find_text_overlap(texts, MEMBER)
    assert overlap.exact.tolist() == [[SIDE + 3, 7]] and not len(overlap.near)
    assert overlap.marked().sum() == 1 and overlap.involved.sum() == 2


def test_near_copies_are_found_paired_and_counted():
    texts, rng = _draw(2 * SIDE, 1), np.random.default_rng(0)
    for row in range(30):
        words = texts[row].split()
        for place in rng.integers(0, len(words), 3):
            words[place] = "changed"
        texts[SIDE + row] = " ".join(words)
    overlap = find_text_overlap(texts, MEMBER)
    assert overlap.near.tolist() == [[SIDE + row, row] for row in range(30)]
    control = run_overlap_control(overlap, MEMBER)
    assert control.passed is False and control.details["excess"] == 30


def test_texts_apart_and_half_of_a_text_in_common():
    texts = _draw(2 * SIDE, 2)
    half = len(texts[0]) // 2
    texts[SIDE] = texts[0][: half // 2] + texts[SIDE][half // 2 :]  # a quarter in common
    texts[SIDE + 1] = texts[1][: int(1.8 * half)] + texts[SIDE + 1][int(1.8 * half) :]
    overlap = find_text_overlap(texts, MEMBER)
    assert overlap.near.tolist() == [[SIDE + 1, 1]]
    assert run_overlap_control(find_text_overlap(_draw(2 * SIDE, 3), MEMBER), MEMBER).passed


def test_estimated_resemblance_of_long_texts_is_near_the_true_one():
    texts = _draw(2, 4, 2_000)
    for share in (0.6, 0.9):
        mixed = texts[0][: int(share * len(texts[0]))] + texts[1][int(share * len(texts[1])) :]
        sets = [set(hash_character_ngrams(text, 9).tolist()) for text in (texts[0], mixed)]
        true = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        sketches = np.array([text_duplicates._sketch_text(text) for text in (texts[0], mixed)])
        found = text_duplicates._estimate_resemblance(sketches, np.array([[0, 1]]))
        assert abs(found[0] - true) < 4 * (true * (1 - true) / 128) ** 0.5


def test_phrases_common_to_both_sides_are_no_copies_beyond_chance():
    """Texts of one template: near copies within the sides explain those across."""
    texts = ["Dear customer, we thank you for the order of " + text for text in _draw(80, 5, 5)]
    control = run_overlap_control(find_text_overlap(texts, np.arange(80) < 40), np.arange(80) < 40)
    assert control.passed is True


def test_a_unit_counts_once_and_is_no_copy_of_itself():
    """Authors repeat their texts, so that copies within a side say nothing of chance."""
    texts = _draw(2 * SIDE, 6)
    for row in range(0, 2 * SIDE, 3):
        texts[row + 1] = texts[row + 2] = texts[row]
    unit = np.arange(2 * SIDE) // 3
    for author in range(20):
        rows = SIDE + 3 * author + np.arange(3)
        for row in rows:
            texts[row] = texts[3 * author]
    overlap = find_text_overlap(texts, MEMBER, unit=unit)
    assert len(overlap.exact) == 60
    control = run_overlap_control(overlap, MEMBER)
    assert control.passed is False and control.details["excess"] == 60
    assert overlap.surplus[0].expected == 0
    # One author under two names is one pair of units, which may happen by chance
    texts = _draw(2 * SIDE, 7)
    texts[SIDE : SIDE + 30] = texts[:30]
    unit = np.arange(2 * SIDE) // 30
    assert run_overlap_control(find_text_overlap(texts, MEMBER, unit=unit), MEMBER).passed


def test_near_copies_are_found_whatever_the_order():
    texts = _draw(2 * SIDE, 8)
    texts[SIDE] = texts[0] + " more"
    order = np.random.default_rng(0).permutation(2 * SIDE)
    overlap = find_text_overlap([texts[row] for row in order], MEMBER[order])
    assert order[overlap.near].tolist() == [[SIDE, 0]]


def test_short_and_empty_texts_do_not_stop_the_search():
    overlap = find_text_overlap(["", "a", "b", "A", "ab", ""], np.arange(6) < 3)
    assert sorted(overlap.exact.tolist()) == [[3, 1], [5, 0]]


def test_shares_of_ngrams_on_hand_made_texts():
    texts = ["a b c d e f g h", "A, b! c d e f g - x y z", "q r s", "m n o p a b c d e f"]
    member = np.array([True, False, False, False])
    # The second has four runs of seven words, of which the first is known; the third has none
    shares = measure_ngram_shares(texts, member)
    np.testing.assert_allclose(shares, [0, 1 / 4, np.nan, 0])
    # A record is read whole
    both = measure_ngram_shares([Completion("a b c d", " e f g h"), texts[0]], member[:2])
    assert both[1] == 1


def test_a_member_does_not_find_its_own_unit():
    texts = ["a b c d e f g h"] * 2 + ["i j k l m n o p q"]
    member = np.array([True, True, False])
    assert measure_ngram_shares(texts, member)[:2].tolist() == [1, 1]
    assert measure_ngram_shares(texts, member, unit=np.array([0, 0, 1]))[:2].tolist() == [0, 0]


def test_members_phrases_in_non_members_are_told():
    texts = _draw(2 * SIDE, 9)
    clean = summarise_ngram_shares(measure_ngram_shares(texts, MEMBER), MEMBER)
    assert clean is not None and clean.median == clean.above_high == 0
    assert describe_ngram_overlap(clean) == []
    for row in range(30):
        texts[SIDE + row] = f"{texts[row][:80]} {texts[SIDE + row][80:]}"
    control = add_ngram_overlap(
        run_overlap_control(find_text_overlap(texts, MEMBER), MEMBER), texts, MEMBER
    )
    assert control.details["ngrams"]["above_high"] == 30 / SIDE
    assert "20% have more than 20% of their runs of 7 words" in control.why
    assert control.passed is True


def test_nothing_is_added_where_no_text_has_an_ngram():
    control = run_overlap_control(find_text_overlap(["a", "b"], np.array([True, False])), MEMBER)
    assert add_ngram_overlap(control, ["a", "b"], np.array([True, False])) == control


@pytest.mark.parametrize(
    ("text", "n"), [("", 0), ("one two", 0), ("Two, three - FOUR!", 1), ("数据集是", 2)]
)
def test_words_of_any_script_are_counted(text, n):
    assert len(hash_word_ngrams(split_words(text), 3)) == n
