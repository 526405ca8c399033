"""Make the subject of an audit of a released table: its records are rows of mixed columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.auditing.subject.feature_matrix import build_feature_matrix
from memberscope.auditing.subject.subject import Subject, attach_unit, check_subject, join_units
from memberscope.auditing.subject.unit_hints import (
    collect_columns,
    describe_independence,
    find_id_like_columns,
)
from memberscope.errors import InputError
from memberscope.frames import count_rows, is_frame, read_inputs, stack_sides
from memberscope.targets import ReleasedTable
from memberscope.targets.released import find_closest_distances, mark_copies
from memberscope.types import Bools, Floats, Records

FAR = 0.1  # share of the records that count as far from all others
MOST_COMPARED = 20_000  # records whose distances to each other are worth their time


def make_table_subject(
    target: ReleasedTable,
    members: Any,
    non_members: Any,
    *,
    unit: tuple[Any, Any] | None = None,
    notes: tuple[str, ...] = (),
) -> Subject:
    """Join the records that a table was made from with others, and check them.

    Each side is a data frame, an array (n, f) or `Records`; labels play no part. `unit` names the
    person of each member and of each non-member. Records get the group `isolation`: the tenth that
    lies farthest from its closest other record, and the rest.

    Raises:
        InputError: A side is empty, lacks columns of the table, or holds the same records as the
            other; ids repeat or stand on both sides; or units are too few or on both sides.
    """
    inside, outside = (
        _make_row_records(side, kind)
        for side, kind in ((members, "member"), (non_members, "non-member"))
    )
    if unit is not None:
        inside = attach_unit(inside, unit[0], "member")
        outside = attach_unit(outside, unit[1], "non-member")
    x = stack_sides(inside.x, outside.x)
    shared = [name for name in inside.groups if name in outside.groups]
    groups = {name: np.concatenate([inside.groups[name], outside.groups[name]]) for name in shared}
    ids = np.concatenate([inside.ids, outside.ids]).astype(np.str_)
    member = np.arange(len(ids)) < len(inside)
    places = target.encode_records(x)
    groups |= {} if "isolation" in groups else group_by_isolation(places)
    records = Records(x, np.zeros(len(ids)), ids, groups, join_units(inside, outside))
    if records.unit is None:
        found = find_id_like_columns(collect_columns(x) | groups)
        notes = (*notes, *describe_independence(found))
    notes = (*notes, *target.notes, *describe_release(target, places, member))
    features = build_feature_matrix(x)
    return check_subject(Subject(target, records, member, features, ("table",), notes))


def add_population(target: ReleasedTable, population: Any) -> ReleasedTable:
    """Add records of the same kind that nothing was made of; None leaves the table as it is.

    >>> add_population(ReleasedTable(np.eye(2)), np.eye(2)).n_classes
    4
    """
    if population is None:
        return target
    given = population.x if isinstance(population, Records) else population
    return replace(target, population=given)


def _make_row_records(side: Any, kind: str) -> Records:
    """Make the records of one side, with ids such as `member:0` where there are none.

    Raises:
        InputError: There are no records, or they are no table.
    """
    given = side.x if isinstance(side, Records) else side
    # Pairs are what models are audited on; a table has no label apart from its columns
    if isinstance(given, tuple):
        raise InputError(
            f"Expected {kind}s as a table, got a pair. Give the columns in one data frame."
        )
    n = count_rows(given) if is_frame(given) or hasattr(given, "shape") else len(given)
    if n == 0:
        raise InputError(
            f"Expected {kind}s, got an empty set. Give at least a few hundred records."
        )
    x, y = read_inputs(given, n), np.zeros(n)
    if not isinstance(side, Records):
        return Records(x, y, np.array([f"{kind}:{place}" for place in range(n)], dtype=np.str_))
    unit = None if side.unit is None else np.asarray(side.unit).astype(np.str_)
    return replace(side, x=x, y=y, ids=np.asarray(side.ids).astype(np.str_), unit=unit)


def group_by_isolation(places: Floats) -> Mapping[str, NDArray[np.str_]]:
    """Group records (n, f) by how far they lie from their closest other record.

    None are far where many records have a copy, or where there are too many to compare.

    >>> places = np.r_[np.zeros(8), 2.0, 9.0][:, None]
    >>> group_by_isolation(places)["isolation"].tolist()[-3:]
    ['2: the rest', '2: the rest', '1: farthest tenth']
    """
    n = len(places)
    if n > MOST_COMPARED:
        return {}
    distance = find_closest_distances(places, places, skip_itself=True)
    edge = np.sort(distance)[n - max(1, int(FAR * n))]
    far = (distance >= edge) & (distance > 0)
    if not far.any():
        return {}
    return {"isolation": np.where(far, "1: farthest tenth", "2: the rest")}


def describe_release(target: ReleasedTable, places: Floats, member: Bools) -> tuple[str, ...]:
    """Describe how the table's rows lie among records (n, f): copies, and whom they are close to."""
    rows = target.rows
    said = []
    copied = [int(mark_copies(places[side], rows).sum()) for side in (member, ~member)]
    if copied[0]:
        said.append(
            f"{copied[0]} of {len(rows)} released records equal a member in every column, and "
            f"{copied[1]} equal a non-member."
        )
    share = measure_closer_share(rows, places[member], places[~member])
    said.append(
        f"{share:.2f} of the released records are closer to a member than to a non-member, with as "
        "many of both compared (distance to closest record; 0.5 where it shows nothing). A share "
        "near 0.5 is no evidence of safety: it looks at averages and misses single records."
    )
    return tuple(said)


def measure_closer_share(rows: Floats, members: Floats, others: Floats) -> float:
    """Measure the share of released rows (m, f) that are closer to a member than to another record.

    As many of both are compared, since more records come closer; ties count half.

    >>> measure_closer_share(np.array([[0.0], [5.0]]), np.array([[0.0]]), np.array([[9.0]]))
    0.5
    """
    n = min(len(members), len(others))
    near, far = (find_closest_distances(rows, side[:n]) for side in (members, others))
    return float(((near < far) + 0.5 * (near == far)).mean())
