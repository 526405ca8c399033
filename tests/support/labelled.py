"""Models that tell labels alone and count what they are asked, for tests of label-only searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from memberscope.signals import measure_signal
from memberscope.statistics import auc_value, roc
from memberscope.types import Access, Records, SignalSpec


class Labels:
    """A target of labels that keeps every batch it was asked about."""

    access, signal, digest, n_parameters = Access.LABEL, "labels", None, None

    def __init__(self, label: Callable[[Any], np.ndarray], n_classes: int = 2) -> None:
        self.label, self.n_classes = label, n_classes
        self.batches: list[Any] = []

    def query(self, x: Any) -> np.ndarray:
        self.batches.append(x)
        return np.asarray(self.label(x), dtype=np.float64)[:, None]

    @property
    def asked(self) -> int:
        return sum(len(batch) for batch in self.batches)


def records(x: Any, y: np.ndarray) -> Records:
    return Records(x, np.asarray(y, dtype=np.int64), np.arange(len(y)).astype(np.str_))


def spec(name: str, **parameters: float) -> SignalSpec:
    """A specification that never stops before its budget unless it says so."""
    return SignalSpec(name, parameters=tuple(sorted(({"settled": 2.0} | parameters).items())))


def linear(n: int, f: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, Labels, np.ndarray]:
    """Normal records (n, f), their labels under a linear model, it.

    And each record's margin |w.x| (n,) over |w|, in deviations.
    """
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((n, f)), rng.standard_normal(f)
    model = Labels(lambda z: (z @ w > 0).astype(int))
    return x, (x @ w > 0).astype(int), model, np.abs(x @ w) / np.linalg.norm(w * x.std(axis=0))


def memorised(n: int, f: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, Labels, np.ndarray]:
    """Two overlapping classes (n, f), and the nearest-neighbour model of the first half.

    Who is a member.
    """
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.standard_normal((n, f)) + 1.2 * (y[:, None] - 0.5)
    member = np.arange(n) < n // 2
    model = KNeighborsClassifier(1).fit(x[member], y[member])
    return x, y, Labels(model.predict), member


def mixed(n: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, Labels]:
    """A frame of words, categories and numbers, some of them missing, a model of it.

    And labels, of which a tenth are not the model's.
    """
    rng = np.random.default_rng(seed)
    town = rng.choice(["here", "there", "elsewhere"], n).astype(object)
    x = pd.DataFrame(
        {
            "job": rng.choice(["clerk", "farmer", "nurse"], n),
            "town": np.where(rng.random(n) < 0.1, None, town),
            "size": pd.Categorical(rng.choice(["low", "mid"], n), categories=["no", "low", "mid"]),
            "age": rng.integers(18, 90, n),
            "income": np.where(rng.random(n) < 0.2, np.nan, rng.gamma(2.0, 1e4, n)),
            "rich": rng.random(n) < 0.5,
        }
    )

    def label(frame: pd.DataFrame) -> np.ndarray:
        return (
            (frame["age"] - 50) / 20
            + frame["income"].fillna(2e4) / 2e4
            + (frame["job"] == "nurse")
            - (frame["town"] == "here")
            + 0.5 * (frame["size"] == "low")
            > 1
        ).to_numpy(dtype=np.int64)

    y = label(x)
    return x, np.where(np.arange(n) % 10 == 3, 1 - y, y), Labels(label)


def deeper(
    n: int, f: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, Labels, np.ndarray, np.ndarray]:
    """`linear`, whose members, the first half, are moved away from its boundary.

    Who is one, and the margins (n,).
    """
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((n, f)), rng.standard_normal(f)
    member = np.arange(n) < n // 2
    x += 0.5 * member[:, None] * np.sign(x @ w)[:, None] * w / np.linalg.norm(w)
    return (
        x,
        (x @ w > 0).astype(int),
        Labels(lambda z: (z @ w > 0).astype(int)),
        member,
        np.abs(x @ w) / np.linalg.norm(w),
    )


def assert_depth_is_seen(asked: SignalSpec) -> None:
    """Members that lie deeper score higher, about as well as their margins tell.

    Others are alike to within four deviations.
    """
    x, y, model, member, margin = deeper(600, 6)
    found = measure_signal(model, records(x, y), asked).final[:, 0]
    assert auc_value(roc(found, member)) > auc_value(roc(margin, member)) - 0.04 > 0.6
    others = ~member
    area = auc_value(roc(found[others], np.arange(others.sum()) % 2 == 0))
    assert abs(area - 0.5) < 4 * np.sqrt(301 / (12 * 150 * 150))
