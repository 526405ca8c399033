"""The account beside the estimates: the leading attack, diagnostics, duplicates, and the most exposed records."""

from __future__ import annotations

from typing import Any

import numpy as np

from memberscope.auditing.collect.collect import Collected
from memberscope.auditing.collect.reference_models import fidelity
from memberscope.auditing.documents.access_levels import Level
from memberscope.auditing.documents.plan import Plan, Settings
from memberscope.auditing.documents.result import Arrays, Scored
from memberscope.auditing.estimates import diagnostics
from memberscope.auditing.estimates.estimates import small_groups
from memberscope.auditing.estimates.record_vulnerability import vulnerability_summary
from memberscope.auditing.estimates.strongest import candidates, judged_level
from memberscope.auditing.subject.subject import keyed_hashes
from memberscope.auditing.verdict.judge import power
from memberscope.statistics import auc_value, roc, smallest_fpr
from memberscope.targets.wrappers.query_budget import metered
from memberscope.types import Access, Floats


def best_scores(arrays: Arrays, plan: Plan) -> Floats | None:
    """Comparable scores (n,) of the attack with the highest AUC at the declared access."""
    name = leading(arrays, plan)
    return None if name is None else arrays.comparable[name.name]


def leading(arrays: Arrays, plan: Plan) -> Scored | None:
    """The entry with the highest AUC among the candidates; None if nothing ran."""
    if not arrays.scored:
        return None
    parts = candidates(arrays, judged_level(arrays, plan.threat.access))
    return max(parts, key=lambda part: auc_value(roc(part.scores, part.member))).scored


def diagnose(plan: Plan, got: Collected, arrays: Arrays, settings: Settings) -> dict[str, Any]:
    """Everything beside the estimates that a reader expects; keys are left out where they cannot be had."""
    subject, member = got.subject, got.subject.member
    found: dict[str, Any] = {
        "n_members": int(member.sum()),
        "n_non_members": int((~member).sum()),
        "smallest_fpr": smallest_fpr(int((~member).sum())),
        "class_sizes": diagnostics.class_sizes(subject.records.y, arrays.group_values["class"]),
        "groups_too_small": small_groups(arrays, settings.fprs),
        "minimum_detectable_tpr": power(plan, arrays, settings.fprs),
        "notes": [*subject.notes, *got.notes],
    }
    if (codes := subject.unit_codes) is not None:
        found["units"] = {
            "column": plan.unit,
            "n_members": len(np.unique(codes[member])),
            "n_non_members": len(np.unique(codes[~member])),
        }
    labels = next((level for level in got.levels if level.access == Access.LABEL), None)
    if labels is not None:
        hits = got.evidence[labels].target[:, 0, 0] == subject.records.y
        found |= diagnostics.generalisation(hits, member, plan.confidence, arrays.unit)
    open_level = Level(Access.PROBABILITIES)
    if open_level in got.levels and got.observed.signal in ("probabilities", "logits"):
        found["calibration"] = diagnostics.calibration(got.evidence[open_level], member, plan.confidence, arrays.unit)
    count = subject.target.n_parameters
    found["records_per_parameter"] = {
        "n_members": int(member.sum()),
        "n_parameters": count,
        "ratio": int(member.sum()) / count if count else None,
    }
    endpoint = getattr(metered(subject.target), "endpoint", None)
    if endpoint is not None:
        found["endpoint"] = endpoint.declaration
    best = leading(arrays, plan)
    if best:
        found["reliability"] = diagnostics.reliability_of(arrays, best, plan.threat.prior)
        found["leading"] = {"attack": best.attack, "access": best.access, "restriction": best.restriction}
    if got.references is not None:
        found["references"] = fidelity(got.references, subject)
        found["vulnerability"] = vulnerability_summary(plan, got, arrays)
    found["overlap"] = overlap_summary(got, plan)
    return found


def overlap_summary(got: Collected, plan: Plan) -> dict[str, Any] | None:
    """How many non-members duplicate members, with keyed hashes of the first pairs; None without records."""
    if got.overlap is None:
        return None
    return {
        "exact": len(got.overlap.exact),
        "near": len(got.overlap.near),
        "compared_near": list(got.overlap.compared_near),
        "dropped": len(got.overlap.non_members()) if plan.drop_overlap else 0,
        "examples": got.overlap_examples,
    }


def most_exposed(plan: Plan, got: Collected, arrays: Arrays) -> list[Any]:
    """The thirty most exposed members under the leading attack."""
    best = leading(arrays, plan)
    if best is None:
        return []
    return list(diagnostics.exposed(arrays, keyed_hashes(arrays.ids), best))
