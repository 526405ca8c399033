"""Read real outputs, probabilities of labels and the truth about them.

References are read a block of records at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.attacks._reference_stats import CELLS, Block, Moments, sum_up_blocks
from memberscope.errors import UnmetNeedError
from memberscope.types import Access, Evidence, Floats, Needs, Signal, SignalSpec, Task

# Turns outputs (..., b, d) and the truth (b, d) into the numbers compared (..., b, s)
Convert = Callable[[Floats, Floats], Floats]

TASKS: dict[Signal, tuple[Task, ...]] = {
    "prediction": ("regression", "forecast"),
    "label_probabilities": ("multilabel",),
}


def build_output_needs(
    signal: Signal,
    references: tuple[int, int] = (0, 0),
    *,
    tasks: tuple[Task, ...] | None = None,
) -> Needs:
    """Declare an attack on whole answers of models with real outputs, or with several labels.

    >>> build_output_needs("label_probabilities").tasks
    ('multilabel',)
    """
    return Needs(
        Access.PREDICTION,
        (signal,),
        SignalSpec("outputs"),
        references=references,
        tasks=tasks or TASKS[signal],
    )


def read_outputs(evidence: Evidence) -> tuple[Floats, Floats]:
    """Read the target's outputs (n, d) for the records themselves, and the truth (n, d).

    Raises:
        UnmetNeedError: The truth has another shape than the outputs.
    """
    values = evidence.target[:, 0, :]
    if evidence.references is not None:
        # Rounded as the references are stored, so that a model that agrees with them ties
        values = np.asarray(values, dtype=evidence.references.dtype)
    truth = np.asarray(evidence.labels, dtype=np.float64)
    if truth.shape != values.shape:
        raise UnmetNeedError(
            f"Expected one true value for each output, shape {values.shape}, got {truth.shape}. "
            "Name one column of the table for each output."
        )
    return np.asarray(values, dtype=np.float64), truth


def keep_outputs(outputs: Floats, truth: Floats) -> Floats:
    """Compare the outputs themselves.

    >>> keep_outputs(np.ones((1, 2)), np.zeros((1, 2))).tolist()
    [[1.0, 1.0]]
    """
    return outputs


def find_resolution(stored: NDArray[Any]) -> float:
    """Find the smallest distance from 0 and 1 at which a probability is told from them.

    >>> find_resolution(np.zeros(1, np.float32)) > find_resolution(np.zeros(1))
    True
    """
    kind = stored.dtype if stored.dtype.kind == "f" else np.dtype(np.float64)
    return float(np.finfo(kind).eps) / 2


def iterate_output_blocks(evidence: Evidence, convert: Convert) -> Iterator[Block]:
    """Yield what `convert` makes of the references' outputs, (m, b, s), as float64.

    A block holds about `CELLS` numbers.
    """
    assert evidence.references is not None and evidence.inside is not None
    models, n, _, width = evidence.references.shape
    truth = np.asarray(evidence.labels, dtype=np.float64)
    size = max(1, CELLS // (models * width))
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        # Read block by block, since the array may be a memory map larger than the memory
        values = np.asarray(evidence.references[:, rows, 0, :], dtype=np.float64)
        inside = np.asarray(evidence.inside[:, rows], dtype=np.float64)
        yield Block(rows, convert(values, truth[rows]), inside)


def compute_output_moments(
    evidence: Evidence, convert: Convert, width: int
) -> tuple[Moments, Moments]:
    """Compute moments (n, width) of the models trained with each record, and of those without it."""
    return sum_up_blocks(iterate_output_blocks(evidence, convert), len(evidence), width)
