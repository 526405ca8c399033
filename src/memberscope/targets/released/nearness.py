"""Measure how near records lie to those of a table, in blocks that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from memberscope.types import Bools, Floats

BLOCK = 4_000_000  # distances (float64) that are held at once, 32 MB


def measure_nearness(x: Floats, table: Floats, bandwidth: float) -> tuple[Floats, Floats]:
    """Measure the distance of each record (n, f) to the closest row of a table (m, f), as (n,).

    And the table's log-density (n,) there by Gaussian kernels: the logarithm of the mean kernel,
    without its norming constant.

    >>> near = measure_nearness(np.array([[0.0], [5.0]]), np.array([[1.0], [5.0]]), 1.0)
    >>> near[0].tolist(), near[1].round(2).tolist()
    ([1.0, 0.0], [-1.19, -0.69])
    """
    closest, density = np.empty(len(x)), np.empty(len(x))
    for rows, squared in _iterate_squared(x, table):
        nearest = squared.argmin(axis=1)
        # Once more without cancellation, so that equal records are at distance zero
        closest[rows] = np.sqrt(((x[rows] - table[nearest]) ** 2).sum(axis=1))
        squared *= -0.5 / bandwidth**2
        # The largest exponent is taken out, so that far records keep a density
        top = squared.max(axis=1)
        squared -= top[:, None]
        density[rows] = top + np.log(np.exp(squared, out=squared).mean(axis=1))
    return closest, density


def find_closest_distances(x: Floats, table: Floats, *, skip_itself: bool = False) -> Floats:
    """Find the distance (n,) of each record (n, f) to the closest row of a table (m, f).

    With `skip_itself` both are the same, and no record counts as its own neighbour.

    >>> find_closest_distances(np.array([[0.0], [5.0]]), np.array([[1.0], [5.0]])).tolist()
    [1.0, 0.0]
    """
    found = np.empty(len(x))
    for rows, squared in _iterate_squared(x, table):
        if skip_itself:
            squared[np.arange(rows.stop - rows.start), np.arange(rows.start, rows.stop)] = np.inf
        nearest = squared.argmin(axis=1)
        found[rows] = np.sqrt(((x[rows] - table[nearest]) ** 2).sum(axis=1))
    return found


def mark_copies(x: Floats, table: Floats) -> Bools:
    """Mark rows (m,) of a table that equal some record (n, f) in every column.

    >>> mark_copies(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0], [1.0, 3.0]])).tolist()
    [True, False]
    """
    known = {row.tobytes() for row in np.ascontiguousarray(x)}
    return np.array([row.tobytes() in known for row in np.ascontiguousarray(table)], dtype=bool)


def _iterate_squared(x: Floats, table: Floats) -> Iterator[tuple[slice, Floats]]:
    """Iterate over blocks of records with their squared distances (rows, m) to a table."""
    lengths = (table**2).sum(axis=1)
    step = max(1, BLOCK // max(len(table), 1))
    for start in range(0, len(x), step):
        rows = slice(start, min(start + step, len(x)))
        squared = x[rows] @ table.T
        squared *= -2.0
        squared += lengths
        squared += (x[rows] ** 2).sum(axis=1)[:, None]
        yield rows, np.maximum(squared, 0.0, out=squared)
