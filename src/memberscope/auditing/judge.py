"""The verdict: policy claims, corrected for their number, then controls and requirements; rule 5 of the design."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memberscope.attacks import by_name
from memberscope.auditing.estimate import Part, Settings, level, whole
from memberscope.auditing.plan import Plan
from memberscope.auditing.policy import Claim
from memberscope.auditing.result import Arrays, Control, NotRun, Scored
from memberscope.auditing.strongest import STRONGEST, candidates, judged_level, strongest
from memberscope.statistics import holm, minimum_detectable_tpr, tpr_p_value
from memberscope.types import Estimate, Finding

RULE = (
    "FAIL if the lower limit, corrected by Holm over {claims} claim(s) and by Bonferroni over {attacks} attack(s), "
    "exceeds {limit:.4g}; PASS if the upper limit is within it"
)


ALONE = "attacks with reference models are left out, since those failed their control"


@dataclass(frozen=True)
class Judgement:
    """The verdict with a sentence that explains it; no verdict without a policy."""

    verdict: str | None
    reason: str
    findings: list[Finding]


@dataclass(frozen=True)
class Tested:
    """One claim's evidence: the strongest attack's estimate, and its p-value over `n_attacks` candidates."""

    claim: Claim
    estimate: Estimate | None
    p_value: float
    n_attacks: int


def tested(claim: Claim, arrays: Arrays, at: Scored, estimates: list[Estimate]) -> Tested:
    """Look up the claim's simultaneous estimate and test TPR <= limit for every candidate."""
    estimate = next(
        (
            entry
            for entry in estimates
            if (entry.target, entry.attack, entry.access, entry.restriction) == ("target", STRONGEST, at.access, at.restriction)
            and (entry.metric, entry.fpr) == ("tpr", claim.fpr)
        ),
        None,
    )
    usable = [part for part in candidates(arrays, at) if part.resolves(claim.fpr)]
    if estimate is None or not usable:
        return Tested(claim, None, 1.0, 0)
    pairs = [part.curves() for part in usable]
    smallest = min(tpr_p_value(strict or curve, claim.fpr, claim.tpr) for curve, strict in pairs)
    policy = replace(estimate, exploratory=False)
    return Tested(claim, policy, min(1.0, smallest * len(usable)), len(usable))


def judge(
    plan: Plan, arrays: Arrays, estimates: list[Estimate], controls: dict[str, Control], not_run: list[NotRun]
) -> Judgement:
    """Verdict, its reason in a sentence, and one finding for each claim, control and missing requirement."""
    if plan.policy is None:
        return Judgement(None, "No policy was given, so nothing was judged; the numbers below are exploratory.", [])
    at = judged_level(arrays, plan.threat.access)
    access = at.access
    untrusted = "references" in controls and controls["references"].passed is False
    judged = without_references(arrays) if untrusted else arrays
    if untrusted:
        estimates = strongest(judged, at, Settings(plan.claim_fprs(), plan.all_priors(), plan.confidence))
    claims = [tested(claim, judged, at, estimates) for claim in plan.policy.max_tpr]
    corrected = holm([claim.p_value for claim in claims])
    alpha = (1 - plan.confidence) / 2
    findings = [claim_finding(claim, float(p), alpha, len(claims), access) for claim, p in zip(claims, corrected, strict=True)]
    if untrusted:
        findings = [replace(finding, rule=f"{finding.rule}; {ALONE}") for finding in findings]
    findings += [control_finding(name, control, plan) for name, control in controls.items() if decides(name)]
    findings += missing(plan, arrays, not_run, access)
    found = conclude(findings, plan, power(plan, arrays, plan.claim_fprs()))
    if level(access) < plan.threat.access:
        above = f" It speaks of {at.level} access: no attack ran at {plan.threat.access.word}, which was declared."
        found = replace(found, reason=found.reason + above)
    return found


def without_references(arrays: Arrays) -> Arrays:
    """The arrays with only the attacks that use no reference models."""
    needs = {scored.attack: by_name((scored.attack,))[0].needs.references for scored in arrays.scored}
    return replace(arrays, scored=tuple(scored for scored in arrays.scored if not sum(needs[scored.attack])))


def decides(control: str) -> bool:
    """Whether a control bears on the verdict; the others only inform."""
    return control in ("null", "blind", "references")


def claim_finding(claim: Tested, p: float, alpha: float, n_claims: int, access: str) -> Finding:
    """FAIL, PASS or INCONCLUSIVE for one claim."""
    rule = RULE.format(claims=n_claims, attacks=claim.n_attacks, limit=claim.claim.tpr)
    sentence = claim.claim.sentence()
    if claim.estimate is None:
        advice = "Give more non-members, so that the audit resolves this false-positive rate."
        return Finding("NOT_RUN", sentence, STRONGEST, access, rule, advice)
    if p < alpha:
        advice = "Regularise or train less, restrict the outputs, or train with differential privacy; then audit again."
        return Finding("FAIL", sentence, STRONGEST, access, rule, advice, claim.estimate)
    if claim.estimate.high <= claim.claim.tpr:
        advice = "Keep auditing each release; the pass holds for the attacks that ran and the power stated."
        return Finding("PASS", sentence, STRONGEST, access, rule, advice, claim.estimate)
    advice = "The interval spans the limit: give more members and non-members, or accept a higher limit."
    return Finding("INCONCLUSIVE", sentence, STRONGEST, access, rule, advice, claim.estimate)


