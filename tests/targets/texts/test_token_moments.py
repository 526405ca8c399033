"""Moments of the log-probability of a token, in chunks and with tokens that are ruled out."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from memberscope.targets.texts import token_moments
from memberscope.targets.texts.token_moments import TokenValues

pytestmark = pytest.mark.skipif(not find_spec("torch"), reason="needs torch")


def fill_values(logits, tokens, *, moments=True):
    """Fill in the values of all positions of one text."""
    import torch

    values = TokenValues.allocate(len(tokens), moments=moments)
    rows = (torch.zeros(len(tokens), dtype=torch.long), torch.arange(len(tokens)))
    values.fill(np.arange(len(tokens)), torch.tensor(logits)[None], rows, torch.tensor(tokens))
    return values


@pytest.mark.parametrize("chunk", [1, 4 * 50 * 3, 32 << 20])
def test_chunks_change_nothing(monkeypatch, chunk):
    monkeypatch.setattr(token_moments, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    logits, tokens = rng.normal(0, 3, (7, 50)), rng.integers(0, 50, 7)
    values = fill_values(logits, tokens)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    mean = (np.exp(log_p) * log_p).sum(1)
    np.testing.assert_allclose(values.log_probability, log_p[np.arange(7), tokens], rtol=1e-5)
    np.testing.assert_allclose(values.mean, mean, rtol=1e-5)
    expected = (np.exp(log_p) * (log_p - mean[:, None]) ** 2).sum(1)
    np.testing.assert_allclose(values.variance, expected, rtol=1e-4)
    assert values.is_top.tolist() == (logits.argmax(1) == tokens).tolist()


def test_tokens_that_are_ruled_out_have_no_part_in_the_moments():
    logits = np.array([[0.0, 0.0, -np.inf, -np.inf], [1.0, -np.inf, -np.inf, -np.inf]])
    values = fill_values(logits, [0, 0])
    np.testing.assert_allclose(values.mean, [-np.log(2), 0.0], atol=1e-6)
    np.testing.assert_allclose(values.variance, [0.0, 0.0], atol=1e-6)
    assert values.is_top.tolist() == [True, True]


def test_a_nearly_uniform_distribution_keeps_its_variance():
    """The variance is a thousandth of a millionth of the squared mean here."""
    logits = np.random.default_rng(1).normal(0, 1e-3, (1, 5000)) - 3
    values = fill_values(logits, [17])
    assert values.variance[0] == pytest.approx(float(logits.var()), rel=0.02)


def test_without_moments_only_the_tokens_count():
    values = fill_values(np.zeros((2, 4)), [0, 3], moments=False)
    np.testing.assert_allclose(values.log_probability, -np.log(4), rtol=1e-6)
    assert values.mean is None and values.is_top is None
