"""Deal with units (people or documents) that stand on both sides, and say what units weigh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from memberscope.auditing.subject.subject import Subject, require_units, take_records
from memberscope.errors import InputError
from memberscope.statistics import cluster_sides
from memberscope.types import Bools, Ints

NAMED = 3  # units that an error names
UNLIKELY = 0.001  # chance below which two sides have units of other sizes
HALF = 0.5  # share of a side's records from which one unit is told


def settle_units(subject: Subject, *, drop: bool) -> tuple[Subject, Ints | None]:
    """Leave units that stand on both sides out of both if `drop`.

    Also give the places (k,) of the records kept, None where all are.

    Raises:
        InputError: There are such units and they are not dropped, or too few others are left.
    """
    unit = subject.records.unit
    if unit is None:
        return subject, None
    shared = _find_shared_units(unit, subject.member)
    if not len(shared):
        return subject, None
    torn = np.isin(unit, shared)
    if not drop:
        more = ", …" if len(shared) > NAMED else ""
        raise InputError(
            f"Expected units whose records are all members or all non-members, got {len(shared)} "
            f"on both sides with {int(torn.sum())} records: "
            f"{', '.join(repr(str(name)) for name in shared[:NAMED])}{more}. Take them out of one "
            "side, or leave them out of both with --drop-overlap, in Python "
            "Plan(drop_overlap=True)."
        )
    keep = np.flatnonzero(~torn)
    kept = take_records(subject, keep)
    assert kept.records.unit is not None
    require_units(kept.records.unit, kept.member)
    words = (
        f"{len(shared)} units had records on both sides: these {int(torn.sum())} records were left "
        "out of both."
    )
    dropped = (len(shared), int(torn.sum()))
    return replace(kept, dropped_units=dropped, notes=(*kept.notes, words)), keep


def _find_shared_units(
    unit: np.ndarray[tuple[int], np.dtype[np.str_]], member: Bools
) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    """Find the units that have records on both sides, sorted."""
    return np.intersect1d(unit[member], unit[~member])


def describe_unit_sizes(subject: Subject) -> list[str]:
    """Say where units change nothing, and where one unit outweighs the others of its side.

    Nothing without units.
    """
    codes, member = subject.unit_codes, subject.member
    if codes is None:
        return []
    if len(np.unique(codes)) == len(codes):
        return [
            f"Each of the {len(codes):,} units has one record: units change nothing, and whether a "
            "person was in is whether the record was."
        ]
    found, sizes = [], cluster_sides(member, codes).sizes
    for kind, side, size in (("members", member, sizes[0]), ("non-members", ~member, sizes[1])):
        rows = np.bincount(codes[side])
        if rows.max() >= HALF * rows.sum():
            found.append(
                f"One unit has {int(rows.max()):,} of the {int(rows.sum()):,} {kind}: the "
                f"{int((rows > 0).sum()):,} units there say as much as {size:.1f} of equal size "
                "(effective number), and intervals are as wide as that."
            )
    return found + _describe_unequal_sizes(codes, member)


def _describe_unequal_sizes(codes: Ints, member: Bools) -> list[str]:
    """Say where the number of a unit's records alone tells members' units from others.

    Attacks that add up scores of a unit would find that difference, whatever the model does.
    """
    sizes = [rows[rows > 0] for rows in (np.bincount(codes[member]), np.bincount(codes[~member]))]
    # Equal sizes throughout have no rank to compare
    if len(np.unique(np.concatenate(sizes))) < 2:
        return []
    from scipy.stats import mannwhitneyu

    if float(mannwhitneyu(*sizes).pvalue) >= UNLIKELY:
        return []
    means = [float(side.mean()) for side in sizes]
    return [
        f"Units of members have {means[0]:.3g} records on average and those of non-members "
        f"{means[1]:.3g}, a difference beyond chance: a unit's score that adds up those of its "
        "records tells this apart too. Compare units of like sizes, or go by attacks whose unit "
        "score is a mean."
    ]
