"""Find out what a torch module's scores are.

Probabilities, logits or labels, by the operation that made them and by many answers.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from memberscope.errors import InputError
from memberscope.targets.answers.output_kind import Outputs
from memberscope.targets.answers.tolerance import compute_simplex_tolerance
from memberscope.types import Floats

Last = Literal["sigmoid", "softmax", "log", "linear", "other"]

# Operations of torch by what they make; those not listed make something else.
MADE_BY: dict[str, Last] = {
    **dict.fromkeys(("sigmoid", "sigmoid_", "hardsigmoid", "hardsigmoid_"), "sigmoid"),
    **dict.fromkeys(("_softmax", "softmax", "_safe_softmax"), "softmax"),
    **dict.fromkeys(("_log_softmax", "log_softmax", "log_sigmoid", "log_sigmoid_forward"), "log"),
    **dict.fromkeys(
        ("addmm", "mm", "linear", "convolution", "_convolution", "addmv", "linear_dynamic"),
        "linear",
    ),
}
# Operations whose result is what their input was
COPIES = (
    "clone",
    "_to_copy",
    "contiguous",
    "clamp",
    "clamp_min",
    "clamp_max",
    "index_select",
    "index",
    "index_put_",
    "copy_",
)
# Operations that join, average or rescale what was made before
JOINS = ("cat", "stack")
AVERAGES = ("mean", "sum", "rsub", "lerp")
SCALES = ("mul", "div", "add", "sub", "neg", "mul_", "div_", "add_", "sub_")
FEW = 8  # with fewer answers, their sums prove nothing against a last linear layer


def watch_operations() -> Any:
    """Make a context that notes which torch operation made each tensor.

    `last(tensor)` gives it afterwards.

    >>> import torch
    >>> with watch_operations() as watch:
    ...     probabilities = torch.softmax(torch.zeros(2, 3), dim=1).squeeze()
    >>> watch.last(probabilities)
    'softmax'
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Mode that records which operation made each piece of memory.

        Tensors are kept, so that no memory is used twice meanwhile.
        """

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.made: dict[int, Last] = {}
            self.kept: list[Any] = []

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            given = [self._memory(part) for part in _tensors_in(args)]
            found = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            for part in _tensors_in((found,)):
                memory = self._memory(part)
                # A view keeps its maker: squeeze after softmax is still softmax
                if memory in given and not name.endswith("_"):
                    continue  # a view
                self.kept.append(part)
                self.made[memory] = _classify_operation(name, [self.made.get(one) for one in given])
            return found

        def last(self, scores: Any) -> Last | None:
            """Give the operation that made `scores`; None where it was not seen."""
            try:
                return self.made.get(
                    self._memory(
                        scores if hasattr(scores, "untyped_storage") else torch.from_numpy(scores)
                    )
                )
            except (TypeError, RuntimeError, ValueError):
                return None

        @staticmethod
        def _memory(tensor: Any) -> int:
            return int(tensor.untyped_storage().data_ptr())

    return Watch()


def _tensors_in(parts: Any) -> list[Any]:
    """List the tensors among arguments and in lists among them."""
    import torch

    flat = [one for part in parts for one in (part if isinstance(part, list | tuple) else [part])]
    return [
        part for part in flat if isinstance(part, torch.Tensor) and part.layout == torch.strided
    ]


def _classify_operation(name: str, before: list[Last | None]) -> Last:
    """Classify what an operation makes of tensors that were made by `before`."""
    first: Last = (before[0] if before else None) or "other"
    if name in MADE_BY:
        return MADE_BY[name]
    # copy_ writes its second argument into the first
    if name in COPIES:
        return first if name != "copy_" or len(before) < 2 else before[1] or "other"
    if (
        name in (*JOINS, *SCALES, *AVERAGES)
        and before
        and all(one in ("sigmoid", "softmax") for one in before)
    ):
        return "sigmoid" if "sigmoid" in before else "softmax"  # of several models, for example
    # Parts of different makers have none in common
    if name in JOINS:
        return first if len(set(before)) == 1 else "other"
    # A rescaled logit is still one; a rescaled probability may not be
    if name in SCALES:
        return first if first in ("linear", "log") else "other"
    # The logarithm of a probability is a log-probability, and its exponential one again
    if name in ("log", "log_", "log1p"):
        return "log" if first in ("sigmoid", "softmax") else "other"
    return "softmax" if name in ("exp", "exp_") and first == "log" else "other"


def tell_kind(scores: Floats, last: Last | None) -> Outputs | None:
    """Tell what scores (n, k) of many records are.

    Give None where neither the answers nor the operation that made them decide.

    >>> tell_kind(np.array([[0.2], [0.7]]), "sigmoid"), tell_kind(np.array([[0.2], [0.7]]), "linear")
    ('probabilities', 'logits')
    >>> tell_kind(np.array([[0.2], [0.7]]), "other") is None
    True
    """
    within = bool(((scores >= -1e-6) & (scores <= 1 + 1e-6)).all())
    # No probability lies outside [0, 1], whatever made the numbers
    if not within:
        return "logits"
    # One column has no sum to go by: the operation decides, or that all are 0 or 1
    if scores.shape[1] == 1:
        if last == "linear":
            return "logits"
        if last == "sigmoid":
            return "probabilities"
        return "labels" if _are_labels(scores) else None
    even = bool((np.abs(scores.sum(axis=1) - 1) <= compute_simplex_tolerance(scores)).all())
    # After a linear layer few rows may sum to one by chance
    if last == "softmax" or (even and (last != "linear" or len(scores) >= FEW)):
        return "probabilities"
    if last == "sigmoid":
        return "probabilities"
    return "logits" if last in ("linear", "log") else None


def tell_label_kind(scores: Floats, last: Last | None, known: Outputs | None) -> Outputs:
    """Tell whether scores (n, k) of several labels are one probability each, or one logit each.

    `known` is what was declared, or is known of a model that this one resembles.

    Raises:
        InputError: It stays open, or they are logarithms of probabilities.

    >>> tell_label_kind(np.array([[0.2, 0.9]]), "sigmoid", None), tell_label_kind(np.array([[-3.0, 2.0]]), None, None)
    ('probabilities', 'logits')
    """
    if known is not None:
        return known
    if last == "log":
        raise InputError(
            "Expected a probability or a logit for each label, got the logarithm of probabilities. "
            "Return the probabilities themselves."
        )
    if not bool(((scores >= -1e-6) & (scores <= 1 + 1e-6)).all()):
        return "logits"
    if last == "linear":
        return "logits"
    decided = len(scores) >= FEW and bool(np.isin(scores, (0.0, 1.0)).all())
    if last in ("sigmoid", "softmax") or decided:
        return "probabilities"
    return require_kind(None, scores)


def _are_labels(scores: Floats) -> bool:
    """Check whether one column within [0, 1] is zeros and ones alone, of enough records."""
    return (
        len(scores) >= FEW
        and len(np.unique(scores)) == 2
        and bool(np.isin(scores, (0.0, 1.0)).all())
    )


def require_kind(kind: Outputs | None, scores: Floats, last: Last | None = None) -> Outputs:
    """Refuse answers that may be probabilities or logits, or that are neither.

    Raises:
        InputError: The kind is open, or the one column is the logarithm of a probability.
    """
    # Read as a logit it would stand for another probability
    if kind == "logits" and last == "log" and scores.shape[1] == 1:
        raise InputError(
            "Expected one score a class, or the logit or probability of the second of two, got "
            "the logarithm of one probability. Return the probability itself."
        )
    if kind is not None:
        return kind
    low, high = float(scores.min()), float(scores.max())
    what = (
        "one column" if scores.shape[1] == 1 else f"{scores.shape[1]} columns that do not sum to 1"
    )
    raise InputError(
        f"Expected outputs that are clearly probabilities or logits, got {what} between {low:.3g} "
        f"and {high:.3g}, which may be either. Declare them: --outputs, or wrap(model, "
        "outputs='probabilities') or outputs='logits'."
    )
