"""Answer with the middle of an interval that the prediction lies in, or within two bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from memberscope.errors import InputError
from memberscope.outputs._bases import Stateless
from memberscope.outputs.predictions._base import PartOfNumbers
from memberscope.types import Floats

MOST_BINS = 100_000


@dataclass(frozen=True)
class Intervals(PartOfNumbers, Stateless):
    """Answer with the middle of the interval of `width` that the number lies in, counted from 0.

    >>> Intervals(5.0)(np.array([[38.2, -1.0, 40.0]])).tolist()
    [[37.5, -2.5, 42.5]]
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a width that is none.

        Raises:
            InputError: It is not above zero, or infinite.
        """
        if not (math.isfinite(self.width) and self.width > 0):
            raise InputError(
                f"Expected a width above 0 in interval:w, got {self.width:g}. Give interval:5."
            )

    @property
    def name(self) -> str:
        """Name `interval:w`."""
        return f"interval:{self.width:.15g}"

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, d)."""
        return np.asarray((np.floor(outputs / self.width) + 0.5) * self.width, dtype=np.float64)


@dataclass(frozen=True)
class Bins(PartOfNumbers, Stateless):
    """Answer with the middle of one of `count` bins of equal width from `low` to `high`.

    Numbers beyond are answered as those of the first or last bin.

    >>> Bins(4, 0.0, 100.0)(np.array([[10.0, 99.0, 130.0]])).tolist()
    [[12.5, 87.5, 87.5]]
    """

    count: int = 20
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Refuse bins that are none.

        Raises:
            InputError: There are too few or too many, or the bounds do not rise.
        """
        _check_bounds(f"bins:{self.count}", self.low, self.high)
        if not 1 <= self.count <= MOST_BINS:
            raise InputError(
                f"Expected 1 to {MOST_BINS} bins in bins:n:low:high, got {self.count}. Give "
                "bins:20:0:100."
            )

    @property
    def name(self) -> str:
        """Name `bins:n:low:high`."""
        return f"bins:{self.count}:{self.low:.15g}:{self.high:.15g}"

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, d)."""
        width = (self.high - self.low) / self.count
        place = np.clip(np.floor((outputs - self.low) / width), 0, self.count - 1)
        return np.asarray(self.low + (place + 0.5) * width, dtype=np.float64)


@dataclass(frozen=True)
class Edges(PartOfNumbers, Stateless):
    """Answer with the middle of the bin between two of the rising `edges`.

    Numbers beyond are answered as those of the first or last bin. `choose_edges` makes bins that
    hold as many answers each.

    >>> Edges((17.0, 30.0, 50.0, 90.0))(np.array([[12.0, 30.0, 60.0]])).tolist()
    [[23.5, 40.0, 70.0]]
    """

    edges: tuple[float, ...] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse edges that do not rise.

        Raises:
            InputError: There are fewer than two, or they do not rise.
        """
        rising = all(low < high for low, high in zip(self.edges, self.edges[1:], strict=False))
        if len(self.edges) < 2 or not rising or not all(map(math.isfinite, self.edges)):
            raise InputError(
                "Expected two or more rising numbers in edges:a:b:c, got "
                f"{':'.join(f'{edge:g}' for edge in self.edges) or 'none'}. Give edges:0:10:100."
            )

    @property
    def name(self) -> str:
        """Name `edges:a:b:c`."""
        return "edges:" + ":".join(f"{edge:.15g}" for edge in self.edges)

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, d)."""
        edges = np.array(self.edges)
        place = np.searchsorted(edges[1:-1], outputs, side="right")
        return np.asarray(((edges[:-1] + edges[1:]) / 2)[place], dtype=np.float64)


@dataclass(frozen=True)
class Clipping(PartOfNumbers, Stateless):
    """Answer a number below `low` as `low`, and one above `high` as `high`.

    >>> Clipping(0.0, 10.0)(np.array([[-3.0, 5.0, 12.0]])).tolist()
    [[0.0, 5.0, 10.0]]
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Refuse bounds that do not rise.

        Raises:
            InputError: They do not.
        """
        _check_bounds("clip", self.low, self.high)

    @property
    def name(self) -> str:
        """Name `clip:low:high`."""
        return f"clip:{self.low:.15g}:{self.high:.15g}"

    def __call__(self, outputs: Floats) -> Floats:
        """Answer (n, d)."""
        return np.asarray(np.clip(outputs, self.low, self.high), dtype=np.float64)


def choose_edges(
    outputs: Floats, count: int, by: Literal["count", "width"] = "count"
) -> Edges | Bins:
    """Choose `count` bins for answers (n, d), with as many answers in each, or of one width.

    Quantiles that coincide are one edge, so that there may be fewer bins.

    Raises:
        InputError: The answers are all one number.

    >>> choose_edges(np.arange(101.0)[:, None], 2).name, choose_edges(np.arange(101.0)[:, None], 2, "width").name
    ('edges:0:50:100', 'bins:2:0:100')
    """
    low, high = float(np.min(outputs)), float(np.max(outputs))
    if not low < high:
        raise InputError(
            f"Expected answers that differ to choose bins for, got {low:g} alone. Give the edges."
        )
    if by == "width":
        return Bins(count, low, high)
    quantiles = np.quantile(outputs, np.linspace(0, 1, count + 1))
    # As their names are written, so that a name makes the same bins again
    return Edges(tuple(float(f"{edge:.15g}") for edge in np.unique(quantiles)))


def _check_bounds(name: str, low: float, high: float) -> None:
    """Refuse bounds that are not finite or do not rise.

    Raises:
        InputError: They are or do not.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(
            f"Expected a lower bound below the upper one in {name}:low:high, got {low:g} and "
            f"{high:g}. Give both as numbers."
        )
