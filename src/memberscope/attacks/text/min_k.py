"""Judge a text by the tokens that the model found least likely.

A text that the model never saw has some words that surprise it; in one that it was trained on, even
the least likely words are not so unlikely.

References:
    [1] W. Shi, A. Ajith, M. Xia, Y. Huang, D. Liu, T. Blevins, D. Chen, L. Zettlemoyer, "Detecting
        Pretraining Data from Large Language Models", ICLR 2024, arXiv:2310.16789.
    [2] J. Zhang, J. Sun, E. Yeats, Y. Ouyang, M. Kuo, J. Zhang, H. F. Yang, H. Li, "Min-K%++:
        Improved Baseline for Detecting Pre-Training Data from Large Language Models", ICLR 2025,
        arXiv:2404.02936.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks.text._blocks import average_lowest, read_log_probability
from memberscope.attacks.text._statistic import TokenStatistic, check_fraction
from memberscope.texts import TokenPart, TokenSignals
from memberscope.types import Access, Floats

# Share of the tokens that both papers settle on
USUAL = 0.2
# Where the model is certain the variance is zero, up to rounding
STEADIEST = 1e-8


@dataclass(frozen=True)
class MinK(TokenStatistic):
    """Mean log-probability of the least likely `fraction` of the tokens [1], at least of one.

    >>> from memberscope.types import Evidence
    >>> tokens = TokenSignals(np.array([0, 5, 6]), np.array([-1.0, -9.0, -2.0, -7.0, -1.0, -3.0]))
    >>> evidence = Evidence("tokens", np.zeros((2, 1, 1)), np.zeros(2, dtype=int), np.full(2, -1, dtype=np.int8), tokens=tokens)
    >>> MinK(0.4).score(evidence, np.random.default_rng(0)).tolist()
    [-8.0, -3.0]
    """

    fraction: float = USUAL
    _base: ClassVar[str] = "min_k"

    def __post_init__(self) -> None:
        check_fraction(self._base, self.fraction)

    @property
    def name(self) -> str:
        """`min_k`, with a fraction other than 0.2."""
        return _name_with_fraction(self._base, self.fraction)

    def _statistic(self, tokens: TokenSignals) -> Floats:
        return average_lowest(read_log_probability(tokens), tokens, self.fraction)


@dataclass(frozen=True)
class MinKPlusPlus(TokenStatistic):
    """The same mean of z-scores: the log-probability against its expectation at that place [2].

    Mean and variance are those under the model's own distribution over the whole vocabulary, each
    token weighted by its probability. Lists of the most probable tokens do not give them.

    >>> from memberscope.types import Evidence
    >>> tokens = TokenSignals(np.array([0, 2]), np.array([-1.0, -5.0]), mean=np.array([-2.0, -3.0]),
    ...                       variance=np.array([4.0, 1.0]))
    >>> evidence = Evidence("tokens", np.zeros((1, 1, 1)), np.zeros(1, dtype=int), np.full(1, -1, dtype=np.int8), tokens=tokens)
    >>> MinKPlusPlus(1.0).score(evidence, np.random.default_rng(0)).tolist()
    [-0.75]
    """

    fraction: float = USUAL
    _base: ClassVar[str] = "min_k_plus_plus"
    _access: ClassVar[Access] = Access.VOCABULARY
    _tokens: ClassVar[tuple[TokenPart, ...]] = ("moments",)

    def __post_init__(self) -> None:
        check_fraction(self._base, self.fraction)

    @property
    def name(self) -> str:
        """`min_k_plus_plus`, with a fraction other than 0.2."""
        return _name_with_fraction(self._base, self.fraction)

    def _statistic(self, tokens: TokenSignals) -> Floats:
        return average_lowest(compute_z_scores(tokens), tokens, self.fraction)


def _name_with_fraction(base: str, fraction: float) -> str:
    """Name an attack, with its fraction where that is not the usual one.

    >>> _name_with_fraction("min_k", 0.1)
    'min_k_0.1'
    """
    return base + (f"_{fraction:g}" if fraction != USUAL else "")


def compute_z_scores(tokens: TokenSignals) -> Floats:
    """Compute (log p - mean) / standard deviation (t,) under the model's own distribution."""
    assert tokens.mean is not None and tokens.variance is not None
    spread = np.sqrt(np.maximum(np.asarray(tokens.variance, np.float64), STEADIEST))
    z: Floats = (read_log_probability(tokens) - np.asarray(tokens.mean, np.float64)) / spread
    return z
