"""Train a defender's own membership classifier: a small network on sorted probabilities."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.types import Bools, Floats

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]
WIDTHS, EPOCHS, BATCH, RATE, MOMENTUM = (256, 128, 64), 50, 64, 0.01, 0.9


@dataclass(frozen=True)
class SortedClassifier:
    """Network with layers of weights (a, b) and offsets (b,), rectified but for the last.

    Its one output is the log-odds of membership.

    Two are equal if their `digest` is. A row's numbers do not depend on the rows that it is asked
    with, to the last bit: each row is a matrix product of its own.
    """

    digest: str
    layers: tuple[Layer, ...] = field(compare=False, repr=False)

    @property
    def n_classes(self) -> int:
        """Number of classes, k."""
        return len(self.layers[0][0])

    def odds(self, p: Floats) -> Floats:
        """Compute the log-odds of membership (n,) for probabilities (n, k)."""
        # An axis of one: each row is a product of its own, which does not depend on the other rows
        values = -np.sort(-p, axis=1).astype(np.float32)[:, None, :]
        for weights, offset in self.layers[:-1]:
            values = np.maximum(np.matmul(values, weights) + offset, 0.0)
        weights, offset = self.layers[-1]
        return np.asarray((np.matmul(values, weights) + offset)[:, 0, 0], dtype=np.float64)

    def odds_and_slopes(self, p: Floats) -> tuple[Floats, Floats]:
        """Compute log-odds (n,) and their gradient (n, k) by the probabilities (n, k)."""
        rows, order = np.arange(len(p))[:, None], np.argsort(-p, axis=1, kind="stable")
        values, open_units = p[rows, order].astype(np.float32)[:, None, :], []
        for weights, offset in self.layers[:-1]:
            values = np.matmul(values, weights) + offset
            open_units.append(values > 0)
            values = np.maximum(values, 0.0)
        weights, offset = self.layers[-1]
        odds = (np.matmul(values, weights) + offset)[:, 0, 0]
        # Backwards: units that were not open pass no gradient
        slopes = weights[:, 0]
        for (weights, _), is_open in zip(self.layers[-2::-1], open_units[::-1], strict=True):
            slopes = np.matmul(slopes * is_open, weights.T)
        found = np.empty_like(p)
        # Back in the order of classes
        found[rows, order] = slopes[:, 0, :]
        return odds.astype(np.float64), found


def fit_sorted_classifier(outputs: Floats, member: Bools, seed: int = 0) -> SortedClassifier:
    """Fit a classifier of `member` (n,) from `outputs` (n, k), deterministically, on equal halves.

    Raises:
        InputError: Shapes differ, there are no members or no others, or the outputs are not finite.

    >>> p = np.linspace(0.5, 1.0, 200)
    >>> judge = fit_sorted_classifier(np.column_stack([p, 1 - p]), p > 0.8, seed=0)
    >>> bool((np.diff(judge.odds(np.array([[0.6, 0.4], [0.2, 0.8], [0.01, 0.99]]))) > 0).all())
    True
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    rows = _draw_even_rows(outputs, member, seed)
    model = MLPClassifier(
        WIDTHS,
        solver="sgd",
        alpha=0.0,
        batch_size=min(BATCH, len(rows)),
        learning_rate_init=RATE,
        momentum=MOMENTUM,
        max_iter=EPOCHS,
        tol=0.0,
        n_iter_no_change=EPOCHS,
        random_state=seed,
    )
    # The number of epochs is fixed, converged or not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(-np.sort(-outputs[rows], axis=1), member[rows])
    layers = tuple(
        (np.ascontiguousarray(weights, dtype=np.float32), offset.astype(np.float32))
        for weights, offset in zip(model.coefs_, model.intercepts_, strict=True)
    )
    return SortedClassifier(digest_layers(layers), layers)


def digest_layers(layers: tuple[Layer, ...]) -> str:
    """Hash all weights and offsets."""
    content = hashlib.sha256(b"".join(part.tobytes() for layer in layers for part in layer))
    return content.hexdigest()[:16]


def _draw_even_rows(outputs: Floats, member: Bools, seed: int) -> NDArray[np.int64]:
    """Select rows to learn from: equally many members and others, drawn from the larger side.

    Raises:
        InputError: Shapes differ, there are no members or no others, or the outputs are not finite.
    """
    if outputs.ndim != 2 or member.shape != (len(outputs),) or member.dtype != np.bool_:
        raise InputError(
            f"Expected outputs (n, k) and who is a member as n booleans, got {outputs.shape} and "
            f"{member.shape} of {member.dtype}. "
            f"Give one boolean a row."
        )
    if not np.isfinite(outputs).all():
        raise InputError(
            "Expected whole answers to fit a defence to, got NaN or infinity. Fit it to the "
            "model's own answers."
        )
    few = int(min(member.sum(), (~member).sum()))
    if few == 0:
        raise InputError(
            "Expected answers about members and about others, got only one kind. Give both."
        )
    # Unequal sides would move the classifier away from 0.5 as such
    rng = np.random.default_rng(seed)
    return np.sort(
        np.concatenate(
            [rng.permutation(np.flatnonzero(member == side))[:few] for side in (False, True)]
        )
    )
