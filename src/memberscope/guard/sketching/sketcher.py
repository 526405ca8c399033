"""Sketch records: a keyed hash, a keyed projection to sixteen numbers, eight coarse positions."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope._files import write_bytes
from memberscope.errors import InputError
from memberscope.guard.hashing.canonical import (
    CANONICAL_VERSION,
    UNDECLARED,
    CanonicalBatch,
    RecordForm,
    canonicalise_records,
    encode_canonical_records,
)
from memberscope.guard.hashing.canonical_text import fold_text_records
from memberscope.guard.hashing.secret_key import Secret
from memberscope.guard.policy.tables import Kind
from memberscope.guard.sketching.features import (
    FittedTable,
    Numbers,
    compute_image_features,
    compute_text_codes,
    compute_text_points,
    fit_knots,
    scale_by_knots,
)
from memberscope.guard.sketching.observations import BINS, POINT, require_format
from memberscope.wire import Batch

FORMAT = f"memberscope-sketch/{CANONICAL_VERSION}"
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
    form: RecordForm = UNDECLARED

    @classmethod
    def fit(
        cls,
        kind: Kind,
        batch: Batch,
        secret: Secret,
        shape: tuple[int, ...] | None = None,
        form: RecordForm = UNDECLARED,
    ) -> Sketcher:
        """Fit a sketch to ordinary records; `shape` is that of images, `form` what is declared.

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
        # Numbers written as words are read here in any case: whether clients may send them, the
        # guard decides
        form = replace(form, columns=form.columns or tuple(batch.columns or ()), coercion="numbers")
        records = canonicalise_records(batch, form)
        if kind == "text":
            records = fold_text_records(records)
        # The parts are fitted one after the other, each with those before it
        plain = cls(
            kind,
            secret,
            shape or (),
            FittedTable((), (), np.zeros((0, 9), dtype=np.float32)),
            np.ones(0, np.float32),
            np.zeros((BINS, 9), np.float32),
        )
        if kind == "tabular":
            plain = replace(
                plain, table=FittedTable.fit(records, _list_wordy_places(batch, records, form))
            )
        if kind == "image":
            # Frequencies that hardly vary would else be blown up by the division
            spread = plain._image_features(records).std(axis=0)
            plain = replace(
                plain, spread=np.maximum(spread, np.float32(1e-6 + spread.max() * 1e-3))
            )
        plain = replace(
            plain,
            form=replace(
                form,
                width=records.numbers.shape[1],
                numeric=list_numeric_places(kind, plain.table, records.numbers.shape[1]),
            ),
            codes=fit_knots(plain._codes(records)),
        )
        points = plain._points(records)
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
            UnreadableRecord: The records are not of the form that it was fitted to.
            InputError: There are words in images.
        """
        records = self._canonicalise(batch)
        record = self.secret.hashes("record", encode_canonical_records(records))
        # Thirty-two bins: the upper end of the scale belongs to the last
        bins = np.minimum(scale_by_knots(self._codes(records), self.codes) * 32, 31).astype(
            np.uint8
        )
        return record, self._points(records) / np.float32(self.scale), bins

    def records(self, batch: Batch) -> NDArray[np.uint64]:
        """Compute keyed hashes (n,) alone.

        Raises:
            UnreadableRecord: The records are not of the form that it was fitted to.
        """
        records = self._canonicalise(batch)
        return self.secret.hashes("record", encode_canonical_records(records))

    def _canonicalise(self, batch: Batch) -> CanonicalBatch:
        """Bring records to canonical form, in which texts are folded.

        Raises:
            UnreadableRecord: The records are not of the form that it was fitted to.
        """
        records = canonicalise_records(batch, self.form)
        return fold_text_records(records) if self.kind == "text" else records

    def _points(self, records: CanonicalBatch) -> Numbers:
        if self.kind == "text":
            return compute_text_points(_join_words(records), self.secret)
        if self.kind == "image":
            return self._project(self._image_features(records) / self.spread)
        return self._project(self.table.features(records)) + self.table.directions(
            records, self.secret
        )

    def _image_features(self, records: CanonicalBatch) -> Numbers:
        """Compute the features (n, f) of images.

        Raises:
            InputError: There are words among them.
        """
        if records.words is not None:
            raise InputError("Expected images as numbers, got words. Check kind in [monitor].")
        return compute_image_features(np.asarray(records.numbers, dtype=np.float32), self.shape)

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

    def _codes(self, records: CanonicalBatch) -> Numbers:
        if self.kind == "text":
            return compute_text_codes(_join_words(records))
        if self.kind == "image":
            found = self._image_features(records)[:, :BINS]
            return np.pad(found, ((0, 0), (0, BINS - found.shape[1])))
        return self.table.codes(records, self.secret)


def list_numeric_places(kind: Kind, table: FittedTable, width: int) -> tuple[int, ...]:
    """List the columns that hold numbers alone: all of an image, none of a text."""
    if kind == "tabular":
        return table.numeric
    return tuple(range(width)) if kind == "image" else ()


def _list_wordy_places(batch: Batch, records: CanonicalBatch, form: RecordForm) -> tuple[int, ...]:
    """List the columns of ordinary records that are written as words.

    Codes such as "01234" are among them, though they read as numbers: clients may send them so.
    """
    columns = (
        np.asarray(batch.array).reshape(len(batch), -1).T
        if batch.columns is None
        else [batch.columns[name] for name in form.columns]
    )
    return tuple(
        place
        for place, column in enumerate(columns)
        if records.wordy[place]
        or column.dtype.kind in "US"
        or (column.dtype == object and any(isinstance(value, str) for value in column))
    )


def _join_words(records: CanonicalBatch) -> list[str]:
    """Join each record's columns into words."""
    return [" ".join(str(value) for value in row) for row in np.asarray(records.array)]


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
        "columns": list(found.form.columns),
        "width": found.form.width,
        "dtypes": list(found.form.dtypes),
        "numeric": list(table.numeric),
        "wordy": list(table.wordy),
        "ordered": list(table.ordered),
        "scale": found.scale,
        "radius": found.radius,
        "key": found.secret.id,
    }
    arrays = {"knots": table.knots, "spread": found.spread, "codes": found.codes}
    data = save(arrays, metadata={"format": FORMAT, "sketch": json.dumps(kept)})
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
        InputError: The file cannot be read, is none, is of another version, or was made with
            another secret.
    """
    kept, arrays = _read_sketch_file(path)
    # Under another key the same records have other hashes, and nothing would ever match
    if kept["key"] != secret.id:
        raise InputError(
            f"Expected a sketch made with the key {secret.id}, got {str(kept['key'])[:40]!r}. Make "
            "it anew with memberscope guard prepare."
        )
    return Sketcher(
        kept["kind"],
        secret,
        kept["shape"],
        kept["table"],
        arrays["spread"],
        arrays["codes"],
        kept["scale"],
        kept["radius"],
        kept["form"],
    )


def read_sketch_form(path: str | Path) -> RecordForm:
    """Read which records a sketch can read, without the secret.

    Raises:
        InputError: The file cannot be read, is none, or is of another version.
    """
    form: RecordForm = _read_sketch_file(path)[0]["form"]
    return form


def _read_sketch_file(path: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what a sketch file says, and its arrays.

    Raises:
        InputError: The file cannot be read, is none, or is of another version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            require_format(str(path), metadata["format"], FORMAT, "sketch")
            kept = json.loads(metadata["sketch"])
            arrays = {name: file.get_tensor(name) for name in ("knots", "spread", "codes")}
        numeric, wordy, ordered = (tuple(kept[name]) for name in ("numeric", "wordy", "ordered"))
        table = FittedTable(numeric, wordy, arrays["knots"], ordered)
        width = int(kept["width"])
        form = RecordForm(
            tuple(map(str, kept["columns"])),
            width,
            list_numeric_places(kept["kind"], table, width),
            tuple(kept["dtypes"]),
            "numbers",
        )
        return {
            "kind": kept["kind"],
            "key": kept["key"],
            "shape": tuple(map(int, kept["shape"])),
            "scale": float(kept["scale"]),
            "radius": float(kept["radius"]),
            "table": table,
            "form": form,
        }, arrays
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"Expected a sketch in {str(path)!r}, got none. Make one with memberscope guard "
            "prepare."
        ) from error
