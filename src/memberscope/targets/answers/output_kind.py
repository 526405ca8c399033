"""Find out whether a model returns probabilities, logits or labels.

The user declares it, or it is inferred from answers to made-up records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.answers.tolerance import compute_simplex_tolerance
from memberscope.types import Access, Floats, Signal

Outputs = Literal["probabilities", "logits", "labels"]
WORDS: tuple[Outputs, ...] = ("probabilities", "logits", "labels")
PROBES = 64  # made-up records; far more than it takes to see that logits are not probabilities
NEAR = 1e-3  # how far outside [0, 1] a probability may be: half precision needs it


def parse_declared_outputs(word: str | None) -> Outputs | None:
    """Check the user's word for what a model returns; None if nothing was declared.

    Raises:
        InputError: It is an unknown word.

    >>> parse_declared_outputs("logits"), parse_declared_outputs(None)
    ('logits', None)
    """
    if word is not None and word not in WORDS:
        raise InputError(
            f"Expected outputs {', '.join(WORDS)}, got {word!r}. Declare which of these the "
            "model returns."
        )
    return word


def find_signal_access(signal: Signal) -> Access:
    """Give the access that a signal stands for.

    >>> find_signal_access("labels").word
    'label'
    """
    return {"labels": Access.LABEL, "logits": Access.LOGITS}.get(signal, Access.PROBABILITIES)


def infer_output_kind(scores: Floats, name: str) -> Outputs:
    """Infer what `scores` (n, k) of many records are.

    They are probabilities if each row lies on the simplex, else logits. A single column is a
    probability of the second class if all of it lies in [0, 1], else its logit.

    Raises:
        InputError: All numbers lie in [0, 1] but do not sum to 1, so that they are neither.

    >>> infer_output_kind(np.array([[0.9, 0.1], [0.5, 0.5]]), "p"), infer_output_kind(np.array([[3.0, -1.0]]), "z")
    ('probabilities', 'logits')
    """
    within = bool(((scores >= -NEAR) & (scores <= 1 + NEAR)).all())
    # A single column cannot sum to one with others: its range alone decides
    even = scores.shape[1] == 1 or bool(
        (np.abs(scores.sum(axis=1) - 1) <= compute_simplex_tolerance(scores)).all()
    )
    if within and even:
        return "probabilities"
    if within and len(scores) >= PROBES // 2 and not np.ptp(scores) == 0:
        raise InputError(
            f"Expected probabilities that sum to 1 or logits from {name}, got numbers between 0 "
            "and 1 that do not sum to 1. Declare which they are with --outputs, or export one "
            "score for each class."
        )
    return "logits"


def infer_label_kind(scores: Floats) -> Outputs:
    """Infer whether `scores` (n, k) of many records are a probability or a logit for each label.

    >>> infer_label_kind(np.array([[0.9, 0.8]])), infer_label_kind(np.array([[3.0, -1.0]]))
    ('probabilities', 'logits')
    """
    within = bool(((scores >= -NEAR) & (scores <= 1 + NEAR)).all())
    return "probabilities" if within else "logits"


def expand_to_classes(values: Any, signal: Signal) -> Floats:
    """Expand outputs to (n, k): labels as (n, 1), a single score as the second of two classes.

    Raises:
        InputError: There is not one row for each record, or there are several labels a record.

    >>> expand_to_classes([0.75], "probabilities").tolist(), expand_to_classes([2.0], "logits").tolist()
    ([[0.25, 0.75]], [[0.0, 2.0]])
    """
    outputs = np.asarray(values, dtype=np.float64)
    if outputs.ndim == 0 or outputs.size != len(outputs) * (
        outputs.shape[-1] if outputs.ndim > 1 else 1
    ):
        raise InputError(
            f"Expected one row of outputs for each record, got shape {outputs.shape}. Return one "
            "score for each class."
        )
    outputs = outputs.reshape(len(outputs), -1)
    if signal == "labels":
        if outputs.shape[1] != 1:
            raise InputError(
                f"Expected one label a record, got {outputs.shape[1]} numbers. Declare logits or "
                "probabilities."
            )
        return outputs
    if outputs.shape[1] > 1:
        return outputs
    return np.hstack([np.zeros_like(outputs) if signal == "logits" else 1 - outputs, outputs])


def make_probe_records(
    shape: Sequence[int | None], kind: str, n: int = PROBES
) -> NDArray[Any] | None:
    """Make records (n, *shape) of a numpy `kind` to see what a model returns.

    Give None where a dimension is not known.

    >>> make_probe_records((3,), "f").shape, make_probe_records((None,), "f") is None
    ((64, 3), True)
    """
    if any(size is None for size in shape):
        return None
    rng = np.random.default_rng(0)
    full = (n, *(int(size or 0) for size in shape))
    # Empty words are valid in every column of text
    if kind in "OUS":
        return np.full(full, "", dtype=object)
    if kind in "iub":
        # 0 and 1 are valid as counts, categories and truth values
        return rng.integers(0, 2, full)
    # Half of them far from the origin, where logits surely leave [0, 1]
    spread = np.where(np.arange(n) % 2, 10.0, 1.0).reshape(n, *[1] * len(shape))
    return rng.normal(size=full) * spread
