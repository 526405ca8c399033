"""Summarise the reference models' outputs, a block of records at a time.

Memory then does not grow with the number of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.types import MEASURED_AT, Access, Bools, Evidence, Floats, OneNumber, Task

# Numbers in a block: 2 MB as float64, which a processor's cache holds, however many models there are
CELLS = 4096 * 64


@dataclass(frozen=True, eq=False)
class Block:
    """Records `rows` of the evidence.

    `references` (m, b, views), and `inside` (m, b), which is 1.0 where a model was trained with the
    record and 0.0 elsewhere.
    """

    rows: slice
    references: Floats
    inside: Floats


def iterate_reference_blocks(evidence: Evidence, size: int | None = None) -> Iterator[Block]:
    """Yield the reference models' one number for each record and view, as float64.

    A block holds `size` records, or `CELLS` numbers.
    """
    assert evidence.references is not None and evidence.inside is not None
    models, _, views = evidence.references.shape[:3]
    # Fewer records where there are many models, so that a block keeps its size
    size = size or max(1, CELLS // (models * views))
    for start in range(0, len(evidence), size):
        rows = slice(start, min(start + size, len(evidence)))
        # Read block by block, since the array may be a memory map larger than the memory
        values = np.asarray(evidence.references[:, rows, :, 0], dtype=np.float64)
        yield Block(rows, values, np.asarray(evidence.inside[:, rows], dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments over one side's reference models, for each record and view.

    Number (n, 1), mean (n, views), sum of squared residuals (n, views).
    """

    count: Floats
    mean: Floats
    squares: Floats

    @property
    def variance(self) -> Floats:
        """Maximum-likelihood variance (n, views)."""
        return self.squares / self.count

    @property
    def pooled(self) -> Floats:
        """Mean squared residual over all records (views,)."""
        total: Floats = self.squares.sum(axis=0) / self.count.sum()
        return total


def compute_moments(evidence: Evidence) -> tuple[Moments, Moments]:
    """Compute moments of the models trained with each record, and of those trained without it.

    Means are NaN where there are no such models.
    """
    assert evidence.references is not None
    return sum_up_blocks(
        iterate_reference_blocks(evidence), len(evidence), evidence.references.shape[2]
    )


def sum_up_blocks(blocks: Iterable[Block], n: int, views: int) -> tuple[Moments, Moments]:
    """Compute the moments of `n` records from blocks of them, each with the same `views`.

    First those of the models trained with each record, then of those trained without it.
    """
    found = np.empty((2, 3, n, views))
    for block in blocks:
        values, weight = block.references, block.inside[:, :, None]
        # Centred before squaring, since the difference of two large sums of squares loses digits
        centre = values.mean(axis=0)
        values = values - centre
        squares = values * values
        # Sums over the models with a record, and over all models
        sums = np.stack([(weight * values).sum(axis=0), values.sum(axis=0)])
        powers = np.stack([(weight * squares).sum(axis=0), squares.sum(axis=0)])
        counts = np.stack([weight.sum(axis=0), np.full_like(weight[0], len(values))])
        # The models without a record are all models minus those with it: one pass instead of two
        for side, (count, total, power) in enumerate(
            (
                (counts[0], sums[0], powers[0]),
                (counts[1] - counts[0], sums[1] - sums[0], powers[1] - powers[0]),
            )
        ):
            with np.errstate(invalid="ignore", divide="ignore"):
                shift = total / count
            found[side, :, block.rows] = (
                np.broadcast_to(count, shift.shape),
                shift + centre,
                # Rounding may leave a sum of squares slightly below zero
                np.maximum(power - total * np.nan_to_num(shift), 0.0),
            )
    return tuple(Moments(side[0][:, :1], side[1], side[2]) for side in found)  # type: ignore[return-value]


