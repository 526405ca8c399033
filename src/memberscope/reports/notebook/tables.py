"""Give the numbers of a result as data frames of pandas or polars, and its ROC as arrays."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any, Literal, get_args

import numpy as np

from memberscope.auditing import AttackScores, AuditArrays, Result, hash_ids
from memberscope.errors import InputError
from memberscope.statistics import roc
from memberscope.types import Estimate, Floats

Backend = Literal["pandas", "polars"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)


@dataclass(frozen=True, eq=False)
class RocPoints:
    """The ROC of one attack: `fpr`, `tpr` and `threshold`, each (v,).

    At each point the records that score at least `threshold` are named as members. The first names
    nobody, at an infinite threshold.
    """

    attack: str
    access: str
    fpr: Floats
    tpr: Floats
    threshold: Floats


def build_estimate_frame(result: Result, backend: str | None = None) -> Any:
    """Build a frame with one row an estimate, in the order of `result.json`.

    The column `of` tells records from units, which come last, and from records without their units.

    Raises:
        InputError: The library is not one of those that can be asked for, or is not installed.
    """
    names = [entry.name for entry in fields(Estimate)]
    rows = [*result.estimates, *result.by_unit]
    columns = {name: [getattr(row, name) for row in rows] for name in names}
    return _build_frame(columns, backend, texts=("target", "restriction", "group", "reached_by"))


def build_score_frame(result: Result, backend: str | None = None, *, show_ids: bool = False) -> Any:
    """Build a frame with one row a record and the score of each attack, a column `attack@level`.

    Records are named by keyed hashes, or by their ids if `show_ids`.

    Raises:
        InputError: The result has no arrays, or there is no library for frames.
    """
    arrays = _require_arrays(result, "scores")
    columns = _name_records(arrays, show_ids) | {"fold": arrays.fold}
    columns |= {entry.name: entry.scores for entry in arrays.scored}
    return _build_frame(columns, backend)


def build_record_frame(
    result: Result, backend: str | None = None, *, show_ids: bool = False
) -> Any:
    """Build a frame with one row a record: side, class and groups, and each attack's risk.

    The risk is the probability of membership at the threat model's prior. With reference models
    each record's separation under them stands before the risks.

    Raises:
        InputError: The result has no arrays, or there is no library for frames.
    """
    arrays = _require_arrays(result, "records")
    columns = _name_records(arrays, show_ids)
    for name, codes in arrays.groups.items():
        # A group may be called as another column is
        own = name if name not in columns else f"group:{name}"
        columns[own] = np.asarray(arrays.group_values[name], dtype=object)[codes]
    if arrays.vulnerability is not None:
        parts = ("vulnerability", "vulnerability_low", "vulnerability_high")
        columns |= dict(zip(parts, arrays.vulnerability.T, strict=True))
    columns |= {f"risk:{name}": values for name, values in arrays.posterior.items()}
    return _build_frame(columns, backend)


def build_roc_points(result: Result, attack: str, access: str | None = None) -> RocPoints:
    """Build the ROC of an attack at a level of access; None takes the highest in force.

    Raises:
        InputError: The result has no arrays, or the attack did not run there.
    """
    arrays = _require_arrays(result, "the ROC")
    entry = find_scored_attack(arrays, attack, access)
    curve = roc(arrays.comparable[entry.name], arrays.member)
    return RocPoints(
        entry.attack,
        entry.level,
        curve.fp / curve.n_non_members,
        curve.tp / curve.n_members,
        np.asarray(curve.thresholds, dtype=np.float64),
    )


def find_scored_attack(arrays: AuditArrays, attack: str, access: str | None) -> AttackScores:
    """Find the scores of an attack at a level, such as `label` or `probabilities top:1`.

    Raises:
        InputError: The attack did not run, or not at that level.
    """
    found = [entry for entry in arrays.scored if entry.attack == attack]
    if not found:
        ran = ", ".join(dict.fromkeys(entry.attack for entry in arrays.scored))
        raise InputError(f"Expected an attack that ran ({ran}), got {attack!r}. Name one of these.")
    if access is None:
        # Levels come weakest first, and those only tried hide something
        return next((entry for entry in reversed(found) if entry.declared), found[-1])
    for entry in found:
        if access == entry.level:
            return entry
    levels = ", ".join(entry.level for entry in found)
    raise InputError(
        f"Expected a level at which {attack} ran ({levels}), got {access!r}. Name one of these."
    )


def _require_arrays(result: Result, what: str) -> AuditArrays:
    """Give the arrays of a result.

    Raises:
        InputError: It was read without them.
    """
    if result.arrays is None:
        raise InputError(
            f"Expected arrays.safetensors for {what}, got a result without it. Keep it beside "
            "result.json and use memberscope.load."
        )
    arrays: AuditArrays = result.arrays
    return arrays


def _name_records(arrays: AuditArrays, show_ids: bool) -> dict[str, Any]:
    """Name the records by id or keyed hash, and say who is a member."""
    names = arrays.ids.tolist() if show_ids else list(hash_ids(arrays.ids))
    return {"record": names, "member": arrays.member}


def choose_backend(backend: str | None) -> Backend:
    """Choose the library for frames: the one asked for, in use, or installed.

    Raises:
        InputError: It is neither pandas nor polars, or it is not installed.

    >>> choose_backend("spark")
    Traceback (most recent call last):
    ...
    memberscope.errors.InputError: Expected a backend pandas or polars, got 'spark'. ...
    """
    if backend is None:
        # A library that the caller has loaded is the one whose frames are expected
        installed = [name for name in BACKENDS if name in sys.modules or find_spec(name)]
        loaded = [name for name in installed if name in sys.modules]
        if not installed:
            raise InputError(
                "Expected pandas or polars for a data frame, got neither. Install one, for "
                "example with: pip install pandas"
            )
        return (loaded or installed)[0]
    chosen = next((name for name in BACKENDS if name == backend), None)
    if chosen is None:
        raise InputError(
            f"Expected a backend pandas or polars, got {backend!r}. Name one of these."
        )
    if find_spec(chosen) is None:
        raise InputError(
            f"Expected {backend} for a data frame, got none installed. Run: pip install {backend}"
        )
    return chosen


def _build_frame(
    columns: Mapping[str, Any], backend: str | None, *, texts: tuple[str, ...] = ()
) -> Any:
    """Build a frame from columns of equal length; `texts` are texts although all may be missing."""
    library = choose_backend(backend)
    import narwhals as nw

    series = []
    for name, values in columns.items():
        listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
        # A column without any value has no type of its own
        empty = all(value is None for value in listed)
        kind = (nw.String() if name in texts else nw.Float64()) if empty else None
        series.append(nw.new_series(name, listed, kind, backend=library))
    return nw.to_native(nw.concat([one.to_frame() for one in series], how="horizontal"))
