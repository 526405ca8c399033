"""Sketch records: a keyed hash, a keyed projection to sixteen numbers, eight coarse positions."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope._files import parse_json, write_bytes
from memberscope.errors import InputError
from memberscope.guard.hashing.secret_key import Secret
from memberscope.guard.policy.tables import Kind
from memberscope.guard.sketching.features import (
    FittedTable,
    Numbers,
    build_record_matrix,
    compute_image_features,
    compute_text_codes,
    compute_text_points,
    encode_record_rows,
    fit_knots,
    scale_by_knots,
)
from memberscope.guard.sketching.observations import BINS, POINT
from memberscope.wire import Batch

SAMPLE = 8192  # ordinary records that a sketch is fitted to, at most
NEAR = 0.02  # share of ordinary records that have a neighbour within the radius
Sketch = tuple[NDArray[np.uint64], Numbers, NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Sketcher:
    """Fitted sketch; distances between points are about those between records, scaled.

    `radius` is the distance below which two records count as near-duplicates: one in fifty ordinary
    records has such a neighbour.

    >>> rng = np.random.default_rng(0)
    >>> records = rng.normal(size=(500, 30))
    >>> sketcher = Sketcher.fit("tabular", Batch(records), Secret("k", bytes(32)))
    >>> record, point, bins = sketcher.sketch(Batch(np.stack([records[0], records[0] + 0.001, records[1]])))
    >>> near, far = np.linalg.norm(point[1:] - point[0], axis=1)
    >>> bool(near < sketcher.radius < far), len(set(record.tolist())), bins.shape
    (True, 3, (3, 8))
    """

    kind: Kind
    secret: Secret
    shape: tuple[int, ...]
    table: FittedTable
    spread: Numbers
    codes: Numbers
    scale: float = 1.0
    radius: float = 0.0

    @classmethod
    def fit(
        cls, kind: Kind, batch: Batch, secret: Secret, shape: tuple[int, ...] | None = None
    ) -> Sketcher:
        """Fit a sketch to ordinary records; `shape` is that of images.

        Raises:
            InputError: There are fewer than 20 records, or they do not fit the kind.
        """
        if len(batch) < 20:
            raise InputError(
                f"Expected at least 20 ordinary records to fit a sketch to, got {len(batch)}. Give "
                "more."
            )
        if kind == "image" and not shape:
            shape = tuple(np.asarray(batch.array).shape[1:]) if batch.array is not None else ()
            if len(shape) < 2:
                raise InputError(
                    "Expected the shape of images, got flat records. Write shape = [28, 28] in "
                    "[monitor]."
                )
        # Evenly over all records, as logs and tables are often in some order
        batch = batch.take(
            np.linspace(0, len(batch) - 1, min(len(batch), SAMPLE)).astype(int).tolist()
        )
        # The parts are fitted one after the other, each with those before it
        empty = FittedTable((), (), (), np.zeros((0, 9), dtype=np.float32))
        plain = cls(
            kind,
            secret,
            shape or (),
            empty,
            np.ones(0, np.float32),
            np.zeros((BINS, 9), np.float32),
        )
        if kind == "tabular":
            plain = replace(plain, table=FittedTable.fit(batch))
        matrix = plain._matrix(batch)
        if kind == "image":
            # Frequencies that hardly vary would else be blown up by the division
            spread = compute_image_features(matrix, plain.shape).std(axis=0)
            plain = replace(
                plain, spread=np.maximum(spread, np.float32(1e-6 + spread.max() * 1e-3))
            )
        plain = replace(plain, codes=fit_knots(plain._codes(matrix)))
        points = plain._points(matrix)
        rng = np.random.default_rng(0)
        # The distance between two records drawn at random is scaled to about 1
        usual = np.median(np.linalg.norm(points - points[rng.permutation(len(points))], axis=1))
        # Records that are all equal have no distance
        scale = float(usual) or 1.0
        return replace(
            plain,
            scale=scale,
            radius=float(np.quantile(_find_nearest_distances(points / scale), NEAR)) or 1e-3,
        )

    def sketch(self, batch: Batch) -> Sketch:
        """Compute keyed hashes (n,), points (n, 16) and bins (n, 8) of the records.

        Raises:
            InputError: The records are not of the kind that it was fitted to.
        """
        matrix = self._matrix(batch)
        record = self.secret.hashes("record", encode_record_rows(matrix))
        # Thirty-two bins: the upper end of the scale belongs to the last
        bins = np.minimum(scale_by_knots(self._codes(matrix), self.codes) * 32, 31).astype(np.uint8)
        return record, self._points(matrix) / np.float32(self.scale), bins

    def records(self, batch: Batch) -> NDArray[np.uint64]:
        """Compute keyed hashes (n,) alone."""
        return self.secret.hashes("record", encode_record_rows(self._matrix(batch)))

    def _matrix(self, batch: Batch) -> NDArray[Any]:
        matrix = build_record_matrix(batch, self.table.columns)
        if self.kind != "text" and matrix.dtype == object and not self.table.wordy:
            # Numbers that came as words, which servers read too
            with suppress(ValueError, TypeError):
                matrix = matrix.astype(np.float32)
        if self.kind == "image" and matrix.dtype == object:
            raise InputError("Expected images as numbers, got words. Check kind in [monitor].")
        return (
            self.table.settled(matrix)
            if self.kind == "tabular" and len(self.table.knots) + len(self.table.wordy)
            else matrix
        )

    def _points(self, matrix: NDArray[Any]) -> Numbers:
        if self.kind == "text":
            return compute_text_points(_join_words(matrix), self.secret)
        if self.kind == "image":
            features = compute_image_features(matrix, self.shape)
            return self._project(features / self.spread)
        return self._project(self.table.features(matrix)) + self.table.directions(
            matrix, self.secret
        )

    def _project(self, features: Numbers) -> Numbers:
        found: Numbers = features @ self._projection
        return found

    @cached_property
    def _projection(self) -> Numbers:
        """Draw the keyed projection (f, 16), which keeps distances on average."""
        f = len(self.spread) if self.kind == "image" else len(self.table.numeric)
        drawn = self.secret.generator("project", b"features").normal(size=(f, POINT))
        found: Numbers = (drawn / np.sqrt(POINT)).astype(np.float32)
        return found

    def _codes(self, matrix: NDArray[Any]) -> Numbers:
        if self.kind == "text":
            return compute_text_codes(_join_words(matrix))
        if self.kind == "image":
            found = compute_image_features(matrix, self.shape)[:, :BINS]
            return np.pad(found, ((0, 0), (0, BINS - found.shape[1])))
        return self.table.codes(matrix, self.secret)


def _join_words(matrix: NDArray[Any]) -> list[str]:
    """Join each record's columns into words."""
    return [" ".join(str(value) for value in row) for row in matrix]


