"""Compute what a distribution over tokens says about the token that came.

The whole vocabulary of all positions is never held more than once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from memberscope.texts import TokenSignals
from memberscope.types import Ints

CHUNK = 32 << 20  # bytes of log-probabilities that are computed at once
LOWEST = -1e4  # a log-probability below this is of a token that the model rules out


@dataclass(eq=False)
class TokenValues:
    """Values (t,) of all scored tokens, filled batch by batch.

    Without `moments` only the log-probabilities are. With `k` only the k largest of each position
    are shown, and of any other token the most that it can be.
    """

    log_probability: Any
    mean: Any = None
    variance: Any = None
    is_top: Any = None
    k: int | None = None

    @classmethod
    def allocate(cls, n: int, *, moments: bool, k: int | None = None) -> TokenValues:
        """Allocate the arrays of n tokens."""
        if k is not None:
            return cls(np.full(n, np.nan, np.float32), is_top=np.zeros(n, bool), k=k)
        if not moments:
            return cls(np.full(n, np.nan, np.float32))
        first, mean, variance = (np.full(n, np.nan, np.float32) for _ in range(3))
        return cls(first, mean, variance, np.zeros(n, bool))

    def fill(self, places: Any, logits: Any, rows: Any, tokens: Any) -> None:
        """Fill in the values at `places` (s,) from the positions `rows` of `logits`.

        `logits` is (..., v), `rows` a tuple of index tensors (s,) into it, and `tokens` (s,) the
        ids of the tokens that came.
        """
        import torch

        step = max(1, CHUNK // (4 * logits.shape[-1]))
        for low in range(0, len(places), step):
            part = slice(low, low + step)
            # In float32: differences between models are smaller than half precision resolves
            log_p = torch.log_softmax(logits[tuple(one[part] for one in rows)].float(), dim=-1)
            came = log_p.gather(-1, tokens[part, None])[:, 0]
            where = places[part]
            if self.k is not None:
                self.is_top[where] = (came >= log_p.amax(-1)).cpu().numpy()
                came = _hide_below_top(came, log_p, self.k)
            self.log_probability[where] = came.cpu().numpy()
            if self.mean is None:
                continue
            self.is_top[where] = (came >= log_p.amax(-1)).cpu().numpy()
            p = log_p.exp()
            # Minus infinity times a probability of zero would be no number
            mean = torch.linalg.vecdot(p, log_p.clamp_(min=LOWEST))
            # About the mean, as the difference of two squares loses all digits near uniformity
            spread = torch.linalg.vecdot(p, log_p.sub_(mean[:, None]).square_())
            self.mean[where] = mean.cpu().numpy()
            self.variance[where] = spread.cpu().numpy()

    def as_signals(self, offsets: Ints) -> TokenSignals:
        """Give the values as the signals of records that own the tokens between `offsets`."""
        return TokenSignals(offsets, self.log_probability, self.mean, self.variance, self.is_top)


def _hide_below_top(came: Any, log_p: Any, k: int) -> Any:
    """Replace log-probabilities (s,) that are not among the k largest of `log_p` (s, v).

    Whoever sees those k knows that any other token is at most as probable as the least of them, and
    as all that they leave.
    """
    import torch

    shown = log_p.topk(min(k, log_p.shape[-1]), dim=-1).values
    least = shown[:, -1]
    left = torch.log1p(-shown.double().exp().sum(-1).clamp(max=1.0)).clamp(min=LOWEST)
    return torch.where(came >= least, came, torch.minimum(least, left.to(least.dtype)))
