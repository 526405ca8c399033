"""WBC: count the windows of a text in which the fine-tuned model is better than its base.

Each window votes by sign alone, so that a few tokens with large differences, which members and
others have alike, do not decide.

References:
    [1] Y. Chen, Y. Du, K. Zhang, A. Kundu, C. Fleming, B. Ribeiro, N. Li, "Window-based Membership
        Inference Attacks Against Fine-tuned Large Language Models", USENIX Security 2026,
        arXiv:2601.02751.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memberscope.attacks.text._blocks import iterate_groups, read_base_difference
from memberscope.attacks.text._statistic import TokenStatistic
from memberscope.texts import TokenPart, TokenSignals
from memberscope.types import Floats

WINDOWS = (2, 3, 4, 6, 9, 13, 18, 25, 32, 40)
# Sums of equal losses differ by less than this, in nats, which is rounding
TIE = 1e-9


@dataclass(frozen=True)
class WBC(TokenStatistic):
    """Share of windows with a lower loss than under the base model, averaged over window lengths [1].

    Windows of 2, 3, 4, 6, 9, 13, 18, 25, 32 and 40 tokens are cut to the text. Ties do not count.

    >>> from memberscope.types import Evidence
    >>> tokens = TokenSignals(np.array([0, 3]), np.array([-1.0, -3.0, -2.0]), base=np.array([-2.0, -2.5, -4.0]))
    >>> evidence = Evidence("tokens", np.zeros((1, 1, 1)), np.zeros(1, dtype=int), np.full(1, -1, dtype=np.int8), tokens=tokens)
    >>> WBC().score(evidence, np.random.default_rng(0)).tolist()
    [1.0]
    """

    _base: ClassVar[str] = "wbc"
    _tokens: ClassVar[tuple[TokenPart, ...]] = ("base",)

    def _statistic(self, tokens: TokenSignals) -> Floats:
        return compute_window_share(tokens)


def compute_window_share(tokens: TokenSignals) -> Floats:
    """Compute the share (n,) of windows in which the base model has the higher loss."""
    difference, found = read_base_difference(tokens), np.empty(len(tokens))
    for group in iterate_groups(tokens):
        # NaN behind the end of a text: no window that goes beyond it can count
        laid = group.lay_out(difference, np.nan)
        sums = np.concatenate([np.zeros((len(laid), 1)), np.cumsum(laid, axis=1)], axis=1)
        whole = group.take_at(sums, group.counts) > TIE
        total = np.zeros(len(laid))
        for width in WINDOWS:
            better = np.count_nonzero(sums[:, width:] - sums[:, :-width] > TIE, axis=1)
            # A window that is longer than the text is the text
            places = group.counts - width + 1
            total += np.where(places > 0, better / np.maximum(places, 1), whole)
        found[group.rows] = total / len(WINDOWS)
    return found
