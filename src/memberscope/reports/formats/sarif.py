"""Write SARIF 2.1.0, which code scanning reads: one result for each finding that did not pass.

References:
    [1] OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0", 2020.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePosixPath
from urllib.parse import quote

from memberscope.auditing import Result, WaivedFinding
from memberscope.reports.formats.key_numbers import (
    collect_numbers,
    describe_number,
    describe_place,
    name_number,
)
from memberscope.reports.formats.plain_text import LONGEST, escape_markdown, flatten_text
from memberscope.reports.formats.rules import (
    JudgedRule,
    RuleKind,
    identify_rule,
    list_open_findings,
)
from memberscope.reports.waived_findings import (
    explain_waiver,
    list_waived_findings,
    name_outcome,
    write_advice,
)
from memberscope.types import Finding

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
RESULT_FILE = "result.json"
HIGHEST_LINE = 1_000_000
TAGS = ["security", "privacy", "membership-inference", "external/cwe/cwe-202"]
LEVELS = {"FAIL": "error", "INCONCLUSIVE": "warning", "NOT_RUN": "warning"}
LIMITED = 2.0  # severity of a pass that is limited
WAIVED = 0.0  # severity of a claim that failed and is waived
OPEN = 4.0  # the most of a finding that is not decided
LOW_FPR = 0.01  # at this rate or below, who is found is found with certainty
# Of 10, as code scanning sorts them; what is found about single persons is more than an average
SEVERITY: dict[RuleKind, float] = {
    "max_epsilon": 8.0,
    "max_tpr": 7.5,
    "max_ppv": 7.5,
    "claim": 7.0,
    "baseline": 7.0,
    "max_auc": 5.0,
    "control": OPEN,
    "require": OPEN,
    "verdict": OPEN,
}
NAMES: dict[RuleKind, str] = {
    "max_tpr": "Limit on the training records that can be found",
    "max_ppv": "Limit on how often a call of membership is right",
    "max_auc": "Limit on telling training records from others on average",
    "max_epsilon": "Differential privacy that is claimed",
    "claim": "Claim of the privacy policy",
    "baseline": "No more leakage than an earlier release",
    "control": "Check of the audit itself",
    "require": "Requirement of the privacy policy",
    "verdict": "Judgement by a policy",
}
MEANINGS: dict[RuleKind, str] = {
    "max_tpr": "Above the limit, whoever asks the model can find out who was in its training data, "
    "while calling few others members.",
    "max_ppv": "Above the limit, what somebody who asks the model calls a member is one more often "
    "than the policy allows.",
    "max_auc": "Above the limit, whoever asks the model tells training records from others better "
    "than the policy allows.",
    "max_epsilon": "Where it is refuted, attacks found more than such an epsilon permits.",
    "claim": "The policy limits what can be found out about the training data.",
    "baseline": "The release leaks more than the one that it is compared with, whatever the policy "
    "allows.",
    "control": "The numbers of an audit mean something only where its own checks pass.",
    "require": "A pass says nothing about attacks that did not run.",
    "verdict": "Without a verdict nothing is known about the release.",
}
EXPLAIN = "memberscope explain --result FOLDER"


def render_sarif(result: Result, document: str | None = None) -> str:
    """Render SARIF text: FAIL is an error, what is open a warning, a limited pass a note.

    A finding that passed is not in it, so that code scanning closes its alert. One that is waived is
    suppressed, and also a note whose message begins with the waiver, for readers that leave out
    suppressions. `document` is the path of result.json in the repository, for a result that no
    configuration is known of.
    """
    shown = [*list_open_findings(result), *list_waived_findings(result)]
    judged = [(entry, identify_rule(result, entry)) for entry in shown]
    # One rule may be about several groups, and is as severe as the worst of them
    worst: dict[str, tuple[float, Finding, JudgedRule]] = {}
    for finding, rule in judged:
        severity = _rate_severity(rule, finding)
        if rule.id not in worst or severity > worst[rule.id][0]:
            worst[rule.id] = (severity, finding, rule)
    order = {name: at for at, name in enumerate(worst)}
    location = _build_location(result, document)
    run = {
        "tool": {
            "driver": {
                "name": result.tool.name,
                "version": flatten_text(result.tool.version, 80),
                "rules": [_build_rule(result, *entry) for entry in worst.values()],
            }
        },
        "automationDetails": {"id": f"memberscope/{quote(_identify_model(result))}/"},
        "columnKind": "utf16CodeUnits",
        "invocations": [{"executionSuccessful": True}],
        "results": [
            {
                **_build_result(result, finding, rule),
                "ruleIndex": order[rule.id],
                "locations": [location],
            }
            for finding, rule in judged
        ],
        "properties": {
            "title": flatten_text(result.title),
            "verdict": result.verdict or "NO POLICY",
            "limited": result.limited,
            "reason": flatten_text(result.reason, 4 * LONGEST),
        },
    }
    whole = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _identify_model(result: Result) -> str:
    """Identify the model from one release to the next: by its configuration, else by its title."""
    return flatten_text(result.environment.get("config_file") or result.title, 200)


def _rate_severity(rule: JudgedRule, finding: Finding) -> float:
    """Rate a finding between 0 and 10 by what is claimed and by how it was judged."""
    if isinstance(finding, WaivedFinding):
        return WAIVED
    if finding.limited:
        return LIMITED
    severity = SEVERITY[rule.kind]
    if rule.kind in ("max_tpr", "max_ppv") and rule.fpr is not None and rule.fpr > LOW_FPR:
        severity -= 1.5
    return severity if finding.verdict == "FAIL" else min(severity, OPEN)


def _choose_level(finding: Finding) -> str:
    """Choose the level of a finding; a limited pass and what is waived are notes."""
    noted = finding.limited or isinstance(finding, WaivedFinding)
    return "note" if noted else LEVELS[finding.verdict]


def _build_rule(
    result: Result, severity: float, finding: Finding, rule: JudgedRule
) -> dict[str, object]:
    """Build the description of a rule, with what it means and what to do about it."""
    meaning, advice = MEANINGS[rule.kind], write_advice(finding, result)
    return {
        "id": rule.id,
        "shortDescription": {"text": f"{NAMES[rule.kind]}."},
        "fullDescription": {"text": _escape_message(finding.claim)},
        "help": {
            "text": _escape_message(
                f"{finding.claim} {meaning} {advice} Read each finding with: {EXPLAIN}"
            ),
            "markdown": f"**{escape_markdown(finding.claim)}**\n\n{meaning}\n\n"
            f"What to do: {escape_markdown(advice)}\n\nRead each finding with `{EXPLAIN}`.",
        },
        "defaultConfiguration": {"level": _choose_level(finding)},
        "properties": {"security-severity": f"{severity:.1f}", "tags": TAGS},
    }


def _build_result(result: Result, finding: Finding, rule: JudgedRule) -> dict[str, object]:
    """Build the result of a finding, but for its place."""
    words = [f"{_begin_message(finding)}{finding.claim}"]
    numbers: dict[str, str | float | int] = {}
    if (entry := finding.estimate) is not None:
        numbers = collect_numbers(entry)
        words.append(
            f"Measured: {describe_number(entry)}, {name_number(entry)} by {describe_place(entry)}; "
            f"{100 * entry.confidence:g}% interval, {entry.n_members} members and "
            f"{entry.n_non_members} non-members."
        )
    else:
        words.append(finding.rule)
    # A message that begins with the waiver needs no advice, which would only repeat it
    if not isinstance(finding, WaivedFinding):
        words.append(result.reason if finding.limited else write_advice(finding, result))
    # What stays the same from run to run, and no number
    kept = (_identify_model(result), rule.id, rule.group or "", finding.attack, finding.access)
    digest = hashlib.sha256(json.dumps(kept).encode()).hexdigest()
    return {
        "ruleId": rule.id,
        "level": _choose_level(finding),
        "message": {"text": _escape_message(" ".join(words))},
        # GitHub reads the first alone, and would else make one of the line, which findings share
        "partialFingerprints": {
            "primaryLocationLineHash": f"{digest[:16]}:1",
            "memberscopeFinding/v1": digest,
        },
        **_build_suppressions(finding),
        "properties": {
            "verdict": finding.verdict,
            "limited": finding.limited,
            **{
                name: flatten_text(value) if isinstance(value, str) else value
                for name, value in numbers.items()
            },
        },
    }


def _begin_message(finding: Finding) -> str:
    """Begin the message of a finding: with its waiver if it has one, else with its outcome."""
    if isinstance(finding, WaivedFinding) and finding.waiver is not None:
        waiver = finding.waiver
        why = waiver.reason.rstrip(".")
        return f"Waived until {waiver.expires} by {waiver.owner}: {why}. The claim that failed: "
    return "PASS, limited: " if finding.limited else f"{name_outcome(finding)}: "


def _build_suppressions(finding: Finding) -> dict[str, object]:
    """Build what says that a failed claim is waived, by whom and until when."""
    if not isinstance(finding, WaivedFinding):
        return {}
    why = _escape_message(explain_waiver(finding))
    return {"suppressions": [{"kind": "external", "status": "accepted", "justification": why}]}


def _build_location(result: Result, document: str | None) -> dict[str, object]:
    """Build the place that findings are shown at.

    It is the line of the model in its configuration, else the first line of the configuration, else
    that of the result.
    """
    file = result.environment.get("config_file")
    line = result.environment.get("config_line", "") if file else ""
    # Results are files that anybody may have written
    at = int(line) if line.isascii() and line.isdigit() and len(line) < 8 else 1
    return {
        "physicalLocation": {
            "artifactLocation": {
                "uri": _write_uri(file or document or RESULT_FILE),
                "uriBaseId": "%SRCROOT%",
            },
            "region": {"startLine": min(max(at, 1), HIGHEST_LINE)},
        }
    }


def _write_uri(path: str) -> str:
    """Write a path in a repository as a relative address; one that leads out of it as a name.

    >>> _write_uri("models/my audit.toml"), _write_uri("/etc/audit.toml"), _write_uri("../a.toml")
    ('models/my%20audit.toml', 'audit.toml', 'a.toml')
    """
    place = PurePosixPath(path.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts:
        place = PurePosixPath(place.name)
    return quote(place.as_posix(), errors="replace") or RESULT_FILE


def _escape_message(text: str) -> str:
    r"""Escape what SARIF messages take for links and for places of arguments.

    >>> _escape_message("[20, 30) {0}")
    '\\[20, 30) {{0}}'
    """
    line = flatten_text(text, 4 * LONGEST)
    for mark in ("\\", "[", "]"):
        line = line.replace(mark, "\\" + mark)
    return line.replace("{", "{{").replace("}", "}}")
