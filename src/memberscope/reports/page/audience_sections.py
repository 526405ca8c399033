"""Build what each of the five readers needs to hear, from the numbers of one result."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope._text import format_percentage
from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.documents import ValueWithLimits, format_level
from memberscope.auditing.verdict import describe_measures
from memberscope.reports.select import (
    Place,
    find_estimate,
    find_headline,
    format_interval,
    list_fprs,
    list_levels,
)
from memberscope.types import Estimate


@dataclass(frozen=True)
class Section:
    """A heading and a few sentences for one reader."""

    reader: str
    sentences: list[str]


def build_sections(result: Result) -> list[Section]:
    """Build one short section for each of the five readers."""
    return [
        _build_engineer_section(result),
        _build_security_section(result),
        _build_privacy_section(result),
        _build_operations_section(result),
        _build_red_team_section(result),
    ]


def _build_engineer_section(result: Result) -> Section:
    """Build the section on which part of the leak is overfitting, and where it sits."""
    found = result.diagnostics
    sentences = []
    # Losses have no accuracy, and so no gap
    if found.train_accuracy and found.test_accuracy and found.generalisation_gap:
        sentences.append(
            f"Training accuracy is {format_interval(found.train_accuracy)} and hold-out "
            f"accuracy {format_interval(found.test_accuracy)}: a gap "
            f"of {format_interval(found.generalisation_gap)}. "
            f"{_describe_gap(found.generalisation_gap)}"
        )
    best = find_headline(result)
    if best:
        sentences.append(
            f"The strongest attack ({best.reaching_attack}) finds {format_interval(best)} "
            f"of members at {format_percentage(best.fpr)} false positives. What it finds beyond the "
            "gap attack comes from records that the model has memorised, which accuracy does not show."
        )
    sentences.append(
        f"To lower the leakage, {describe_measures(found.model)}; the command memberscope defend shows "
        "what each gains and costs."
    )
    return Section("ML engineer", sentences)


def _describe_gap(gap: ValueWithLimits) -> str:
    """Say what the gap between the accuracies tells of membership.

    >>> _describe_gap(ValueWithLimits(0.02, -0.01, 0.05))
    'It is no larger than chance explains, so whether an answer is right says next to nothing about membership.'
    """
    if gap.low > 0:
        return (
            "A right answer is therefore a hint that a record was in the training data: that is all "
            "that the gap attack uses."
        )
    if gap.high < 0:
        return (
            "The model does better on records that it has not seen, which is unusual: check that "
            "the two files are not swapped."
        )
    return (
        "It is no larger than chance explains, so whether an answer is right says next to nothing "
        "about membership."
    )


def _build_security_section(result: Result) -> Section:
    """Build the section on what each level of access gives an attacker."""
    sentences = []
    for level in list_levels(result):
        tpr = _find_strongest_tpr(result, level)
        if tpr:
            sentences.append(
                f"With {format_level(*level)}, {tpr.reaching_attack} finds "
                f"{format_interval(tpr)} at {format_percentage(tpr.fpr)} false positives."
            )
    sentences.append(
        "Choose the most that you can accept: the endpoint must then answer no more than that level."
    )
    return Section("Application security", sentences)


def _find_strongest_tpr(result: Result, level: Place) -> Estimate | None:
    """Find the strongest TPR at the headline's rate, for one access level."""
    best = find_headline(result)
    return (
        None
        if best is None
        else find_estimate(result, attack=STRONGEST, level=level, metric="tpr", fpr=best.fpr)
    )


def _build_privacy_section(result: Result) -> Section:
    """Build the section on who could be identified, with what certainty, at the base rate."""
    prior = result.plan.threat.prior
    best = find_headline(result)
    sentences = []
    if best:
        ppv = find_estimate(
            result,
            attack=STRONGEST,
            level=(best.access, best.restriction),
            metric="ppv",
            fpr=best.fpr,
            prior=prior,
        )
        if ppv:
            sentences.append(
                f"Where {format_percentage(prior)} of the records tried are members, a record "
                f"called a member at {format_percentage(best.fpr)} false "
                f"positives is one with probability {format_interval(ppv)}."
            )
    # Only the first is told; the list stands elsewhere on the page
    if result.exposed:
        top = result.exposed[0]
        sentences.append(
            "Of the most exposed member an attacker would believe with a probability of "
            f"{format_percentage(top.posterior)} that it was in the training data; "
            f"{len(result.exposed)} such members are listed above under hashes of their ids."
        )
    sentences.append(
        "The annex has a paragraph for an assessment. It is evidence about one risk and no "
        "statement of compliance."
    )
    return Section("Privacy and compliance", sentences)


def _build_operations_section(result: Result) -> Section:
    """Build the section on what to gate on, and whether the endpoint answers the same twice."""
    sentences = [
        "Verdict: "
        f"{result.verdict or 'none, since no policy was given'}{' (limited)' if result.limited else ''}. "
        "The command memberscope check returns it as an exit code."
    ]
    control = result.controls.get("determinism")
    if control is not None:
        sentences.append(control.why)
    n_records = result.diagnostics.n_members + result.diagnostics.n_non_members
    sentences.append(
        f"The audit asked the model {result.cost.queries} times about {n_records} records: "
        f"{result.cost.queries / max(n_records, 1):.3g} queries a record on average."
    )
    return Section("MLOps", sentences)


def _build_red_team_section(result: Result) -> Section:
    """Build the section on what ran, what did not, and where the raw scores are."""
    ran = sorted({entry.attack for entry in result.estimates} - {STRONGEST})
    rates = ", ".join(format_percentage(fpr) for fpr in list_fprs(result))
    return Section(
        "Red team and research",
        [
            f"Ran: {', '.join(ran)}; rates {rates}; every interval at "
            f"{format_percentage(result.plan.confidence)}.",
            f"Did not run: {len(result.not_run)} entries, listed above with the reasons. "
            f"{_describe_models(result)}",
            "Raw scores are in arrays.safetensors and, unless left out, records.csv; the command "
            "memberscope verify computes every estimate again from them.",
        ],
    )


def _describe_models(result: Result) -> str:
    """Describe which models were trained for this audit."""
    found, further = result.diagnostics.references, result.diagnostics.targets
    if not found:
        words = "No reference models were trained."
    else:
        words = f"{found.models} reference models were trained, {found.failed} of them left out."
    return words + (f" {further.trained} further targets were audited." if further else "")
