"""Take from a finished audit what questions about a collection are answered with.

The members of that audit are the suspect collection, its non-members the held-out records.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.auditing.documents.result import AttackScores, AuditArrays, Result
from memberscope.auditing.verdict.recompute import digest_audit_arrays
from memberscope.errors import InputError
from memberscope.statistics import find_distinct_rankings
from memberscope.types import Bools, Floats, Ints

FEWEST_SUSPECT = 10  # units of a collection below which no question is answered
FEWEST_HELD_OUT = 20  # the control splits the held-out units into halves of as many


@dataclass(frozen=True, eq=False)
class KnownModel:
    """The same scores (n, f) under a model of which membership (n,) is known."""

    name: str
    scores: Floats
    member: Bools


@dataclass(frozen=True, eq=False)
class SetEvidence:
    """Scores (n, f) of the records by attack, and which are of the suspect collection.

    `member` (n,) marks those; `unit` (n,) numbers people or documents, None where each record is
    its own. `known` are further models that the audit trained.
    """

    result: Result
    arrays: AuditArrays
    attacks: tuple[str, ...]
    scores: Floats
    member: Bools
    unit: Ints | None
    known: tuple[KnownModel, ...]

    @property
    def sizes(self) -> tuple[int, int]:
        """The number of suspect records, and of held-out records."""
        inside = int(self.member.sum())
        return inside, len(self.member) - inside

    @property
    def unit_sizes(self) -> tuple[int, int]:
        """The number of suspect units, and of held-out units."""
        if self.unit is None:
            return self.sizes
        return len(np.unique(self.unit[self.member])), len(np.unique(self.unit[~self.member]))

    @property
    def noun(self) -> str:
        """What one thing is called that is counted."""
        return "record" if self.unit is None else "unit"


def collect_set_evidence(result: Result) -> SetEvidence:
    """Collect the scores of attacks that did not learn from who was called a member.

    Raises:
        InputError: The result has no scores, they are not its own, they are NaN, no attack is left,
            or there are too few units.
    """
    arrays = result.arrays
    if arrays is None:
        raise InputError(
            "Expected an audit with the scores of its records, got a result without them. Give the "
            "folder that has arrays.safetensors, or run the audit again."
        )
    if result.digests.get("arrays") != digest_audit_arrays(arrays):
        raise InputError(
            "Expected the scores that the result was computed from, got others in "
            "arrays.safetensors. Run the audit again."
        )
    scored = select_attacks(result, arrays)
    evidence = SetEvidence(
        result,
        arrays,
        tuple(entry.name for entry in scored),
        np.column_stack([entry.scores for entry in scored]),
        arrays.member,
        arrays.unit,
        tuple(_find_known_models(arrays, scored)),
    )
    _refuse_few_units(evidence)
    return evidence


def select_attacks(result: Result, arrays: AuditArrays) -> list[AttackScores]:
    """Select the attacks whose scores may be used: not learned from membership, each ranking once.

    Those with reference models are left out where these failed their control.

    Raises:
        InputError: None is left, or some score is NaN.
    """
    untrusted = "references" in result.controls and result.controls["references"].passed is False
    found = [
        entry
        for entry in arrays.scored
        if entry.declared
        and not entry.learned
        and not (untrusted and any(entry.needs.references))
        and np.ptp(entry.scores) != 0
    ]
    if not found:
        raise InputError(
            "Expected an attack that does not learn from who is called a member, such as loss or "
            f"rmia, got {', '.join(sorted({entry.attack for entry in arrays.scored})) or 'none'} "
            "alone, or scores that are all equal. Audit with --attacks loss, or leave --attacks out."
        )
    for entry in found:
        broken = int((~np.isfinite(entry.scores)).sum())
        if broken:
            raise InputError(
                f"Expected finite scores of {entry.name}, got NaN or infinity for {broken} of "
                f"{len(entry.scores)} records. Leave that attack out with --attacks, or correct the "
                "model and audit again."
            )
    distinct = find_distinct_rankings([entry.scores for entry in found])
    return [found[index] for index in distinct]


def _find_known_models(arrays: AuditArrays, scored: list[AttackScores]) -> list[KnownModel]:
    """Find the further models that have finite scores of the same attacks."""
    found = []
    for name, other in arrays.targets.items():
        held = {entry.name: entry.scores for entry in other.scored}
        columns = [held[entry.name] for entry in scored if entry.name in held]
        if len(columns) == len(scored) and np.isfinite(columns).all():
            found.append(KnownModel(name, np.column_stack(columns), other.member))
    return found


def _refuse_few_units(evidence: SetEvidence) -> None:
    """Refuse a collection or held-out records of too few units.

    Raises:
        InputError: There are too few.
    """
    suspect, held_out = evidence.unit_sizes
    many = evidence.noun + "s"
    if suspect < FEWEST_SUSPECT:
        raise InputError(
            f"Expected a suspect collection (the members of the audit) of at least {FEWEST_SUSPECT} "
            f"{many}, got {suspect}. Fewer say nothing about a collection; add {many}."
        )
    if held_out < FEWEST_HELD_OUT:
        raise InputError(
            f"Expected at least {FEWEST_HELD_OUT} held-out {many} (the non-members of the audit), "
            f"got {held_out}. They show what {many} look like that were not used; add {many} from the "
            "same source."
        )
