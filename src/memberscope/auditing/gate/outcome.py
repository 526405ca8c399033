"""Conclude what a gate says: the policy's verdict, less what is waived, and the baseline's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from memberscope.auditing.documents.policy import Policy
from memberscope.auditing.documents.result import Result
from memberscope.auditing.gate.baseline import BaselineOutcome
from memberscope.auditing.gate.waivers import Waiver, match_waivers
from memberscope.auditing.verdict.judge import count_good_references
from memberscope.auditing.verdict.recompute import restore_plan
from memberscope.types import Finding


@dataclass(frozen=True)
class GateOutcome:
    """What a gate says of a release.

    `verdict` and `limited` are those of the policy where failed claims that are waived no longer
    count. `waived` has the waiver of each such claim by its sentence, as findings name it; `notes`
    say in sentences which waivers had no effect and what is left open.
    """

    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"] | None
    limited: bool
    waived: Mapping[str, Waiver] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    baseline: BaselineOutcome | None = None

    def find_waiver(self, finding: Finding) -> Waiver | None:
        """Find the waiver of a finding, None for one that is not waived."""
        return self.waived.get(finding.claim) if finding.verdict == "FAIL" else None


def conclude_gate(
    result: Result,
    waivers: Sequence[Waiver] = (),
    baseline: BaselineOutcome | None = None,
    policy: Policy | None = None,
) -> GateOutcome:
    """Conclude what a gate says of a judged result.

    `policy` is the one that it was judged by, its plan's own if None. Only a claim that failed can
    be waived: an audit whose controls failed, or that could not tell, has nothing to accept.

    Raises:
        InputError: A waiver is about nothing that was judged.
    """
    policy = policy or result.plan.policy
    waived, notes = match_waivers(waivers, result, policy)
    if not waived:
        return GateOutcome(result.verdict, result.limited, waived, tuple(notes), baseline)
    # The verdict without the waived claims, as the conclusion of an audit reaches it
    left = [
        finding
        for finding in result.findings
        if finding.verdict != "PASS"
        and not (finding.verdict == "FAIL" and finding.claim in waived)
    ]
    if any(finding.verdict == "FAIL" for finding in left):
        return GateOutcome("FAIL", False, waived, tuple(notes), baseline)
    if left:
        notes.append(f"Still open beside what is waived: {left[0].claim} {left[0].advice}")
        return GateOutcome("INCONCLUSIVE", False, waived, tuple(notes), baseline)
    limited = _lacks_references(result, policy)
    if limited:
        notes.append(
            "The rest passes, limited: the policy requires more reference models than were used."
        )
    return GateOutcome("PASS", limited, waived, tuple(notes), baseline)


def _lacks_references(result: Result, policy: Policy | None) -> bool:
    """Tell whether attacks used fewer reference models than the policy requires."""
    if policy is None or policy.references == 0:
        return False
    ran = tuple(dict.fromkeys(entry.attack for entry in result.estimates))
    plan = restore_plan(result)
    known = [name for name in ran if name in plan.attacks]
    used = any(sum(attack.needs.references) for attack in plan.find(tuple(known)))
    return policy.references > (count_good_references(result.controls) if used else 0)
