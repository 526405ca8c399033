"""Coverage of a text's second half by what a model writes after its first half."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.attacks import NgramCoverage, compute_ngram_coverage, split_in_halves
from memberscope.errors import UnmetNeedError
from memberscope.types import Evidence

HALF = "the cat sat on the mat"


@pytest.mark.parametrize(
    ("continuations", "size", "share"),
    [
        ([HALF], 3, 1.0),
        (["The Cat\nsat  on"], 3, 2 / 4),
        (["the cat sat", "on the mat"], 3, 2 / 4),
        (["the cat sat", "sat on the mat"], 3, 3 / 4),
        ([HALF[::-1]], 3, 0.0),
        ([], 3, 0.0),
        ([""], 3, 0.0),
        (["mat the"], 1, 3 / 6),
        (["cat sat on the"], 9, 0.0),
        ([f"well, {HALF} it was"], 9, 1.0),
    ],
)
def test_share_of_word_ngrams_that_some_continuation_contains(continuations, size, share):
    assert compute_ngram_coverage(HALF, continuations, size) == pytest.approx(share)


def test_short_and_empty_halves_have_a_share():
    assert compute_ngram_coverage("mat", ["on the mat"]) == 1.0
    assert compute_ngram_coverage("mat", ["on the rug"]) == 0.0
    assert compute_ngram_coverage("  ", ["anything"]) == compute_ngram_coverage("", []) == 0.0


@pytest.mark.parametrize(
    "text", [HALF, "a", "", " a  b\tc\n", "a a a a a", "one, two; three.", "aa a aa a"]
)
def test_halves_join_to_the_text_and_split_between_words(text):
    first, second = split_in_halves(text)
    assert first + second == text
    assert 0 <= len(first.split()) - len(second.split()) <= 1
    assert [*first.split(), *second.split()] == text.split()


def test_higher_coverage_is_likelier_a_member_and_only_hidden_records_have_a_score():
    shares = np.array([0.9, 0.1, 0.5])
    evidence = Evidence(
        "generations", shares[:, None, None], np.zeros(3, int), np.array([-1, -1, 0], np.int8)
    )
    found = NgramCoverage().score(evidence, np.random.default_rng(0))
    assert found[0] > found[1] and np.isnan(found[2])
    with pytest.raises(UnmetNeedError, match="Expected generations"):
        tokens = Evidence("tokens", shares[:, None, None], np.zeros(3, int), evidence.known)
        NgramCoverage().score(tokens, np.random.default_rng(0))
