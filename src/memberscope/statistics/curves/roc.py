"""Build the ROC staircase: ties move as one block, nothing is interpolated.

Higher scores mean likelier members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope import _check
from memberscope.errors import InputError
from memberscope.statistics.units import Sides, UnitNumbers, number_units
from memberscope.types import Bools, Floats, Ints


@dataclass(frozen=True, eq=False)
class Roc:
    """Vertices of the staircase.

    `thresholds` (v,) descend from +inf; `tp` (v,) and `fp` (v,) are the counts at each.

    `rows` are the units (people, documents) of members and of non-members, those with the highest
    scores first, None where every record stands by itself: at a vertex the first `tp` of the former
    and the first `fp` of the latter are accused.
    """

    thresholds: Floats
    tp: Ints
    fp: Ints
    n_members: int
    n_non_members: int
    rows: Sides | None = None


@dataclass(frozen=True)
class OperatingPoint:
    """One operating point: "member iff score >= threshold", with its counts."""

    threshold: float
    tp: int
    fp: int


def roc(scores: Floats, member: Bools, unit: Ints | UnitNumbers | None = None) -> Roc:
    """Build the staircase of `scores` (n,) against `member` (n,).

    `unit` (n,) gives the code of each record's unit where records belong to units, or numbers that
    are known of them.

    Raises:
        InputError: A score is not finite, the lengths differ, or one kind is missing.

    >>> curve = roc(np.array([9.0, 9, 5, 5]), np.array([True, False, True, False]))
    >>> curve.fp.tolist(), curve.tp.tolist()
    ([0, 1, 2], [0, 1, 2])
    """
    scores, member = np.asarray(scores, dtype=np.float64), np.asarray(member, dtype=bool)
    _check.check_binary_scores(scores, member)
    # Highest scores first; the order within ties does not matter, as they move as one block
    order = np.argsort(-scores)
    ranked, truth = scores[order], member[order]
    # A vertex stands at the last record of each block of ties
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    tp = np.cumsum(truth)[ends]
    rows = None
    if unit is not None:
        numbers = unit if isinstance(unit, UnitNumbers) else number_units(member, unit)
        rows = numbers.split(truth, order)
    return Roc(
        # The first vertex accuses nobody
        thresholds=np.concatenate([[np.inf], ranked[ends]]),
        tp=np.concatenate([[0], tp]).astype(np.int64),
        fp=np.concatenate([[0], ends + 1 - tp]).astype(np.int64),
        n_members=int(member.sum()),
        n_non_members=int((~member).sum()),
        rows=rows,
    )


def auc_value(curve: Roc) -> float:
    """Give the area under the staircase; ties count one half.

    >>> auc_value(roc(np.array([9.0, 9, 5, 5]), np.array([True, False, True, False])))
    0.5
    """
    area = np.sum(np.diff(curve.fp) * (curve.tp[1:] + curve.tp[:-1]) / 2)
    return float(area / (curve.n_members * curve.n_non_members))


def smallest_fpr(n_non_members: int) -> float:
    """Give the smallest false-positive rate that `n_non_members` resolve.

    >>> smallest_fpr(1000)
    0.001
    """
    return 1.0 / max(n_non_members, 1)


def can_resolve_fpr(fpr: float, n_non_members: int) -> bool:
    """Tell whether `n_non_members` resolve a false-positive rate: it allows at least one of them.

    >>> can_resolve_fpr(0.001, 1000), can_resolve_fpr(0.001, 999)
    (True, False)
    """
    # Rates such as 0.001 are not exact in binary: without the margin 1000 non-members would not
    # resolve 0.001
    return fpr * n_non_members >= 1 - 1e-9


def allowed_false_positives(fpr: float, n_non_members: int) -> int:
    """Count the false positives that a rate allows.

    Raises:
        InputError: Fewer than one, so that the rate cannot be resolved.

    >>> allowed_false_positives(0.001, 1000)
    1
    """
    _check.check_rate("fpr", fpr)
    if not can_resolve_fpr(fpr, n_non_members):
        raise InputError(
            f"Expected an FPR of at least {smallest_fpr(n_non_members):.4g} with {n_non_members} "
            f"non-members, got {fpr:g}. "
            f"Give more non-members or a larger FPR."
        )
    # The slack keeps a product such as 0.003 * 1000 at its whole number
    return int(np.floor(fpr * n_non_members + 1e-9))


def operating_point(curve: Roc, fpr: float) -> OperatingPoint:
    """Find the most lenient threshold whose false positives do not exceed what `fpr` allows.

    >>> curve = roc(np.array([1.0, 3, 0, 2]), np.array([True, True, False, False]))
    >>> operating_point(curve, 0.5)
    OperatingPoint(threshold=1.0, tp=2, fp=1)
    """
    allowed = allowed_false_positives(fpr, curve.n_non_members)
    # The last vertex that stays within what is allowed
    at = int(np.searchsorted(curve.fp, allowed, side="right")) - 1
    return OperatingPoint(float(curve.thresholds[at]), int(curve.tp[at]), int(curve.fp[at]))


def randomised_tpr(curve: Roc, fpr: float) -> float:
    """Give the TPR at exactly the rate `fpr`, linear between the staircase's vertices.

    This is the rule that decides tied records by a coin.

    >>> randomised_tpr(roc(np.array([9.0, 9, 9, 5]), np.array([True, True, False, False])), 0.25)
    0.5
    """
    at, share = split_vertex(curve, fpr)
    below = min(at + 1, len(curve.tp) - 1)
    return float((curve.tp[at] + share * (curve.tp[below] - curve.tp[at])) / curve.n_members)


def split_vertex(curve: Roc, fpr: float) -> tuple[int, float]:
    """Find the last vertex within the rate `fpr`.

    Also give the share of the next block of tied records that fills the rate up.
    """
    wanted = fpr * curve.n_non_members
    # A product such as 0.003 * 1000 must not fall just below its whole number
    if abs(wanted - round(wanted)) < 1e-9 * max(1.0, wanted):
        wanted = float(round(wanted))
    at = int(np.searchsorted(curve.fp, wanted, side="right")) - 1
    # Beyond the last vertex there is no block to split
    if at + 1 == len(curve.fp):
        return at, 0.0
    return at, float((wanted - curve.fp[at]) / (curve.fp[at + 1] - curve.fp[at]))


def count_members_above(curve: Roc, ranks: Floats) -> Floats:
    """Count the members above the non-member of each rank, on average over the order of ties.

    Rank 1 is the highest non-member.

    Args:
        curve: The curve.
        ranks: Whole numbers from 0, above which there is no record, to one more than there are
            non-members, which every record exceeds.

    >>> curve = roc(np.array([9.0, 9, 9, 5]), np.array([True, True, False, False]))
    >>> count_members_above(curve, np.arange(4.0)).tolist()
    [0.0, 1.0, 2.0, 2.0]
    """
    # The block in which each rank stands, with the members above all of it
    block = np.searchsorted(curve.fp, np.minimum(ranks, curve.n_non_members), side="left")
    above = np.maximum(block - 1, 0)
    tied = curve.fp[block] - curve.fp[above]
    # In random order a member of the block stands above the rank's place with this chance
    inside = (ranks - curve.fp[above]) * (curve.tp[block] - curve.tp[above]) / (tied + 1)
    found = np.where(ranks > 0, curve.tp[above] + inside, 0.0)
    return np.asarray(
        np.where(ranks > curve.n_non_members, curve.n_members, found), dtype=np.float64
    )
