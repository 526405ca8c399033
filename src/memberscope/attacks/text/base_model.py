"""Compare a fine-tuned model with the model that it was fine-tuned from, over the whole text.

References:
    [1] N. Carlini, F. Tramer, E. Wallace, M. Jagielski, A. Herbert-Voss, K. Lee, A. Roberts, T.
        Brown, D. Song, U. Erlingsson, A. Oprea, C. Raffel, "Extracting Training Data from Large
        Language Models", USENIX Security 2021, arXiv:2012.07805.
    [2] F. Mireshghallah, K. Goyal, A. Uniyal, T. Berg-Kirkpatrick, R. Shokri, "Quantifying Privacy
        Risks of Masked Language Models Using Membership Inference Attacks", EMNLP 2022,
        arXiv:2203.03929.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks.text._blocks import (
    LOWEST,
    read_base_difference,
    read_log_probability,
)
from memberscope.attacks.text._statistic import TokenStatistic, divide_losses
from memberscope.texts import TokenPart, TokenSignals
from memberscope.types import Floats


@dataclass(frozen=True)
class BaseDifference(TokenStatistic):
    """Mean log-probability of the tokens minus that under the base model [1, 2], in nats a token.

    The base removes how hard the text is in general, not what fine-tuning on its domain gives to
    members and others alike.

    >>> from memberscope.types import Evidence
    >>> tokens = TokenSignals(np.array([0, 2]), np.array([-1.0, -3.0]), base=np.array([-2.0, -5.0]))
    >>> evidence = Evidence("tokens", np.zeros((1, 1, 1)), np.zeros(1, dtype=int), np.full(1, -1, dtype=np.int8), tokens=tokens)
    >>> BaseDifference().score(evidence, np.random.default_rng(0)).tolist()
    [1.5]
    """

    _base: ClassVar[str] = "base_difference"
    _tokens: ClassVar[tuple[TokenPart, ...]] = ("base",)

    def _statistic(self, tokens: TokenSignals) -> Floats:
        return tokens.sum_tokens(read_base_difference(tokens)) / tokens.counts


@dataclass(frozen=True)
class BaseRatio(TokenStatistic):
    """Loss of the text under the base model, divided by its loss under the audited one [1].

    >>> from memberscope.types import Evidence
    >>> tokens = TokenSignals(np.array([0, 2]), np.array([-1.0, -3.0]), base=np.array([-2.0, -6.0]))
    >>> evidence = Evidence("tokens", np.zeros((1, 1, 1)), np.zeros(1, dtype=int), np.full(1, -1, dtype=np.int8), tokens=tokens)
    >>> BaseRatio().score(evidence, np.random.default_rng(0)).round(6).tolist()
    [2.0]
    """

    _base: ClassVar[str] = "base_ratio"
    _tokens: ClassVar[tuple[TokenPart, ...]] = ("base",)

    def _statistic(self, tokens: TokenSignals) -> Floats:
        assert tokens.base is not None
        before = tokens.sum_tokens(np.maximum(tokens.base, LOWEST)) / tokens.counts
        now = tokens.sum_tokens(read_log_probability(tokens)) / tokens.counts
        return divide_losses(-before, -now)
