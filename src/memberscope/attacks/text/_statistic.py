"""What attacks on one number a text have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks._inputs import require_needs
from memberscope.attacks._reference_stats import keep_hidden_scores
from memberscope.attacks.text._blocks import compute_by_blocks
from memberscope.errors import InputError
from memberscope.texts import TokenPart, TokenSignals
from memberscope.types import Access, Evidence, Floats, Needs, SignalSpec

# A loss of zero on either side of a ratio would make it infinite or undefined; in nats
SMALLEST = 1e-9


@dataclass(frozen=True)
class TokenStatistic(ABC):
    """Attack whose score is `_statistic` of the token signals of a language model."""

    version: ClassVar[int] = 1
    _base: ClassVar[str] = ""
    _access: ClassVar[Access] = Access.TOKEN_PROBABILITIES
    _tokens: ClassVar[tuple[TokenPart, ...]] = ()

    @property
    def name(self) -> str:
        """Name of the attack."""
        return self._base

    @property
    def needs(self) -> Needs:
        """What one query shows of each token."""
        return build_token_needs(self._access, self._tokens)

    def score(self, evidence: Evidence, rng: np.random.Generator) -> Floats:
        """Give the statistic as (n,); NaN where not hidden.

        Raises:
            UnmetNeedError: The evidence lacks the signal or a part of it.
        """
        require_needs(self, evidence)
        assert evidence.tokens is not None
        found = compute_by_blocks(self._statistic, evidence.tokens)
        return keep_hidden_scores(found, evidence.hidden)

    @abstractmethod
    def _statistic(self, tokens: TokenSignals) -> Floats:
        """Give the number (n,) of each record; higher for likelier members."""


def build_token_needs(access: Access, parts: tuple[TokenPart, ...]) -> Needs:
    """Declare an attack on token signals with these parts.

    >>> build_token_needs(Access.VOCABULARY, ("moments",)).tasks
    ('text',)
    """
    return Needs(access, ("tokens",), SignalSpec("tokens"), tasks=("text",), tokens=parts)


def divide_losses(above: Floats, below: Floats) -> Floats:
    """Divide mean losses (n,), one that is zero counting as almost zero.

    >>> divide_losses(np.array([2.0, 0.0]), np.array([1.0, 0.0])).round(6).tolist()
    [2.0, 1.0]
    """
    ratio: Floats = (np.maximum(above, 0.0) + SMALLEST) / (np.maximum(below, 0.0) + SMALLEST)
    return ratio


def check_fraction(attack: str, fraction: float) -> None:
    """Refuse a share of the tokens outside of (0, 1].

    Raises:
        InputError: It is.
    """
    if not 0.0 < fraction <= 1.0:
        raise InputError(
            f"Expected a fraction above 0 and at most 1 for the attack {attack}, got {fraction!r}. "
            "Give a share of the tokens such as 0.2."
        )
