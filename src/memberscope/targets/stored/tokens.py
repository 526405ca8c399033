"""Read a user's own token signals, of the audited model and of reference models.

Whoever has a cluster of their own computes these there; the audit needs the files alone.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.stored.labels import read_member
from memberscope.targets.stored.token_files import TokenFile, list_token_names, read_token_file
from memberscope.targets.tables.columns import read_unit_names
from memberscope.targets.tables.wanted import spell_value
from memberscope.texts import TokenSignals
from memberscope.types import Access, Bools, Floats, Ints, Signal, Task

TARGET_STEM = "target"
SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".json", ".parquet", ".pq", ".feather", ".npz")
# Values of a changed copy of each record, which a file may hold beside its tokens
COPIES = ("lowercase", "recall")
ABOVE = 1e-4  # a log-probability may exceed zero by rounding


@dataclass(frozen=True, eq=False)
class StoredTokens:
    """Token signals of n records with their membership, and of m reference models if there are.

    `tokens` are what the audited model says, `member` (n,) which records trained it, and `ids` (n,)
    their ids. Each entry of `groups` is (n,), and `unit` (n,) names the person or document of each
    record. `texts` (n,) are there if the file holds them. `reference_log_confidence` (m, n) is the
    mean log-probability of each record's tokens under the reference models, in nats, and `inside`
    (m, n) says which records trained each. `digest` hashes the files; `notes` are for a reader of
    the result.
    """

    tokens: TokenSignals
    member: Bools
    ids: NDArray[np.str_]
    groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    unit: NDArray[np.str_] | None = None
    texts: NDArray[Any] | None = None
    reference_log_confidence: Floats | None = None
    inside: Bools | None = None
    digest: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


class StoredTokenTarget:
    """Text target whose answers are stored already: records are row numbers.

    >>> stored = StoredTokens(
    ...     TokenSignals(np.array([0, 2, 3]), np.array([-1.0, -3.0, -0.5])),
    ...     np.array([True, False]), np.array(["a", "b"]))
    >>> StoredTokenTarget(stored).query(np.array([1, 0])).tolist()
    [[0.5], [2.0]]
    """

    task: Task = "text"
    signal: Signal = "loss"
    n_classes = 1
    n_parameters: int | None = None
    stored = True  # it has no answer to a query that was not made before

    def __init__(self, stored: StoredTokens) -> None:
        """Answer from `stored`."""
        self.signals = stored
        self.access = (
            Access.VOCABULARY if stored.tokens.has_part("moments") else Access.TOKEN_PROBABILITIES
        )
        self.digest: str | None = stored.digest or None
        self.notes = stored.notes

    def query(self, x: Any) -> Floats:
        """Give the losses (n, 1) of the rows numbered `x` (n,)."""
        return -self.measure_tokens(x).mean_log_probability()[:, None]

    def measure_tokens(self, x: Any) -> TokenSignals:
        """Give what is stored about the tokens of the rows numbered `x` (n,)."""
        return self.signals.tokens.take(np.asarray(x, np.int64))


def holds_token_signals(path: str | Path) -> bool:
    """Tell whether a file or folder holds token signals rather than a table of answers.

    A file that cannot be read holds none, so that whoever reads it says why.
    """
    path = Path(path)
    if path.is_dir():
        targets = [one for one in _list_signal_files(path) if one.name.split(".")[0] == TARGET_STEM]
        # Without one such file, whoever reads the folder says what is expected
        return len(targets) == 1 and holds_token_signals(targets[0])
    try:
        return path.name.lower().endswith(SUFFIXES) and "log_probs" in list_token_names(path)
    except (InputError, OSError):
        return False


def read_token_signals(
    path: str | Path,
    *,
    references: str | Path | Sequence[str | Path] = (),
    groups: Sequence[str] = (),
    unit: str | None = None,
) -> StoredTokens:
    """Read token signals from JSON lines, Parquet, Feather or NPZ, or from a folder of these.

    Each record has `member` and `log_probs`, one log-probability for each scored token; and, where
    they are known, `mean`, `variance`, `is_top` and `base` of the same length, `id`, `text`,
    `lowercase` and `recall`. An NPZ holds flat arrays with `offsets` (n + 1,).

    Reference models are files of the same records, whose `member` says which of them trained that
    model, named by `references` or lying beside `target` in the folder; or in the same file
    `references` with `inside`, m values a record, or arrays (m, n) of an NPZ.

    Raises:
        InputError: A file cannot be read, something is missing, or a value is not usable; the
            message says which.
        UnsafeFileError: An NPZ holds pickled objects.
    """
    home, others = _find_token_files(Path(path), references)
    file = read_token_file(home)
    columns, n = file.columns, len(file.offsets) - 1
    texts = columns.get("text")
    tokens = _build_token_signals(file, texts)
    ids = _read_token_ids(file)
    inner, inside = _read_inner_references(file)
    if others:
        if inner is not None:
            raise InputError(
                f"Expected references in {home} or in files of their own, got both. Leave one out."
            )
        inner, inside = _read_reference_files(others, ids, tokens.counts)
    for name in (unit, *groups):
        if name is not None and name not in columns:
            raise InputError(
                f"Expected {name!r} for each record of {home}, got {', '.join(columns)}. Check the "
                "name."
            )
    return StoredTokens(
        tokens=tokens,
        member=_read_membership(file),
        ids=ids,
        groups={name: _spell_words(columns[name], "missing") for name in groups},
        unit=read_unit_names(_spell_words(columns[unit]), unit, home) if unit else None,
        texts=None if texts is None else np.array([*texts, None], dtype=object)[:n],
        reference_log_confidence=inner,
        inside=inside,
        digest=_hash_files([home, *others]),
        notes=(f"Read {int(file.offsets[-1])} tokens of {n} texts from {home.name}.",),
    )


def _find_token_files(
    path: Path, references: str | Path | Sequence[str | Path]
) -> tuple[Path, list[Path]]:
    """Find the target's file and those of the reference models, in the order of their names.

    Raises:
        InputError: A folder holds no such files.
    """
    more = [references] if isinstance(references, str | Path) else list(references)
    others: list[Path] = []
    for one in map(Path, more):
        others += _list_signal_files(one) if one.is_dir() else [one]
    if not path.is_dir():
        return path, others
    found = _list_signal_files(path)
    targets = [file for file in found if file.name.split(".")[0] == TARGET_STEM]
    if len(targets) != 1:
        raise InputError(
            f"Expected one file {TARGET_STEM}.jsonl, .parquet or .npz in the folder {path}, got "
            f"{len(targets)}. Name the audited model's file so."
        )
    return targets[0], [*(file for file in found if file != targets[0]), *others]


def _list_signal_files(folder: Path) -> list[Path]:
    """List the files of signals in a folder, by name."""
    return sorted(file for file in folder.iterdir() if file.name.lower().endswith(SUFFIXES))


def _build_token_signals(file: TokenFile, texts: Any) -> TokenSignals:
    """Build the token signals of a file, with the sizes of texts that it holds.

    Raises:
        InputError: There are no log-probabilities, or values are not usable.
    """
    columns, tokens = file.columns, file.tokens
    if "log_probs" not in tokens:
        raise InputError(
            f"Expected log_probs in {file.path}, one log-probability for each token, got "
            f"{', '.join([*tokens, *columns])[:80]}. Add the list, or audit a loss a record as "
            "stored signals."
        )
    _check_token_values(file)
    words = [] if texts is None else [None if t is None else str(t).encode() for t in texts]
    sizes = {
        name: _read_record_numbers(file, name, low=1).astype(np.int64)
        for name in ("n_bytes", "zlib_bytes")
        if name in columns
    }
    if words and None not in words and not sizes:
        sizes = {
            "n_bytes": np.array([len(word or b"") for word in words], np.int64),
            "zlib_bytes": np.array([len(zlib.compress(word or b"")) for word in words], np.int64),
        }
    top = tokens.get("is_top")
    return TokenSignals(
        file.offsets,
        tokens["log_probs"],
        tokens.get("mean"),
        tokens.get("variance"),
        None if top is None else np.asarray(top, bool),
        tokens.get("base"),
        copies={
            name: _read_record_numbers(file, name, high=ABOVE) for name in COPIES if name in columns
        },
        **sizes,
    )


def _read_record_numbers(
    file: TokenFile, name: str, low: float = -np.inf, high: float = np.inf
) -> Floats:
    """Read one number (n,) a record, which must be finite and from `low` to `high`.

    Raises:
        InputError: Some record has none, or another; the message names the first.
    """
    given = file.columns[name]
    try:
        values = np.asarray(given, np.float64).reshape(len(file.offsets) - 1)
    except (TypeError, ValueError):
        values = np.array([_convert_number(one) for one in given])
    odd = ~np.isfinite(values) | (values < low) | (values > high)
    if odd.any():
        row = int(np.argmax(odd))
        limit = "at least 1" if low == 1 else "at most 0"
        raise InputError(
            f"Expected a finite {name} of {limit} in {file.path}, got {str(given[row])[:40]} in "
            f"record {row + 1} ({int(odd.sum())} records in all). Correct it, or leave {name} out "
            "of all records."
        )
    return values


def _convert_number(value: Any) -> float:
    """Convert a number; whatever is none becomes NaN."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def _check_token_values(file: TokenFile) -> None:
    """Refuse records without tokens, and values that are no log-probabilities.

    Raises:
        InputError: There are such; the message names the first record.
    """
    empty = np.flatnonzero(np.diff(file.offsets) == 0)
    if len(empty):
        raise InputError(
            f"Expected a log-probability of at least one token in each record of {file.path}, got "
            f"none in {len(empty)} records, the first in record {int(empty[0]) + 1}. A text of one "
            "token has no prediction; leave these records out."
        )
    for part, values in file.tokens.items():
        odd = ~np.isfinite(values)
        what = f"finite {part}"
        if part in ("log_probs", "base") and not odd.any():
            odd, what = values > ABOVE, f"{part} of at most 0"
        if part == "variance" and not odd.any():
            odd, what = values < 0, "variance of at least 0"
        if odd.any():
            place = int(np.argmax(odd))
            row = int(np.searchsorted(file.offsets, place, "right"))
            raise InputError(
                f"Expected {what} in {file.path}, got {float(values[place]):.4g} in record {row} "
                f"({int(odd.sum())} tokens in all). Give log p in nats of each scored token."
            )


