"""Compose what an assessment (such as a DPIA) may say of an audit: three sentences of evidence."""

from __future__ import annotations

from collections.abc import Sequence

from memberscope._text import format_percentage
from memberscope.auditing import BASELINE, Result
from memberscope.auditing.documents import DetectableRate
from memberscope.reports.page.access_matrix import name_omitted_attacks
from memberscope.reports.page.table import format_measured
from memberscope.reports.select import find_headline, format_interval, list_detectable_leaks
from memberscope.reports.waived_findings import explain_waiver, list_waived_findings
from memberscope.types import Finding


def get_audit_date(result: Result) -> str | None:
    """Get the day (UTC, ISO 8601) on which the audit ran; None where the result does not name it.

    A report that is written again keeps it.
    """
    return result.environment.get("date")


def compose_statements(result: Result) -> list[str]:
    """Compose what was done, what it is evidence for, and what it cannot say.

    The sentences hold for this audit's verdict and no other.
    """
    date, counts = get_audit_date(result), result.diagnostics
    when = f"On {date} the" if date else "The"
    done = (
        f"{when} model “{result.title}” was tested for membership inference with memberscope "
        f"{result.tool.version}: {counts.n_members:,} records that it was trained on were compared "
        f"with {counts.n_non_members:,} that it was not trained on."
    )
    say = {"FAIL": _state_failure, "PASS": _state_pass, "INCONCLUSIVE": _state_open}
    state = say.get(result.verdict or "", _state_measured)
    if result.verdict == "PASS" and list_waived_findings(result):
        state = _state_waived
    return [done, *state(result)]


def _state_failure(result: Result) -> list[str]:
    """State that a limit is exceeded."""
    claims = [entry for entry in result.findings if entry.verdict == "FAIL"]
    failed = [entry for entry in claims if entry.attack != BASELINE]
    if not failed and claims:
        return [
            "The test found evidence that this release leaks more than the one that it was compared "
            "with.",
            "This is evidence about the attacks that ran on both; by itself it does not say whether "
            "any law is breached.",
        ]
    limits, verb = ("a limit", "is") if len(failed) < 2 else (f"{len(failed)} limits", "are")
    return [
        f"The test found evidence that {limits} of the {_name_policy(result)} {verb} "
        f"exceeded{_name_refuted(failed)}.",
        "This is evidence about the attacks that ran, on this model and these records"
        f"{_name_untried(result)}; "
        "other attacks may find more, and by itself it does not say whether any law is breached.",
    ]


def _name_refuted(failed: Sequence[Finding]) -> str:
    """Name every claim that was refuted, with what was measured, as the end of a sentence."""
    named = [f"“{entry.claim}”{_describe_measured(entry)}" for entry in failed]
    if len(failed) == 1:
        return f": the claim “{failed[0].claim}” was refuted{_describe_measured(failed[0])}"
    return f": the claims {', '.join(named[:-1])} and {named[-1]} were refuted" if named else ""


def _state_waived(result: Result) -> list[str]:
    """State that limits are exceeded, and who accepts it."""
    accepted = "; ".join(
        f"“{entry.claim}” {explain_waiver(entry)}".rstrip(".")
        for entry in list_waived_findings(result)
    )
    return [
        f"The test found evidence that limits of the {_name_policy(result)} are exceeded, which is "
        f"accepted for the time being: {accepted}.",
        "This is evidence about the attacks that ran, on this model and these records"
        f"{_name_untried(result)}; other attacks may find more.",
    ]


def _state_pass(result: Result) -> list[str]:
    """State that no attack exceeded the limits, and what would have been noticed."""
    power = next(
        (
            _state_power(entry, group)
            for entry, group in list_detectable_leaks(result)
            if entry.tpr is not None
        ),
        "",
    )
    limited = (
        ", in a limited pass: fewer reference models were used than the policy requires"
        if result.limited
        else ""
    )
    return [
        f"No attack that ran exceeded the limits of the {_name_policy(result)}{limited}.{power}",
        "This is evidence, and no proof, that the risk from these attacks is within the limits"
        f"{_name_untried(result)}; stronger attacks or more access may find more.",
    ]


def _state_power(found: DetectableRate, group: str | None) -> str:
    """State which leak such a test notices.

    The numbers are those of all records, so a group, which has fewer, needs more.
    """
    share, at = format_percentage(found.tpr), format_percentage(found.fpr)
    if group is None:
        return (
            f" At least four of five such tests fail where {share} or more of the training records "
            f"can be found at {at} false positives."
        )
    return (
        f" For four of five such tests to fail, more than {share} of the training records"
        f"{_name_group(group)} would have to be found at {at} false positives."
    )


def _state_open(result: Result) -> list[str]:
    """State that nothing was decided."""
    unmet = [entry for entry in result.findings if entry.verdict != "PASS"]
    # Where the audit itself cannot be trusted, no claim is what is missing
    unmet.sort(key=lambda entry: entry.attack not in ("null", "blind"))
    missing = f"; what could not be shown is: “{unmet[0].claim}”" if unmet else ""
    return [
        f"The test could not decide whether the limits of the {_name_policy(result)} are kept"
        f"{missing}.",
        "No statement about the risk can rest on it, neither that there is a leak nor that there "
        "is none; the test is to be repeated with what was missing.",
    ]


def _state_measured(result: Result) -> list[str]:
    """State what was measured where no limit was set."""
    best = find_headline(result)
    found = (
        "No rate could be measured with so few records."
        if best is None
        else f"The strongest attack that ran found {format_interval(best)} of the training records "
        f"while it named {format_percentage(best.fpr)} of the others by mistake."
    )
    return [
        found,
        "No limit was set before the test, so it neither passes nor fails the model"
        f"{_name_untried(result)}; stronger attacks or more access may find more.",
    ]


def _name_policy(result: Result) -> str:
    """Name the policy that the audit was judged by."""
    policy = result.plan.policy
    return "stated policy" if policy is None else f"policy “{policy.name}”"


def _describe_measured(finding: Finding | None) -> str:
    """Describe the number that a finding rests on, as the end of a sentence."""
    if finding is None or finding.estimate is None:
        return ""
    entry = finding.estimate
    return f" (measured: {format_measured(entry)}, {format_percentage(entry.confidence)} interval)"


def _name_group(group: str | None) -> str:
    """Name the group that a limit is about, as a part of a sentence.

    >>> _name_group(None), _name_group("sex=f"), _name_group("sex")
    ('', ' of sex=f', ' of one value of sex')
    """
    if group is None:
        return ""
    return f" of {group}" if "=" in group else f" of one value of {group}"


def _name_untried(result: Result) -> str:
    """Name what was not tried, as an aside."""
    words = name_omitted_attacks(result)
    return f" ({words} were not tried)" if words else ""