def _find_nearest_distances(points: Numbers) -> Numbers:
    """Find the distance (n,) of each point to the nearest that differs from it, else 1."""
    points = np.unique(points, axis=0).astype(np.float64)
    found = np.full(len(points), 1.0)
    # By products of 512 rows at a time, so that no matrix of all pairs is needed
    squares = (points * points).sum(axis=1)
    for start in range(0, len(points) if len(points) > 1 else 0, 512):
        rows = np.arange(start, min(start + 512, len(points)))
        distance = squares[rows, None] + squares[None, :] - 2 * points[rows] @ points.T
        # A point is not its own neighbour
        distance[np.arange(len(rows)), rows] = np.inf
        # Rounding can make a square slightly negative
        found[rows] = np.sqrt(np.maximum(distance.min(axis=1), 0))
    return found.astype(np.float32)


def write_sketcher(path: str | Path, found: Sketcher) -> None:
    """Write a sketch as safetensors, without the secret."""
    from safetensors.numpy import save

    table = found.table
    kept = {
        "kind": found.kind,
        "shape": list(found.shape),
        "columns": list(table.columns),
        "numeric": list(table.numeric),
        "wordy": list(table.wordy),
        "ordered": list(table.ordered),
        "scale": found.scale,
        "radius": found.radius,
        "key": found.secret.id,
    }
    arrays = {"knots": table.knots, "spread": found.spread, "codes": found.codes}
    data = save(arrays, metadata={"format": "memberscope-sketch/1", "sketch": json.dumps(kept)})
    write_bytes(Path(path), data, mode=0o600)


def read_sketch_key(path: str | Path) -> str:
    """Read the id of the secret that a sketch was made with; empty where there is no sketch."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return str(json.loads((file.metadata() or {})["sketch"])["key"])
    # What is wrong with the file is told when it is loaded
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return ""


def read_sketcher(path: str | Path, secret: Secret) -> Sketcher:
    """Read a sketch that was fitted with `secret`.

    Raises:
        InputError: The file cannot be read, is none, or was made with another secret.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            kept = parse_json((file.metadata() or {})["sketch"])
            arrays = {name: file.get_tensor(name) for name in ("knots", "spread", "codes")}
        columns, numeric, wordy, ordered = (
            tuple(kept[name]) for name in ("columns", "numeric", "wordy", "ordered")
        )
        table = FittedTable(columns, numeric, wordy, arrays["knots"], ordered)
        shape = tuple(map(int, kept["shape"]))
        numbers = float(kept["scale"]), float(kept["radius"])
        found = Sketcher(
            kept["kind"], secret, shape, table, arrays["spread"], arrays["codes"], *numbers
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"Expected a sketch in {str(path)!r}, got none. Make one with memberscope guard "
            "prepare."
        ) from error
    # Under another key the same records have other hashes, and nothing would ever match
    if kept["key"] != secret.id:
        raise InputError(
            f"Expected a sketch made with the key {secret.id}, got {str(kept['key'])[:40]!r}. Make "
            "it anew with memberscope guard prepare."
        )
    return found
