"""What is asked of a language model, once each, and what is refused of its answers."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from language_models import draw_texts, make_text_target, make_token_function

from memberscope.errors import InputError, TargetError, UnmetNeedError
from memberscope.signals import (
    Store,
    check_tokens,
    collect_generation_answers,
    collect_token_answers,
    collect_tokens,
)
from memberscope.targets import TokenFunctionTarget, make_text_records
from memberscope.texts import Chat, Completion, TokenSignals, join_token_signals
from memberscope.types import Access

TEXTS = draw_texts(5, 0)


class CountingTarget:
    """A text target that counts the records it is asked about."""

    def __init__(self, target):
        self.target = target
        self.asked = 0

    def __getattr__(self, name):
        return getattr(self.target, name)

    def measure_tokens(self, x):
        self.asked += len(x)
        return self.target.measure_tokens(x)


def test_the_loss_is_minus_the_mean_log_probability():
    target = make_text_target(digest="model")
    observed, tokens = collect_token_answers(target, make_text_records(TEXTS))
    answers = make_token_function()(TEXTS)
    expected = [-np.mean(answer["log_probs"]) for answer in answers]
    assert np.allclose(observed.outputs[:, 0], expected, atol=1e-5)
    assert observed.signal == "loss" and observed.deterministic
    assert tokens.counts.tolist() == [20] * 5


def test_sizes_are_those_of_the_scored_text():
    records = make_text_records([Completion("What is it?", text) for text in TEXTS])
    tokens = collect_tokens(make_text_target(), records)
    assert tokens.n_bytes.tolist() == [len(text) for text in TEXTS]
    assert tokens.zlib_bytes.tolist() == [len(zlib.compress(text.encode())) for text in TEXTS]


def test_another_prefix_is_asked_for_again(tmp_path):
    store, records = Store(tmp_path), make_text_records(TEXTS)

    def measure(prefix):
        function = lambda texts: [[-float(len(text.prompt))] for text in texts]  # noqa: E731
        target = TokenFunctionTarget(function, prefix=prefix, digest="model")
        known = TokenSignals(
            np.arange(6), np.full(5, -1.0), n_bytes=np.ones(5), zlib_bytes=np.ones(5)
        )
        return collect_tokens(target, records, ("recall",), store=store, known=known)

    assert measure("One. ").copies["recall"].tolist() == [-5.0] * 5
    assert measure("Another. ").copies["recall"].tolist() == [-9.0] * 5


@pytest.mark.parametrize("messages", [(("user", "a b"),), (("assistant", "a"), ("user", "b"))])
def test_a_prefix_that_would_be_scored_is_refused(messages):
    records = make_text_records([Chat(messages)])
    with pytest.raises(UnmetNeedError, match="all messages are scored"):
        collect_tokens(make_text_target(prefix="Another. "), records, ("recall",))


def test_each_part_is_asked_for_once_and_kept(tmp_path):
    target = CountingTarget(make_text_target(digest="model", prefix="Some other text. "))
    records, store = make_text_records(TEXTS), Store(tmp_path)
    first = collect_tokens(target, records, ("lowercase", "recall"), store=store)
    # Once as they are, once in lower case, once after the prefix
    assert target.asked == 15
    again = collect_tokens(target, records, ("lowercase", "recall"), store=store)
    assert target.asked == 15
    assert np.array_equal(first.log_probability, again.log_probability)
    assert np.array_equal(first.copies["recall"], again.copies["recall"])


def test_a_prefix_that_pushes_a_record_out_of_the_context_is_refused():
    def answer(texts):
        """Give a value a word, of the 24 words that fit beside the prompt at most."""
        prompts = [text.prompt if isinstance(text, Completion) else "" for text in texts]
        counts = [min(20, 24 - len(prompt.split())) for prompt in prompts]
        return [np.full(n, -1.0) for n in counts]

    records = make_text_records(TEXTS)
    short, long = (
        TokenFunctionTarget(answer, prefix=prefix) for prefix in ("one two ", "one " * 5)
    )
    assert "recall" in collect_tokens(short, records, ["recall"]).copies
    with pytest.raises(UnmetNeedError, match=r"leaves room .* 5 of 5 records are cut"):
        collect_tokens(long, records, ["recall"])


def test_the_prefix_is_not_scored():
    asked = []

    def answer(texts):
        asked.extend(texts)
        return [np.full(3, -1.0) for _ in texts]

    target = TokenFunctionTarget(answer, prefix="Known others. ")
    collect_tokens(target, make_text_records(["one text", "another"]), ("recall",))
    assert asked[2:] == [
        Completion("Known others. ", "one text"),
        Completion("Known others. ", "another"),
    ]


@pytest.mark.parametrize(
    ("part", "words"),
    [("base", "before fine-tuning"), ("recall", "prefix"), ("moments", "whole distribution")],
)
def test_a_part_that_is_missing_is_named(part, words):
    target = TokenFunctionTarget(lambda texts: [np.full(3, -1.0) for _ in texts])
    with pytest.raises(UnmetNeedError, match=words):
        collect_tokens(target, make_text_records(["one", "two"]), (part,))


def test_a_base_model_with_other_tokens_is_refused():
    target = make_text_target(
        access=Access.TOKEN_PROBABILITIES, base=lambda texts: [np.full(4, -1.0) for _ in texts]
    )
    with pytest.raises(UnmetNeedError, match="same tokenizer"):
        collect_tokens(target, make_text_records(TEXTS), ("base",))


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    records, store = make_text_records(draw_texts(1030, 1)), Store(tmp_path)
    target = CountingTarget(make_text_target(digest="model"))
    measure = target.target.measure_tokens

    def fail_late(x):
        if target.asked > 1024:
            raise RuntimeError("the server is gone")
        return measure(x)

    target.target.measure_tokens = fail_late
    with pytest.raises(TargetError, match="the server is gone"):
        collect_tokens(target, records, store=store)
    asked, target.target.measure_tokens = target.asked, measure
    collect_tokens(target, records, store=store)
    # The two whole blocks came from the store
    assert target.asked - asked == 6


def _signals(values, offsets):
    return TokenSignals(np.array(offsets), np.array(values))


@pytest.mark.parametrize(
    ("values", "offsets", "words"),
    [
        ([-1.0, np.nan], [0, 1, 2], "finite log-probabilities.*'b'"),
        ([-1.0, 0.5], [0, 1, 2], "at most 0, got 0.5"),
        ([-1.0, -2.0], [0, 2, 2], "at least one scored token, got none for record 'b'"),
    ],
)
def test_values_that_are_no_log_probabilities_are_refused(values, offsets, words):
    with pytest.raises(InputError, match=words):
        check_tokens(_signals(values, offsets), np.array(["a", "b"]))


def test_another_number_of_records_is_refused():
    with pytest.raises(TargetError, match="token signals of 3 records, got 2"):
        check_tokens(_signals([-1.0, -1.0], [0, 1, 2]), np.array(["a", "b", "c"]))


def test_taking_and_joining_give_the_same_tokens():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, 30)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    values = -rng.exponential(size=offsets[-1])
    whole = TokenSignals(
        offsets, values, base=values * 2, n_bytes=counts, copies={"lowercase": counts * 1.0}
    )
    parts = join_token_signals([whole.take(slice(0, 11)), whole.take(np.arange(11, 30))])
    assert np.array_equal(parts.log_probability, values) and np.array_equal(parts.offsets, offsets)
    assert np.array_equal(parts.base, whole.base)
    chosen = rng.permutation(30)[:7]
    taken = whole.take(chosen)
    for place, row in enumerate(chosen):
        own = slice(offsets[row], offsets[row + 1])
        there = slice(taken.offsets[place], taken.offsets[place + 1])
        assert np.array_equal(taken.log_probability[there], values[own])
    assert taken.copies["lowercase"].tolist() == counts[chosen].tolist()


def test_all_texts_are_continued_as_far_whatever_shares_their_block():
    asked = set()

    class Writer:
        digest = None

        def generate(self, prompts, n, max_tokens, seed):
            asked.add(max_tokens)
            return [[""] * n for _ in prompts]

    records = make_text_records([*(f"short {k}" for k in range(64)), "a " * 40])
    observed = collect_generation_answers(Writer(), records)
    assert len(asked) == 1 and observed.outputs.shape == (65, 1)
