"""Build what each of the five readers needs to hear, from the numbers of one result."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope._text import format_percentage
from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.documents import format_level
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
            f"of {format_interval(found.generalisation_gap)}. The gap attack turns exactly this "
            "into membership."
        )
    best = find_headline(result)
    if best:
        sentences.append(
            f"The strongest attack ({best.reaching_attack}) finds {format_interval(best)} "
            f"of members at {format_percentage(best.fpr)} false positives; what "
            f"exceeds the gap attack there is memorisation that accuracy does not show."
        )
    sentences.append(
        "Try, in order of cost: earlier stopping, more regularisation, augmentation, DP-SGD; audit "
        "each candidate."
    )
    return Section("ML engineer", sentences)


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
        "Restricting outputs below the row that you can accept is what the endpoint must enforce."
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
            "The most exposed member would be believed to be one with probability "
            f"{format_percentage(top.posterior)}; "
            f"{len(result.exposed)} are listed above under keyed hashes."
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
    views = len(result.plan.views)
    each = "one query a record" if views == 1 else f"{views} queries a record"
    sentences.append(f"The audit sent {result.cost.queries} records to the model, {each}.")
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
            f"Did not run: {len(result.not_run)} entries, listed with reasons. "
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
