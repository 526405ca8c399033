"""Compute what an audit would have failed.

One function serves the forecast of `plan` and the statement of `audit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from memberscope._parallel import map_in_parallel
from memberscope.auditing.documents.diagnostics import DetectableRate
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.policy import AnyClaim, Claim, PpvClaim
from memberscope.auditing.estimates.attack_part import AttackPart
from memberscope.auditing.estimates.ranking import LevelRanking
from memberscope.auditing.verdict.claims import count_questions
from memberscope.statistics import (
    can_resolve_fpr,
    count_non_member_blocks,
    kish_size,
    minimum_detectable_tpr,
)
from memberscope.types import Bools, Ints

# Share of the allowed false positives that tie at the threshold beyond which an attack counts as
# coarse
COARSE = 0.1
MANY = 5_000  # non-members from which on the cases of a forecast are computed in threads


def compute_detectable_rates(
    plan: Plan,
    attacks: Mapping[str, bool],
    n_members: int,
    n_non_members: int,
    fprs: Sequence[float],
    n_claims: int = 1,
) -> list[DetectableRate]:
    """Compute the smallest TPR that an audit fails in 80% of cases, for each claim about a rate.

    Without a policy there is one for each of `fprs`.

    `attacks` says of each attack at the judged access whether it learns from known records;
    `n_claims` counts the claims that are tested together, one for each value of a group. Scores are
    taken not to tie.
    """
    rows: list[DetectableRate] = []
    cases: list[tuple[int, DetectableRate, bool]] = []
    for fpr, limit in _list_rate_limits(plan, fprs):
        if not can_resolve_fpr(fpr, n_non_members):
            continue
        # Attacks that learn compare within a fold, which may hold too few non-members
        resolving = {
            name: learns
            for name, learns in attacks.items()
            if _can_resolve_rate(plan, fpr, n_non_members, learns=learns)
        }
        if not resolving:
            continue
        # Every attack is tested for every claim, and Holm's first step divides by all of them
        row = DetectableRate(fpr, limit, None, len(resolving) * max(n_claims, 1), {})
        # Only whether an attack learns matters, so at most two cases are computed
        cases += [(len(rows), row, learns) for learns in sorted(set(resolving.values()))]
        rows.append(row)

    def detect(case: tuple[int, DetectableRate, bool]) -> float | None:
        _, row, learns = case
        return minimum_detectable_tpr(
            n_members,
            n_non_members,
            row.fpr,
            row.limit,
            confidence=plan.confidence,
            n_candidates=row.n_tests,
            n_folds=plan.folds if learns else None,
        )

    # Simulations of few records are done before threads are started
    values = map_in_parallel(detect, cases) if n_non_members >= MANY else map(detect, cases)
    found: dict[int, list[float | None]] = {}
    for (k, _, _), value in zip(cases, values, strict=True):
        found.setdefault(k, []).append(value)
    return [replace(row, tpr=_take_largest(found[k])) for k, row in enumerate(rows)]


def _list_rate_limits(plan: Plan, fprs: Sequence[float]) -> list[tuple[float, float]]:
    """List rates with the TPR that the policy allows there.

    Without a policy these are the rates themselves, against guessing.
    """
    if plan.policy is None:
        return [(fpr, fpr) for fpr in fprs]
    return [
        (claim.fpr, _get_tpr_limit(claim))
        for claim in plan.policy.claims()
        if isinstance(claim, Claim | PpvClaim)
    ]


def _get_tpr_limit(claim: AnyClaim) -> float:
    assert isinstance(claim, Claim | PpvClaim)
    return claim.tpr if isinstance(claim, Claim) else claim.as_tpr()


def _can_resolve_rate(plan: Plan, fpr: float, n_non_members: int, *, learns: bool) -> bool:
    """Tell whether an attack has enough non-members to compare for a rate.

    They are a fold's, if it learns from known records.
    """
    n = n_non_members // plan.folds if learns else n_non_members
    return can_resolve_fpr(fpr, n)


def _take_largest(values: Iterable[float | None]) -> float | None:
    """Take the largest of `values`, None if one of them is None."""
    largest = 0.0
    for value in values:
        # None stands for a TPR above one, which is the largest there is
        if value is None:
            return None
        largest = max(largest, value)
    return largest


def compute_audit_power(
    plan: Plan, judged: LevelRanking, parts: Sequence[AttackPart], fprs: Sequence[float]
) -> list[DetectableRate]:
    """Compute what this audit would have failed, as `compute_detectable_rates` says.

    Attacks whose scores tie are set apart.

    `parts` are the attacks that are judged at the level `judged`. `coarse` holds, for each attack whose scores tie at a rate, the
    TPR that it would have taken; where every attack's scores tie, `tpr` is the largest of these.
    """
    arrays = judged.arrays
    # Records of one person move together, so they count less than their number
    n_members, n_others = count_sides(arrays.member, arrays.unit)
    n_claims = count_questions(plan.policy, arrays.group_values) if plan.policy else 1
    attacks = {scored.attack: scored.learned for scored in judged.list_derivable()}
    # First as if no scores tied, as a forecast would say
    found = []
    for row in compute_detectable_rates(plan, attacks, n_members, n_others, fprs, n_claims):
        own = [part for part in parts if part.resolves(row.fpr)]
        # Folds have curves of their own, so learned attacks are left out of the ties
        blocks = {
            part.scored.attack: _find_tied_blocks(part, row.fpr)
            for part in own
            if not part.scored.learned
        }
        coarse = {
            name: minimum_detectable_tpr(
                n_members,
                n_others,
                row.fpr,
                row.limit,
                confidence=plan.confidence,
                n_candidates=row.n_tests,
                blocks=ends,
            )
            for name, ends in blocks.items()
            if ends is not None
        }
        # An attack whose scores do not tie still reaches the better number
        every = bool(own) and len(coarse) == len(own)
        tpr = _take_largest(coarse.values()) if every else row.tpr
        found.append(replace(row, tpr=tpr, coarse=coarse))
    return found


def count_sides(member: Bools, unit: Ints | None) -> tuple[int, int]:
    """Count members and non-members, each person or document once.

    Where records come in units it is Kish's number.
    """
    if unit is None:
        return int(member.sum()), int((~member).sum())
    sizes = [np.unique(unit[side], return_counts=True)[1] for side in (member, ~member)]
    return int(kish_size(sizes[0])), int(kish_size(sizes[1]))


def _find_tied_blocks(part: AttackPart, fpr: float) -> tuple[float, ...] | None:
    """Find blocks of tied non-members from the highest score down.

    None where too few tie at the threshold of `fpr` to matter.
    """
    curve = part.curves()[0]
    allowed = fpr * curve.n_non_members
    at = int(np.searchsorted(curve.fp, allowed, side="left"))
    # One tie more or less changes nothing that can be seen
    if curve.fp[at] - curve.fp[at - 1] <= max(1.0, COARSE * allowed):
        return None
    return count_non_member_blocks(curve, fpr)
