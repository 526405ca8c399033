"""Read what the array `outputs` of a file holds, and one number under a name of the user's choice.

Both become columns that the reader of signals knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.targets.answers.output_kind import infer_output_kind
from memberscope.targets.stored.answers import is_answer
from memberscope.targets.stored.labels import list_names
from memberscope.targets.stored.references import SignalArrays, StoredNumber
from memberscope.targets.tables.columns import convert_to_numbers

OUTPUTS = "outputs"
COLUMNS = {"probabilities": "p", "logits": "z", "loss": "loss"}


@dataclass(frozen=True, eq=False)
class NamedColumns:
    """Columns with the answers under p, z or loss, and the `number` (n,) if these are one."""

    columns: dict[str, NDArray[Any]]
    number: StoredNumber | None = None
    values: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()


def name_outputs(
    found: SignalArrays, number: str | None, higher: str | None, path: Path
) -> NamedColumns:
    """Name the answers of a file by what they are.

    `number` names a column of one number a record, of which `higher` says whom higher values mark;
    without them, the settings of the file do.

    Raises:
        InputError: The number is not there, or what `outputs` holds stays open.
    """
    name = number or found.settings.get("number")
    if name is not None:
        given: Any = higher or found.settings.get("higher", "member")
        return _name_number(dict(found.columns), StoredNumber(name, given), path)
    if higher is not None:
        raise InputError(
            f"Expected --number beside --higher {higher}, got none. Name the column of the number."
        )
    columns = dict(found.columns)
    if OUTPUTS not in columns or any(is_answer(column) for column in columns):
        return NamedColumns(columns)
    values, kind = columns.pop(OUTPUTS), found.settings.get("signal")
    notes: tuple[str, ...] = ()
    if kind is None:
        kind = _infer_kind(values, path)
        notes = (f"Read outputs as {kind}.",)
    if kind not in COLUMNS:
        raise InputError(
            f"Expected signal {list_names(COLUMNS)} in {path}, got {kind!r}. Say which of these "
            "outputs are; name any other number with --number."
        )
    if kind == "loss" and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    return NamedColumns({**columns, COLUMNS[kind]: values}, notes=notes)


def _infer_kind(values: NDArray[Any], path: Path) -> str:
    """Infer whether outputs (n, k) are probabilities or logits.

    Raises:
        InputError: They are one number a record, which may be anything.
    """
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "fiu":
        raise InputError(
            f"Expected signal beside outputs of shape {values.shape} in {path}, got none. Add "
            "signal = probabilities, logits or loss, or name the number with --number outputs and "
            "--higher."
        )
    return infer_output_kind(np.asarray(values, np.float64), f"outputs of {path}")


def _name_number(
    columns: dict[str, NDArray[Any]], number: StoredNumber, path: Path
) -> NamedColumns:
    """Put a number under `loss`, lower for likelier members, and leave other answers out.

    Raises:
        InputError: It is not there, or not one number a record.
    """
    name = number.name if number.name in columns else OUTPUTS
    if name not in columns:
        raise InputError(
            f"Expected the number {number.name!r} in {path}, got {list_names(columns)}. Check "
            "--number."
        )
    column = columns[name]
    values = convert_to_numbers(column.reshape(len(column), -1), name, path)
    if values.shape[1] != 1:
        raise InputError(
            f"Expected one number a record under {name!r} in {path}, got shape {column.shape}. "
            "Leave --number out, or reduce them to one."
        )
    # Finite ones only, or the loss would be refused under a name that nobody gave
    odd = np.flatnonzero(~np.isfinite(values[:, 0]))
    if len(odd):
        raise InputError(
            f"Expected finite numbers under {name!r} in {path}, got {values[odd[0], 0]} for record "
            f"{odd[0] + 1} ({len(odd)} records in all). Leave these records out."
        )
    signed = number.sign * values[:, 0]
    loss = np.logaddexp(0, -signed) if number.is_logit else -signed
    rest = {one: kept for one, kept in columns.items() if one != name and not is_answer(one)}
    who = "members" if number.higher == "member" else "non-members"
    return NamedColumns(
        {**rest, "loss": loss},
        number,
        values[:, 0],
        (f"Read {number.name} as one number a record, higher for likelier {who}.",),
    )
