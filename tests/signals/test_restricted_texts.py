"""Language models behind an output defence: what is left of their log-probabilities."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from language_models import make_text_target
from tiny_language_models import SENTENCES, build_causal, train_tokenizer

from memberscope.errors import InputError, UnmetNeedError
from memberscope.facts import read_target_facts
from memberscope.outputs import parse_restriction
from memberscope.signals import RestrictedTextTarget
from memberscope.targets import CausalLMTarget
from memberscope.types import Access, Differentiable, Target

torch_only = pytest.mark.skipif(
    not (find_spec("transformers") and find_spec("torch")), reason="needs transformers and torch"
)


@pytest.fixture(scope="module")
def whole():
    tokenizer = train_tokenizer()
    return CausalLMTarget(build_causal(tokenizer), tokenizer, prefix="Rain fell.")


def _restrict(target, name):
    return RestrictedTextTarget(target, parse_restriction(name))


@torch_only
@pytest.mark.parametrize("k", [1, 3, 10**6])
def test_a_hidden_token_has_the_most_that_it_can_be(whole, k):
    """What the k largest leave and the least of them bound it, of each place by itself."""
    import torch

    found = _restrict(whole, f"top:{k}").measure_tokens(SENTENCES[:4])
    bounds = []
    for text in SENTENCES[:4]:
        ids = whole.tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = whole.model(input_ids=torch.tensor([ids])).logits[0].double()
        for row, came in zip(torch.log_softmax(logits, -1)[:-1].numpy(), ids[1:], strict=True):
            largest = np.sort(row)[::-1][:k]
            left = np.log1p(-min(np.exp(largest).sum(), 1 - 1e-12))
            hidden = row[came] < largest[-1]
            bounds.append(min(largest[-1], left) if hidden else row[came])
    np.testing.assert_allclose(found.log_probability, bounds, rtol=1e-4, atol=1e-5)
    exact = whole.measure_tokens(SENTENCES[:4])
    assert (found.log_probability >= exact.log_probability - 1e-5).all()
    assert (found.is_top == exact.is_top).all()


@torch_only
def test_a_restricted_model_shows_neither_vocabulary_nor_weights(whole):
    limited = _restrict(whole, "top:2+round:1")
    assert isinstance(limited, Target) and not isinstance(limited, Differentiable)
    assert limited.access is Access.TOKEN_PROBABILITIES
    found = limited.measure_tokens(SENTENCES[:2])
    assert found.mean is None and found.variance is None
    np.testing.assert_allclose(found.log_probability * 10, np.round(found.log_probability * 10))
    facts = read_target_facts(limited)
    assert facts.restriction == "top:2+round:1" and facts.task == "text"
    assert facts.prefix == "Rain fell." and facts.tokens_identity == whole.tokens_identity
    assert limited.digest not in (None, whole.digest, _restrict(whole, "top:2").digest)
    assert limited.generate(["Rain"], 2, 3, 0) == whole.generate(["Rain"], 2, 3, 0)


def test_the_base_is_seen_in_the_same_way():
    target = make_text_target()
    limited = _restrict(target, "round:0")
    values = limited.base.measure_tokens(["apple pear sky"]).log_probability
    exact = target.base.measure_tokens(["apple pear sky"]).log_probability
    assert values.tolist() == np.round(exact).tolist() != exact.tolist()


def test_without_log_probabilities_only_texts_are_left():
    target = make_text_target()
    with pytest.raises(InputError, match="Expected a model that writes texts behind no-logprobs"):
        _restrict(target, "no-logprobs")
    target.generate = lambda prompts, n, max_tokens, seed: [["a"] * n for _ in prompts]
    limited = _restrict(target, "no-logprobs")
    assert limited.access is Access.GENERATIONS and limited.generate(["b"], 2, 1, 0) == [["a", "a"]]
    with pytest.raises(UnmetNeedError, match="behind no-logprobs"):
        limited.query(["a text"])


@pytest.mark.parametrize("name", ["noise:0.5", "temperature:2", "top:3+noise:1"])
def test_what_no_guard_of_texts_serves_is_refused(name):
    with pytest.raises(InputError, match="Expected no-logprobs, top:k or round:n"):
        _restrict(make_text_target(), name)


def test_most_probable_tokens_that_nobody_tells_are_not_made_up():
    with pytest.raises(InputError, match=r"tells its most probable tokens for top:3, got TokenF"):
        _restrict(make_text_target(), "top:3")
