"""Get logits for a loss from whatever a module returns.

One output of two classes, probabilities, or scores among other tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memberscope.errors import MemberscopeError
from memberscope.targets.answers import Place, pick_scores
from memberscope.targets.torch_modules import read_answers
from memberscope.targets.white_box import use_eval_mode

LEAST = 1e-7  # probabilities of classes are no less, so that their logarithms stay finite


@dataclass(frozen=True)
class Head:
    """Where the scores are in a module's answer, and what they are.

    The `place` of the scores, how many for each record (`width`), and whether they are
    `probabilities`, whose logarithms are logits.

    >>> import torch
    >>> Head().logits(torch.tensor([[2.0]])).tolist(), Head(probabilities=True).logits(torch.tensor([0.5])).exp().tolist()
    ([[0.0, 2.0]], [[0.5, 0.5]])
    """

    place: Place = ()
    probabilities: bool = False
    width: int | None = None

    def logits(self, answer: Any) -> Any:
        """Give the logits (r, k) of an answer; one output is the second of two classes."""
        import torch

        scores = pick_scores(answer, self.place)
        # Modules may return (r,) or (r, k, 1)
        scores = scores.reshape(len(scores), -1) if scores.ndim != 2 else scores
        # The loss in half precision would lose small gradients
        scores = scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores
        one = scores.shape[1] == 1
        if self.probabilities:
            shares = torch.cat([1 - scores, scores], dim=1) if one else scores
            return torch.log(shares.clamp(min=LEAST))
        return torch.cat([torch.zeros_like(scores), scores], dim=1) if one else scores


def find_head(module: Any, x: Any, n_classes: int) -> Head:
    """Find how logits come from what `module` returns for the records `x`.

    For a module that fails they are its answer itself.
    """
    try:
        with use_eval_mode(module):
            reading = read_answers(
                lambda start, stop: module(x[start:stop]),
                min(len(x), 256),
                256,
                outputs=None,
                n_classes=n_classes,
                like=None,
            )
    except (MemberscopeError, RuntimeError, TypeError, ValueError):
        return Head()
    return Head(
        reading.place,
        # Other numbers within [0, 1] may be logits by chance, before training
        reading.signal == "probabilities" and reading.last in ("sigmoid", "softmax"),
        reading.width,
    )