def control_finding(name: str, control: Control, plan: Plan) -> Finding:
    """PASS, INCONCLUSIVE or NOT_RUN for one control; a blind control that could not run may be waived by declaration."""
    claim = {
        "null": "The audit finds nothing where there is nothing to find.",
        "blind": "Members and non-members cannot be told apart without the model.",
        "references": "Reference models trained like the target.",
    }[name]
    access = plan.threat.access.word
    if control.passed is None and name == "blind" and plan.assume_exchangeable:
        why = "Not checked: the caller declares members and non-members exchangeable (--assume-exchangeable)."
        return Finding("PASS", claim, name, access, "declared by the caller", why)
    verdicts = {True: "PASS", False: "INCONCLUSIVE", None: "NOT_RUN"}
    return Finding(verdicts[control.passed], claim, name, access, control.why, control_advice(name, control.passed))  # type: ignore[arg-type]


def control_advice(name: str, passed: bool | None) -> str:
    """What to do about a control's outcome."""
    if passed:
        return "Nothing to do."
    if name == "null":
        return "Do not use these numbers; look for records, labels or outputs that depend on the split."
    if name == "references":
        return "Repair the recipe, so that it trains as the target was trained, and audit again."
    if passed is None:
        return "Give the records' features, or declare --assume-exchangeable if the split was random."
    return "Draw members and non-members at random from one source, remove time or origin markers, and audit again."


def missing(plan: Plan, arrays: Arrays, not_run: list[NotRun], access: str) -> list[Finding]:
    """One finding for each attack that the policy requires and that did not run, or not at a rate that it is judged at."""
    assert plan.policy is not None
    reasons = {entry.attack: entry.why for entry in not_run}
    ran: dict[str, list[Part]] = {}
    for scored in arrays.scored:
        ran.setdefault(scored.attack, []).append(whole(scored, arrays))
    findings = []
    for name in plan.policy.require:
        if name not in ran:
            why = reasons.get(name, "it is not among the plan's attacks")
            findings.append(absent(name, access, why, "Supply what it needs, or take it out of the policy's require list."))
            continue
        short = [claim.fpr for claim in plan.policy.max_tpr if not any(part.resolves(claim.fpr) for part in ran[name])]
        if short:
            why = f"with these records it cannot resolve a false-positive rate of {100 * min(short):g}%"
            findings.append(absent(name, access, why, "Give more non-members, or take it out of the policy's require list."))
    return findings


def absent(name: str, access: str, why: str, advice: str) -> Finding:
    """The finding that a required attack did not run."""
    return Finding("NOT_RUN", f"The policy requires the attack {name}.", name, access, why, advice)


def conclude(findings: list[Finding], plan: Plan, seen: list[dict[str, float | None]]) -> Judgement:
    """Controls first, since numbers that rest on a broken comparison neither pass nor fail; then claims; then gaps.

    Where the reference models failed their control, the claims were tested without them (see `judge`): a FAIL that is found so
    stands by itself, and nothing passes.
    """
    broken = [finding for finding in findings if finding.attack in ("null", "blind") and finding.verdict != "PASS"]
    if broken:
        return Judgement("INCONCLUSIVE", f"Inconclusive: {broken[0].rule}", findings)
    failed = [finding for finding in findings if finding.verdict == "FAIL"]
    if failed:
        estimate = failed[0].estimate
        assert estimate is not None
        reason = (
            f"Failed: {estimate.method.rsplit('reached by ', 1)[-1]} finds {100 * estimate.value:.3g}% of members "
            f"({100 * estimate.low:.3g}% to {100 * estimate.high:.3g}%) at {100 * (estimate.fpr or 0):.3g}% false positives."
        )
        if any(finding.attack == "references" and finding.verdict != "PASS" for finding in findings):
            reason += " It needs no reference models, which failed their control."
        return Judgement("FAIL", reason, findings)
    untrusted = [finding for finding in findings if finding.attack == "references" and finding.verdict != "PASS"]
    if untrusted:
        return Judgement("INCONCLUSIVE", f"Inconclusive: {untrusted[0].rule}", findings)
    open_points = [finding for finding in findings if finding.verdict != "PASS"]
    if open_points:
        reason = f"Inconclusive: {open_points[0].claim} {open_points[0].advice}"
        return Judgement("INCONCLUSIVE", reason, findings)
    powers = "; ".join(
        f"a true rate of {100 * entry['tpr']:.3g}% or more at {100 * (entry['fpr'] or 0):.3g}% false positives"
        for entry in seen
        if entry["tpr"] is not None
    )
    power_words = f" It would have failed, in 80% of audits, on {powers}." if powers else " It had no power to fail."
    declared = " Exchangeability was declared, not checked." if plan.assume_exchangeable else ""
    assert plan.policy is not None
    return Judgement("PASS", f"Passed: every claim of policy {plan.policy.name!r} holds.{power_words}{declared}", findings)


def power(plan: Plan, arrays: Arrays, fprs: tuple[float, ...]) -> list[dict[str, float | None]]:
    """For each claim, the smallest TPR that this audit would have failed with 80% power; for each rate without a policy."""
    parts = candidates(arrays, judged_level(arrays, plan.threat.access))
    limits = {claim.fpr: claim.tpr for claim in plan.policy.max_tpr} if plan.policy else {}
    n_members, n_others = int(arrays.member.sum()), int((~arrays.member).sum())
    found: list[dict[str, float | None]] = []
    for fpr in tuple(limits) or fprs:
        usable = [part for part in parts if part.resolves(fpr)]
        if not usable:
            continue
        limit = limits.get(fpr, fpr)
        smallest = minimum_detectable_tpr(
            n_members, n_others, fpr, limit, confidence=plan.confidence, n_candidates=len(usable) * max(len(limits), 1)
        )
        found.append({"fpr": fpr, "limit": limit, "tpr": smallest})
    return found
