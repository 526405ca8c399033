"""Control the overlap, and say what duplicates within a side mean for the intervals."""

from __future__ import annotations

from memberscope.auditing.documents.result import Control
from memberscope.auditing.subject.duplicates import Overlap
from memberscope.types import Bools

# Share of a side's records with a near twin on the same side that calls the records' independence
# in doubt
COMMON = 0.05
DEPENDENT = "Intervals assume independent records; name the column of the person or document with --unit if there is one."


def run_overlap_control(
    overlap: Overlap | None, member: Bools, *, dropped: bool = False
) -> Control:
    """Check whether more non-members duplicate members than chance explains.

    `excess` is the upper limit of how many.
    """
    if overlap is None:
        return Control(
            None,
            "The records were not given, and equal answers are common, so shared records were not "
            "looked for.",
        )
    # The audit went on without them, so none are left to judge
    if dropped:
        return Control(
            True,
            "Records that stand on both sides were dropped from both.",
            details=_count_overlap(overlap, 0),
        )
    n_others = int((~member).sum())
    n_found, excess = len(overlap.non_members()), overlap.excess
    details = _count_overlap(overlap, excess)
    # No twins, so there is no need to speak of chance
    if not n_found:
        return Control(True, "No non-member duplicates a member.", 0.0, None, 0.0, None, details)
    expected = sum(part.expected for part in overlap.surplus)
    value = sum(part.value for part in overlap.surplus if part.significant) / n_others
    told = f"{n_found} of {n_others} non-members duplicate a member"
    # Tables of few columns have twins by chance, which is no fault of the split
    if not excess:
        why = f"{told}; about {expected:.0f} do by chance, as duplicates within the sides show."
        return Control(True, why, value, None, 0.0, None, details)
    why = (
        f"{told}, about {expected:.0f} by chance: some {value:.1%} of the non-members, at most "
        f"{excess}, were trained on. "
        f"Give other non-members, or add --drop-overlap."
    )
    return Control(False, why, value, None, excess / n_others, None, details)


def _count_overlap(overlap: Overlap, excess: int) -> dict[str, object]:
    """Count what is behind the control as plain data."""
    return {
        "exact": len(overlap.exact),
        "near": len(overlap.near),
        "within_members": overlap.within[0],
        "within_non_members": overlap.within[1],
        "near_within_members": overlap.near_within[0],
        "near_within_non_members": overlap.near_within[1],
        "expected": round(float(sum(part.expected for part in overlap.surplus)), 3),
        "excess": excess,
    }


def mark_duplicates(overlap: Overlap | None, *, dropped: bool = False) -> Bools | None:
    """Mark the audited non-members (n,) that duplicate members.

    None where that is unknown or they were dropped.
    """
    return None if overlap is None or dropped else overlap.marked()


def describe_duplicates(
    overlap: Overlap | None, member: Bools, *, by_unit: bool = False
) -> list[str]:
    """Describe duplicates within a side.

    Without units, there is a warning where near twins are common.
    """
    if overlap is None:
        return []
    found = []
    sizes = (int(member.sum()), int((~member).sum()))
    if any(overlap.within):
        found.append(
            f"Duplicates within a side: {overlap.within[0]} of {sizes[0]} members and "
            f"{overlap.within[1]} of {sizes[1]} "
            f"non-members equal another record of their side."
        )
    # The near search looked at some records only, so shares are of those
    shares = [
        near / max(min(size, n), 1)
        for near, size, n in zip(overlap.near_within, sizes, overlap.compared_near, strict=True)
    ]
    # Declared units already allow for records that depend
    if not by_unit and max(shares) > COMMON:
        found.append(
            f"Near-duplicates are common within a side ({shares[0]:.0%} of members, "
            f"{shares[1]:.0%} of non-members). {DEPENDENT}"
        )
    return found
