"""Tell whether two audits may be compared, and what was not like with like.

One sentence says each.
"""

from __future__ import annotations

from dataclasses import asdict

from memberscope.auditing.documents.access_levels import format_level
from memberscope.auditing.documents.result import AuditArrays, Result
from memberscope.auditing.estimates.strongest import STRONGEST
from memberscope.types import ThreatModel

GRANTED = {
    "known_records": "known records",
    "population": "a population",
    "references": "reference models",
    "query_budget": "queries for each record",
}


def get_verdict_threat_model(result: Result) -> ThreatModel:
    """Get the highest level of a result, of which a verdict speaks."""
    # Levels come weakest first
    return result.threat_models[-1]


def describe_verdict_level(result: Result) -> str:
    """Write that level in words."""
    return format_level(
        get_verdict_threat_model(result).access.word, get_verdict_threat_model(result).restriction
    )


def collect_attack_versions(result: Result) -> dict[str, int]:
    """Collect the attacks with estimates, and the version of each."""
    names = dict.fromkeys(entry.attack for entry in result.estimates if entry.attack != STRONGEST)
    return {name: result.plan.versions.get(name, 0) for name in names}


def find_shared_attacks(before: Result, after: Result) -> set[str]:
    """Find the attacks that both ran in the same version."""
    first, second = collect_attack_versions(before), collect_attack_versions(after)
    # Another version scores otherwise, so its numbers would differ without any change of the model
    return {name for name in first if second.get(name) == first[name]}


def has_same_records(
    before: Result, after: Result, first: AuditArrays, second: AuditArrays
) -> bool:
    """Tell whether both audits are about the same records, members and order."""
    # The digest tells the records, which the arrays do not hold; these tell who was a member
    if before.digests.get("records") != after.digests.get("records") or len(first.member) != len(
        second.member
    ):
        return False
    return bool((first.member == second.member).all() and (first.labels == second.labels).all())


def list_obstacles(before: Result, after: Result) -> list[str]:
    """List why the two cannot be judged against each other; empty if they can."""
    # Another access or restriction is another adversary, whose numbers do not compare
    found = []
    if (
        before.plan.threat.access != after.plan.threat.access
        or get_verdict_threat_model(before).access != get_verdict_threat_model(after).access
    ):
        found.append(
            f"The access differs: {describe_verdict_level(before)} before (declared "
            f"{before.plan.threat.access}), {describe_verdict_level(after)} "
            f"after (declared {after.plan.threat.access}). Audit both at one level."
        )
    elif (
        get_verdict_threat_model(before).restriction != get_verdict_threat_model(after).restriction
    ):
        found.append(
            "The restriction in force differs: "
            f"{get_verdict_threat_model(before).restriction or 'none'} before, "
            f"{get_verdict_threat_model(after).restriction or 'none'} "
            f"after. Audit both under one."
        )
    if not find_shared_attacks(before, after):
        found.append("No attack ran in both audits in the same version. Run the same attacks.")
    # Where these two failed, numbers may be a property of the samples
    for when, result in (("before", before), ("after", after)):
        for name in ("null", "blind"):
            control = result.controls.get(name)
            if control is not None and control.passed is False:
                found.append(
                    f"The {name} control failed {when}, so that its numbers cannot be trusted: "
                    f"{control.why}"
                )
    return found


def list_audit_differences(before: Result, after: Result) -> list[str]:
    """List what was not like with like though the two are compared."""
    found = _list_attack_differences(before, after)
    # A precision depends on the prior, and nothing else here does
    if before.plan.threat.prior != after.plan.threat.prior:
        found.append(
            f"Another prior: {before.plan.threat.prior:g} before, "
            f"{after.plan.threat.prior:g} after; precision is not compared."
        )
    # What the adversary was granted may explain a change as well as the model
    granted = [
        (asdict(get_verdict_threat_model(result)), words)
        for result, words in ((before, "before"), (after, "after"))
    ]
    for key, what in GRANTED.items():
        values = [entry[key] for entry, _ in granted]
        if values[0] != values[1]:
            found.append(
                f"Another threat model: {what} {_describe_grant(values[0])} before, "
                f"{_describe_grant(values[1])} after."
            )
    if before.plan.views != after.plan.views:
        found.append("Another threat model: each record was asked about in other views.")
    if before.tool.version != after.tool.version:
        found.append(
            f"Other tool versions: {before.tool.version} before, {after.tool.version} after."
        )
    policies = before.plan.policy, after.plan.policy
    claims = [None if policy is None else policy.max_tpr for policy in policies]
    if claims[0] != claims[1]:
        found.append(
            "Another policy: the false-positive rates compared are those of the later one."
        )
    # Equal answers to equal records: nothing can have changed
    same = [before.digests.get(name) == after.digests.get(name) for name in ("records", "outputs")]
    if all(same):
        found.append("Both audits saw the same answers to the same records: the model is the same.")
    return found


def _list_attack_differences(before: Result, after: Result) -> list[str]:
    """List the attacks that ran in one audit only, or in another version.

    They are left out of the strongest attack compared.
    """
    first, second = collect_attack_versions(before), collect_attack_versions(after)
    found = []
    for when, mine, other in (("before", first, second), ("after", second, first)):
        alone = sorted(set(mine) - set(other))
        if alone:
            found.append(f"Ran only {when}, and so is not compared: {', '.join(alone)}.")
    changed = sorted(name for name in set(first) & set(second) if first[name] != second[name])
    if changed:
        found.append(
            f"Scores otherwise in the later version, and so is not compared: {', '.join(changed)}."
        )
    return found


def _describe_grant(value: object) -> str:
    """Write a part of a threat model in a word.

    >>> _describe_grant(True), _describe_grant(None), _describe_grant(16)
    ('granted', 'unlimited', '16')
    """
    return (
        {True: "granted", False: "not granted", None: "unlimited"}[value]
        if value is None or isinstance(value, bool)
        else str(value)
    )
