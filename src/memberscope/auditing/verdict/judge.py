"""Judge an audit: claims, controls and requirements become findings, and these a verdict.

This is rule 5 of the design.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log

from memberscope.attacks import find_counterpart
from memberscope.auditing.documents.diagnostics import DetectableRate, ModelDescription
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.policy import AucClaim, EpsilonClaim
from memberscope.auditing.documents.result import AttackScores, AuditArrays, Control, NotRun
from memberscope.auditing.estimates.attack_part import AttackPart, build_whole_part
from memberscope.auditing.estimates.estimates import parse_access
from memberscope.auditing.estimates.ranking import Ranking
from memberscope.auditing.estimates.strongest import STRONGEST
from memberscope.auditing.verdict.claims import Tested, count_records_needed, examine_claims
from memberscope.auditing.verdict.conclusion import (
    ON_BOTH_SIDES,
    POWERLESS,
    Judgement,
    conclude_verdict,
    format_limit,
)
from memberscope.auditing.verdict.model_advice import ServingSetting, advise_on_leak, choose_limits
from memberscope.auditing.verdict.power import compute_audit_power
from memberscope.statistics import holm
from memberscope.types import Attack, Estimate, Finding, Verdict

RULE = (
    "FAIL if a model that keeps the limit of {limit} would show a value as high as this with a "
    "probability below {alpha:.3g}, after allowing for {tests}. PASS if the upper limit of every "
    "attack is at most {limit} and some attack could have exceeded it."
)
ALONE = "Attacks with reference models are left out, since those failed their control."
CLAIMS = {
    "null": "The attacks find no difference between two random halves of the non-members.",
    "blind": "Members and non-members cannot be told apart without the model.",
    "references": "The reference models learned as the audited model did.",
    "direction": "Members and non-members are not swapped.",
    "fitted": "The model's answers fit the members' labels better than chance.",
}
# Every control with a claim decides; the others only inform
DECIDES = tuple(CLAIMS)
ADVICE = {
    "null": "Do not use these numbers. Look for anything in records, labels or answers that depends on which side a record is on.",
    "blind": "Draw members and non-members at random from one source, remove columns that tell when or where a record was taken, and audit again.",
    "references": "Change the recipe so that it trains as the audited model was trained, and audit again.",
    "direction": "Check that the members are the records that this model was trained on, and audit again.",
    "fitted": "Check the model file, its preprocessing and the order of its classes, and audit again.",
}
UNDERSTATED = (
    "Leakage is likely understated, as no reference fine-tune was trained: two, each on about "
    "{trained} texts, take twice the training of the audited model and {asked} questions."
)
OF_LOSSES = ("loss", "loss_per_class", "quantile", "quantile_class")  # run on losses alone
EXCHANGEABLE = "Give the records' features (--features beside --signals), or declare --assume-exchangeable if the split was random."

EXCHANGEABLE_TEXTS = "Give each record's text beside its token signals, or declare --assume-exchangeable if the split was random."

__all__ = ["Judgement", "judge_audit"]


@dataclass(frozen=True)
class _Family:
    """What all claims of a policy share.

    The number of tests, the significance, the access, words added to each rule, and the advice
    where a claim failed.
    """

    n_tests: int
    alpha: float
    access: str
    words: str
    excess: int
    advice: str


def judge_audit(
    plan: Plan,
    arrays: AuditArrays,
    ranking: Ranking,
    estimates: list[Estimate],
    controls: dict[str, Control],
    not_run: list[NotRun],
    *,
    model: ModelDescription | None = None,
) -> Judgement:
    """Judge an audit: a verdict, its reason, and one finding a claim, control and requirement.

    `ranking` is that of `arrays` at the plan's access. `model` says what was audited, which the
    advice depends on. Of a language model without reference fine-tunes the reason says what is
    missing.
    """
    lacking = _describe_missing_references(plan, arrays, controls)
    if plan.policy is None:
        return Judgement(
            None,
            "No policy was given, so nothing was judged. The numbers below are for information."
            + lacking,
            [],
        )
    judged = ranking.get_judged_level()
    at = judged.at
    # Reference models that failed their control may mislead either way, so their attacks are left
    # out
    untrusted = "references" in controls and controls["references"].passed is False
    parts = (ranking.rank_without_references() if untrusted else judged).build_parts()
    excess = count_excess_records(controls)
    # Each estimate is told at the judged level, though an attack from below may have reached it
    tested = [
        entry
        if entry.estimate is None
        else replace(
            entry, estimate=replace(entry.estimate, access=at.access, restriction=at.restriction)
        )
        for entry in examine_claims(plan.policy, arrays, parts, estimates, plan.confidence, excess)
    ]
    # Claims are tested one-sidedly, so each gets half of what the interval leaves out
    alpha = (1 - plan.confidence) / 2
    family = _Family(
        sum(len(entry.p_values) for entry in tested),
        alpha,
        at.access,
        f" {ALONE}" if untrusted else "",
        excess,
        advise_on_leak(model, _describe_setting(plan, arrays, at, controls)),
    )
    # Claims first, then controls, then what the policy requires
    findings = build_claim_findings(tested, family)
    findings += [
        _build_control_finding(name, controls[name], plan) for name in DECIDES if name in controls
    ]
    findings += _find_missing_attacks(plan, arrays, not_run, at.access)
    seen = compute_audit_power(plan, judged, parts, plan.claim_fprs())
    # An attack counts as run only if it resolves every rate that is claimed
    ran = [
        part.scored.attack for part in parts if all(part.resolves(fpr) for fpr in plan.claim_fprs())
    ]
    found = conclude_verdict(plan, findings, seen, ran, count_good_references(controls), tested)
    # What was taken for granted matters only to a pass
    if found.verdict == "PASS":
        found = replace(found, reason=found.reason + _describe_unchecked(plan, controls))
    # A verdict below the declared access must not be read as one about that access
    if parse_access(at.access) < plan.threat.access:
        above = f" It speaks of {at.level} access: no attack ran at {plan.threat.access.word}, which was declared."
        found = replace(found, reason=found.reason + above)
    return replace(found, reason=found.reason + lacking)


def _describe_missing_references(
    plan: Plan, arrays: AuditArrays, controls: dict[str, Control]
) -> str:
    """Say what a language model's audit lacks without references, as the end of a reason."""
    if plan.task != "text" or "references" in controls:
        return ""
    trained, asked = f"{int(arrays.member.sum()):,}", f"{2 * len(arrays.member):,}"
    return f" {UNDERSTATED.format(trained=trained, asked=asked)}"


