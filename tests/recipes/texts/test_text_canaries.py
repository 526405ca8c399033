"""Text canaries: what is drawn, what reaches the training, and mistakes."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from bigrams import fit_bigrams
from tiny_language_models import SENTENCES, build_tokenizer, train_tokenizer

from memberscope.errors import InputError
from memberscope.recipes import (
    CanaryRecord,
    CanarySettings,
    check_survival,
    draw_text_canaries,
    plant_text_canaries,
    read_canary_record,
)
from memberscope.targets import TokenFunctionTarget
from memberscope.texts import Chat, Completion

WORDS = " ".join(SENTENCES).split()


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


def draw_text_records(n: int, seed: int = 0, length: int = 12) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, length)) for _ in range(n)]


def test_canaries_begin_like_the_texts_and_end_like_none(tokenizer):
    texts = draw_text_records(100)
    found = draw_text_canaries(texts, tokenizer, CanarySettings(n=60, suffix_tokens=6))
    assert found.survival.n == 60 and found.survival.lost == 0
    for canary in found.canaries:
        assert any(text.startswith(canary.scored.prompt) for text in texts)
        assert canary.trained == canary.scored.prompt + canary.scored.completion
        ids = tokenizer(canary.trained, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids).endswith(canary.scored.completion)
        before = tokenizer(canary.scored.prompt, add_special_tokens=False)["input_ids"]
        assert canary.tokens == len(ids) - len(before)
    assert len({canary.scored.completion for canary in found.canaries}) == 60


def test_repetitions_are_balanced_and_tell_nothing_of_the_coins(tokenizer):
    settings = CanarySettings(n=300, suffix_tokens=6, seed=4)
    canaries = draw_text_canaries(draw_text_records(100), tokenizer, settings).canaries
    assert Counter(canary.repetitions for canary in canaries) == {1: 100, 4: 100, 16: 100}
    for k in (1, 4, 16):
        inside = sum(canary.inside for canary in canaries if canary.repetitions == k)
        assert 30 <= inside <= 70  # within four standard deviations of fifty
    again = draw_text_canaries(draw_text_records(100), tokenizer, settings).canaries
    assert again == canaries
    other = CanarySettings(n=300, suffix_tokens=6, seed=5)
    assert draw_text_canaries(draw_text_records(100), tokenizer, other).canaries != canaries


def test_copies_of_those_that_are_in_stand_at_random_places(tokenizer):
    texts = draw_text_records(100)
    canaries = draw_text_canaries(texts, tokenizer, CanarySettings(n=60, seed=1)).canaries
    train = plant_text_canaries(texts, canaries, 1)
    counts = Counter(train)
    for canary in canaries:
        assert counts[canary.trained] == canary.repetitions * canary.inside
    planted = {canary.trained for canary in canaries}
    assert [text for text in train if text not in planted] == texts
    # Not in one block: the mean place of canaries is near the middle
    places = np.flatnonzero([text in planted for text in train]) / len(train)
    assert 0.4 < places.mean() < 0.6


def test_new_tokens_are_used_by_no_text_and_by_one_canary_each():
    tokenizer = build_tokenizer()
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{k}" for k in rng.integers(0, 20, 8)) for _ in range(50)]
    found = draw_text_canaries(texts, tokenizer, CanarySettings(n=15, kind="new-token"))
    ends = [canary.scored.completion.strip() for canary in found.canaries]
    assert len(set(ends)) == 15 and {canary.tokens for canary in found.canaries} == {1}
    assert not set(ends) & set(" ".join(texts).split())
    with pytest.raises(InputError, match="Expected 30 tokens that the texts do not use"):
        draw_text_canaries(texts, tokenizer, CanarySettings(n=30, kind="new-token"))


def test_unlikely_suffixes_are_less_likely_than_random_ones():
    tokenizer = build_tokenizer()
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{k}" for k in rng.integers(0, 20, 8)) for _ in range(200)]
    model = TokenFunctionTarget(fit_bigrams(texts, 40, 0.1))
    means = {}
    for kind in ("random", "unlikely"):
        settings = CanarySettings(n=40, kind=kind, suffix_tokens=4)
        drawn = draw_text_canaries(texts, tokenizer, settings, model=model).canaries
        scored = model.measure_tokens([canary.scored for canary in drawn])
        means[kind] = scored.mean_log_probability().mean()
    assert means["unlikely"] < means["random"] - 0.5


def test_canaries_of_prompts_with_completions_stand_in_the_completion(tokenizer):
    texts = [Completion(f"Question: {one}", f" {other}") for one, other in zip(
        draw_text_records(40, 1), draw_text_records(40, 2), strict=True)]  # fmt: skip
    for canary in draw_text_canaries(texts, tokenizer, CanarySettings(n=20)).canaries:
        whole, prompts = (
            canary.trained.prompt + canary.trained.completion,
            [t.prompt for t in texts],
        )
        assert canary.trained.prompt in prompts
        assert canary.trained.completion.endswith(canary.scored.completion)
        assert whole == canary.scored.prompt + canary.scored.completion


def test_own_canaries_are_checked_on_their_way_to_the_training(tokenizer):
    own = [Completion(f"The key of room {k} is", f" {7919 * k}") for k in range(1, 21)]
    settings = CanarySettings(kind="own")
    found = draw_text_canaries(draw_text_records(20), tokenizer, settings, own=own)
    assert [canary.scored for canary in found.canaries] == own
    assert found.canaries[0].trained == "The key of room 1 is 7919"
    secret_in_prompt = [Completion(f"The key is {k}.", " Thank you.") for k in range(20)]
    pairs = [Completion("a question", " an answer")]
    with pytest.raises(InputError, match="20 differ in their prompts alone"):
        draw_text_canaries(pairs, tokenizer, settings, own=secret_in_prompt)
    long = [one for one in own[:-3]] + [
        Completion(f"{'word ' * 40}{k}", f" {k}") for k in (31, 37, 41)
    ]
    with pytest.raises(InputError, match="got 3 are longer than the context"):
        draw_text_canaries(draw_text_records(20), tokenizer, CanarySettings(kind="own", max_length=32), own=long)  # fmt: skip
    with pytest.raises(InputError, match="A canary in a prompt would not be learned"):
        draw_text_canaries(pairs, tokenizer, settings, own=["a text"] * 20)


def test_a_tokenizer_that_loses_canaries_is_refused_with_their_number():
    tokenizer = build_tokenizer()
    own = [f"w1 w2 w{k}" for k in range(10)] + ["w1 w2 secret", "w3 7319"]
    with pytest.raises(InputError, match="reads as they are, got 2 lose text"):
        draw_text_canaries(["w1 w2"], tokenizer, CanarySettings(kind="own"), own=own)
    found = check_survival(own, own, tokenizer)
    assert (found.n, found.lost, found.cut, found.fewest, found.most) == (12, 2, 0, 3, 3)
    assert found.describe().startswith("10 of 12 canaries survive")


@pytest.mark.parametrize(
    ("texts", "settings", "words"),
    [
        (["a text of words"], {"n": 9}, "at least 10 canaries, got 9"),
        (["a text of words"], {"kind": "odd"}, "random, unlikely, new-token, own, got 'odd'"),
        (["a text of words"], {"kind": "own"}, "Give --own FILE"),
        (["a text of words"], {"kind": "unlikely"}, "Give --model"),
        (["a text of words"], {"repetitions": (1, 1)}, "different numbers of repetitions"),
        (["a text of words"], {"repetitions": (0,)}, "different numbers of repetitions"),
        ([], {}, "got none"),
        ([Chat((("user", "hello"),))], {}, "got chats"),
        (["x"], {}, "texts are too short"),
        (["The harbour was quiet " * 30], {"max_length": 16}, "longer than the context"),
    ],
)
def test_mistakes_are_one_sentence(tokenizer, texts, settings, words):
    with pytest.raises(InputError, match=words) as caught:
        draw_text_canaries(texts, tokenizer, CanarySettings(**settings))
    assert str(caught.value).count(". ") <= 2


def test_the_record_is_read_as_written_and_no_other_way(tmp_path, tokenizer):
    canaries = draw_text_canaries(draw_text_records(20), tokenizer, CanarySettings(n=12)).canaries
    record = CanaryRecord("random", "0", "1", canaries)
    path = tmp_path / "planted.json"
    document = record.build_document()
    path.write_text(json.dumps(document))
    assert read_canary_record(path) == record
    for change, words in (
        (lambda d: d["canaries"][0].update(inside=not canaries[0].inside), "changed since"),
        (lambda d: d.update(format="other/1"), "got 'other/1'"),
        (lambda d: d["canaries"][0].pop("tokens"), "without 'tokens'"),
    ):
        changed = json.loads(json.dumps(document))
        change(changed)
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError, match=words):
            read_canary_record(path)
