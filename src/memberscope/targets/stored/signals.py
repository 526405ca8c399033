"""Read a user's own signals from CSV, NPZ or Parquet.

Signals are logits, probabilities or losses, with labels and membership.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.answers.real_outputs import parse_task
from memberscope.targets.stored.answers import find_answers, is_answer
from memberscope.targets.stored.labels import (
    Answers,
    Labels,
    find_column,
    list_names,
    make_single_class,
    read_labels,
    read_member,
)
from memberscope.targets.stored.layouts import find_layout, read_layout
from memberscope.targets.stored.named_outputs import NamedColumns, name_outputs
from memberscope.targets.stored.real_outputs import find_real_outputs
from memberscope.targets.stored.references import (
    ReferenceOutputs,
    SignalArrays,
    StoredNumber,
    read_signal_source,
    refuse_other_records,
)
from memberscope.targets.tables.columns import convert_to_numbers, read_unit_names
from memberscope.targets.tables.identifiers import IdLike, find_id_like_columns
from memberscope.types import OUTPUT_TASKS, Access, Bools, Floats, Signal, Task


@dataclass(frozen=True, eq=False)
class StoredSignals:
    """Signals table: `outputs` (n, k) of kind `signal`, `labels` (n,) and `member` (n,).

    Beside predicted numbers, and beside several labels, `labels` (n, d) are the true values.

    It has `ids` (n,), groups and features too. `unit` (n,) names the person or document that each
    record belongs to; `id_like` are columns that look like such names. `classes` names the classes
    where the table does; `notes` say how columns were read whose names left it open. `references`
    are what reference models answered about the same records.
    """

    signal: Signal
    outputs: Floats
    labels: NDArray[Any]
    member: Bools
    ids: NDArray[np.str_]
    groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    features: Floats | None = None
    digest: str = ""
    unit: NDArray[np.str_] | None = None
    id_like: tuple[IdLike, ...] = ()
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    references: ReferenceOutputs | None = None
    task: Task = "classification"


class StoredTarget:
    """Target whose answers are stored already: `query` takes row numbers."""

    n_parameters: int | None = None
    stored = True  # it has no answer to a query that was not made before

    def __init__(self, signals: StoredSignals) -> None:
        """Answer from `signals`.

        Losses below zero, as of densities, are moved up to zero, which keeps their order.
        """
        self.signal: Signal = signals.signal
        self.task: Task = signals.task
        self.access = Access.LOGITS if signals.signal == "logits" else Access.PROBABILITIES
        if signals.task in OUTPUT_TASKS:
            self.access = Access.PREDICTION
        width = signals.outputs.shape[1]
        self.n_classes = int(signals.labels.max()) + 1 if signals.signal == "loss" else width
        self.digest: str | None = signals.digest
        # Attacks read a loss as minus a log-probability, which is never positive
        lowest = float(np.min(signals.outputs, initial=0.0)) if signals.signal == "loss" else 0.0
        self._outputs = (
            signals.outputs - lowest if np.isfinite(lowest) and lowest < 0 else signals.outputs
        )

    def query(self, x: Any) -> Floats:
        """Give the stored outputs (n, k) of the rows numbered `x` (n,)."""
        return self._outputs[np.asarray(x, dtype=np.int64)]


def read_signals(
    path: str | Path,
    *,
    groups: Sequence[str] = (),
    features: Sequence[str] = (),
    unit: str | None = None,
    label: str | None = None,
    member: str | None = None,
    number: str | None = None,
    higher: str | None = None,
    layout: str | None = None,
    model: str | None = None,
    task: str | None = None,
) -> StoredSignals:
    """Read signals from a `.csv`, `.npz`, `.safetensors` or `.parquet` file, or a folder of these.

    Its columns are member, label and p0, p1, … or z0, z1, … or loss.

    An `.npz` may hold `p` or `z` as one array (n, k). Losses need no label. Features that are words
    become codes. `label` and `member` are the columns of these where they have other names; `unit`
    is the one that names the person or document of each record. `number` is a column of one number
    of the user's own, such as a density, of which `higher` says whom higher values mark: `member`
    or `non_member`.

    Answers of m reference models may lie beside: `references` (m, n) or (m, n, k) and `inside`
    (m, n) of an `.npz` or `.safetensors`, columns `reference_NAME` and `inside_NAME` of a table,
    rows of a table with `id`, `model` and `inside`, or files `references` of the folder. A folder
    may also be in the `layout` of another tool (`lira`, `privacy-meter` or `leakpro`), of which
    `model` names the audited model.

    Of a model with another `task` than classification the columns are member, y and prediction, or
    y_0, y_1, … and prediction_0, prediction_1, …; `label` may name several columns, with commas.

    Raises:
        InputError: The file cannot be read, a column is missing, or a value is not usable; the
            message says which.
    """
    source = _read_source(Path(path), number, layout, model)
    wanted = parse_task(task)
    named = (
        NamedColumns(dict(source.columns))
        if wanted in OUTPUT_TASKS
        else name_outputs(source, number, higher, Path(path))
    )
    columns = named.columns
    lost, loss_note = find_column(columns, None, "loss", path)
    # From here on a loss has one name
    if lost not in (None, "loss"):
        columns = {"loss" if name == lost else name: column for name, column in columns.items()}
    who, who_note = find_column(columns, member, "member", path)
    real = find_real_outputs(columns, label, wanted, path)
    # Losses can be compared without knowing the classes
    what, what_note = (
        (None, None)
        if real is not None
        else find_column(columns, label, "label", path, optional="loss" in columns)
    )
    # NPZ files often hold one value a record as (n, 1)
    columns = {
        name: column[:, 0] if _is_flat(column) and not is_answer(name) else column
        for name, column in columns.items()
    }
    for name in (who, what, "loss", "id", "ids", *groups, *features):
        _refuse_wide(columns.get(name or ""), name or "", path)
    # What has another role is no answer, unless its name says so
    taken = {who, what, unit, *groups, *features} - {None}
    answers, labels = (
        _read_classes(columns, taken, what, path)
        if real is None
        else (real.answers, Labels(real.truth))
    )
    flags = read_member(columns[who or ""], who or "", path)
    ids = columns.get("id", columns.get("ids"))
    if ids is not None:
        # One id on both sides would make two records one
        _refuse_numbered_twice(np.asarray(ids).astype(np.str_), flags, path)
    return StoredSignals(
        signal=answers.signal,
        outputs=answers.values,
        labels=labels.codes,
        member=flags,
        ids=np.array([f"row-{i}" for i in range(len(flags))])
        if ids is None
        else np.asarray(ids).astype(np.str_),
        groups={name: _wanted_column(columns, name, path).astype(np.str_) for name in groups},
        features=_feature_matrix(columns, features, path),
        # Of the files as a whole: any change of them is another target
        digest=_hash_signal_files(source.files, named.number),
        unit=read_unit_names(_wanted_column(columns, unit, path), unit, path) if unit else None,
        id_like=_find_id_columns(columns, {who, what, *(real.columns if real else ())}),
        classes=labels.names,
        task="classification" if real is None else real.task,
        notes=_join_notes(
            source.notes,
            named.notes,
            (who_note, what_note, loss_note),
            _notes_of(answers, labels, named.number),
        ),
        references=_build_references(source, named, answers, flags, path),
    )


def _find_id_columns(
    columns: Mapping[str, NDArray[Any]], taken: set[str | None]
) -> tuple[IdLike, ...]:
    """Find columns that look like people or documents, among those that are nothing else."""
    rest = {
        name: column
        for name, column in columns.items()
        if name not in (*taken, "id", "ids") and not is_answer(name)
    }
    return find_id_like_columns(rest)


def _read_classes(
    columns: Mapping[str, NDArray[Any]], taken: set[str | None], what: str | None, path: str | Path
) -> tuple[Answers, Labels]:
    """Read the answers about classes, and the labels in the column `what`, if there are any.

    Raises:
        InputError: They are not there, or do not fit together.
    """
    answers = find_answers(
        {n: c for n, c in columns.items() if n not in taken or is_answer(n)},
        columns.get(what or ""),
        path,
    )
    if what is None:
        return answers, make_single_class(len(answers.values))
    return answers, read_labels(columns[what], what, answers, path)


def _read_source(
    path: Path, number: str | None, layout: str | None, model: str | None
) -> SignalArrays:
    """Read a file or a folder, in the layout of another tool where it is in one."""
    chosen = layout or find_layout(path)
    if chosen is not None:
        return read_layout(path, chosen, model)
    return read_signal_source(path, number)


def _join_notes(*parts: Iterable[str | None]) -> tuple[str, ...]:
    """Join notes from several sources, without those that are None."""
    return tuple(note for part in parts for note in part if note)


def _build_references(
    source: SignalArrays, named: NamedColumns, answers: Answers, member: Bools, path: str | Path
) -> ReferenceOutputs | None:
    """Build what reference models answered beside the target's `answers`; None without any.

    Raises:
        InputError: They do not fit the target's records.
    """
    if source.references is None or source.inside is None:
        return None
    number, values = named.number, named.values
    # Losses below zero are no log-probabilities, so that only their order and distances count
    lowest = min(float(answers.values.min()), float(source.references.min()))
    if answers.signal == "loss" and number is None and lowest < 0:
        number, values = StoredNumber("loss", "non_member"), answers.values[:, 0]
    found = ReferenceOutputs(
        source.references,
        source.inside,
        source.views if values is None else values.reshape(len(values), -1, 1),
        number,
        source.names,
        source.train_accuracy,
        str(source.files[-1] if source.files else path),
    )
    refuse_other_records(found, member, answers.values.shape[1])
    return found


def _hash_signal_files(files: Sequence[Path], number: StoredNumber | None = None) -> str:
    """Hash the contents of files in pieces, with the number that was read from them.

    One file alone has its own hash.
    """
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256"))
    if len(digests) == 1 and number is None:
        return digests[0].hexdigest()
    # Another number of the same file is another target
    said = "" if number is None else f"{number.name} {number.higher}"
    return hashlib.sha256(b"".join(one.digest() for one in digests) + said.encode()).hexdigest()


def _notes_of(
    answers: Answers, labels: Labels, number: StoredNumber | None
) -> tuple[str | None, ...]:
    """Note how answers and labels were read, and what was done to losses below zero."""
    below = (
        answers.signal == "loss"
        and number is None
        and np.isfinite(answers.values).all()
        and answers.values.min() < 0
    )
    # A density may exceed 1, and minus its logarithm is then negative
    moved = f"Losses go down to {answers.values.min():.4g}, as of densities; all were moved up to 0, which keeps their order."
    return answers.note, labels.note, moved if below else None


def _refuse_numbered_twice(ids: NDArray[np.str_], member: Bools, path: str | Path) -> None:
    """Refuse ids that both sides use.

    Each file was probably numbered from 0; the message says what to do.

    Raises:
        InputError: Some id is on both sides.
    """
    both = np.intersect1d(ids[member], ids[~member])
    if len(both):
        raise InputError(
            f"Expected ids that are members or non-members in {path}, got {len(both)} ids on both "
            f"sides, first {str(both[0])!r}. If each side was numbered by itself, leave the column "
            f"out or write member-{both[0]} and non-member-{both[0]}; if they are the same "
            "records, take them out of one side."
        )


def _is_flat(column: NDArray[Any]) -> bool:
    """Check whether a column has one value a record, as (n, 1)."""
    return column.ndim == 2 and column.shape[1] == 1


def _refuse_wide(column: NDArray[Any] | None, name: str, path: str | Path) -> None:
    """Refuse a column of more than one value a record.

    Raises:
        InputError: It has several.
    """
    if column is not None and column.ndim != 1:
        raise InputError(
            f"Expected one value a record in {name!r} of {path}, got shape {column.shape}. Flatten "
            "it to (n,)."
        )


def _wanted_column(
    columns: Mapping[str, NDArray[Any]], name: str, path: str | Path
) -> NDArray[Any]:
    """Get the column called `name`.

    Raises:
        InputError: There is none.
    """
    if name not in columns:
        raise InputError(
            f"Expected the column {name!r} in {path}, got {list_names(columns)}. Check --groups, "
            "--features and --unit."
        )
    return columns[name]


def _feature_matrix(
    columns: Mapping[str, NDArray[Any]], names: Sequence[str], path: str | Path
) -> Floats | None:
    """Join the named columns as numbers (n, f); None where none is named."""
    return (
        np.column_stack(
            [_encode_feature(_wanted_column(columns, name, path), name, path) for name in names]
        )
        if names
        else None
    )


def _encode_feature(column: NDArray[Any], name: str, path: str | Path) -> Floats:
    """Encode a feature column (n,) as numbers, with NaN for what is missing.

    Words become the index of their sorted value.

    Raises:
        InputError: A number is infinite.
    """
    try:
        values = convert_to_numbers(column, name, path)
    except InputError:
        # Words: codes in sorted order, so that they do not depend on the order of records
        return np.unique(column.astype(np.str_), return_inverse=True)[1].astype(np.float64)
    endless = np.flatnonzero(np.isinf(values))
    if len(endless):
        raise InputError(
            f"Expected finite numbers in the column {name!r} of {path}, got {values[endless[0]]} "
            f"in row {endless[0] + 1}. Leave the field empty if the value is missing."
        )
    return values
