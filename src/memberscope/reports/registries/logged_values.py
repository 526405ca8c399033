"""Choose what a registry logs of an audit: metrics with their limits, parameters and tags."""

from __future__ import annotations

import re

from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.documents import format_level
from memberscope.types import Estimate

METRICS = ("auc", "tpr", "ppv")
# What MLflow allows in names in every version
FORBIDDEN = re.compile(r"[^A-Za-z0-9_./ -]")
LONGEST_PARAM = 500  # characters that every version of MLflow keeps of a value


def list_logged_metrics(result: Result) -> dict[str, float]:
    """List the numbers of the strongest attack at each level, of the model and of the audit.

    An estimate `probabilities/auc` has its limits beside it as `probabilities/auc_low` and
    `probabilities/auc_high`.

    >>> from memberscope.reports.registries.logged_values import _name_metric
    >>> _name_metric(Estimate("strongest", "label", "tpr", 0.1, 0.0, 0.2, 0.95, "", 9, 9, 1, fpr=0.01))
    'label/tpr_at_fpr_0.01'
    """
    found: dict[str, float] = {}
    for entry in result.estimates:
        chosen = entry.attack == STRONGEST and entry.metric in METRICS and entry.group is None
        # A threshold that was chosen on other records is another number of the same name
        if chosen and entry.target == "target" and entry.threshold in (None, "best"):
            _add_with_limits(found, _name_metric(entry), entry.value, entry.low, entry.high)
    told = result.diagnostics
    for name in ("train_accuracy", "test_accuracy", "generalisation_gap"):
        value = getattr(told, name)
        if value is not None:
            _add_with_limits(found, f"model/{name}", value.value, value.low, value.high)
    found |= {
        "audit/members": told.n_members,
        "audit/non_members": told.n_non_members,
        "audit/queries": result.cost.queries,
        "audit/models_trained": result.cost.models_trained,
        "audit/seconds": result.cost.seconds,
    }
    return {name: float(value) for name, value in found.items()}


def _add_with_limits(
    found: dict[str, float], name: str, value: float, low: float, high: float
) -> None:
    """Add a number under its name, and its limits beside it."""
    found |= {name: value, f"{name}_low": low, f"{name}_high": high}


def _name_metric(entry: Estimate) -> str:
    """Name a number of the strongest attack by level, metric, rate and prior."""
    words: list[str] = [entry.metric]
    words += [] if entry.fpr is None else [f"at_fpr_{entry.fpr:g}"]
    words += [] if entry.prior is None else [f"at_prior_{entry.prior:g}"]
    level = format_level(entry.access, entry.restriction)
    return FORBIDDEN.sub("_", f"{level}/{'_'.join(words)}").replace(" ", "_")


def list_logged_params(result: Result) -> dict[str, str]:
    """List what the audit was asked to do."""
    plan = result.plan
    policy = "none" if plan.policy is None else plan.policy.name
    words = {
        "title": result.title,
        "policy": policy,
        "access": plan.threat.access,
        "restriction": plan.threat.restriction or "none",
        "query_budget": plan.threat.query_budget,
        "prior": plan.threat.prior,
        "confidence": plan.confidence,
        "references": result.threat_models[-1].references,
        "seed": plan.seed,
        "attacks": ", ".join(plan.attacks),
        "tool_version": result.tool.version,
    }
    return {f"membership_audit.{name}": str(value)[:LONGEST_PARAM] for name, value in words.items()}


def list_logged_tags(result: Result) -> dict[str, str]:
    """List what finds an audit again: its verdict, in words too, and the digests of its inputs."""
    verdict = result.verdict or "NO POLICY"
    found = {
        "membership_audit.verdict": f"{verdict}, limited" if result.limited else verdict,
        "membership_audit.reason": result.reason,
    }
    names = ("target", "records", "plan", "arrays")
    digests = {name: result.digests[name] for name in names if name in result.digests}
    return found | {f"membership_audit.digest.{name}": value for name, value in digests.items()}
