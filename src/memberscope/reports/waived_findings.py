"""Name findings whose claim failed and is waived, as every page and format shows them."""

from __future__ import annotations

import shlex

from memberscope.auditing import Result, WaivedFinding
from memberscope.auditing.verdict import name_configuration
from memberscope.types import Finding


def list_waived_findings(result: Result) -> list[WaivedFinding]:
    """List the findings that failed and are waived; only what a gate writes has some."""
    return [entry for entry in result.findings if isinstance(entry, WaivedFinding)]


def explain_waiver(finding: WaivedFinding) -> str:
    """Write who accepts a failed claim, why, and until when."""
    return "" if finding.waiver is None else finding.waiver.explain()


def name_outcome(finding: Finding) -> str:
    """Name how a finding was judged, as tables and messages show it."""
    if isinstance(finding, WaivedFinding):
        return "WAIVED"
    return "PASS (limited)" if finding.limited else finding.verdict


def advise_on_finding(finding: Finding, result: Result) -> str:
    """Say what to do about a finding of `result`, or who accepts it if it is waived."""
    if isinstance(finding, WaivedFinding):
        return explain_waiver(finding)
    return write_advice(finding, result)


def write_advice(finding: Finding, result: Result) -> str:
    """Write the advice of a finding, with the audit's configuration in its command if known."""
    file = result.environment.get("config_file")
    return finding.advice if not file else name_configuration(finding.advice, shlex.quote(file))
