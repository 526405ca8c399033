"""EZ-MIA: look at the tokens that the model gets wrong.

Where the model's first choice is another token, whatever it gained over its base on the right one
is memory rather than knowledge of the language.

References:
    [1] D. Ilić, D. Stanojević, K. Cvejoski, "Powerful Training-Free Membership Inference Against
        Autoregressive Language Models", 2026, arXiv:2601.12104.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks.text._blocks import read_base_difference
from memberscope.attacks.text._statistic import TokenStatistic
from memberscope.errors import InputError
from memberscope.texts import TokenPart, TokenSignals
from memberscope.types import Bools, Floats


@dataclass(frozen=True)
class EZ(TokenStatistic):
    """Log-ratio of all gains over the base to all losses against it, at tokens got wrong.

    `smoothing`, in nats, is added to both sums. The published score has none, and gives zero, the
    mark of the surest non-member, to a text without any loss [1]. A text of which no token is got
    wrong is compared on all its tokens.

    >>> from memberscope.types import Evidence
    >>> tokens = TokenSignals(np.array([0, 3]), np.array([-1.0, -3.0, -2.0]), is_top=np.array([False, False, True]),
    ...                       base=np.array([-4.0, -2.0, -9.0]))
    >>> evidence = Evidence("tokens", np.zeros((1, 1, 1)), np.zeros(1, dtype=int), np.full(1, -1, dtype=np.int8), tokens=tokens)
    >>> np.exp(EZ().score(evidence, np.random.default_rng(0))).round(6).tolist()
    [2.0]
    """

    smoothing: float = 1.0
    _base: ClassVar[str] = "ez"
    _tokens: ClassVar[tuple[TokenPart, ...]] = ("base", "top")

    def __post_init__(self) -> None:
        if not self.smoothing > 0.0:
            raise InputError(
                f"Expected a smoothing above 0 for the attack ez, got {self.smoothing!r}. Give one "
                "in nats, such as 1."
            )

    @property
    def name(self) -> str:
        """`ez`, with a smoothing other than 1."""
        return self._base + (f"_{self.smoothing:g}" if self.smoothing != 1.0 else "")

    def _statistic(self, tokens: TokenSignals) -> Floats:
        return compute_error_ratio(tokens, self.smoothing)


def compute_error_ratio(tokens: TokenSignals, smoothing: float | Floats) -> Floats:
    """Compute the log-ratio (n,) of gains to losses at the tokens that the model gets wrong.

    The `smoothing` is one for all records, or one for each (n,).
    """
    assert tokens.is_top is not None
    wrong = ~np.asarray(tokens.is_top, dtype=np.bool_)
    # The best memorised texts may have no wrong token, and would tell nothing
    flawless = tokens.sum_tokens(wrong) == 0
    return compute_gain_ratio(tokens, wrong | np.repeat(flawless, tokens.counts), smoothing)


def compute_gain_ratio(tokens: TokenSignals, chosen: Bools, smoothing: float | Floats) -> Floats:
    """Compute log((sum of gains + smoothing) / (sum of losses + smoothing)) over `chosen` (t,)."""
    difference = np.where(chosen, read_base_difference(tokens), 0.0)
    gains = tokens.sum_tokens(np.maximum(difference, 0.0))
    losses = tokens.sum_tokens(np.maximum(-difference, 0.0))
    ratio: Floats = np.log((gains + smoothing) / (losses + smoothing))
    return ratio
