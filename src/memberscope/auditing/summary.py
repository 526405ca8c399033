"""Give the account beside the estimates.

The leading attack, diagnostics, duplicates, and the most exposed records.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.auditing.collect.collect import Collected
from memberscope.auditing.collect.reference_models import measure_fidelity
from memberscope.auditing.documents.access_levels import Level
from memberscope.auditing.documents.plan import EstimateSettings, Plan
from memberscope.auditing.documents.result import AttackScores, AuditArrays
from memberscope.auditing.estimates import diagnostics
from memberscope.auditing.estimates.estimates import list_small_groups
from memberscope.auditing.estimates.record_vulnerability import summarise_vulnerability
from memberscope.auditing.estimates.strongest import find_verdict_level, list_candidate_parts
from memberscope.auditing.subject.subject import hash_ids
from memberscope.auditing.verdict.judge import report_power
from memberscope.facts import read_target_facts
from memberscope.statistics import auc_value, roc, smallest_fpr
from memberscope.targets.wrappers import find_metered_target
from memberscope.types import Access, Floats


def pick_best_scores(arrays: AuditArrays, plan: Plan) -> Floats | None:
    """Pick comparable scores (n,) of the best attack by AUC at the declared access."""
    name = _find_leading_attack(arrays, plan)
    return None if name is None else arrays.comparable[name.name]


def _find_leading_attack(arrays: AuditArrays, plan: Plan) -> AttackScores | None:
    """Find the entry with the highest AUC among the candidates; None if nothing ran."""
    if not arrays.scored:
        return None
    parts = list_candidate_parts(arrays, find_verdict_level(arrays, plan.threat.access))
    return max(parts, key=lambda part: auc_value(roc(part.scores, part.member))).scored


def collect_diagnostics(
    plan: Plan, got: Collected, arrays: AuditArrays, settings: EstimateSettings
) -> dict[str, Any]:
    """Collect everything beside the estimates that a reader expects.

    Keys are left out where they cannot be had.
    """
    subject, member = got.subject, got.subject.member
    found: dict[str, Any] = {
        "n_members": int(member.sum()),
        "n_non_members": int((~member).sum()),
        "smallest_fpr": smallest_fpr(int((~member).sum())),
        "class_sizes": diagnostics.count_class_records(
            subject.records.y, arrays.group_values["class"]
        ),
        "groups_too_small": list_small_groups(arrays, settings.fprs),
        "minimum_detectable_tpr": report_power(plan, arrays, settings.fprs),
        "notes": [*subject.notes, *got.notes],
    }
    # Intervals go by unit, so the reader needs their number
    if (codes := subject.unit_codes) is not None:
        found["units"] = {
            "column": plan.unit,
            "n_members": len(np.unique(codes[member])),
            "n_non_members": len(np.unique(codes[~member])),
        }
    # Accuracy needs the label alone
    labels = next((level for level in got.levels if level.access == Access.LABEL), None)
    if labels is not None:
        hits = got.evidence[labels].target[:, 0, 0] == subject.records.y
        found |= diagnostics.measure_generalisation(hits, member, plan.confidence, arrays.unit)
    # A restriction hides confidences, so calibration is told of open outputs only
    open_level = Level(Access.PROBABILITIES)
    if open_level in got.levels and got.observed.signal in ("probabilities", "logits"):
        found["calibration"] = diagnostics.measure_calibration(
            got.evidence[open_level], member, plan.confidence, arrays.unit
        )
    count = subject.target.n_parameters
    found["records_per_parameter"] = {
        "n_members": int(member.sum()),
        "n_parameters": count,
        "ratio": int(member.sum()) / count if count else None,
    }
    # What the caller declared of an endpoint is part of the account
    endpoint = read_target_facts(find_metered_target(subject.target)).endpoint
    if endpoint is not None:
        found["endpoint"] = endpoint.declaration
    best = _find_leading_attack(arrays, plan)
    if best:
        found["reliability"] = diagnostics.build_reliability_diagram(
            arrays, best, plan.threat.prior
        )
        found["leading"] = {
            "attack": best.attack,
            "access": best.access,
            "restriction": best.restriction,
        }
    if got.references is not None:
        found["references"] = measure_fidelity(got.references, subject)
        found["vulnerability"] = summarise_vulnerability(plan, got, arrays)
    found["overlap"] = _summarise_overlap(got, plan)
    return found


def _summarise_overlap(got: Collected, plan: Plan) -> dict[str, Any] | None:
    """Summarise how many non-members duplicate members.

    The first pairs are named by keyed hashes. It is None without records.
    """
    if got.overlap is None:
        return None
    return {
        "exact": len(got.overlap.exact),
        "near": len(got.overlap.near),
        "compared_near": list(got.overlap.compared_near),
        "dropped": len(got.overlap.non_members()) if plan.drop_overlap else 0,
        "examples": got.overlap_examples,
    }


def list_exposed_records(plan: Plan, got: Collected, arrays: AuditArrays) -> list[Any]:
    """List the thirty most exposed members under the leading attack."""
    best = _find_leading_attack(arrays, plan)
    if best is None:
        return []
    return list(diagnostics.rank_exposed_members(arrays, hash_ids(arrays.ids), best))
