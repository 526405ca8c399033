"""Masked language models: the pseudo-log-likelihood of each token, masked alone."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from tiny_language_models import LENGTH, SENTENCES, build_causal, build_masked, train_tokenizer

from memberscope.errors import InputError
from memberscope.facts import read_target_facts
from memberscope.targets import MaskedLMTarget, wrap
from memberscope.texts import Completion

pytestmark = pytest.mark.skipif(
    not (find_spec("transformers") and find_spec("torch")), reason="needs transformers and torch"
)


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import processors

    found = train_tokenizer(mask_token="<mask>")
    found.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return found


@pytest.fixture(scope="module")
def model(tokenizer):
    return build_masked(tokenizer)


def naive(model, tokenizer, ids, first=0):
    """Mask one token after another, each text alone."""
    import torch

    found = []
    for place in range(first, len(ids)):
        masked = [0, *ids[:place], tokenizer.mask_token_id, *ids[place + 1 :], 1]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([masked])).logits[0, place + 1].double()
        log_p = torch.log_softmax(logits, -1).numpy()
        mean = float(np.exp(log_p) @ log_p)
        found.append((log_p[ids[place]], mean, float(np.exp(log_p) @ (log_p - mean) ** 2)))
    return np.array(found)


@pytest.mark.parametrize("batch_size", [1, 5, None])
def test_each_token_is_masked_alone(model, tokenizer, batch_size):
    texts = [SENTENCES[0], "a", SENTENCES[2]]
    target = MaskedLMTarget(model, tokenizer, batch_size=batch_size)
    signals = target.measure_tokens(texts)
    expected = [
        naive(model, tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"])
        for text in texts
    ]
    assert signals.counts.tolist() == list(map(len, expected))
    for values, wanted in zip(
        (signals.log_probability, signals.mean, signals.variance),
        np.concatenate(expected).T,
        strict=True,
    ):
        np.testing.assert_allclose(values, wanted, atol=2e-5, rtol=2e-5)
    assert target.query(texts)[1, 0] == pytest.approx(-expected[1][0, 0], rel=1e-5)
    assert read_target_facts(target).task == "text"


def test_prompts_are_context_and_long_texts_are_cut_or_windowed(model, tokenizer):
    pair = Completion("The harbour was", " quiet.")
    prompt = tokenizer(pair.prompt, add_special_tokens=False)["input_ids"]
    ids = tokenizer(pair.prompt + pair.completion, add_special_tokens=False)["input_ids"]
    found = MaskedLMTarget(model, tokenizer).measure_tokens([pair])
    expected = naive(model, tokenizer, ids, len(prompt))[:, 0]
    np.testing.assert_allclose(found.log_probability, expected, atol=2e-5)
    text = " ".join(SENTENCES)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    cut = MaskedLMTarget(model, tokenizer).measure_tokens([text])
    room = LENGTH - 2
    expected = naive(model, tokenizer, ids[:room])[:, 0]
    np.testing.assert_allclose(cut.log_probability, expected, atol=2e-5)
    whole = MaskedLMTarget(model, tokenizer, long="windows").measure_tokens([text])
    assert whole.counts.tolist() == [len(ids)]
    stop = room + room // 2
    second = naive(model, tokenizer, ids[stop - room : stop], room - room // 2)[:, 0]
    np.testing.assert_allclose(whole.log_probability[room:stop], second, atol=2e-5)


def test_only_masked_models_with_a_mask_are_taken(model, tokenizer):
    assert isinstance(wrap((model, tokenizer)), MaskedLMTarget)
    with pytest.raises(InputError, match="Expected a masked language model of transformers"):
        MaskedLMTarget(build_causal(tokenizer), tokenizer)
    with pytest.raises(InputError, match="Expected a tokenizer with a mask token"):
        MaskedLMTarget(model, train_tokenizer(mask_token=None))
