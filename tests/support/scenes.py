"""Stored signals, and models, with a known amount of leakage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from memberscope.targets import StoredSignals
from memberscope.types import Access, Records


def gaussian_signals(
    n: int,
    shift: float,
    seed: int = 0,
    *,
    classes: int = 2,
    n_features: int = 0,
    feature_shift: float = 0.0,
) -> StoredSignals:
    """Logits whose true-class logit is N(2, 1), plus `shift` for members.

    `feature_shift` moves the first feature of members.

    Without the 2 the model would look unfitted.
    """
    rng = np.random.default_rng([seed, n])
    member = np.arange(2 * n) < n
    labels = rng.integers(0, classes, 2 * n)
    outputs = np.zeros((2 * n, classes))
    outputs[np.arange(2 * n), labels] = 2.0 + rng.standard_normal(2 * n) + shift * member
    features = None
    if n_features:
        features = rng.standard_normal((2 * n, n_features))
        features[:, 0] += feature_shift * member
    groups = {"sex": np.where(rng.random(2 * n) < 0.3, "f", "m")}
    ids = np.array([f"id-{i}" for i in range(2 * n)])
    return StoredSignals(
        "logits", outputs, labels, member, ids, groups, features, digest=f"scene {seed} {n} {shift}"
    )


class Planted:
    """A model that knows its records by `shift`.

    Their true-class logit is N(3, 1) with its seed's noise, plus the shift.

    A record is a row (number, class, feature); `depth` (n,) multiplies the shift record by record.
    """

    access, signal, n_classes, digest, n_parameters = Access.LOGITS, "logits", 2, None, None

    def __init__(
        self, rows: np.ndarray, seed: int, shift: float, n: int, depth: np.ndarray | None = None
    ) -> None:
        rng = np.random.default_rng([seed, n])
        self.true = 3.0 + rng.standard_normal(n)
        self.true[rows] += shift * (1.0 if depth is None else depth[rows])

    def query(self, x: np.ndarray) -> np.ndarray:
        row, label = x[:, 0].astype(int), x[:, 1].astype(int)
        outputs = np.zeros((len(x), 2))
        outputs[np.arange(len(x)), label] = self.true[row]
        return outputs


@dataclass(frozen=True)
class PlantedRecipe:
    """Trains `Planted` models at no cost.

    `diverges` names what seeds give a model without finite answers.
    """

    shift: float
    n: int
    digest: str | None = None
    depth: np.ndarray | None = None
    diverges: Callable[[int], bool] = lambda seed: False

    def __call__(self, records: Records, seed: int) -> Planted:
        model = Planted(records.x[:, 0].astype(int), seed, self.shift, self.n, self.depth)
        if self.diverges(seed):
            model.true[:] = np.nan
        return model


def planted_sides(
    n: int, seed: int = 0
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """n members and n non-members as (x, y).

    The numbers of the records tell nothing about membership.
    """
    rng = np.random.default_rng([seed, n, 7])
    y = rng.integers(0, 2, 2 * n)
    x = np.column_stack([rng.permutation(2 * n), y, rng.standard_normal(2 * n)]).astype(np.float64)
    return (x[:n], y[:n]), (x[n:], y[n:])


def numbers(side: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Numbers of the records of a side, as `Planted` wants them."""
    return side[0][:, 0].astype(int)
