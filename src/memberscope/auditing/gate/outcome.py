"""Conclude what a gate says: the policy's verdict, less what is waived, and the baseline's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

from memberscope.auditing.documents.policy import Policy
from memberscope.auditing.documents.result import Result
from memberscope.auditing.gate.baseline import BaselineOutcome
from memberscope.auditing.gate.waivers import Waiver, match_waivers
from memberscope.auditing.verdict.judge import count_good_references
from memberscope.auditing.verdict.recompute import restore_plan
from memberscope.types import Finding, Verdict

BASELINE: Literal["baseline"] = "baseline"  # stands for the attack of the finding about it
BASELINE_CLAIM = "This release leaks no more than its baseline."


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
        if finding.verdict != "PASS" and not (finding.verdict == "FAIL" and finding.claim in waived)
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
    # As when the audit was judged: an attack counts only if it resolves every rate that is claimed
    rates = {claim.fpr for claim in policy.max_tpr} | {claim.fpr for claim in policy.max_ppv}
    used = any(
        sum(attack.needs.references)
        and rates <= {entry.fpr for entry in result.estimates if entry.attack == attack.name}
        for attack in plan.find(tuple(known))
    )
    return policy.references > (count_good_references(result.controls) if used else 0)


@dataclass(frozen=True)
class WaivedFinding(Finding):
    """A failed claim that is waived: what is written shows it as such, with its waiver.

    It is made for readers of a gate and never stored.
    """

    waiver: Waiver | None = None


def show_gate(result: Result, gate: GateOutcome) -> Result:
    """Give the result as the gate sees it, for what is written of it.

    Claims that are waived are `WaivedFinding`, the baseline is one more finding, and verdict and
    reason are the gate's.
    """
    findings = [_mark_waived(finding, gate.waived) for finding in result.findings]
    if gate.waived and gate.limited:
        findings = _mark_limited(findings, result)
    verdict, reason = gate.verdict, result.reason
    if gate.waived:
        reason = f"Failed claims that are waived: {len(gate.waived)}. {reason}"
    if gate.baseline is not None:
        found = _build_baseline_finding(result, gate.baseline)
        findings.append(found)
        # What the policy lets pass may still leak more, and then that is why the gate fails
        if found.verdict != "PASS" and verdict in ("PASS", None):
            verdict = "FAIL" if found.verdict == "FAIL" else "INCONCLUSIVE"
            reason = f"{gate.baseline.reason} Without the baseline: {reason}"
        elif found.verdict == "FAIL" and verdict != "FAIL":
            verdict = "FAIL"
            reason = f"{gate.baseline.reason} Without the baseline: {reason}"
    return result.model_copy(
        update={
            "findings": findings,
            "verdict": verdict,
            "reason": reason,
            "limited": gate.limited and verdict == "PASS",
        }
    )


def _mark_limited(findings: list[Finding], result: Result) -> list[Finding]:
    """Mark the findings of a pass that is limited once the failed claims are waived."""
    # A pass of an audit that failed was not marked when it was judged
    marked = [
        replace(entry, limited=True)
        if entry.verdict == "PASS" and entry.estimate is not None
        else entry
        for entry in findings
    ]
    if not any(entry.limited for entry in marked):
        claim = "The attacks with reference models that the policy requires ran."
        access, why = result.threat_models[-1].access.word, "Fewer were used than it requires."
        advice = "Audit with as many reference models as the policy requires: --references."
        marked.append(Finding("NOT_RUN", claim, "references", access, why, advice))
    return marked


def _mark_waived(finding: Finding, waived: Mapping[str, Waiver]) -> Finding:
    """Give the finding with its waiver, if its claim failed and has one."""
    waiver = waived.get(finding.claim) if finding.verdict == "FAIL" else None
    if waiver is None:
        return finding
    kept = {entry.name: getattr(finding, entry.name) for entry in fields(Finding)}
    return WaivedFinding(**kept, waiver=waiver)


def _build_baseline_finding(result: Result, baseline: BaselineOutcome) -> Finding:
    """Build the finding that the release leaks no more than its baseline."""
    verdict: Verdict = "INCONCLUSIVE"
    advice = "Audit both under the same plan, or begin a new baseline."
    if baseline.verdict == "NOT_MORE":
        verdict, advice = "PASS", "Nothing to do."
    elif baseline.verdict == "LEAKS_MORE":
        verdict = "FAIL"
        advice = "Find what changed since the baseline, or begin a new one if it is accepted."
    access = result.threat_models[-1].access.word
    return Finding(verdict, BASELINE_CLAIM, BASELINE, access, baseline.reason, advice)
