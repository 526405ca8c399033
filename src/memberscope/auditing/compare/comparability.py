"""Whether two audits may be compared, and what was not like with like: one sentence each."""

from __future__ import annotations

from dataclasses import asdict

from memberscope.auditing.documents.access_levels import level_word
from memberscope.auditing.documents.result import Arrays, Result
from memberscope.auditing.estimates.strongest import STRONGEST
from memberscope.types import ThreatModel

GRANTED = {
    "known_records": "known records",
    "population": "a population",
    "references": "reference models",
    "query_budget": "queries a record",
}


def judged(result: Result) -> ThreatModel:
    """The highest level of a result, of which a verdict speaks."""
    return result.threat_models[-1]


def judged_word(result: Result) -> str:
    """That level in words."""
    return level_word(judged(result).access.word, judged(result).restriction)


def ran(result: Result) -> dict[str, int]:
    """Attacks with estimates, and the version of each."""
    names = dict.fromkeys(entry.attack for entry in result.estimates if entry.attack != STRONGEST)
    versions = result.plan.get("versions", {})
    return {name: int(versions.get(name, 0)) for name in names}


def shared_attacks(before: Result, after: Result) -> set[str]:
    """Attacks that both ran in the same version."""
    first, second = ran(before), ran(after)
    return {name for name in first if second.get(name) == first[name]}


def same_records(before: Result, after: Result, first: Arrays, second: Arrays) -> bool:
    """Whether both audits are about the same records with the same membership, in the same order."""
    if before.digests.get("records") != after.digests.get("records") or len(first.member) != len(second.member):
        return False
    return bool((first.member == second.member).all() and (first.labels == second.labels).all())


def obstacles(before: Result, after: Result) -> list[str]:
    """Why the two cannot be judged against each other; empty if they can."""
    found = []
    if before.plan["threat"]["access"] != after.plan["threat"]["access"] or judged(before).access != judged(after).access:
        found.append(
            f"The access differs: {judged_word(before)} before (declared {before.plan['threat']['access']}), {judged_word(after)} "
            f"after (declared {after.plan['threat']['access']}). Audit both at one level."
        )
    elif judged(before).restriction != judged(after).restriction:
        found.append(
            f"The restriction in force differs: {judged(before).restriction or 'none'} before, {judged(after).restriction or 'none'} "
            f"after. Audit both under one."
        )
    if not shared_attacks(before, after):
        found.append("No attack ran in both audits in the same version. Run the same attacks.")
    for when, result in (("before", before), ("after", after)):
        for name in ("null", "blind"):
            control = result.controls.get(name)
            if control is not None and control.passed is False:
                found.append(f"The {name} control failed {when}, so that its numbers cannot be trusted: {control.why}")
    return found


def remarks(before: Result, after: Result) -> list[str]:
    """What was not like with like though the two are compared."""
    found = attack_remarks(before, after)
    if before.plan["threat"]["prior"] != after.plan["threat"]["prior"]:
        found.append(
            f"Another prior: {before.plan['threat']['prior']:g} before, {after.plan['threat']['prior']:g} after; precision is not compared."
        )
    granted = [(asdict(judged(result)), words) for result, words in ((before, "before"), (after, "after"))]
    for key, what in GRANTED.items():
        values = [entry[key] for entry, _ in granted]
        if values[0] != values[1]:
            found.append(f"Another threat model: {what} {told(values[0])} before, {told(values[1])} after.")
    if before.plan.get("views") != after.plan.get("views"):
        found.append("Another threat model: each record was asked about in other views.")
    if before.tool.version != after.tool.version:
        found.append(f"Other tool versions: {before.tool.version} before, {after.tool.version} after.")
    claims = [(result.plan["policy"] or {}).get("max_tpr") for result in (before, after)]
    if claims[0] != claims[1]:
        found.append("Another policy: the false-positive rates compared are those of the later one.")
    same = [before.digests.get(name) == after.digests.get(name) for name in ("records", "outputs")]
    if all(same):
        found.append("Both audits saw the same answers to the same records: the model is the same.")
    return found


def attack_remarks(before: Result, after: Result) -> list[str]:
    """Attacks that ran in one audit only, or in another version; they are left out of the strongest attack compared."""
    first, second = ran(before), ran(after)
    found = []
    for when, mine, other in (("before", first, second), ("after", second, first)):
        alone = sorted(set(mine) - set(other))
        if alone:
            found.append(f"Ran only {when}, and so is not compared: {', '.join(alone)}.")
    changed = sorted(name for name in set(first) & set(second) if first[name] != second[name])
    if changed:
        found.append(f"Scores otherwise in the later version, and so is not compared: {', '.join(changed)}.")
    return found


def told(value: object) -> str:
    """A part of a threat model in a word.

    >>> told(True), told(None), told(16)
    ('granted', 'unlimited', '16')
    """
    return (
        {True: "granted", False: "not granted", None: "unlimited"}[value]
        if value is None or isinstance(value, bool)
        else str(value)
    )