def _read_membership(file: TokenFile) -> Bools:
    """Read which records (n,) trained the model of a file.

    Raises:
        InputError: The file does not say.
    """
    if "member" not in file.columns:
        raise InputError(
            f"Expected member in {file.path}, which says whether each record trained the model, got "
            f"{', '.join(file.columns) or 'none'}. Add it."
        )
    return read_member(np.asarray(file.columns["member"]), "member", file.path)


def _read_token_ids(file: TokenFile) -> NDArray[np.str_]:
    """Read the ids (n,) of the records; without them they are the numbers of the rows.

    Raises:
        InputError: An id names two records.
    """
    given = next((file.columns[name] for name in ("id", "ids") if name in file.columns), None)
    if given is None:
        return np.array([f"row-{k}" for k in range(len(file.offsets) - 1)])
    ids = _spell_words(given)
    names, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"Expected one record for each id in {file.path}, got {str(names[counts > 1][0])!r} "
            f"{int(counts.max())} times. Give each record an id of its own."
        )
    return ids


def _read_inner_references(file: TokenFile) -> tuple[Floats | None, Bools | None]:
    """Read the reference models' values (m, n) that lie in the target's own file, if any.

    Raises:
        InputError: They have another shape, or it is not said whom each model was trained on.
    """
    names = ("references", "reference_log_confidence")
    given = next((file.columns[name] for name in names if name in file.columns), None)
    if given is None:
        return None, None
    n = len(file.offsets) - 1
    if "inside" not in file.columns:
        raise InputError(
            f"Expected inside beside references in {file.path}, which says whom each reference "
            "model was trained on, got none. Add it."
        )
    values: NDArray[Any]
    inside: NDArray[Any]
    try:
        if isinstance(given, np.ndarray):
            values, inside = given, np.asarray(file.columns["inside"])
            if values.ndim == 2 and values.shape[1] == file.offsets[-1] != n:
                # Of each token: their means are what is kept
                sums = np.add.reduceat(values.astype(np.float64), file.offsets[:-1], axis=1)
                values = sums / np.diff(file.offsets)
        else:
            values = np.array([[np.mean(one) for one in row] for row in given], float).T
            inside = np.array(file.columns["inside"]).T
        values = values.astype(np.float64)
    except (TypeError, ValueError):
        values, inside = np.empty(0), np.empty(0)
    if values.size and np.isfinite(values).all() and values.max() > ABOVE:
        raise InputError(
            f"Expected references of at most 0 in {file.path}, got {values.max():.4g}. Give the mean "
            "log-probability of each record's tokens, in nats."
        )
    fits = values.ndim == 2 and values.shape[1] == n and inside.shape == values.shape
    if not fits or not np.isin(inside, (0, 1)).all() or not np.isfinite(values).all():
        raise InputError(
            f"Expected references and inside in {file.path} with one number and one true or false "
            f"for each model and record, got shapes {values.shape} and {inside.shape} for {n} "
            "records. Give the same reference models for all records."
        )
    return values, inside.astype(bool)


