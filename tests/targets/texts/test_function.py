"""Functions from texts to log-probabilities of their tokens."""

from __future__ import annotations

import numpy as np
import pytest

from memberscope.errors import InputError, TargetError
from memberscope.facts import read_target_facts
from memberscope.targets import TokenFunctionTarget
from memberscope.types import Access, Target

TEXTS = ["one text", "another, longer text", "x"]


def log_probs(texts):
    """Say of each letter but the first a value that depends on it alone."""
    return [-np.array([ord(letter) for letter in text]) / 100 for text in texts]


def open_log_probs(texts):
    """Say all that an open vocabulary shows."""
    return [
        {
            "log_probs": values,
            "mean": (values - 1).tolist(),
            "variance": np.ones(len(values)),
            "is_top": values > -1,
        }
        for values in log_probs(texts)
    ]


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_values_are_joined_in_the_order_of_the_texts(batch_size):
    sizes = []

    def counted(texts):
        """Note how many texts come at a time."""
        sizes.append(len(texts))
        return log_probs(texts)

    target = TokenFunctionTarget(counted, batch_size=batch_size)
    signals = target.measure_tokens(np.array(TEXTS, dtype=object))
    np.testing.assert_allclose(signals.log_probability, np.concatenate(log_probs(TEXTS)), rtol=1e-6)
    assert signals.counts.tolist() == [8, 20, 1] and signals.mean is None
    assert max(sizes) <= batch_size and sum(sizes) == 3
    np.testing.assert_allclose(target.query(TEXTS)[2], 1.2, rtol=1e-6)


def test_an_open_vocabulary_gives_moments_too():
    base = TokenFunctionTarget(log_probs)
    target = TokenFunctionTarget(open_log_probs, access=Access.VOCABULARY, base=base, prefix="p")
    signals = target.measure_tokens(TEXTS)
    np.testing.assert_allclose(signals.mean, signals.log_probability - 1, rtol=1e-6)
    assert signals.has_part("moments") and signals.is_top.dtype == bool
    facts = read_target_facts(target)
    assert isinstance(target, Target) and facts.base is base and facts.prefix == "p"
    assert TokenFunctionTarget(log_probs, base=log_probs).base.query(TEXTS).shape == (3, 1)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            lambda texts: log_probs(texts)[1:],
            "an array for each of 3 records of the function, got 2",
        ),
        (lambda texts: None, "got NoneType"),
        (lambda texts: [[-1.0], [np.nan], [-1.0]], "finite log_probs for record 2"),
        (lambda texts: [[-1.0], [-1.0], []], "at least one, got log_probs"),
        (lambda texts: [[0.5]] * 3, "at most 0, for record 1, got 0.5"),
        (lambda texts: [{"p": [1.0]}] * 3, "Expected log_probs for record 1"),
        (
            lambda texts: [{"log_probs": [-1.0, -2.0], "mean": [-1.0]}] * 3,
            r"got log_probs \(2,\), mean \(1,\)",
        ),
    ],
)
def test_what_is_no_log_probability_is_one_sentence(function, words):
    with pytest.raises(TargetError, match=words) as caught:
        TokenFunctionTarget(function).measure_tokens(TEXTS)
    assert "\n" not in str(caught.value)


def test_an_open_vocabulary_that_is_declared_must_be_given():
    target = TokenFunctionTarget(log_probs, access=Access.VOCABULARY)
    with pytest.raises(TargetError, match="Expected mean and variance for record 1"):
        target.measure_tokens(TEXTS)
    with pytest.raises(InputError, match="got WEIGHTS"):
        TokenFunctionTarget(log_probs, access=Access.WEIGHTS)
