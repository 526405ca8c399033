"""What to do after an audit: one sentence and one command for this very model, with its own parameters."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from memberscope.auditing import Result
from memberscope.types import Finding

SHARED = [
    "--model",
    "--factory",
    "--device",
    "--outputs",
    "--signals",
    "--url",
    "--protocol",
    "--members",
    "--non-members",
    "--label",
    "--id",
    "--groups",
    "--unit",
    "--features",
    "--drop",
    "--recipe",
    "--references",
    "--population",
    "--access",
    "--policy",
    "--restrict",
    "--query-budget",
    "--prior",
    "--attacks",
    "--seed",
]


def kept_arguments(arguments: Sequence[str]) -> str:
    """The arguments of an `audit` that name the model, its records and the threat, quoted for a shell.

    >>> kept_arguments(["audit.toml", "--members", "my train.csv", "--out", "o", "--overwrite", "--seed=3"])
    "audit.toml --members 'my train.csv' --seed=3"
    """
    found, at = [], 0
    while at < len(arguments):
        word = arguments[at]
        name, _, value = word.partition("=")
        takes_value = word.startswith("--") and not value and at + 1 < len(arguments) and arguments[at + 1][:2] != "--"
        if not word.startswith("-") or name in SHARED:
            found += [word, arguments[at + 1]] if takes_value else [word]
        at += 2 if takes_value else 1
    return shlex.join(found)


def next_step(result: Result, arguments: str | None, out: str) -> str | None:
    """A sentence with the next command; None without a verdict. `arguments` is what named the model, None from Python.

    `out` is the folder of the audit.
    """
    if result.verdict is None:
        return None
    named = "…" if arguments is None else arguments
    if result.verdict == "FAIL":
        if result.plan["threat"].get("references") != 0 and "references" in result.controls:
            return f"To see what each defence would buy and cost: memberscope defend {named}"
        return f"To find the least restrictive outputs that keep the limits: memberscope guard init --from {out}"
    if result.verdict == "PASS":
        if result.limited:
            n = (result.plan.get("policy") or {}).get("references", 4)
            return f"To lift the limit: memberscope audit {named} --recipe my_module:train --references {n}"
        return f"Nothing to fix. As a gate for the next release: memberscope check {out}"
    return _after_inconclusive(result, named, out)


def _after_inconclusive(result: Result, named: str, out: str) -> str:
    """The command that answers the first open point."""
    open_points = [finding for finding in result.findings if finding.verdict != "PASS"]
    first = next((f for f in open_points if f.attack in ("null", "blind")), open_points[0] if open_points else None)
    if first is None:
        return f"To read each finding: memberscope explain --result {out}"
    return {
        "overlap": f"To leave the shared records out: memberscope audit {named} --drop-overlap",
        "blind": f"If the split was random: memberscope audit {named} --assume-exchangeable",
        "attack": f"To run every attack: memberscope audit {_without(named, '--attacks')}",
        "coins": f"If fair coins decided who is a member: memberscope audit {named} --coins",
        "records": f"To see how many records would do: memberscope plan {named}",
        "other": f"To read each finding: memberscope explain --result {out}",
    }[_kind(first)]


def _kind(finding: Finding) -> str:
    """What an open point is about."""
    if "both sides" in finding.rule or "shared records" in finding.rule:
        return "overlap"
    if finding.attack == "blind":
        return "blind" if finding.verdict == "NOT_RUN" else "other"
    if "--coins" in finding.rule:
        return "coins"
    if finding.estimate is not None or "non-members" in finding.rule:
        return "records"
    return "attack" if finding.claim.startswith("The policy requires the attack") else "other"


def _without(named: str, flag: str) -> str:
    """The arguments without one flag and its value.

    >>> _without("audit.toml --attacks gap --seed 1", "--attacks")
    'audit.toml --seed 1'
    """
    words = shlex.split(named)
    if flag in words:
        at = words.index(flag)
        words = words[:at] + words[at + 2 :]
    return shlex.join(words) if named != "…" else named
