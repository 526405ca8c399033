"""Build what each of the five readers needs to hear, from the numbers of one result."""

from __future__ import annotations

from dataclasses import dataclass

from memberscope._text import format_percentage
from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.documents import format_level
from memberscope.reports.select import (
    NumberWithLimits,
    Place,
    find_estimate,
    find_headline,
    format_interval,
    list_fprs,
    list_levels,
    list_skipped_attacks,
    select_task_words,
)
from memberscope.reports.waived_findings import write_advice
from memberscope.types import Estimate

LESS_LEAK = (
    "What usually lowers leakage: stopping earlier, a smaller or more regularised model (for "
    "boosted trees fewer leaves, a lower rate and subsampling; for networks weight decay and "
    "augmentation), and training with differential privacy. Audit each candidate again."
)


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
        gap = found.generalisation_gap
        sentences.append(
            f"Accuracy is {format_interval(found.train_accuracy)} on the training records and "
            f"{format_interval(found.test_accuracy)} on the others: a gap of "
            f"{format_interval(gap)}. {_describe_gap(gap)}"
        )
    best = find_headline(result)
    if best:
        sentences.append(
            f"The strongest attack ({best.reaching_attack}) finds {format_interval(best)} "
            f"of members at {format_percentage(best.fpr)} false positives. "
            f"{select_task_words(result.plan.task).beyond}"
        )
    advised = (write_advice(f, result) for f in result.findings if f.verdict == "FAIL")
    sentences.append(next(advised, LESS_LEAK))
    return Section("ML engineer", sentences)


def _describe_gap(gap: NumberWithLimits) -> str:
    """Describe what an attacker makes of the gap between the two accuracies."""
    if gap.low > 0:
        return (
            "An attacker uses it by guessing that every record the model gets right was in the "
            "training data (the gap attack)."
        )
    if gap.high > 0:
        return (
            "This audit cannot tell whether right and wrong answers alone help an attacker. How sure "
            "the answers are may still give members away."
        )
    # Without a gap there is nothing in right and wrong answers to use
    return (
        "That is no sign of overfitting: right and wrong answers alone give an attacker nothing. "
        "How sure the answers are may still give members away."
    )


def _build_security_section(result: Result) -> Section:
    """Build the section on what each level of access gives an attacker."""
    sentences = []
    levels = list_levels(result)
    # The weakest and the declared level: the table has those between
    for level in dict.fromkeys([*levels[:1], *levels[-1:]]):
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
    sentences.append(_describe_queries(result))
    return Section("MLOps", sentences)


def _describe_queries(result: Result) -> str:
    """Describe how many queries the audit sent, and what for."""
    counts, views = result.diagnostics, len(result.plan.views)
    each = "once" if views == 1 else f"{views} times"
    own = views * (counts.n_members + counts.n_non_members)
    rest = result.cost.queries - own
    words = f"The audit asked the model about each record {each}"
    if rest <= 0:
        return f"{words}: {result.cost.queries:,} queries in all."
    return (
        f"{words} ({own:,} queries), and sent {rest:,} more for searches, repeated checks and "
        "models trained for comparison."
    )


def _build_red_team_section(result: Result) -> Section:
    """Build the section on what ran, what did not, and where the raw scores are."""
    ran = sorted({entry.attack for entry in result.estimates} - {STRONGEST})
    rates = ", ".join(format_percentage(fpr) for fpr in list_fprs(result))
    missing = list_skipped_attacks(result)
    return Section(
        "Red team and research",
        [
            f"Ran: {', '.join(ran)}; rates {rates}; every interval at "
            f"{format_percentage(result.plan.confidence)}.",
            f"Did not run: {len(missing)} attack{'s' if len(missing) != 1 else ''}, listed with reasons. "
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