def _describe_setting(
    plan: Plan, arrays: AuditArrays, at: AttackScores, controls: dict[str, Control]
) -> ServingSetting:
    """Describe how the model at the level of `at` is served, and what could be changed."""
    # Losses alone are no answers that could be restricted
    restrictable = any(entry.attack not in OF_LOSSES for entry in arrays.scored)
    n_classes = len(arrays.group_values.get("class", ()))
    limits = None
    if restrictable:
        limits = choose_limits(at.access, at.restriction, n_classes, plan.task)
    return ServingSetting(at.access, limits, has_recipe="references" in controls)


def _describe_unchecked(plan: Plan, controls: dict[str, Control]) -> str:
    """Say what a pass took for granted, as the end of a sentence."""
    words = (
        " That members and non-members come from one source was declared, not checked."
        if plan.assume_exchangeable
        else ""
    )
    overlap = controls.get("overlap")
    return words + (
        " Whether records stand on both sides was not checked."
        if overlap is None or overlap.passed is None
        else ""
    )


def count_excess_records(controls: dict[str, Control]) -> int:
    """Count the records on both sides beyond what chance explains."""
    control = controls.get("overlap")
    return 0 if control is None or control.passed is not False else int(control.details["excess"])


def count_good_references(controls: dict[str, Control]) -> int:
    """Count the reference models that trained and passed their control."""
    control = controls.get("references")
    # One control speaks for all of them, so if it failed none counts
    if control is None or control.passed is False:
        return 0
    return int(control.details["models"]) - int(control.details["failed"])


def build_claim_findings(tested: Sequence[Tested], family: _Family) -> list[Finding]:
    """Build one finding for each claim about each value of its group."""
    # Both cases are corrected over all claims together, since the policy is judged as a whole
    corrected = _correct_p_values([entry.p_values for entry in tested])
    worst = _correct_p_values([entry.worst_p_values or entry.p_values for entry in tested])
    return [
        _build_claim_finding(entry, p, p_worst, family)
        for entry, p, p_worst in zip(tested, corrected, worst, strict=True)
    ]


