"""Make the subject of an audit of real outputs: regression, forecasts, several labels a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import _check
from memberscope.auditing.subject.feature_matrix import build_feature_matrix
from memberscope.auditing.subject.subject import (
    Pair,
    Subject,
    attach_unit,
    check_subject,
    join_units,
    make_subject,
)
from memberscope.auditing.subject.unit_hints import (
    collect_columns,
    describe_independence,
    find_id_like_columns,
)
from memberscope.errors import InputError
from memberscope.facts import read_target_facts
from memberscope.frames import count_rows, is_frame, read_dataset, read_inputs
from memberscope.signals import validate_truth
from memberscope.targets import resolve_n_classes
from memberscope.targets.tables import stack_as_fitted
from memberscope.types import OUTPUT_SIGNALS, Records, Target

QUARTERS = 4  # groups by true value


def make_output_subject(
    target: Target,
    members: Records | Pair,
    non_members: Records | Pair,
    *,
    notes: tuple[str, ...] = (),
    unit: tuple[Any, Any] | None = None,
) -> Subject:
    """Join members and non-members of a model with real outputs, or several labels, and check them.

    Each side is a pair (x, y) or `Records`, with y (n,) or (n, d) the true numbers, or (n, k) the
    labels as 0 and 1. `unit` names the person or series of each member and of each non-member.
    Records of one real output get the group `value`, the quarter of its true value.

    Raises:
        InputError: A side is empty, ids repeat or stand on both sides, or true values do not fit
            the model's outputs.
    """
    inside = make_output_records(read_dataset(members), "member", target)
    outside = make_output_records(read_dataset(non_members), "non-member", target)
    for name, side in (("members", inside), ("non-members", outside)):
        if len(side) == 0:
            raise InputError(
                f"Expected {name}, got an empty set. Give at least a few hundred records."
            )
    if inside.y.shape[1:] != outside.y.shape[1:]:
        shapes = [side.y.shape for side in (inside, outside)]
        raise InputError(
            "Expected as many true values of members as of non-members for each record, got arrays "
            f"of shape {shapes[0]} and {shapes[1]}. Name the same columns on both sides."
        )
    if unit is not None:
        inside = attach_unit(inside, unit[0], "member")
        outside = attach_unit(outside, unit[1], "non-member")
    x = (
        None
        if inside.x is None or outside.x is None
        else stack_as_fitted(target, inside.x, outside.x)
    )
    shared = [name for name in inside.groups if name in outside.groups]
    groups = {name: np.concatenate([inside.groups[name], outside.groups[name]]) for name in shared}
    ids = np.concatenate([inside.ids, outside.ids]).astype(np.str_)
    y = np.concatenate([inside.y, outside.y])
    # The target may learn its number of outputs from what it is given
    target = resolve_n_classes(target, x, y.reshape(len(y), -1).shape[1])
    validate_truth(target.signal, y, target.n_classes)
    records = add_value_group(Records(x, y, ids, groups, join_units(inside, outside)))
    features = None if x is None else build_feature_matrix(x)
    if records.unit is None:
        found = find_id_like_columns(collect_columns(x) | groups)
        notes = (*notes, *describe_independence(found))
    facts = read_target_facts(target)
    notes = (*notes, *facts.notes, *_describe_constant_outputs(y))
    member = np.arange(len(ids)) < len(inside)
    return check_subject(Subject(target, records, member, features, (facts.task,), notes))


def make_subject_by_task(
    target: Target,
    members: Records,
    non_members: Records,
    *,
    class_names: Sequence[str] | None = None,
) -> Subject:
    """Join members and non-members as the task of the target asks for it.

    Raises:
        InputError: They do not fit the target.
    """
    if target.signal in OUTPUT_SIGNALS:
        return make_output_subject(target, members, non_members)
    return make_subject(target, members, non_members, class_names=class_names)


def make_output_records(side: Records | Pair, kind: str, target: Target) -> Records:
    """Take records as they are, or make them from a pair (x, y) with ids such as `member:0`.

    Raises:
        InputError: The pair is not two things of one length, or true values are not numbers.
    """
    if not isinstance(side, Records) and not (isinstance(side, tuple) and len(side) == 2):
        raise InputError(
            f"Expected {kind}s as (x, y) or Records, got {type(side).__name__}. Pass a pair."
        )
    given = side.y if isinstance(side, Records) else side[1]
    y = read_true_values(given, kind, integer=target.signal == "label_probabilities")
    x = read_inputs(side.x if isinstance(side, Records) else side[0], len(y))
    if is_frame(x) or (hasattr(x, "__len__") and not isinstance(x, dict)) or hasattr(x, "shape"):
        _check.check_same_length(
            **{f"{kind} records": range(count_rows(x)), f"{kind} true values": y}
        )
    if isinstance(side, Records):
        unit = None if side.unit is None else np.asarray(side.unit).astype(np.str_)
        return replace(side, x=x, y=y, ids=np.asarray(side.ids).astype(np.str_), unit=unit)
    return Records(x, y, np.array([f"{kind}:{i}" for i in range(len(y))], dtype=np.str_))


def read_true_values(given: Any, kind: str, *, integer: bool = False) -> NDArray[Any]:
    """Read true values (n,) or (n, d) as float64, or labels (n, k) as int64.

    Raises:
        InputError: They are not numbers, or labels are not 0 and 1.

    >>> read_true_values([1, 2], "member").dtype.name
    'float64'
    """
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        first = next((one for one in np.asarray(given, dtype=object).ravel()), None)
        raise InputError(
            f"Expected numbers as the {kind}s' true values, got {type(first).__name__} such as "
            f"{first!r}. Give y as numbers, or declare another task."
        ) from error
    if values.ndim not in (1, 2):
        raise InputError(
            f"Expected the {kind}s' true values of shape (n,) or (n, d), got {values.shape}. "
            "Flatten the rest."
        )
    if not integer:
        return values
    # Refused here, before the cast would change it
    validate_truth("label_probabilities", values, values.reshape(len(values), -1).shape[1])
    return values.astype(np.int64)


def add_value_group(records: Records) -> Records:
    """Add the group `value`: the quarter of all records that a single true value falls into.

    Records that have a group of that name, several outputs, or one value throughout, stay as they
    are.

    >>> y = np.array([1.0, 2.0, 3.0, 4.0])
    >>> add_value_group(Records(None, y, np.array(list("abcd")))).groups["value"].tolist()
    ['1: up to 1', '2: up to 2', '3: up to 3', '4: above 3']
    """
    truth = records.y.reshape(len(records), -1)
    if "value" in records.groups or truth.shape[1] != 1 or records.y.dtype.kind != "f":
        return records
    values = truth[:, 0]
    shares = np.arange(1, QUARTERS) / QUARTERS
    edges = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    edges = edges[edges < values.max()]
    if not len(edges):
        return records
    names = [f"{k + 1}: up to {edge:.4g}" for k, edge in enumerate(edges)]
    names.append(f"{len(edges) + 1}: above {edges[-1]:.4g}")
    code = np.searchsorted(edges, values)
    return replace(records, groups={**records.groups, "value": np.array(names)[code]})


def _describe_constant_outputs(y: NDArray[Any]) -> list[str]:
    """Describe outputs whose true value is the same for every record."""
    truth = y.reshape(len(y), -1)
    constant = np.flatnonzero((truth == truth[:1]).all(axis=0))
    if not len(constant):
        return []
    return [
        f"{len(constant)} of {truth.shape[1]} outputs have the same true value for every record, "
        "so that errors in them tell little."
    ]
