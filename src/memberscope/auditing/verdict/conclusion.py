"""Put the verdict in words.

One number, its interval, what it rests on, and what was not tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from memberscope.attacks import list_attacks
from memberscope.auditing.documents.diagnostics import DetectableRate
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.policy import AucClaim, Claim, EpsilonClaim, PpvClaim
from memberscope.auditing.verdict.claims import Tested
from memberscope.statistics import minimum_detectable_auc
from memberscope.types import Access, Attack, Estimate, Finding

# Words in the rule of a finding by which the reason knows it
POWERLESS = "no model could have failed"
ON_BOTH_SIDES = "stand on both sides"
# How the end of a reason begins where a language model was audited without reference models
UNDERSTATED = "Leakage is likely understated, as no reference fine-tune was trained"
SHARED_RECORDS = "shared records"
# How a reason begins
FAILED = "Failed: "
OPEN = "Inconclusive: "


@dataclass(frozen=True)
class Judgement:
    """The verdict with a sentence that explains it; no verdict without a policy.

    A pass is `limited` where the policy requires attacks with reference models that did not run.
    """

    verdict: str | None
    reason: str
    findings: list[Finding]
    limited: bool = False


def conclude_verdict(
    plan: Plan,
    findings: list[Finding],
    seen: Sequence[DetectableRate],
    ran: Sequence[str],
    n_references: int,
    tested: Sequence[Tested],
) -> Judgement:
    """Reach a verdict from the findings; `seen` is the power, `ran` names the judged attacks.

    Broken comparisons (null, blind) neither pass nor fail. Then a claim that failed decides. Only a
    pass needs the rest: reference models like the target, two files that are not swapped, a fitted
    model, every requirement.
    """
    untried = (
        f" Not tried: {', '.join(words)}." if (words := _list_omitted_attacks(plan, ran)) else ""
    )
    # Findings that stand in the way of a verdict, by the attack or control they are about
    by_name_of = {finding.attack: finding for finding in findings if finding.verdict != "PASS"}
    # Where these fail, numbers mean something else, so not even a failure may be told
    for name in ("null", "blind"):
        if name in by_name_of:
            found = by_name_of[name]
            # A control that failed explains itself; one that did not run needs to be told how to
            # run
            to_do = f" {found.advice}" if found.verdict == "NOT_RUN" else ""
            return Judgement("INCONCLUSIVE", f"{OPEN}{found.rule}{to_do}", findings)
    # A claim that was refuted decides, since fewer attacks could only find less
    failed = [finding for finding in findings if finding.verdict == "FAIL"]
    if failed:
        reason = f"{FAILED}{_describe_finding(failed[0], tested)}{_count_more(failed)}.{untried}"
        if "references" in by_name_of:
            reason += " It needs no reference models: those failed their control."
        return Judgement("FAIL", reason, findings)
    # These can only hide leakage, so they stand in the way of a pass alone
    for name in ("references", "direction", "fitted"):
        if name in by_name_of:
            return Judgement("INCONCLUSIVE", f"{OPEN}{by_name_of[name].rule}", findings)
    # Everything else that did not pass leaves the verdict open
    open_points = [finding for finding in findings if finding.verdict != "PASS"]
    if open_points:
        return Judgement(
            "INCONCLUSIVE",
            f"{OPEN}{_describe_open_question(open_points[0], tested)}{untried}",
            findings,
        )
    return _build_pass(plan, findings, seen, ran, n_references, tested)


def _build_pass(
    plan: Plan,
    findings: list[Finding],
    seen: Sequence[DetectableRate],
    ran: Sequence[str],
    n_references: int,
    tested: Sequence[Tested],
) -> Judgement:
    """Build a pass, with the strongest class of attack that ran, what did not, and its power."""
    assert plan.policy is not None
    # Reference models that no judged attack read do not strengthen the pass
    used = [attack.name for attack in plan.find(tuple(ran)) if sum(attack.needs.references)]
    limited = plan.policy.references > (n_references if used else 0)
    words = _list_omitted_attacks(plan, ran)
    against = (
        f"attacks with {n_references} reference models"
        if used
        else "attacks without reference models"
    )
    head = (
        f"Passed policy {plan.policy.name!r} at {plan.threat.access.word} access against {against}"
    )
    if words:
        head += f"; {_enumerate_words(words)} were not run"
    # A limited pass is marked in the sentence and in each finding that rests on numbers
    if limited:
        head += (
            f". The pass is limited: the policy requires {plan.policy.references} reference models"
            + (f", and {n_references} were used" if used else "")
        )
        findings = [
            replace(entry, limited=True) if entry.estimate is not None else entry
            for entry in findings
        ]
    # The claim with the least room says most about the pass
    closest = max(
        (entry for entry in tested if entry.estimate is not None),
        key=lambda entry: entry.high / entry.limit,
        default=None,
    )
    number = f": {_describe_number(closest)}" if closest is not None and not limited else ""
    if closest is not None and limited:
        number = f". Of the attacks that ran, {_describe_number(closest)}"
    shared = "" if closest is None else _describe_worst_case(closest)
    power = _describe_power(plan, seen, closest)
    return Judgement("PASS", f"{head}{number}.{shared} {power}", findings, limited)


def _describe_power(plan: Plan, seen: Sequence[DetectableRate], closest: Tested | None) -> str:
    """Say which leak an audit of this size notices; a pass may come of too few records."""
    rows = [
        (_name_rate_group(group), f"{100 * row.tpr:.3g}%", f"{100 * row.fpr:.3g}% false positives")
        for row, group in _pair_rates_with_groups(plan, seen)
        if row.tpr is not None
    ]
    # The numbers are those of all records: in a group, which has fewer, it takes more
    overall = [
        f"{tpr} or more of its members can be found at {at}" for who, tpr, at in rows if not who
    ]
    groups = [
        f"more than {tpr} of its members in {who} can be found at {at}"
        for who, tpr, at in rows
        if who
    ]
    sentences = []
    if overall:
        sentences.append(
            "An audit of this size fails a model with a probability of 80% if "
            f"{', or '.join(dict.fromkeys(overall))}."
        )
    if groups:
        begin = "For the limits of groups, which have fewer records, it does so"
        if not overall:
            begin = "An audit of this size fails a model with a probability of 80%"
        sentences.append(f"{begin} only if {', or '.join(dict.fromkeys(groups))}.")
    if sentences:
        return " ".join(sentences)
    # A policy of AUC claims alone has no rates, so the power is given as an AUC
    if not seen and closest is not None and closest.estimate is not None:
        area = minimum_detectable_auc(
            closest.estimate.n_members, closest.estimate.n_non_members, confidence=plan.confidence
        )
        return (
            "An audit of this size tells a leak from guessing with a probability of 80% if the AUC "
            f"of an attack is {area:.3f} or more."
        )
    return (
        "So few records do not fail any model with a probability of 80%, however much it leaks: "
        "give more."
    )


def _pair_rates_with_groups(
    plan: Plan, seen: Sequence[DetectableRate]
) -> list[tuple[DetectableRate, str | None]]:
    """Pair each row of the power with the group that its claim is about; None for all records."""
    claims = [] if plan.policy is None else list(plan.policy.claims())
    waiting = [entry for entry in claims if isinstance(entry, Claim | PpvClaim)]
    found: list[tuple[DetectableRate, str | None]] = []
    for row in seen:
        # The rows stand in the order of the claims, without those that the records do not resolve
        while waiting and waiting[0].fpr != row.fpr:
            waiting.pop(0)
        found.append((row, waiting.pop(0).group if waiting else None))
    return found


def _name_rate_group(group: str | None) -> str:
    """Name the group that a limit is about; empty for all records.

    >>> _name_rate_group(None), _name_rate_group("sex=f"), _name_rate_group("sex")
    ('', 'sex=f', 'one value of sex')
    """
    if group is None:
        return ""
    return group if "=" in group else f"one value of {group}"


def _list_omitted_attacks(plan: Plan, ran: Sequence[str]) -> list[str]:
    """List the classes of attack of which none ran though the declared access allows them.

    The number of attacks that the plan leaves out is listed, too.
    """
    attacks = plan.find(tuple(ran))
    found = []
    if not any(sum(attack.needs.references) for attack in attacks):
        found.append("attacks with reference models")
    if plan.task == "classification" and not any(_is_search_attack(one) for one in attacks):
        found.append("label-only searches")
    if not any(attack.needs.known != "none" for attack in attacks):
        found.append("attacks that learn from known records")
    whole = Access.WHITE_BOX.at(plan.task)
    if plan.threat.access == whole and not any(
        attack.needs.access.at(plan.task) == whole for attack in attacks
    ):
        found.append("white-box attacks")
    left_out = len([name for name in list_attacks(plan.task) if name not in plan.attacks])
    if left_out:
        found.append(f"{left_out} attacks that the plan leaves out")
    return found


def drop_verdict_word(reason: str) -> str:
    """Leave out the word by which a reason begins, for a line that has the verdict before it.

    >>> drop_verdict_word("Failed: loss finds 69% of members.")
    'loss finds 69% of members.'
    """
    return reason.removeprefix(FAILED).removeprefix(OPEN)


def _enumerate_words(words: Sequence[str]) -> str:
    """Join words as in a sentence.

    >>> _enumerate_words(["a", "b", "c"]), _enumerate_words(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _describe_worst_case(tested: Tested) -> str:
    """Say what a claim's limit becomes in the worst case over records on both sides.

    Empty if there are none.
    """
    if tested.estimate is None or not tested.worst_high > tested.high:
        return ""
    area = tested.estimate.metric == "auc"
    most = f"{tested.worst_high:.3f}" if area else f"{100 * tested.worst_high:.3g}%"
    return f" Whichever of the records that {ON_BOTH_SIDES} are left out, it is at most {most}."


def _is_search_attack(attack: Attack) -> bool:
    """Tell whether an attack searches with new queries and sees labels alone."""
    spec = attack.needs.spec
    return spec.source in ("search", "student")


def _count_more(failed: Sequence[Finding]) -> str:
    """Count the claims that failed beside the first, as the end of a sentence."""
    n = len(failed) - 1
    return f", and {n} more claim{'s' if n > 1 else ''} failed" if n else ""


def _find_tested_claim(finding: Finding, tested: Sequence[Tested]) -> Tested | None:
    """Find what a finding about a claim rests on."""
    return next((entry for entry in tested if entry.question.sentence() == finding.claim), None)


def _describe_finding(finding: Finding, tested: Sequence[Tested]) -> str:
    """Describe the number of a claim's finding, or give the claim itself for others."""
    entry = _find_tested_claim(finding, tested)
    return finding.claim if entry is None or entry.estimate is None else _describe_number(entry)


def _describe_number(tested: Tested) -> str:
    """Say what the strongest attack reached, with its interval and the limit."""
    estimate = tested.estimate
    assert estimate is not None
    name = estimate.reaching_attack
    where = f" in {estimate.group}" if estimate.group else ""
    limit = tested.limit
    if estimate.metric == "auc":
        return f"{name} has an AUC of {_format_plain(estimate)}{where}, where at most {limit:.3g} is allowed"
    if estimate.metric == "epsilon_lower":
        return f"{estimate.attack} shows that epsilon is at least {estimate.low:.3g} (nats), where at most {limit:.3g} is claimed"
    at = f"at {100 * (estimate.fpr or 0):.3g}% false positives"
    if estimate.metric == "ppv":
        return (
            f"of the records that {name} names as members {_format_percent(estimate)} are members{where}, "
            f"{at} and with {100 * (estimate.prior or 0):.3g}% of the records tried being members, where at "
            f"most {100 * limit:.3g}% is allowed"
        )
    return f"{name} finds {_format_percent(estimate)} of members{where} {at}, where at most {100 * limit:.3g}% is allowed"


def format_limit(tested: Tested, value: float | None = None) -> str:
    """Write the limit of a claim, or another `value` on its scale: rates as percentages.

    >>> from memberscope.auditing.documents.policy import Claim
    >>> from memberscope.auditing.verdict.claims import Question
    >>> format_limit(Tested(Question(Claim(0.01, 0.03), None, None)))
    '3%'
    """
    value = tested.limit if value is None else value
    plain = isinstance(tested.question.claim, AucClaim | EpsilonClaim)
    return f"{value:.4g}" if plain else f"{100 * value:.4g}%"


def _format_percent(estimate: Estimate) -> str:
    """Write a rate with its interval.

    >>> from memberscope.types import Estimate
    >>> _format_percent(Estimate("loss", "label", "tpr", 0.06, 0.024, 0.091, 0.95, "", 9, 9, 1))
    '6% (2.4% to 9.1%)'
    """
    return f"{100 * estimate.value:.3g}% ({100 * estimate.low:.3g}% to {100 * estimate.high:.3g}%)"


def _format_plain(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _describe_open_question(finding: Finding, tested: Sequence[Tested]) -> str:
    """Say what stays open, as a question and never the claim as a fact, and what to do."""
    entry = _find_tested_claim(finding, tested)
    # Not a claim but a control or a requirement
    if entry is None:
        return f"{finding.claim} It did not run: {finding.rule.rstrip('.')}. {finding.advice}"
    if entry.estimate is None:
        return f"{_phrase_question(entry)}: {finding.rule.rstrip('.')}. {finding.advice}"
    # The interval says nothing here, so only the lack of power is stated
    if POWERLESS in finding.rule:
        return f"{POWERLESS}. {_phrase_question(entry)[:1].upper()}{_phrase_question(entry)[1:]}. {finding.advice}"
    # Shared records may hide leakage, or be all there is of it
    shared = (
        f" Some records {ON_BOTH_SIDES}, and could change this."
        if SHARED_RECORDS in finding.rule
        else ""
    )
    if ON_BOTH_SIDES in finding.rule:
        shared = f" It is more only with the records that {ON_BOTH_SIDES}."
    return f"{_phrase_question(entry)}: {_phrase_answer(entry)}.{shared} {finding.advice}"


def _phrase_question(tested: Tested) -> str:
    """Phrase the open question of a claim."""
    claim, limit = tested.question.claim, tested.limit
    where = f" in {tested.question.group}" if tested.question.group else ""
    if isinstance(claim, AucClaim):
        return f"cannot tell whether an attack has an AUC above {limit:.3g}{where}"
    if isinstance(claim, EpsilonClaim):
        return f"cannot tell whether epsilon is at most {limit:.3g}"
    if isinstance(claim, PpvClaim):
        return f"cannot tell whether more than {100 * limit:.3g}% of the records named as members are members{where}"
    return f"cannot tell whether more than {100 * limit:.3g}% are found{where}"


def _phrase_answer(tested: Tested) -> str:
    """Phrase the number and its interval, where they stand."""
    estimate = tested.estimate
    assert estimate is not None
    if estimate.metric in ("auc", "epsilon_lower"):
        return _format_plain(estimate)
    return f"{_format_percent(estimate)} at {100 * (estimate.fpr or 0):.3g}% false positives"
