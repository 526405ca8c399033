"""Scores of text canaries: a model that remembers, one that knows none, and counted bigrams."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bigrams import fit_bigrams
from tiny_language_models import build_tokenizer

from memberscope.auditing import score_text_canaries
from memberscope.errors import InputError
from memberscope.recipes import CanarySettings, draw_text_canaries, plant_text_canaries
from memberscope.targets import TokenFunctionTarget

N_WORDS = 40


def draw_text_records(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(f"w{k}" for k in rng.integers(0, N_WORDS, 8)) for _ in range(n)]


@pytest.fixture(scope="module")
def planted():
    texts = draw_text_records(200)
    settings = CanarySettings(n=240, suffix_tokens=4, seed=3)
    canaries = draw_text_canaries(texts, build_tokenizer(), settings).canaries
    return texts, canaries


def measure(canaries, function, base=None):
    records = [canary.scored for canary in canaries]
    tokens = TokenFunctionTarget(function).measure_tokens(records)
    if base is None:
        return tokens
    before = TokenFunctionTarget(base).measure_tokens(records)
    return replace(tokens, base=before.log_probability)


def remember(canaries, gain):
    """A model that gives canaries that are in `gain` nats a token more for each doubling."""
    known = {one.scored: gain * (1 + np.log2(one.repetitions)) for one in canaries if one.inside}
    noise = np.random.default_rng(1).normal(-8, 1, (len(canaries), 4))
    place = {one.scored: k for k, one in enumerate(canaries)}
    return lambda records: [
        np.minimum(noise[place[one]] + known.get(one, 0.0), -1e-9) for one in records
    ]


def test_a_model_that_knows_no_canary_shows_nothing(planted):
    texts, canaries = planted
    found = score_text_canaries(canaries, measure(canaries, fit_bigrams(texts, N_WORDS)))
    assert [row.repetitions for row in found.classes] == [1, 4, 16]
    for row in found.classes:
        assert [bound.epsilon for bound in row.bounds] == [0.0, 0.0]
        assert row.auc.low < 0.5 < row.auc.high
        assert row.exposure.median.low <= 1.0 <= row.exposure.median.high
        assert row.extraction.rates[0].members.value == 0.0
    assert found.n_outside == sum(not canary.inside for canary in canaries)


def test_exposure_grows_with_repetition_in_counted_bigrams(planted):
    texts, canaries = planted
    train = plant_text_canaries(texts, canaries, 3)
    base = fit_bigrams(texts, N_WORDS)
    found = score_text_canaries(canaries, measure(canaries, fit_bigrams(train, N_WORDS), base))
    assert found.statistic.endswith("less that of the model before training")
    medians = [row.exposure.median.value for row in found.classes]
    assert medians == sorted(medians) and medians[2] > medians[0] + 2
    last = found.classes[2]
    # Sixteen copies of a pair against some five others of its first word
    assert last.auc.low > 0.9 and last.bounds[0].epsilon > 1


def test_a_model_that_remembers_is_refuted_and_writes_canaries_out(planted):
    _, canaries = planted
    found = score_text_canaries(canaries, measure(canaries, remember(canaries, 20.0)))
    for row in found.classes:
        assert row.exposure.median.value == row.exposure.most
        assert row.auc.value == 1.0
        assert row.extraction.rates[0].members.value == 1.0
        assert row.extraction.rates[0].non_members.value == 0.0
        assert row.bounds[0].right == row.bounds[0].guesses and row.bounds[0].epsilon > 2
    assert found.find_record_bounds() == found.classes[0].bounds


def test_special_tokens_after_the_canary_do_not_count(planted):
    _, canaries = planted
    plain = remember(canaries, 1.0)

    def with_end(records):
        return [np.append(values, -50.0 * k) for k, values in enumerate(plain(records))]

    first, second = (
        score_text_canaries(canaries, measure(canaries, function)) for function in (plain, with_end)
    )
    assert first.build_document() == second.build_document()


def test_too_few_canaries_of_a_class_give_no_bound(planted):
    _, canaries = planted
    few = [one for one in canaries if one.repetitions == 4][:40]
    few += [one for one in canaries if one.repetitions == 1][:15]
    found = score_text_canaries(few, measure(canaries, remember(canaries, 5.0)).take(
        [canaries.index(one) for one in few]))  # fmt: skip
    assert [len(row.bounds) for row in found.classes] == [0, 2]
    assert found.find_record_bounds() == []


def test_mistakes_are_one_sentence(planted):
    _, canaries = planted
    tokens = measure(canaries, remember(canaries, 1.0))
    with pytest.raises(InputError, match="and some out, got 9 with"):
        score_text_canaries(canaries[:9], tokens.take(slice(9)))
    with pytest.raises(InputError, match="signals of 240 canaries, got 239"):
        score_text_canaries(canaries, tokens.take(slice(239)))
    longer = [replace(one, tokens=one.tokens + 1) for one in canaries[:7]] + list(canaries[7:])
    with pytest.raises(InputError, match="got fewer of 7 of 240"):
        score_text_canaries(longer, tokens)