def compute_medians(evidence: Evidence) -> tuple[Floats, Floats]:
    """Compute the median over the models with each record, and over those without (n, views)."""
    assert evidence.references is not None
    found = np.empty((2, len(evidence), evidence.references.shape[2]))
    for block in iterate_reference_blocks(evidence):
        for side, chosen in enumerate((block.inside > 0, block.inside == 0)):
            # Models of the other side sort to the end, so that the first `count` values are this
            # side's
            values = np.sort(np.where(chosen[:, :, None], block.references, np.inf), axis=0)
            count = chosen.sum(axis=0)
            low, high = (np.maximum(count - 1, 0) // 2)[None, :, None], (count // 2)[None, :, None]
            # The two middle values, which are one where the count is odd
            pair = [
                np.take_along_axis(values, np.minimum(k, len(values) - 1), axis=0)[0]
                for k in (low, high)
            ]
            found[side, block.rows] = (pair[0] + pair[1]) / 2
    return found[0], found[1]


def average_probabilities(evidence: Evidence) -> tuple[Floats, Floats, Floats]:
    """Average exp(log-confidence) over models with each record, without it, and over all.

    Each average is (n, views), and NaN where there are no such models.
    """
    assert evidence.references is not None
    found = np.empty((3, len(evidence), evidence.references.shape[2]))
    for block in iterate_reference_blocks(evidence):
        p, weight = np.exp(block.references), block.inside[:, :, None]
        inside, total, count = (weight * p).sum(axis=0), p.sum(axis=0), weight.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            found[:, block.rows] = (
                inside / count,
                (total - inside) / (len(p) - count),
                total / len(p),
            )
    return found[0], found[1], found[2]


def read_target_values(evidence: Evidence) -> Floats:
    """Read the target's one number for each record and view, (n, views), as float64."""
    return np.asarray(evidence.target[:, :, 0], dtype=np.float64)


def access_of(signal: OneNumber) -> Access:
    """Give the access that a signal of one number for each record takes.

    >>> access_of("boundary").word, access_of("logit_confidence").word
    ('label', 'probabilities')
    """
    return Access.PROBABILITIES if signal == "logit_confidence" else MEASURED_AT[signal]


def tasks_of(signal: OneNumber, temperature: float = 1.0) -> tuple[Task, ...]:
    """Give the tasks whose models show a number: confidences can be had of the loss of a text.

    A loss has no other temperature than 1.

    >>> tasks_of("logit_confidence"), tasks_of("boundary"), tasks_of("logit_confidence", 2.0)
    (('classification', 'text'), ('classification',), ('classification',))
    """
    if signal == "logit_confidence" and temperature == 1.0:
        return ("classification", "text")
    return ("classification",)


def convert_to_log_confidence(evidence: Evidence, temperature: float) -> Evidence:
    """Convert values on the scale of a logit to log sigmoid(value / temperature).

    The evidence then reads like that of the signal `log_confidence`.

    >>> logits = np.zeros((1, 1, 1))
    >>> evidence = Evidence("boundary", logits, np.zeros(1, dtype=int), np.full(1, -1, dtype=np.int8), logits[None])
    >>> round(float(convert_to_log_confidence(evidence, 2.0).target[0, 0, 0]), 4)
    -0.6931
    """
    # Measured at this temperature already
    if evidence.signal == "log_confidence":
        return evidence
    assert evidence.references is not None

    def changed(values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(-np.logaddexp(0, -np.asarray(values, dtype=np.float64) / temperature))

    population = (
        None
        if evidence.population is None
        else convert_to_log_confidence(evidence.population, temperature)
    )
    return replace(
        evidence,
        signal="log_confidence",
        target=changed(evidence.target),
        # In the type in which references are stored
        references=changed(evidence.references).astype(np.float32),
        population=population,
    )


def keep_hidden_scores(scores: Floats, hidden: Bools) -> Floats:
    """Keep the scores (n,) of hidden records; the others become NaN."""
    return np.where(hidden, scores, np.nan)
