"""Compute the self-influence of every record exactly, without the Hessian or its inverse.

The gradients that it is applied to are not formed either.

The Gauss-Newton matrix of N records is A = BB'/N with one column of B for each record and direction
of its outputs. With H = A + damping, every product with H⁻¹ that is asked for is one with the
inverse of the small matrix B'B + N damping, and takes inner products of gradients alone. Those of a
linear layer are products of inner products of what goes in and of the errors that come back: no
gradient is formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import softmax

from memberscope.targets.white_box.loss_gradient import OutputError, compute_minus_log
from memberscope.types import Floats, Signal

# Damping and records of Suri et al.; COLUMNS is the most columns that the curvature may have
DAMPING, RECORDS, COLUMNS = 0.2, 512, 2048
# Directions of the outputs whose second derivative is below this share of the largest are left out
FAINT = 1e-9


@dataclass(frozen=True, eq=False)
class Gradients:
    """Gradients of r records, in factors.

    `pairs` are a layer's input (r, i) and the error at its output (r, o); all other gradients are
    in `whole` (r, p).
    """

    pairs: list[tuple[Floats, Floats]]
    whole: Floats

    def inner(self, other: Gradients) -> Floats:
        """Compute inner products (r, s) with the gradients of s other records."""
        found = self.whole @ other.whole.T
        for (a, back), (b, also) in zip(self.pairs, other.pairs, strict=True):
            found += (a @ b.T) * (back @ also.T)
        return found

    def squares(self) -> Floats:
        """Compute squared norms (r,)."""
        found = (self.whole**2).sum(axis=1)
        return np.asarray(
            found + sum((a**2).sum(axis=1) * (back**2).sum(axis=1) for a, back in self.pairs),
            dtype=np.float64,
        )

    def mean(self, weights: Floats) -> list[Floats]:
        """Sum the weighted gradients: a matrix (o, i) for each pair, and (p,) last."""
        return [*((back * weights[:, None]).T @ a for a, back in self.pairs), weights @ self.whole]

    def along(self, direction: list[Floats]) -> Floats:
        """Compute inner products (r,) with one such sum."""
        found = self.whole @ direction[-1]
        for (a, back), matrix in zip(self.pairs, direction, strict=False):
            found = found + ((back @ matrix) * a).sum(axis=1)
        return np.asarray(found, dtype=np.float64)


def factor_curvature(outputs: Floats, signal: Signal, columns: int) -> tuple[Floats, Floats]:
    """Factor the expected second derivatives of the losses at the outputs (n, k).

    Give rows (r,) and errors (r, k) whose outer products add up to them: at most `columns`, those
    of the largest derivatives.

    >>> rows, errors = factor_curvature(np.zeros((1, 2)), "logits", 9)
    >>> np.round(errors.T @ errors, 3).tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    if signal == "logits":
        p = softmax(outputs, axis=1)
        # The second derivative of cross-entropy by logits, the same for each label
        second = p[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * p[:, None, :]
    else:
        second = np.eye(outputs.shape[1]) / np.maximum(outputs, 1e-7)[:, :, None]
    values, directions = np.linalg.eigh(second)
    kept = np.sort(np.argsort(-values, axis=None, kind="stable")[:columns])
    # Directions without curvature would only add rounding errors
    kept = kept[values.flat[kept] > FAINT * values.max()]
    rows, place = np.unravel_index(kept, values.shape)
    return rows, directions[rows, :, place] * np.sqrt(values[rows, place])[:, None]


def solve_influences(
    curvature: Gradients,
    n_records: int,
    batches: Callable[[], Iterator[tuple[Gradients, OutputError]]],
    damping: float,
) -> Floats:
    """Solve for the columns (n, 4) of influence.

    Minus the logarithm of g'H⁻¹g; the loss; ‖H⁻¹g‖²; and (H⁻¹g)'(H⁻¹G), where G is the mean
    gradient of all records.

    `curvature` are the columns of B from `n_records`; `batches` gives all records anew at each
    call, as gradients of errors of unit size.
    """
    gram = curvature.inner(curvature)
    # Only a matrix of the size of the columns is solved, not of the parameters
    factor = cho_factor(gram + n_records * damping * np.eye(len(gram)), lower=True)
    total, along, n = None, np.zeros(len(gram)), 0
    for part, error in batches():
        size = np.exp(error.log_size)
        each = part.mean(size)
        total = each if total is None else [a + b for a, b in zip(total, each, strict=True)]
        along, n = along + curvature.inner(part) @ size, n + len(size)
    assert total is not None
    direction, across = [matrix / n for matrix in total], cho_solve(factor, along / n)
    found = []
    for part, error in batches():
        size, inner, squares = np.exp(error.log_size), curvature.inner(part), part.squares()
        solved = cho_solve(factor, inner)
        moved = gram @ solved
        first = (inner * solved).sum(axis=0)
        # Woodbury's identity, applied to products of gradients
        own = (squares - first) / damping
        square = (squares - 2 * first + (solved * moved).sum(axis=0)) / damping**2
        cross = (part.along(direction) - 2 * across @ inner + across @ moved) / damping**2
        # Rounding must not remove what the largest curvature leaves
        least = squares / (damping + np.trace(gram) / n_records)
        columns = (
            compute_minus_log(2 * error.log_size, np.maximum(own, least)[:, None] ** 2),
            -error.log_p,
            size**2 * square,
            size * cross,
        )
        found.append(np.column_stack(columns))
    return np.concatenate(found)
