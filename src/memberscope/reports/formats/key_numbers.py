"""Choose the numbers that a short account of an audit holds, and name them."""

from __future__ import annotations

import math

from memberscope._text import format_percentage
from memberscope.auditing import STRONGEST, Result
from memberscope.auditing.documents import format_level
from memberscope.reports.select import (
    format_interval,
    list_group_estimates,
    list_levels,
    select_estimates,
)
from memberscope.types import Estimate

MOST_GROUPS = 50
NO_RATES = ("auc", "epsilon_lower", "epsilon_empirical")  # metrics that are no percentages


def list_key_estimates(result: Result) -> list[Estimate]:
    """List the numbers of a short account, each once.

    First what the claims rest on; then what the strongest attack reaches at each level of access:
    the share of members found, the AUC, and the precision at the threat model's prior; then the
    most exposed groups.
    """
    prior = result.plan.threat.prior
    found = [finding.estimate for finding in result.findings if finding.estimate is not None]
    for level in list_levels(result):
        found += [
            entry
            for entry in select_estimates(result, attack=STRONGEST, level=level)
            if entry.metric in ("tpr", "auc") or (entry.metric, entry.prior) == ("ppv", prior)
        ]
    groups = sorted(list_group_estimates(result), key=lambda entry: -entry.value)
    by_place: dict[tuple[object, ...], Estimate] = {}
    for entry in [*found, *groups[:MOST_GROUPS]]:
        by_place.setdefault(_identify_number(entry), entry)
    return list(by_place.values())


def _identify_number(entry: Estimate) -> tuple[object, ...]:
    """Give what makes a number the one it is, whoever asked for it."""
    place = (entry.attack, entry.access, entry.restriction, entry.group)
    return (*place, entry.metric, entry.fpr, entry.prior)


def name_number(entry: Estimate) -> str:
    """Name what an estimate measures.

    >>> from memberscope.types import Estimate
    >>> name_number(Estimate("rmia", "label", "tpr", 0.2, 0.1, 0.3, 0.95, "exact", 10, 10, 1, fpr=0.01))
    'members found at 1% false positives'
    """
    at = "" if entry.fpr is None else f" at {format_percentage(entry.fpr)} false positives"
    prior = "" if entry.prior is None else f" and a prior of {format_percentage(entry.prior)}"
    words = {
        "tpr": "members found",
        "ppv": "precision",
        "auc": "AUC",
        "epsilon_lower": "lower bound on epsilon",
    }
    return words.get(entry.metric, entry.metric.replace("_", " ")) + at + prior


def describe_number(entry: Estimate) -> str:
    """Write an estimate with its limits, as a percentage where it is a rate."""
    return format_interval(entry, rate=entry.metric not in NO_RATES)


def describe_place(entry: Estimate) -> str:
    """Name the attack and the level of access that an estimate holds at, and its group if any."""
    level = format_level(entry.access, entry.restriction)
    by = "the strongest attack" if entry.attack == STRONGEST else entry.attack
    reached = f" ({entry.reached_by})" if entry.reached_by else ""
    group = f", {entry.group}" if entry.group else ""
    return f"{by}{reached}, {level}{group}"


def collect_numbers(entry: Estimate) -> dict[str, str | float | int]:
    """Collect everything that an estimate says, without what it leaves open.

    Limits that are not finite are left out, since JSON and YAML readers refuse them.

    >>> collect_numbers(Estimate("loss", "label", "auc", 0.5, 0.4, 0.6, 0.95, "exact", 10, 12, 1))["n_non_members"]
    12
    """
    found: dict[str, str | float | int | None] = {
        "attack": entry.attack,
        "reached_by": entry.reached_by,
        "access": entry.access,
        "restriction": entry.restriction,
        "group": entry.group,
        "metric": entry.metric,
        "fpr": entry.fpr,
        "prior": entry.prior,
        "threshold": entry.threshold,
        "value": entry.value,
        "low": entry.low,
        "high": entry.high,
        "confidence": entry.confidence,
        "method": entry.method,
        "n_members": entry.n_members,
        "n_non_members": entry.n_non_members,
        "queries": entry.queries,
    }
    return {
        name: value
        for name, value in found.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }
