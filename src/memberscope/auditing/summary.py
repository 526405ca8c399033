"""Give the account beside the estimates.

Diagnostics, duplicates, and the most exposed records.
"""

from __future__ import annotations

from memberscope.auditing.collect.collect import Collected
from memberscope.auditing.collect.measured_signals import summarise_spent_queries
from memberscope.auditing.collect.model_kind import describe_model
from memberscope.auditing.collect.reference_rules import select_reference_rules
from memberscope.auditing.controls.text_length import find_length_detectors
from memberscope.auditing.documents.access_levels import Level
from memberscope.auditing.documents.diagnostics import (
    CalibrationSides,
    DetectableRate,
    Diagnostics,
    EndpointDeclaration,
    ExtractionSummary,
    LeadingAttack,
    OverlapSummary,
    ParameterRatio,
    UnitCounts,
)
from memberscope.auditing.documents.plan import EstimateSettings, Plan
from memberscope.auditing.documents.result import AuditArrays, ExposedRecord
from memberscope.auditing.estimates import diagnostics
from memberscope.auditing.estimates.estimates import list_small_groups
from memberscope.auditing.estimates.extraction import (
    SUFFIX,
    describe_extraction,
    estimate_extraction,
)
from memberscope.auditing.estimates.output_fit import describe_output_fit
from memberscope.auditing.estimates.ranking import Ranking
from memberscope.auditing.estimates.record_vulnerability import summarise_vulnerability
from memberscope.auditing.scoring.score_targets import summarise_targets
from memberscope.auditing.subject.texts import measure_text_lengths
from memberscope.facts import read_target_facts
from memberscope.statistics import cluster_sides, smallest_fpr
from memberscope.targets import MaskedLMTarget
from memberscope.targets.wrappers import find_metered_target
from memberscope.types import OUTPUT_SIGNALS, Access, Estimate


def collect_diagnostics(
    plan: Plan,
    got: Collected,
    arrays: AuditArrays,
    ranking: Ranking,
    settings: EstimateSettings,
    *,
    estimates: list[Estimate],
    power: list[DetectableRate],
) -> Diagnostics:
    """Collect everything beside the estimates that a reader expects.

    `power` is what the audit would have failed. What cannot be had is None.
    """
    subject, member, best = got.subject, got.subject.member, ranking.leading
    learned, fidelity, vulnerability = _measure_accuracies(plan, got, arrays), None, None
    if got.references is not None:
        rules = select_reference_rules(subject.target)
        fidelity = rules.measure_fidelity(got.references, subject)
        vulnerability = summarise_vulnerability(plan, got, arrays, ranking)
    extraction = _estimate_extraction(plan, got)
    return Diagnostics(
        n_members=int(member.sum()),
        n_non_members=int((~member).sum()),
        smallest_fpr=smallest_fpr(int((~member).sum())),
        class_sizes=diagnostics.count_class_records(
            subject.class_codes, arrays.group_values["class"]
        ),
        groups_too_small=list_small_groups(arrays, settings.fprs),
        minimum_detectable_tpr=power,
        notes=[
            *subject.notes,
            *got.notes,
            *_describe_length_detectors(plan, got, arrays),
            *_describe_fit(plan, got),
            *describe_extraction(extraction),
        ],
        units=_count_units(got, plan),
        train_accuracy=None if learned is None else learned.train,
        test_accuracy=None if learned is None else learned.test,
        generalisation_gap=None if learned is None else learned.gap,
        calibration=_measure_sides_calibration(plan, got, arrays),
        records_per_parameter=_measure_parameter_ratio(got),
        model=describe_model(subject.target),
        endpoint=_describe_endpoint(got),
        reliability=None
        if best is None
        else diagnostics.build_reliability_diagram(arrays, best, plan.threat.prior),
        leading=None if best is None else LeadingAttack(best.attack, best.access, best.restriction),
        references=fidelity,
        vulnerability=vulnerability,
        overlap=_summarise_overlap(got, plan),
        targets=summarise_targets(plan, got, estimates, settings),
        extraction=extraction,
        searches=summarise_spent_queries(got.measured),
    )


