"""Compare a text's likelihood with what the text itself leads to expect.

The measures are its compressed size, the same text in lower case, and the same text after others
that the model was not trained on.

References:
    [1] N. Carlini, F. Tramer, E. Wallace, M. Jagielski, A. Herbert-Voss, K. Lee, A. Roberts, T.
        Brown, D. Song, U. Erlingsson, A. Oprea, C. Raffel, "Extracting Training Data from Large
        Language Models", USENIX Security 2021, arXiv:2012.07805.
    [2] R. Xie, J. Wang, R. Huang, M. Zhang, R. Ge, J. Pei, N. Z. Gong, B. Dhingra, "ReCaLL:
        Membership Inference via Relative Conditional Log-Likelihoods", EMNLP 2024,
        arXiv:2406.15968.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks.text._blocks import read_log_probability
from memberscope.attacks.text._statistic import TokenStatistic, divide_losses
from memberscope.errors import UnmetNeedError
from memberscope.texts import TokenPart, TokenSignals
from memberscope.types import Evidence, Floats


@dataclass(frozen=True)
class Zlib(TokenStatistic):
    """Log-probability of the whole text, divided by its bytes after compression with zlib [1].

    The sum, as the paper has it: a mean divided by the bytes of the whole text would tell long texts
    from short ones.

    >>> tokens = TokenSignals(np.array([0, 2, 3]), np.array([-1.0, -3.0, -1.0]), zlib_bytes=np.array([8, 10]))
    >>> evidence = Evidence("tokens", np.zeros((2, 1, 1)), np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8), tokens=tokens)
    >>> Zlib().score(evidence, np.random.default_rng(0)).tolist()
    [-0.5, -0.1]
    """

    _base: ClassVar[str] = "zlib"

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the quotient as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal or the compressed sizes.
        """
        if evidence.tokens is not None and evidence.tokens.zlib_bytes is None:
            raise UnmetNeedError(
                "Expected the compressed size of each text for the attack zlib, got none. Give the "
                "texts, or their zlib_bytes."
            )
        return super().score(evidence, rng)

    def _statistic(self, tokens: TokenSignals) -> Floats:
        assert tokens.zlib_bytes is not None
        # Even an empty text has a header, but stored sizes come from others
        size = np.maximum(tokens.zlib_bytes, 1)
        return tokens.sum_tokens(read_log_probability(tokens)) / size


def _divide_by_own_loss(tokens: TokenSignals, copy: TokenPart) -> Floats:
    """Divide the mean loss (n,) of a changed copy by the mean loss of the text itself."""
    copied = np.asarray(tokens.copies[copy], dtype=np.float64)
    own = tokens.sum_tokens(read_log_probability(tokens)) / tokens.counts
    return divide_losses(-copied, -own)


@dataclass(frozen=True)
class Lowercase(TokenStatistic):
    """Mean loss of the text in lower case, divided by that of the text as it was trained on [1].

    Means, since the two differ in their number of tokens.

    >>> tokens = TokenSignals(np.array([0, 2]), np.array([-1.0, -3.0]), copies={"lowercase": np.array([-5.0])})
    >>> evidence = Evidence("tokens", np.zeros((1, 1, 1)), np.zeros(1, dtype=int), np.full(1, -1, dtype=np.int8), tokens=tokens)
    >>> Lowercase().score(evidence, np.random.default_rng(0)).round(6).tolist()
    [2.5]
    """

    _base: ClassVar[str] = "lowercase"
    _tokens: ClassVar[tuple[TokenPart, ...]] = ("lowercase",)

    def _statistic(self, tokens: TokenSignals) -> Floats:
        return _divide_by_own_loss(tokens, "lowercase")


@dataclass(frozen=True)
class ReCaLL(TokenStatistic):
    """Mean loss of the text after a prefix of known non-members, divided by that without [2].

    Such a prefix takes more from texts that the model knows. The prefix itself is not scored.

    >>> tokens = TokenSignals(np.array([0, 2]), np.array([-1.0, -3.0]), copies={"recall": np.array([-3.0])})
    >>> evidence = Evidence("tokens", np.zeros((1, 1, 1)), np.zeros(1, dtype=int), np.full(1, -1, dtype=np.int8), tokens=tokens)
    >>> ReCaLL().score(evidence, np.random.default_rng(0)).round(6).tolist()
    [1.5]
    """

    _base: ClassVar[str] = "recall"
    _tokens: ClassVar[tuple[TokenPart, ...]] = ("recall",)

    def _statistic(self, tokens: TokenSignals) -> Floats:
        return _divide_by_own_loss(tokens, "recall")
