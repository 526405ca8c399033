"""Extraction from log-probabilities: counted bigrams, units, and the control on non-members."""

from __future__ import annotations

import numpy as np
import pytest
from bigrams import fit_bigrams

from memberscope.auditing import audit, estimate_extraction
from memberscope.errors import InputError
from memberscope.statistics import clopper_pearson
from memberscope.targets import TokenFunctionTarget
from memberscope.texts import Completion, TokenSignals

# b follows a always; c follows b three times of four, d once
TRAINED = ["a b c"] * 3 + ["a b d"]
RECORDS = [Completion("a", " b c"), Completion("a", " b d")]


def measure(records, texts=TRAINED, n_words=4, smoothing=0.0):
    target = TokenFunctionTarget(fit_bigrams(texts, n_words, smoothing))
    return target.measure_tokens(records)


@pytest.mark.parametrize(
    ("n", "p", "found"),
    [
        (1, 0.5, (1.0, 0.0)),  # 0.75 and 0.25
        (2, 0.5, (1.0, 0.0)),  # 1 - 0.75² = 0.4375 of the second
        (3, 0.5, (1.0, 1.0)),  # 1 - 0.75³ = 0.578
        (3, 0.6, (1.0, 0.0)),
        (1, 0.76, (0.0, 0.0)),
    ],
)
def test_counted_bigrams_are_extracted_exactly_where_the_formula_says(n, p, found):
    row = estimate_extraction(measure(RECORDS), np.array([True, False]), n, p).rates[0]
    assert (row.n, row.members.value, row.non_members.value) == (n, *found)


def test_the_last_tokens_alone_count_and_of_short_records_the_second_half():
    values = np.log([0.1, 0.1, 0.9, 0.9, 0.1, 0.9])
    tokens = TokenSignals(np.array([0, 4, 6]), values)
    member = np.array([True, False])
    for suffix, found in ((2, (1.0, 1.0)), (50, (1.0, 1.0)), (None, (0.0, 0.0))):
        row = estimate_extraction(tokens, member, 1, 0.5, suffix_tokens=suffix).rates[0]
        assert (row.members.value, row.non_members.value) == found


def test_limits_are_clopper_pearson_and_wider_by_unit():
    known = np.repeat([0.9, 0.1], [30, 70])
    tokens = TokenSignals(np.arange(201), np.log(np.concatenate([known, np.full(100, 0.1)])))
    member = np.arange(200) < 100
    row = estimate_extraction(tokens, member, 1, 0.5).rates[0]
    low, high = clopper_pearson(30, 100)
    assert (row.members.low, row.members.high) == (pytest.approx(low), pytest.approx(high))
    assert row.non_members.value == 0.0
    by_unit = estimate_extraction(tokens, member, 1, 0.5, unit=np.arange(200) // 10).rates[0]
    assert by_unit.members.low < row.members.low and by_unit.members.high > row.members.high


def test_certain_and_impossible_suffixes_need_no_more_than_double_precision():
    tokens = TokenSignals(np.array([0, 1, 2]), np.array([0.0, -2000.0]))
    row = estimate_extraction(tokens, np.array([True, False]), 10**9, 0.999).rates[0]
    assert (row.members.value, row.non_members.value) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"n": 0}, "at least one try"),
        ({"p": 1.0}, "strictly between 0 and 1"),
        ({"suffix_tokens": 0}, "suffix_tokens=0"),
    ],
)
def test_bad_input_is_one_sentence(more, words):
    with pytest.raises(InputError, match=words):
        estimate_extraction(measure(RECORDS), np.array([True, False]), **more)
    with pytest.raises(InputError, match="non-members are the control"):
        estimate_extraction(measure(RECORDS), np.array([True, True]))


def test_an_audit_of_texts_reports_it_with_n_and_p():
    rng = np.random.default_rng(0)
    words = [f"w{k}" for k in range(200)]
    texts = [" ".join(rng.choice(words, 12)) for _ in range(120)]
    # Counted without smoothing on the members many times over: it can write little else
    model = fit_bigrams(texts[:60] * 50, 200, 0.01)
    result = audit(TokenFunctionTarget(model), texts[:60], texts[60:], attacks=["loss"])
    found = result.diagnostics.extraction
    assert (found.p, found.suffix_tokens, [row.n for row in found.rates]) == (
        0.5,
        50,
        [1, 100, 10_000],
    )
    assert found.rates[2].members.value > found.rates[2].non_members.value
    assert any("Sampled 100 times" in note for note in result.diagnostics.notes)