def _read_reference_files(
    files: Sequence[Path], ids: NDArray[np.str_], counts: Ints
) -> tuple[Floats, Bools]:
    """Read the values (m, n) of reference models, each of a file of its own, by the ids.

    Raises:
        InputError: A file lacks some of the records, or their values, or has other numbers of
            tokens than the `counts` (n,) of the audited model.
    """
    values = np.empty((len(files), len(ids)))
    inside = np.empty(values.shape, bool)
    for k, path in enumerate(files):
        file = read_token_file(path)
        place = {name: row for row, name in enumerate(_read_token_ids(file).tolist())}
        rows = [place.get(name, -1) for name in ids.tolist()]
        if -1 in rows:
            raise InputError(
                f"Expected the records of the audited model in {path}, got none for "
                f"{str(ids[rows.index(-1)])!r} ({rows.count(-1)} records in all). Score the same "
                "records with each reference model."
            )
        if "log_probs" in file.tokens:
            _check_token_values(file)
            means = TokenSignals(file.offsets, file.tokens["log_probs"]).mean_log_probability()
            _require_equal_counts(np.diff(file.offsets)[rows], counts, ids, path)
        elif "log_confidence" in file.columns:
            means = np.asarray(file.columns["log_confidence"], np.float64)
            if not np.isfinite(means).all() or means.max() > ABOVE:
                raise InputError(
                    f"Expected finite log_confidence of at most 0 in {path}, got other values. "
                    "Give the mean log-probability of each record's tokens, in nats."
                )
        else:
            raise InputError(
                f"Expected log_probs or log_confidence in {path}, got "
                f"{', '.join(file.columns)[:80]}. Add one of them."
            )
        values[k], inside[k] = means[rows], _read_membership(file)[rows]
    return values, inside


def _require_equal_counts(found: Ints, counts: Ints, ids: NDArray[np.str_], path: Path) -> None:
    """Require as many scored tokens (n,) of each record as under the audited model.

    Raises:
        InputError: There are others, as of another tokenizer or another scored part.
    """
    other = np.flatnonzero(found != counts)
    if len(other):
        first = int(other[0])
        raise InputError(
            f"Expected as many tokens in {path} as under the audited model, got {found[first]} "
            f"instead of {counts[first]} for {str(ids[first])!r} ({len(other)} records in all). "
            "Score the same part of each text, with the same tokenizer."
        )


def _spell_words(values: Any, absent: str = "") -> NDArray[np.str_]:
    """Write values (n,) as words, whole numbers without a point."""
    return np.array([absent if v is None else spell_value(v) for v in values], dtype=np.str_)


def _hash_files(files: Sequence[Path]) -> str:
    """Hash the contents of files, in pieces."""
    hasher = hashlib.sha256(b"tokens:")
    for file in files:
        with file.open("rb") as stream:
            hasher.update(hashlib.file_digest(stream, "sha256").digest())
    return hasher.hexdigest()