def _describe_length_detectors(plan: Plan, got: Collected, arrays: AuditArrays) -> list[str]:
    """Describe attacks on texts whose scores follow the length; nothing for other tasks."""
    texts = got.subject.list_texts() if plan.task == "text" else None
    if texts is None:
        return []
    # Each attack at its highest declared level, as levels come weakest first
    scores = {entry.attack: entry.scores for entry in arrays.scored if entry.declared}
    lengths = measure_text_lengths(texts)
    return find_length_detectors(scores, lengths, arrays.member, unit=arrays.unit)


def _describe_fit(plan: Plan, got: Collected) -> list[str]:
    """Describe how right a model with real outputs is on both sides; nothing for other tasks."""
    if got.observed.signal not in OUTPUT_SIGNALS:
        return []
    subject = got.subject
    return describe_output_fit(
        got.observed.signal,
        got.observed.outputs,
        subject.records.y,
        subject.member,
        plan.confidence,
        subject.unit_codes,
    )


def _estimate_extraction(plan: Plan, got: Collected) -> ExtractionSummary | None:
    """Estimate how many texts the model would write out; None where that is not known."""
    # The product of a masked model's probabilities is not the chance that it writes the text
    if got.tokens is None or isinstance(got.subject.target, MaskedLMTarget):
        return None
    subject = got.subject
    return estimate_extraction(
        got.tokens,
        subject.member,
        suffix_tokens=SUFFIX,
        unit=subject.unit_codes,
        confidence=plan.confidence,
    )


def _count_units(got: Collected, plan: Plan) -> UnitCounts | None:
    """Count the people or documents of each side; None where records stand for themselves."""
    codes, member = got.subject.unit_codes, got.subject.member
    if codes is None:
        return None
    found = cluster_sides(member, codes)
    dropped = got.subject.dropped_units
    return UnitCounts(plan.unit, *found.n_units[:2], *found.sizes, *dropped)


def _measure_accuracies(
    plan: Plan, got: Collected, arrays: AuditArrays
) -> diagnostics.Generalisation | None:
    """Measure accuracy on both sides; None where no label is seen."""
    # Accuracy needs the label alone
    labels = next((level for level in got.levels if level.access == Access.LABEL), None)
    if labels is None:
        return None
    hits = got.evidence[labels].target[:, 0, 0] == got.subject.records.y
    return diagnostics.measure_generalisation(
        hits, got.subject.member, plan.confidence, arrays.unit
    )


def _measure_sides_calibration(
    plan: Plan, got: Collected, arrays: AuditArrays
) -> CalibrationSides | None:
    """Measure overconfidence on both sides; None where no open confidences are seen."""
    # A restriction hides confidences, so calibration is told of open outputs only
    open_level = Level(Access.PROBABILITIES)
    if open_level not in got.levels or got.observed.signal not in ("probabilities", "logits"):
        return None
    return diagnostics.measure_calibration(
        got.evidence[open_level], got.subject.member, plan.confidence, arrays.unit
    )


def _measure_parameter_ratio(got: Collected) -> ParameterRatio:
    """Measure how many training records there are for each parameter of the model."""
    n_members, count = int(got.subject.member.sum()), got.subject.target.n_parameters
    return ParameterRatio(n_members, count, n_members / count if count else None)


def _describe_endpoint(got: Collected) -> EndpointDeclaration | None:
    """Describe the endpoint as it was declared; None where the model was no endpoint."""
    endpoint = read_target_facts(find_metered_target(got.subject.target)).endpoint
    return None if endpoint is None else EndpointDeclaration(**endpoint.declaration)


def _summarise_overlap(got: Collected, plan: Plan) -> OverlapSummary | None:
    """Summarise how many non-members duplicate members.

    The first pairs are named by keyed hashes. It is None without records.
    """
    if got.overlap is None:
        return None
    return OverlapSummary(
        exact=len(got.overlap.exact),
        near=len(got.overlap.near),
        compared_near=list(got.overlap.compared_near),
        dropped=len(got.overlap.non_members()) if plan.drop_overlap else 0,
        examples=got.overlap_examples,
    )


def list_exposed_records(arrays: AuditArrays, ranking: Ranking) -> list[ExposedRecord]:
    """List the thirty most exposed members under the leading attack."""
    best = ranking.leading
    if best is None:
        return []
    return diagnostics.rank_exposed_members(arrays, best)