def _correct_p_values(p_values: Sequence[tuple[float, ...]]) -> list[float]:
    """Correct all p-values together by Holm, and take the smallest of each claim."""
    flat = [p for entry in p_values for p in entry]
    adjusted = holm(flat).tolist() if flat else []
    found, start = [], 0
    for entry in p_values:
        found.append(min(adjusted[start : start + len(entry)], default=1.0))
        start += len(entry)
    return found


def _build_claim_finding(tested: Tested, p: float, p_worst: float, family: _Family) -> Finding:
    """Find FAIL, PASS, INCONCLUSIVE or NOT_RUN for one claim."""
    sentence, limit = tested.question.sentence(), tested.limit
    tests = "the one comparison that was made"
    if family.n_tests > 1:
        tests = f"all {family.n_tests} comparisons of claims and attacks"
    rule = RULE.format(tests=tests, alpha=family.alpha, limit=format_limit(tested)) + family.words

    def finding(verdict: Verdict, advice: str, why: str = "") -> Finding:
        return Finding(
            verdict, sentence, STRONGEST, family.access, why or rule, advice, tested.estimate
        )

    if tested.why_not is not None:
        return finding(
            "NOT_RUN", "Give what the claim needs, or take it out of the policy.", tested.why_not
        )
    fails, passes = p < family.alpha, tested.high <= limit
    # A failure that rests on shared records may come of them alone
    if fails and p_worst >= family.alpha:
        return finding(
            "INCONCLUSIVE",
            DROP_OVERLAP,
            f"{rule} It fails only with the records that {ON_BOTH_SIDES}.",
        )
    if fails:
        return finding("FAIL", family.advice)
    # An epsilon that was not refuted is not thereby shown
    if isinstance(tested.question.claim, EpsilonClaim):
        return finding(
            "INCONCLUSIVE",
            "An audit can show that epsilon is larger than claimed, and never that it is not: prove "
            "that by accounting.",
        )
    if not passes:
        return finding(
            "INCONCLUSIVE", "Give more members and non-members, or accept a higher limit."
        )
    # The limits are met, but would have been whatever the model: no evidence
    if not tested.able:
        return finding(
            "INCONCLUSIVE",
            _advise_record_counts(tested, family),
            f"{rule} With these records {POWERLESS}.",
        )
    # A pass must survive the worst case over the shared records, too
    if family.excess and tested.worst_high > limit:
        return finding(
            "INCONCLUSIVE",
            DROP_OVERLAP,
            f"{rule} Whichever {family.excess} of the shared records are left out, the upper limit is "
            f"at most {format_limit(tested, tested.worst_high)}, which is too much.",
        )
    words = ""
    if family.excess:
        words = (
            f"{rule} Whichever {family.excess} of the shared records are left out, it is still at "
            f"most {format_limit(tested, tested.worst_high)}."
        )
    return finding(
        "PASS",
        "Keep auditing each release: the pass holds for the attacks that ran, and for leaks as large as the verdict names.",
        words,
    )


DROP_OVERLAP = (
    "Leave the records that stand on both sides out of both (--drop-overlap), and audit again."
)


def _advise_record_counts(tested: Tested, family: _Family) -> str:
    """Say how many records would let some model fail."""
    claim = tested.question.claim
    needed = count_records_needed(claim, family.alpha)
    if isinstance(claim, AucClaim) or needed is None:
        return "Give more members and non-members, so that some attack could exceed the limit."
    have = tested.estimate.n_non_members if tested.estimate else 0
    # Holm's correction asks more of the first of many tests, so both counts are given
    if have < needed:
        corrected = count_records_needed(claim, family.alpha / max(family.n_tests, 1))
        return (
            f"Give at least {needed} non-members ({corrected} to allow for {family.n_tests} comparisons) "
            f"so that a model could fail at this rate; there are {have}."
        )
    # With k members all found, the lower limit is alpha to the power of 1 / k
    members = ceil(log(family.alpha) / log(tested.limit)) if 0 < tested.limit < 1 else 0
    if tested.estimate is not None and tested.estimate.n_members < members:
        return f"Give at least {members} members so that more than the limit can be shown; there are {tested.estimate.n_members}."
    # Records are enough, so only ties can be in the way
    return (
        "Every attack gives too many records the same score for this rate: audit outputs with more "
        "digits, add attacks, or judge a larger false-positive rate."
    )


