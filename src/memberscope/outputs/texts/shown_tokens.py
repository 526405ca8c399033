"""Say what of the log-probabilities of tokens may be seen, in an audit as in a guard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.outputs.chain import flatten_chain, parse_restriction
from memberscope.outputs.label_only import LabelOnly
from memberscope.outputs.ordering import NONE
from memberscope.outputs.rounding import Rounding
from memberscope.outputs.top_k import TopK
from memberscope.types import OutputDefence

# What OpenAI writes for a token that is not among the most probable ones
UNTOLD = -9999.0


def is_text_defence(name: str) -> bool:
    """Tell whether a defence can be applied to log-probabilities of tokens.

    `label`, or `no-logprobs`, answers with the text alone, `top:k` with the k most probable tokens
    of each place, and `round:d` with d decimals of each log-probability.

    >>> is_text_defence("top:3+round:1"), is_text_defence("noise:0.5")
    (True, False)
    """
    if name == NONE:
        return True
    parts = flatten_chain(parse_restriction(name))
    return all(isinstance(part, TopK | Rounding | LabelOnly) for part in parts)


@dataclass(frozen=True)
class ShownTokens:
    """What may be seen of log-probabilities: nothing, the `k` largest of each place, `decimals`.

    >>> ShownTokens.of(parse_restriction("top:3+round:1"))
    ShownTokens(k=3, decimals=1, hidden=False)
    """

    k: int | None = None
    decimals: int | None = None
    hidden: bool = False

    @classmethod
    def of(cls, defence: OutputDefence) -> ShownTokens:
        """Take it from an output defence."""
        if defence.signal == "labels":
            return cls(hidden=True)
        parts = flatten_chain(defence)
        shown = [part.k for part in parts if isinstance(part, TopK)]
        digits = [part.decimals for part in parts if isinstance(part, Rounding)]
        return cls(min(shown, default=None), min(digits, default=None))

    def write(self, value: float) -> float:
        """Write one log-probability with the digits that may be seen."""
        # Adding zero makes -0.0 into 0.0
        return value if self.decimals is None else round(value, self.decimals) + 0.0

    def write_all(self, values: NDArray[Any]) -> NDArray[Any]:
        """Write log-probabilities (t,) with the digits that may be seen, in their own type.

        >>> ShownTokens(decimals=1).write_all(np.array([-0.26, -0.04])).tolist()
        [-0.3, 0.0]
        """
        if self.decimals is None:
            return values
        written = np.round(np.asarray(values, np.float64), self.decimals) + 0.0
        return written.astype(values.dtype)

    def find_least(self, values: Sequence[float]) -> float:
        """Find the least value of a place that may be seen, infinity where nobody can tell."""
        if self.k is None:
            return -math.inf
        return sorted(values)[-self.k] if len(values) >= self.k else math.inf