def _build_control_finding(name: str, control: Control, plan: Plan) -> Finding:
    """Build PASS, INCONCLUSIVE or NOT_RUN for one control.

    A blind control that could not run may be waived by declaration.
    """
    access = plan.threat.access.word
    # These two look for gross mistakes only, so without the means to look they do not withhold a
    # pass
    if control.passed is None and name in ("direction", "fitted"):
        return Finding("PASS", CLAIMS[name], name, access, control.why, "Nothing to do.")
    if control.passed is None and name == "blind" and plan.assume_exchangeable:
        why = "Not checked: the caller declares that members and non-members come from one source (--assume-exchangeable)."
        return Finding("PASS", CLAIMS[name], name, access, "declared by the caller", why)
    # A control that failed makes an audit inconclusive, never a failure of the model
    verdicts: dict[bool | None, Verdict] = {True: "PASS", False: "INCONCLUSIVE", None: "NOT_RUN"}
    advice = "Nothing to do." if control.passed else ADVICE[name]
    if name == "blind" and control.passed is None:
        advice = EXCHANGEABLE_TEXTS if plan.task == "text" else EXCHANGEABLE
    return Finding(verdicts[control.passed], CLAIMS[name], name, access, control.why, advice)


def _find_missing_attacks(
    plan: Plan, arrays: AuditArrays, not_run: list[NotRun], access: str
) -> list[Finding]:
    """Build one finding for each required attack that did not run at every rate it is judged at."""
    assert plan.policy is not None
    reasons = {entry.attack: entry.why for entry in not_run}
    ran: dict[str, list[AttackPart]] = {}
    for scored in arrays.scored:
        # Levels that are tried beside the declared one do not meet a requirement
        if scored.declared:
            ran.setdefault(scored.attack, []).append(build_whole_part(scored, arrays))
    findings = []
    # The policy may ask for wider intervals than the plan computed
    if plan.confidence < plan.policy.confidence:
        why = f"the audit's intervals have a confidence of {plan.confidence:g}"
        advice = "Audit with at least that confidence, or lower it in the policy."
        findings.append(
            Finding(
                "NOT_RUN",
                f"The policy requires a confidence of {plan.policy.confidence:g}.",
                "confidence",
                access,
                why,
                advice,
            )
        )
    for name in _list_required_attacks(plan, plan.policy.require):
        if name not in ran:
            why = reasons.get(name, "it is not among the plan's attacks")
            findings.append(
                _build_absent_finding(
                    name,
                    access,
                    why,
                    "Supply what it needs, or take it out of the policy's require list.",
                )
            )
            continue
        # An attack that cannot tell a claimed rate has not answered the claim
        short = [
            fpr for fpr in plan.claim_fprs() if not any(part.resolves(fpr) for part in ran[name])
        ]
        if short:
            why = f"with these records it cannot resolve a false-positive rate of {100 * min(short):g}%"
            findings.append(
                _build_absent_finding(
                    name,
                    access,
                    why,
                    "Give more non-members, or take it out of the policy's require list.",
                )
            )
    return findings


def _list_required_attacks(plan: Plan, required: Sequence[str]) -> list[str]:
    """List the attacks that a policy requires of models of the plan's task.

    One on models of another task stands for the same attack with the settings of this one, and is
    left out where there is none.

    >>> _list_required_attacks(Plan(task="text"), ("gap", "loss", "rmia"))
    ['loss', 'rmia_gamma1_t1']
    """
    found = []
    for attack in plan.find(tuple(required)):
        suited: Attack | None = attack
        if plan.task not in attack.needs.tasks:
            suited = find_counterpart(attack, plan.task)
        if suited is not None:
            found.append(suited.name)
    return list(dict.fromkeys(found))


def _build_absent_finding(name: str, access: str, why: str, advice: str) -> Finding:
    """Build the finding that a required attack did not run."""
    return Finding("NOT_RUN", f"The policy requires the attack {name}.", name, access, why, advice)


def report_power(plan: Plan, ranking: Ranking, fprs: tuple[float, ...]) -> list[DetectableRate]:
    """Report the smallest TPR that an audit of this size fails.

    One for each claim about a rate, or for each rate without a policy.
    """
    judged = ranking.get_judged_level()
    return compute_audit_power(plan, judged, judged.build_parts(), fprs)
